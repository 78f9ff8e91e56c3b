"""The derivation is the result, and it ends at numbers that have a source."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest

from perfmodel.engine.explain import trace_evaluation
from perfmodel.engine.headline import result_numbers
from perfmodel.engine.result import Result
from perfmodel.engine.session import LoadedScenario
from perfmodel.errors import UsageError
from perfmodel.provenance import Traced, as_traced

Ask = Callable[..., LoadedScenario]
EXACT = 1e-12
BASES = {"vendor", "measured", "paper", "derived", "recalled", "assumed", "user", "quoted"}

#: Numbers that may stand in a derivation without a source: what the formulas themselves are made of. Anything larger
#: than a small integer, or with a unit, comes from a file. The others are named here one by one.
FORMULA_CONSTANTS = {
    0.25: "exponents and shares of the tile loop and of fused attention",
    0.5: "half: of pairs, of exponents; switch of in-network reduction",
    1.5: "exponent",
    2.5: "attention backward: five matmuls against two; elements of dropout",
    5.5: "elements of dropout before an adapter, and of the sum of two gradients",
    0.95: "usable part of a cache",
    0.15: "growth of the steps of an all-to-all per rank",
    0.22: "growth of the load of the busiest rank under skewed routing",
    1e6: "tokens per million",
    86400.0: "seconds per day",
    3600.0: "seconds per hour",
    3.6e6: "joules per kilowatt hour",
    500.0: "largest exponent of the goodput",
    1024.0: "area of a tile",
    4096.0: "area of a tile",
    8192.0: "area of a tile",
    16384.0: "area of a tile",
    2.2250738585072014e-308: "smallest float: no division by zero",
}


@pytest.fixture
def traced_numbers(question: LoadedScenario) -> dict[str, Traced]:
    traced = question.question.traced()
    _, evaluation = trace_evaluation(traced)
    return {key: as_traced(value) for key, value in result_numbers(traced.problem, evaluation).items()}


def plain_numbers(question: LoadedScenario) -> dict[str, float]:
    result = question.run().to_dict()
    found: dict[str, float] = {}

    def collect(prefix: str, branch: object) -> None:
        if isinstance(branch, dict):
            for key, value in branch.items():
                collect(f"{prefix}.{key}" if prefix else key, value)
        elif isinstance(branch, (int, float)) and not isinstance(branch, bool):
            found[prefix] = float(branch)

    for part in ("time", "memory", "energy", "money", "carbon", "run", "metrics"):
        collect(part, result[part])
    return found


def test_every_numeric_key_is_its_derivation(question: LoadedScenario, traced_numbers: dict[str, Traced]) -> None:
    plain = plain_numbers(question)
    assert len(plain) > 40
    for key, value in plain.items():
        assert float(traced_numbers[key].value) == pytest.approx(value, rel=EXACT, abs=1e-300), key


@pytest.mark.parametrize(
    "key",
    ["time.step_s", "memory.peak_bytes", "energy.per_step_j", "metrics.mfu", "time.breakdown.data_communication_s"],
)
def test_a_key_can_be_explained_by_name(question: LoadedScenario, key: str) -> None:
    result = question.run()
    assert float(result.explain(key).value) == pytest.approx(result.value(key), rel=EXACT)


def test_without_a_name_the_step_is_explained(question: LoadedScenario) -> None:
    result = question.run()
    assert float(result.explain().value) == pytest.approx(result.time["step_s"], rel=EXACT)


def test_every_operator_is_its_derivation(ask: Ask) -> None:
    for name in ("llama-405b", "megatron-175b", "llama-8b-sharded"):
        result = ask(name).run()
        for row in result.operators:
            assert float(result.explain(row.name).value) == pytest.approx(row.time_s, rel=EXACT), row.name


def row_numbers(prefix: str, branch: object) -> dict[str, float]:
    """Numbers of rows by ``group.position.field``."""
    if isinstance(branch, dict):
        pairs: list[tuple[str, object]] = [(str(key), one) for key, one in branch.items()]
    elif isinstance(branch, list):
        pairs = [(str(position), one) for position, one in enumerate(branch)]
    else:
        plain = isinstance(branch, (int, float)) and not isinstance(branch, bool)
        return {prefix: float(branch)} if plain else {}  # type: ignore[arg-type]
    return {key: value for name, one in pairs for key, value in row_numbers(f"{prefix}.{name}", one).items()}


@pytest.mark.parametrize("group", ["communication", "stages", "waterfall", "plans", "uncertainty", "operators"])
def test_the_numbers_of_rows_are_their_derivation(ask: Ask, group: str) -> None:
    result = ask("llama-8b-sharded").run()
    numbers = row_numbers(group, result.to_dict()[group])
    assert len(numbers) >= 9
    for key in list(numbers)[:: max(len(numbers) // 9, 1)]:
        assert float(result.explain(key).value) == pytest.approx(numbers[key], rel=EXACT, abs=1e-300), key


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("communication.99.time_s", "it has 0"),
        ("stages.0.memory", "not a number"),
        ("uncertainty.time.step_s.p9", "p90"),
        ("carbon.per_step_kg", "is null"),
        ("time", "group of numbers"),
    ],
)
def test_what_is_no_number_is_told(ask: Ask, key: str, answer: str) -> None:
    with pytest.raises(UsageError, match=answer):
        ask("llama-8b-sharded").run().explain(key)


def test_an_operator_may_be_named_without_its_block(ask: Ask) -> None:
    result = ask("llama-405b").run()
    assert result.explain("mlp.down").value == result.explain("block.mlp.down:forward").value


def test_every_leaf_has_a_source_or_is_a_constant_of_a_formula(traced_numbers: dict[str, Traced]) -> None:
    leaves = [node for number in traced_numbers.values() for node in number.walk() if node.node.is_leaf]
    sourced = {node.node.label for node in leaves if node.node.source}
    assert len(sourced) > 50
    for leaf in leaves:
        value = float(leaf.value)
        if leaf.node.source:
            assert leaf.node.label
            assert leaf.node.basis in BASES, leaf.node.label
        else:
            discarded = math.isnan(value)  # stands where a guarded division by zero is not used
            small = not discarded and abs(value) <= 256.0 and value == int(value)
            assert discarded or small or value in FORMULA_CONSTANTS, f"{value} has no source"


def test_a_step_rests_on_the_machine_that_it_ran_on(ask: Ask) -> None:
    labels = {
        node.node.label for node in ask("llama-405b").run().explain().walk() if node.node.is_leaf and node.node.source
    }
    needed = {
        "accelerator.compute.matrix.bf16.peak",
        "accelerator.memory.bandwidth",
        "accelerator.scale_up.bandwidth",
        "software.behaviour.tensor_exposed",
        "strategy.num_microbatches",
        "workload.sequence_length",
        "model.hidden",
    }
    assert needed <= labels


def test_an_unknown_name_is_answered_with_the_nearest(ask: Ask) -> None:
    result: Result = ask("llama-8b").run()
    with pytest.raises(UsageError, match=r"time\.step_s"):
        result.explain("time.stepp_s")


def test_explaining_does_not_change_the_result(ask: Ask) -> None:
    scenario = ask("llama-8b")
    before = scenario.run().to_json()
    list(itertools.islice(scenario.run().explain().walk(), 5))
    assert scenario.run().to_json() == before
