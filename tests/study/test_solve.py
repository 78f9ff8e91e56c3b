"""Solutions invert evaluations, and whole numbers are the smallest or largest that meet a target."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perfmodel as pm
from perfmodel.errors import PerfmodelError, SpecError
from perfmodel.study.solve import SolveResult

SCENARIO = "llama3.1-70b-64-h100"
BANDWIDTH = "cluster.accelerator.memory.bandwidth"


def solved(path: str, until: dict[str, Any], **options: Any) -> SolveResult:
    return pm.load(SCENARIO, overrides={"question": "solve", "vary": path, "until": until} | options).run()


def at(path: str, value: Any, key: str, **options: Any) -> float:
    """The result of an ordinary evaluation."""
    return pm.load(SCENARIO, overrides={path: value} | options).run().value(key)


@functools.cache
def step_at(path: str, value: str) -> float:
    return at(path, value, "time.step_s")


@settings(max_examples=8, deadline=None)
@given(
    path=st.sampled_from([BANDWIDTH, "cluster.accelerator.compute.matrix.bf16.peak", "cluster.tiers.fabric.bandwidth"]),
    share=st.floats(0.05, 0.95),
)
def test_a_solution_inverts_an_evaluation(path: str, share: float) -> None:
    slow, fast = {
        BANDWIDTH: ("1 TB/s", "20 TB/s"),
        "cluster.accelerator.compute.matrix.bf16.peak": ("500 TFLOP/s", "4 PFLOP/s"),
        "cluster.tiers.fabric.bandwidth": ("10 GB/s", "200 GB/s"),
    }[path]
    target = step_at(path, slow) + share * (step_at(path, fast) - step_at(path, slow))
    found = solved(path, {"time.step_s": target})
    assert found.feasible
    assert found.exact
    assert found.value is not None
    assert math.isclose(at(path, found.varied.written(found.value), "time.step_s"), target, rel_tol=1e-9)


def test_the_present_value_solves_for_its_own_result() -> None:
    here = pm.load(SCENARIO)
    found = solved(BANDWIDTH, {"time.step_s": here.run().time["step_s"]})
    stated = here.resolved.accelerator.memory.bandwidth
    assert stated is not None
    assert found.value is not None
    assert math.isclose(found.value, stated.value, rel_tol=1e-6)


@settings(max_examples=4, deadline=None)
@given(targets=st.tuples(st.floats(13.7, 20.0), st.floats(13.7, 20.0)))
def test_a_faster_step_never_needs_less_bandwidth(targets: tuple[float, float]) -> None:
    slow, fast = (solved(BANDWIDTH, {"time.step_s": one}).value for one in sorted(targets, reverse=True))
    assert slow is not None
    assert fast is not None
    assert fast >= slow * (1 - 1e-9)


def test_units_of_targets_are_those_of_their_keys() -> None:
    days = solved("workload.tokens", {"run.days": "160 day"}, **{"workload.tokens": "1T"})
    assert days.target == 160.0
    assert solved(BANDWIDTH, {"time.step_s": "14000 ms"}).target == 14.0


def test_fewest_devices_of_a_target_and_one_less_fails() -> None:
    found = solved("cluster.devices", {"time.step_s": "10 s"})
    assert (found.value, found.solution.how) == (128, "smallest")
    below = pm.load(SCENARIO, overrides={"cluster.devices": 127}).run()
    assert not below.feasible
    assert at("cluster.devices", 128, "time.step_s") <= 10.0
    samples = found.solution.samples
    smaller = (samples.values < 128) & samples.feasible
    assert smaller.any()
    assert np.all(samples.results[smaller] > 10.0)


@pytest.mark.parametrize("path", ["workload.global_batch", "workload.sequence_length", "model.layers"])
def test_the_largest_whole_number_of_a_target_and_the_next_possible_one_fails(path: str) -> None:
    found = solved(path, {"time.step_s": "16 s"})
    assert found.solution.how == "largest"
    assert found.value is not None
    assert at(path, int(found.value), "time.step_s") <= 16.0
    samples = found.solution.samples
    following = int(samples.values[samples.values > found.value][0])
    after = pm.load(SCENARIO, overrides={path: following}).run()
    assert not after.feasible or after.time["step_s"] > 16.0
    # Nothing that keeps the integer rules is between the two.
    between = np.linspace(found.value, following, 8)[1:-1].astype(int)
    assert not any(pm.load(SCENARIO, overrides={path: int(one)}).run().feasible for one in between)


def test_every_value_that_was_tried_agrees_with_the_answer() -> None:
    found = solved("strategy.tp", {"memory.peak_bytes": "40 GiB"})
    good = found.solution.samples.results <= found.target
    assert found.value == min(found.solution.samples.values[good & found.solution.samples.feasible])


def test_an_unattainable_target_says_what_can_be_reached() -> None:
    found = solved(BANDWIDTH, {"time.step_s": "4 s"})
    assert not found.feasible
    assert found.value is None
    assert found.solution.reached is not None
    low, high = found.solution.reached
    assert 4.0 < low < high
    assert "time.step_s = 4 s is not reached: it goes from 13." in found.reasons[0]
    assert found.result.time["step_s"] == low


def test_an_input_without_influence_is_told() -> None:
    found = solved("site.pue", {"time.step_s": "4 s"}, **{"site.pue": 1.2})
    assert "it stays at" in found.reasons[0]


def test_a_fraction_is_looked_for_where_it_is_allowed() -> None:
    found = solved("software.behaviour.tensor_exposed", {"time.step_s": "14.2 s"})
    assert found.varied.upper == 1.0
    assert found.exact


def test_several_crossings_give_the_smallest_and_are_counted() -> None:
    from perfmodel.study.solve.inputs import Input
    from perfmodel.study.solve.roots import solve_freely

    class Wave:
        varied, key, is_columns = Input("x", "1", False, 0.0, 4.0 * math.pi), "time.step_s", True

        def at(self, values: Any) -> Any:
            from perfmodel.study.solve.curve import Samples

            return Samples(values, 2.0 + np.sin(values), np.ones(len(values), dtype=bool))

    found = solve_freely(Wave(), 2.5)  # type: ignore[arg-type]
    assert found.crossings == 4
    assert found.value is not None
    assert math.isclose(found.value, math.pi / 6, rel_tol=1e-8)


def test_a_jump_over_the_target_gives_the_side_that_meets_it() -> None:
    from perfmodel.study.solve.inputs import Input
    from perfmodel.study.solve.roots import solve_freely

    class Step:
        varied, key, is_columns = Input("x", "1", False, 1.0, 2.0), "time.step_s", True

        def at(self, values: Any) -> Any:
            from perfmodel.study.solve.curve import Samples

            return Samples(values, np.where(values < math.sqrt(2), 5.0, 3.0), np.ones(len(values), dtype=bool))

    found = solve_freely(Step(), 4.0)  # type: ignore[arg-type]
    assert found.how == "smallest"
    assert found.value is not None
    assert math.isclose(found.value, math.sqrt(2), rel_tol=1e-12)


def test_the_json_has_the_keys_of_the_interface() -> None:
    said = solved(BANDWIDTH, {"time.step_s": "14 s"}).to_dict()
    assert (said["question"], said["vary"], said["unit"]) == ("solve", BANDWIDTH, "B/s")
    assert said["target"] == {"key": "time.step_s", "value": 14.0, "unit": "s"}
    assert said["written"] == "3.997 TB/s"
    assert math.isclose(said["time"]["step_s"], 14.0, rel_tol=1e-9)
    assert said["between"]["from"] < said["value"] < said["between"]["to"]


BAD: list[tuple[dict[str, Any], str]] = [
    ({"vary": "cluster.accelerator.memory.bandwith"}, "did you mean 'cluster.accelerator.memory.bandwidth'"),
    ({"vary": "strategy"}, "'strategy' is not a number of this scenario"),
    ({"vary": "strategy.recompute"}, "is not a number of this scenario"),
    ({"until": {"time.step": "4 s"}}, "did you mean 'time.step_s'"),
    ({"until": {"time.step_s": "4 J"}}, "'4 J' is not a quantity of s"),
    ({"until": {"time.step_s": "0 s"}}, "expected a target above 0"),
    ({"until": {}}, "must have at least 1 item"),
    ({"until": {"time.step_s": 4, "run.days": 3}}, "must have at most 1 item"),
    ({"between": {"from": "4 TB", "to": "5 TB/s"}}, "'4 TB' is not a quantity of B/s"),
    ({"between": {"from": 4, "to": 5}}, "4 has no unit; expected a quantity of B/s"),
    ({"between": {"from": "5 TB/s", "to": "4 TB/s"}}, "`to` must be larger than `from`"),
    ({"between": {"from": "5 TB/s"}}, "to: missing"),
    ({"vary": "site.pue"}, "say where to look with `between"),
    ({"until": {"run.usd": "4 USD"}, "cluster.accelerator.price": {}}, "it needs `pricing:`"),
    ({"vary": "strategy.tp", "between": {"from": 0, "to": 8}}, "a whole number of at least 1"),
    ({"strategy.tp": [1, 2]}, "several values belong to `question: search`"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda one: str(one)[:40])
def test_what_cannot_be_asked_is_said_in_one_sentence(options: dict[str, Any], message: str) -> None:
    asked = {"question": "solve", "vary": BANDWIDTH, "until": {"time.step_s": 14.0}} | options
    with pytest.raises(PerfmodelError) as caught:
        pm.load(SCENARIO, overrides=asked).run()
    assert message in str(caught.value)
    assert isinstance(caught.value, SpecError)
