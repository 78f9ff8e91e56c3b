"""A search and a single question are one function: columns equal single evaluations, in any order and chunks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from perfmodel.engine import columns
from perfmodel.engine.columns import evaluate_columns
from perfmodel.engine.session import LoadedScenario
from perfmodel.parallel.plan import Plan

Ask = Callable[..., LoadedScenario]
EXACT = 1e-12
POLICIES = ("none", "selective", "full")


def random_plans(count: int, seed: int) -> Plan:
    """Plans with every column varied; not all are feasible, and all have numbers."""
    random = np.random.default_rng(seed)

    def pick(*values: int) -> np.ndarray:
        return random.choice(np.array(values), count)

    pp, zero = pick(1, 2, 3, 4, 8, 16), pick(0, 1, 2, 3)
    replicate = np.where(zero == 3, pick(1, 2, 4), 1)
    return Plan.from_columns(
        {
            "tp": pick(1, 2, 4, 8, 16),
            "cp": pick(1, 1, 2, 4),
            "pp": pp,
            "dp_replicate": replicate,
            "dp_shard": pick(1, 2, 6, 8, 64),
            "virtual_stages": np.where(pp > 1, pick(1, 2, 4), 1),
            "micro_batch": pick(1, 2, 3, 4),
            "num_microbatches": pick(1, 8, 16, 48),
            "sequence_parallel": pick(0, 1),
            "zero": zero,
            "recompute": pick(0, 1, 2),
            "recompute_fraction": random.uniform(0.1, 1.0, count),
        },
        recompute_policies=POLICIES,
    )


def assert_equal(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray], rows: Any = slice(None)) -> None:
    assert set(one) == set(other)
    for key, values in one.items():
        np.testing.assert_allclose(values, other[key][rows], rtol=EXACT, atol=0.0, err_msg=key)


def test_columns_equal_single_evaluations(ask: Ask) -> None:
    problem, plans = ask("llama-405b").question.problem, random_plans(300, 1)
    together = evaluate_columns(problem, plans)
    assert len(set(together["time.step_s"])) > 290
    for row in range(len(plans)):
        assert_equal(evaluate_columns(problem, plans.take(slice(row, row + 1))), together, slice(row, row + 1))


def test_a_column_equals_the_answer_to_its_question(ask: Ask) -> None:
    # The long way: a scenario with the strategy written out, answered on its own.
    scenario = ask("llama-8b")
    plans = scenario.plans(tp=[1, 2, 4, 8], micro_batch=[1, 1, 2, 1], zero=[0, 1, 2, 3], sequence_parallel=[0, 1, 1, 0])
    together = evaluate_columns(scenario.question.problem, plans)
    for row in range(4):
        chosen = {name: int(getattr(plans, name)[row]) for name in ("tp", "micro_batch", "zero")}
        answer = scenario.replace(
            **{f"strategy.{name}": value for name, value in chosen.items()},
            **{"strategy.sequence_parallel": bool(plans.sequence_parallel[row])},
        ).run()
        for key in (
            "time.step_s",
            "memory.peak_bytes",
            "energy.per_step_j",
            "metrics.mfu",
            "metrics.hfu",
            "time.breakdown.data_communication_s",
        ):
            assert together[key][row] == pytest.approx(answer.value(key), rel=EXACT), key
        assert bool(together["feasible"][row]) == answer.feasible


def test_order_of_the_rows_does_not_matter(ask: Ask) -> None:
    problem, plans = ask("megatron-175b").question.problem, random_plans(500, 2)
    order = np.random.default_rng(3).permutation(len(plans))
    assert_equal(evaluate_columns(problem, plans.take(order)), evaluate_columns(problem, plans), order)


def test_chunks_do_not_matter(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, plans = ask("llama-8b").question.problem, random_plans(200, 4)
    whole = evaluate_columns(problem, plans)
    monkeypatch.setattr(columns, "CHUNK_ROWS", 7)
    assert_equal(evaluate_columns(problem, plans), whole)


def test_more_rows_than_a_chunk(ask: Ask) -> None:
    problem, plans = ask("llama-8b").question.problem, random_plans(100, 5)
    repeated = plans.take(np.arange(columns.CHUNK_ROWS + 50) % len(plans))
    found = evaluate_columns(problem, repeated)
    assert_equal(evaluate_columns(problem, plans), found, slice(0, 100))
    tail = np.arange(len(repeated) - 50, len(repeated))
    assert_equal(evaluate_columns(problem, repeated.take(tail)), found, tail)


SWEEPS = {
    "accelerator.memory.bandwidth": ("2 TB/s", 2e12),
    "accelerator.scale_up.bandwidth": ("900 GB/s", 900e9),
    "accelerator.compute.matrix.bf16.peak": ("500 TFLOP/s", 500e12),
    "accelerator.memory.capacity": ("40 GB", 40e9),
    "cluster.tiers.fabric.bandwidth": ("25 GB/s", 25e9),
    "software.behaviour.tensor_exposed": (0.5, 0.5),
}


@pytest.mark.parametrize("path", sorted(SWEEPS))
def test_a_swept_number_equals_the_changed_scenario(ask: Ask, path: str) -> None:
    text, value = SWEEPS[path]
    scenario = ask("llama-8b", strategy__tp=8, strategy__sequence_parallel=True)
    own = float(next(one.value for one in scenario.question.problem.machine.provenance.values() if one.path == path))
    twice = scenario.question.plan.take(np.zeros(2, dtype=np.int64))
    swept = evaluate_columns(scenario.question.problem, twice, {path: np.array([own, value])})
    field = {"cluster.tiers.fabric.bandwidth": "cluster.tiers.1.bandwidth"}.get(path, path)
    changed = scenario.replace(**{field: text})
    assert_equal(evaluate_columns(scenario.question.problem, scenario.question.plan), swept, slice(0, 1))
    assert_equal(evaluate_columns(changed.question.problem, changed.question.plan), swept, slice(1, 2))
    assert not np.array_equal([swept[key][0] for key in swept], [swept[key][1] for key in swept])


def test_hardware_and_plans_vary_together(ask: Ask) -> None:
    problem, plans = ask("llama-8b").question.problem, random_plans(60, 6)
    bandwidth = np.random.default_rng(7).uniform(1e12, 8e12, len(plans))
    together = evaluate_columns(problem, plans, {"accelerator.memory.bandwidth": bandwidth})
    for row in range(0, len(plans), 5):
        alone = evaluate_columns(
            problem, plans.take(slice(row, row + 1)), {"accelerator.memory.bandwidth": bandwidth[row : row + 1]}
        )
        assert_equal(alone, together, slice(row, row + 1))
