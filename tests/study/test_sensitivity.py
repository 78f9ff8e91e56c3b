"""What moves the answer: elasticities against physics, and against evaluations of changed specs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import perfmodel as pm
from perfmodel.engine.columns import evaluate_moves
from perfmodel.engine.session import LoadedScenario, load
from perfmodel.errors import UsageError
from perfmodel.machine.columns import stated_numbers
from perfmodel.study.search import SearchResult, search
from perfmodel.study.sensitivity import Sensitivities, sensitivities
from perfmodel.units import parse_unit

STEP, MONEY, ENERGY = "time.step_s", "money.per_step_usd", "energy.per_step_j"
PEAK = "accelerator.compute.matrix.bf16.peak"
WHOLE: dict[str, Any] = {
    "kind": "scenario", "name": "whole", "model": "llama-3.1-405b",
    "cluster": {"name": "meta-24k-h100-roce", "devices": 8192}, "software": "meta-llama3",
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 2048, "tokens": "15.6T"},
    "strategy": {"tp": 8, "pp": 16, "sequence_parallel": True, "zero": 2,
                 "pipeline": {"virtual_stages": 8, "embedding_and_head_as_layers": True}},
    "pricing": {"kind": "cloud", "device_hour": "2 USD"},
}  # fmt: skip
SMALL: dict[str, Any] = {
    **WHOLE, "name": "small", "model": "llama-3.1-8b", "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64},
    "software": "megatron-core", "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128},
    "strategy": {"zero": 3, "recompute": "selective"},
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    **SMALL, "name": "experts", "model": "mixtral-8x7b",
    "strategy": {"tp": 2, "pp": 2, "ep": 4, "sequence_parallel": True, "zero": 1, "recompute": "full"},
}  # fmt: skip
SEARCHED: dict[str, Any] = {
    **SMALL, "name": "searched", "question": "search",
    "strategy": {"tp": [1, 2, 4], "micro_batch": [1, 2], "zero": [1, 3], "recompute": "auto"},
}  # fmt: skip


@pytest.fixture(scope="module")
def whole() -> LoadedScenario:
    return load(WHOLE)


@pytest.fixture(scope="module")
def told(whole: LoadedScenario) -> Sensitivities:
    return sensitivities(whole)


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return search(load(SEARCHED).resolved)


def _of(told: Sensitivities, path: str) -> Any:
    return next(one for one in told.effects if one.number.path == path)


def _exponent(unit: str) -> int:
    """Power of time in a unit."""
    return parse_unit(unit).exponents[0]


def test_every_stated_number_is_there_and_the_largest_comes_first(whole: LoadedScenario, told: Sensitivities) -> None:
    machine = whole.question.problem.machine
    assert {one.number.path for one in told.effects} == set(stated_numbers(machine))
    moved = [max(abs(one.results[STEP].low - told.base[STEP]), abs(one.results[STEP].high - told.base[STEP]))
             for one in told.effects]  # fmt: skip
    assert moved == sorted(moved, reverse=True)


def test_the_ends_are_those_of_changed_specs(whole: LoadedScenario, told: Sensitivities) -> None:
    paths = [
        (PEAK, "FLOP/s"), ("cluster.tiers.fabric.bandwidth", "B/s"), ("accelerator.power.tdp", "W"),
        ("software.behaviour.jitter_per_doubling", ""), ("pricing.device_hour", "USD"),
    ]  # fmt: skip
    for path, unit in paths:
        effect = _of(told, path)
        for end, at in ((effect.low, "low"), (effect.high, "high")):
            result = whole.replace(**{path: f"{end!r} {unit}".strip() if unit else end}).run()
            for key in (STEP, MONEY, ENERGY):
                assert getattr(effect.results[key], at) == pytest.approx(result.value(key), rel=1e-12), (path, key)


def test_a_compute_bound_step_is_inversely_proportional_to_the_peak() -> None:
    fast = load(SMALL | {"software": "ideal"}).replace(**{"accelerator.memory.bandwidth": "1000 TB/s"})
    assert _of(sensitivities(fast, change=0.01), PEAK).results[STEP].elasticity == pytest.approx(-1.0, abs=0.05)


def test_a_number_that_nothing_uses_moves_nothing(told: Sensitivities) -> None:
    for path in ("efficiency_class.relative_error.anchored", "software.behaviour.expert_exposed",
                 "software.behaviour.offload_exposed"):  # fmt: skip
        assert {one.elasticity for one in _of(told, path).results.values()} == {0.0}
    price = _of(told, "pricing.device_hour").results
    assert price[STEP].elasticity == 0.0
    assert price[MONEY].elasticity == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("question", [WHOLE, SMALL, EXPERTS], ids=["whole", "small", "experts"])
def test_a_machine_with_faster_time_is_faster_by_as_much(question: dict[str, Any]) -> None:
    # Every rate times a and every time over a: the same machine, looked at with another clock.
    asked = load(question).question
    factor = 1.7
    numbers = stated_numbers(asked.problem.machine)
    scaled = {path: np.array([one.value, one.value * factor ** -_exponent(one.unit)]) for path, one in numbers.items()}
    steps = evaluate_moves(asked.problem, asked.plan, scaled)[STEP]
    assert steps[1] * factor == pytest.approx(steps[0], rel=1e-12)


@pytest.mark.parametrize("question", [WHOLE, SMALL, EXPERTS], ids=["whole", "small", "experts"])
def test_elasticities_of_rates_and_times_sum_to_one(question: dict[str, Any]) -> None:
    # Euler: the sum over all numbers, each with its power of time, is the power of time of the step.
    effects = sensitivities(load(question), change=1e-4, keys=[STEP]).effects
    powers = [(_exponent(one.number.unit), one.results[STEP].elasticity) for one in effects]
    assert any(power > 0 and elasticity for power, elasticity in powers)
    assert sum(power * (elasticity or 0.0) for power, elasticity in powers) == pytest.approx(1.0, abs=1e-4)


def test_one_percent_is_worth_dollars_and_watts(whole: LoadedScenario, told: Sensitivities) -> None:
    base = whole.run()
    again = whole.replace(**{PEAK: f"{_of(told, PEAK).number.value * 1.01!r} FLOP/s"}).run()
    near = _of(sensitivities(whole, change=0.01), PEAK)
    assert told.cost == "run.usd"
    assert near.usd == pytest.approx(again.run["usd"] - base.run["usd"], rel=0.01)
    power = again.energy["average_power_w"] - base.energy["average_power_w"]
    assert near.watts == pytest.approx(power, rel=0.01)


def test_without_a_price_the_reason_is_told() -> None:
    free = sensitivities(load({key: value for key, value in SMALL.items() if key != "pricing"}))
    assert (free.cost is None) == (MONEY not in free.base)
    if free.cost is None:
        assert "price" in free.missing[MONEY]
        assert all(one.usd is None for one in free.effects)


def test_bars_are_those_of_a_tornado(told: Sensitivities) -> None:
    bars = told.bars(ENERGY, 5)
    spans = [max(abs(low - told.base[ENERGY]), abs(high - told.base[ENERGY])) for _, low, high in bars]
    assert len(bars) == 5
    assert spans == sorted(spans, reverse=True)
    with pytest.raises(UsageError, match="did you mean"):
        told.bars("time.step")


def test_the_plan_of_a_search_is_held_or_searched_again(found: SearchResult) -> None:
    held = sensitivities(found.space.resolved, found=found)
    assert held.settings == found.best[0].settings
    assert held.base[STEP] == pytest.approx(found.best[0].numbers[STEP], rel=1e-12)
    free = sensitivities(found.space.resolved, found=found, hold=False, change=0.5)
    first = free.effects[0]
    assert first.searched is not None
    # The best of a changed machine is at least as fast as the held plan on it, and is what a new search finds.
    for at in ("low", "high"):
        best = getattr(first.searched, at)
        assert best.value <= getattr(first.results[STEP], at) * (1.0 + 1e-12)
        text = f"{getattr(first, at)!r} {first.number.unit}".removesuffix(" 1")
        changed = search(found.space.resolved.replace(**{first.number.path: text}))
        assert best.value == pytest.approx(changed.best[0].numbers[STEP], rel=1e-12)
        told = {key: one for key, one in changed.best[0].settings.items() if held.settings.get(key) != one}
        assert best.settings == told


def test_a_price_is_varied_in_the_unit_in_which_it_is_stated() -> None:
    prices = ["2 USD", "6 USD"]
    found = search(load({**SEARCHED, "pricing": {"kind": "cloud", "device_hour": prices}}).resolved)
    costs = {one.settings["pricing.device_hour"]: one.numbers[MONEY] for one in found.bests}
    assert costs["6 USD"] == pytest.approx(3.0 * costs["2 USD"], rel=1e-12)


@pytest.mark.parametrize("change", [0.0, 1.0, -0.1])
def test_a_change_is_a_share(whole: LoadedScenario, change: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        sensitivities(whole, change=change)


def test_misspelt_keys_and_plans_that_are_not_searched_are_refused(whole: LoadedScenario) -> None:
    with pytest.raises(UsageError, match=r"time\.step_z.*did you mean 'time\.step_s'"):
        sensitivities(whole, keys=["time.step_z"])
    with pytest.raises(UsageError, match="only a search"):
        pm.sensitivities(whole, hold=False)


def test_the_command_adds_a_table_and_a_key(run: Callable) -> None:
    import json

    text = run("run", "llama3.1-8b-128-h100", "--sensitivity", "--quiet")
    assert "What moves the step time" in text.out
    told = json.loads(run("run", "llama3.1-8b-128-h100", "--sensitivity", "--format", "json", "--quiet").out)
    assert told["sensitivities"]["numbers"][0]["path"] == PEAK
    assert "sensitivities" not in json.loads(run("run", "llama3.1-8b-128-h100", "--format", "json", "--quiet").out)
