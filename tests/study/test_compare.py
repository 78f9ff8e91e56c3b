"""How sure a comparison is: what two predictions have in common, and what not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from perfmodel.engine.result import Result
from perfmodel.engine.session import LoadedScenario, load
from perfmodel.study.compare import compare

QUESTION: dict[str, Any] = {
    "kind": "scenario", "name": "small", "model": "llama-3.1-8b",
    "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64}, "software": "megatron-core",
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128},
    "strategy": {"zero": 3, "recompute": {"policy": "full", "fraction": 0.4}},
}  # fmt: skip


@pytest.fixture(scope="module")
def small() -> LoadedScenario:
    return load(QUESTION)


@pytest.fixture(scope="module")
def slower(small: LoadedScenario) -> Result:
    """A plan of the same machine that takes about a tenth longer."""
    return small.replace(**{"strategy.recompute": {"policy": "full", "fraction": 0.85}}).run()


def _probability(first: Result, second: Result) -> float:
    (found,) = compare([first, second]).probabilities
    assert found is not None
    return found


def _elsewhere(result: Result) -> Result:
    """The same result as that of another device."""
    machine = replace(result.origin.problem.machine, accelerator="another")
    problem = replace(result.origin.problem, machine=machine)
    return replace(result, origin=replace(result.origin, problem=problem))


def test_a_plan_against_itself_is_a_coin_toss(small: LoadedScenario) -> None:
    assert _probability(small.run(), small.run()) == 0.5


def test_a_tenth_slower_is_nearly_sure_on_one_machine_and_less_on_two(small: LoadedScenario, slower: Result) -> None:
    best = small.run()
    assert 1.08 < slower.time["step_s"] / best.time["step_s"] < 1.15
    same, apart = _probability(best, slower), _probability(best, _elsewhere(slower))
    assert same > 0.9
    assert 0.5 < apart < same
    assert _probability(slower, best) == pytest.approx(1.0 - same, abs=1e-6)


def test_a_result_without_its_question_is_compared_by_its_interval(small: LoadedScenario, slower: Result) -> None:
    read = replace(slower, origin=None)
    assert 0.5 < _probability(small.run(), read) < _probability(small.run(), slower)
