"""The bubble of every schedule, composed from stage classes, against the replay of the schedule event by event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.engine.pipelines import in_flight_microbatches, pipeline_bubble
from perfmodel.engine.problem import call_each, call_stacked
from perfmodel.engine.stages import PlanNumbers, StageClass, StageTime
from perfmodel.engine.step import slowest
from perfmodel.equations import pipeline_schedules
from perfmodel.parallel.orders import SCHEDULES
from perfmodel.parallel.schedule import Timeline, replay

#: Forward pass, input gradient and weight gradient of one micro-batch on a stage.
Times = tuple[float, float, float]


def numbers(schedule: str, stages: Any, microbatches: Any, virtual: Any = 1, synchronous: float = 1.0) -> PlanNumbers:
    plan: dict[str, Any] = {item.name: 1.0 for item in fields(PlanNumbers)}
    plan |= {"pp": stages, "num_microbatches": microbatches, "virtual_stages": virtual}
    columns = {name: np.atleast_1d(np.asarray(value, dtype=float)) for name, value in plan.items()}
    return PlanNumbers(**columns | {"schedule": SCHEDULES[schedule], "synchronous": synchronous})


def stage_time(times: Any) -> StageTime:
    forward, inputs, weights = times
    zero = dict.fromkeys((item.name for item in fields(StageTime)), 0.0)
    return StageTime(
        **zero | {"forward": forward, "backward": inputs + weights, "forward_pass": forward, "weight_gradient": weights}
    )


def composed(plan: PlanNumbers, times: Sequence[Any], counts: Sequence[Any] | None = None, **problem: Any) -> Any:
    """Time of the micro-batches of a step from one class per entry, ``counts`` stages each."""
    counts = [1.0] * len(times) if counts is None else counts
    starts = np.cumsum([np.zeros_like(counts[0]), *counts[:-1]], axis=0)
    classes = [
        StageClass(f"stage {i}", 0.0, 0.0, 0.0, start, np.asarray(count, dtype=float))
        for i, (start, count) in enumerate(zip(starts, counts, strict=True))
    ]
    given = {"call": call_stacked, "workload": SimpleNamespace(training=True)} | problem
    each = [stage_time(one) for one in times]
    worst = slowest(each)
    bubble = pipeline_bubble(SimpleNamespace(**given), plan, classes, each, worst)  # type: ignore[arg-type]
    return plan.num_microbatches * worst.total + bubble


def replayed(schedule: str, times: Sequence[Times], microbatches: int, virtual: int = 1) -> Timeline:
    return replay(
        [f for f, _, _ in times],
        [b + w for _, b, w in times],
        microbatches,
        virtual,
        schedule=schedule,
        weight_gradient_s=[w for _, _, w in times],
    )


def virtual_of(schedule: str, chunks: int = 2) -> int:
    return {"interleaved-1f1b": chunks, "zb-v": 2}.get(schedule, 1)


time = st.floats(0.2, 3.0)


@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 5), st.integers(2, 4), st.integers(2, 4), time, time, time)
@settings(max_examples=150, deadline=None)
def test_equal_stages_take_what_the_replay_takes(schedule, half, groups, chunks, forward, inputs, weights):
    stages = 2 * half
    virtual, microbatches = virtual_of(schedule, chunks), groups * stages
    times = [(forward, inputs, weights)] * stages
    timeline = replayed(schedule, times, microbatches, virtual)
    plan = numbers(schedule, stages, microbatches, virtual)
    as_classes = composed(plan, [times[0]] * 3, [1.0, stages - 2.0, 1.0])
    assert as_classes == pytest.approx(timeline.makespan, rel=1e-9)
    assert composed(plan, times) == pytest.approx(timeline.makespan, rel=1e-9)
    # Where no stage waits for another one before it updates its weights, the longest stage counts.
    alone = composed(numbers(schedule, stages, microbatches, virtual, synchronous=0.0), times)
    assert alone == pytest.approx(timeline.longest_stage, rel=1e-9)
    kept = [float(in_flight_microbatches(plan, StageClass("", 0.0, 0.0, 0.0, float(i), 1.0))[0]) for i in range(stages)]
    assert kept == pytest.approx([timeline.in_flight(i, virtual) for i in range(stages)])


uneven = st.lists(st.tuples(time, time, time), min_size=1, max_size=9)


@given(uneven, st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_the_longest_path_of_1f1b_is_exact_for_any_stages_and_micro_batches(times, microbatches):
    makespan = replayed("1f1b", times, microbatches).makespan
    assert composed(numbers("1f1b", len(times), microbatches), times) == pytest.approx(makespan, rel=1e-9)


@given(uneven, st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_gpipe_is_exact_for_any_stages(times, microbatches):
    makespan = replayed("gpipe", times, microbatches).makespan
    assert composed(numbers("gpipe", len(times), microbatches), times) == pytest.approx(makespan, rel=1e-9)


@given(st.lists(st.tuples(time, time, time), min_size=2, max_size=9), st.integers(1, 4), st.integers(2, 4))
@settings(max_examples=150, deadline=None)
def test_interleaved_stages_of_any_times_are_within_two_percent(times, groups, chunks):
    """Forward and backward times that have nothing to do with each other; a mean error of 0.01 %."""
    stages, microbatches = len(times), groups * len(times)
    makespan = replayed("interleaved-1f1b", times, microbatches, chunks).makespan
    plan = numbers("interleaved-1f1b", stages, microbatches, chunks)
    assert composed(plan, times) == pytest.approx(makespan, rel=0.02)


def ends(first: float, last: float, stages: int, shape: Times) -> list[Times]:
    scale = [first, *[1.0] * (stages - 2), last]
    return [(one * shape[0], one * shape[1], one * shape[2]) for one in scale]


@given(
    st.sampled_from(["1f1b", "interleaved-1f1b", "zb-h1"]), st.integers(2, 12), st.integers(2, 4), st.integers(2, 4),
    st.floats(0.6, 1.6), st.floats(0.6, 1.6), st.sampled_from([(1.0, 1.0, 1.0), (1.0, 1.3, 0.8), (1.0, 0.9, 1.1)]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_classes_with_uneven_ends(schedule, stages, groups, chunks, first, last, shape):
    """First and last stage differ from the ones between: what embedding, head, or fewer layers make of a pipeline."""
    times = ends(first, last, stages, shape)
    virtual, microbatches = virtual_of(schedule, chunks), groups * stages
    makespan = replayed(schedule, times, microbatches, virtual).makespan
    middle = times[1] if stages > 2 else times[0]
    found = composed(
        numbers(schedule, stages, microbatches, virtual), [times[0], middle, times[-1]], [1.0, stages - 2.0, 1.0]
    )
    assert found == pytest.approx(makespan, rel=0.01 if schedule == "zb-h1" else 1e-9)


# -- schedules that go both ways -------------------------------------------------------------------------
def time_of(timeline: Timeline, synchronous: float) -> float:
    return timeline.makespan if synchronous else timeline.longest_stage


def heavy_ends(random: np.random.Generator, schedule: str, stages: int) -> list[Times]:
    """Ends that take half to two and a half times what the stages between take, their passes within 10 % of that."""
    shape = random.uniform(0.75, 1.25, 3)
    first, last = (random.uniform(0.5, 2.5) * random.uniform(0.9, 1.1, 3) for _ in range(2))
    scale = [first, *[np.ones(3)] * (stages - 2), first if schedule == "dualpipe" else last]
    return [tuple((shape * one).tolist()) for one in scale]


@pytest.mark.parametrize("synchronous", [1.0, 0.0])
@pytest.mark.parametrize(("schedule", "error"), [("zb-v", 0.005), ("dualpipe", 1e-9)])
def test_heavy_and_light_ends_of_schedules_that_go_both_ways(schedule, error, synchronous):
    random = np.random.default_rng(3)
    for stages in (2, 4, 6, 8, 12, 16) if schedule == "dualpipe" else (2, 3, 4, 5, 8, 12, 16):
        for microbatches in (2 * stages, 2 * stages + 2, 4 * stages):
            for _ in range(12):
                times = heavy_ends(random, schedule, stages)
                replay_time = time_of(replayed(schedule, times, microbatches, virtual_of(schedule)), synchronous)
                plan = numbers(schedule, stages, microbatches, virtual_of(schedule), synchronous)
                middle = times[1] if stages > 2 else times[0]
                found = composed(plan, [times[0], middle, times[-1]], [1.0, stages - 2.0, 1.0])
                # A path of the schedule is never longer than the longest one.
                assert replay_time * (1.0 - error) <= found <= replay_time * (1.0 + 1e-9)
                assert composed(plan, times) == pytest.approx(found, rel=1e-9)


own_scale = st.floats(0.5, 1.6)
near_one = st.floats(0.75, 1.25)


def opposite(schedule: str, times: Sequence[Times]) -> list[Times]:
    """Where a stage holds what the stage opposite holds, it takes the mean of both."""
    if schedule != "dualpipe":
        return list(times)
    pairs = zip(times, reversed(times), strict=True)
    return [tuple((one + other) / 2.0 for one, other in zip(*pair, strict=True)) for pair in pairs]  # type: ignore[misc]


@pytest.mark.parametrize("synchronous", [1.0, 0.0])
@pytest.mark.parametrize("schedule", ["zb-v", "dualpipe"])
@given(half=st.integers(1, 5), more=st.integers(0, 8), shape=st.tuples(near_one, near_one, near_one), data=st.data())
@settings(max_examples=60, deadline=None)
def test_stages_of_any_size_of_schedules_that_go_both_ways(schedule, synchronous, half, more, shape, data):
    """A layout by hand, leading layers of another kind: every stage has a size of its own."""
    stages, microbatches = 2 * half, 4 * half + 2 * more
    times = opposite(schedule, [tuple(scale * one for one in shape) for scale in data.draw(sizes_of(stages))])
    replay_time = time_of(replayed(schedule, times, microbatches, virtual_of(schedule)), synchronous)
    found = composed(numbers(schedule, stages, microbatches, virtual_of(schedule), synchronous), times)
    assert replay_time * 0.98 <= found <= replay_time * (1.0 + 1e-9)


def sizes_of(stages: int) -> st.SearchStrategy[list[float]]:
    return st.lists(own_scale, min_size=stages, max_size=stages)


@pytest.mark.parametrize(("schedule", "error"), [("zb-v", 0.05), ("dualpipe", 0.03)])
def test_passes_that_have_nothing_to_do_with_each_other(schedule, error):
    """Factors of 15 between any two passes: where paths that are left out are longest."""
    random, errors = np.random.default_rng(5), []
    for stages in (2, 4, 6, 8, 12):
        for _ in range(60):
            times = opposite(schedule, [tuple(one) for one in random.uniform(0.2, 3.0, (stages, 3)).tolist()])
            makespan = replayed(schedule, times, 2 * stages, virtual_of(schedule)).makespan
            errors.append(1.0 - composed(numbers(schedule, stages, 2 * stages, virtual_of(schedule)), times) / makespan)
    assert -1e-9 <= np.min(errors) <= np.max(errors) <= error
    assert np.mean(errors) < 0.004


@pytest.mark.parametrize("schedule", ["zb-v", "dualpipe"])
@given(data=st.data(), synchronous=st.sampled_from([0.0, 1.0]))
@settings(max_examples=60, deadline=None)
def test_more_work_in_any_pass_never_shortens_a_step_of_uneven_stages(schedule, data, synchronous):
    stages, microbatches = 6, data.draw(st.sampled_from([12, 18, 24]))
    times = opposite(schedule, [data.draw(st.tuples(time, time, time)) for _ in range(stages)])
    stage, which = data.draw(st.integers(0, stages - 1)), data.draw(st.integers(0, 2))
    factor = data.draw(st.floats(1.0, 3.0))
    # Where stages do not wait, a stage that starts later works for a shorter time: the time of a step of equal starts.
    which = which if synchronous else max(which, 1)
    held = {stage, stages - 1 - stage} if schedule == "dualpipe" else {stage}
    more = [
        tuple(one * (factor if place in held and part == which else 1.0) for part, one in enumerate(each))
        for place, each in enumerate(times)
    ]
    plan = numbers(schedule, stages, microbatches, virtual_of(schedule), synchronous)
    before, after = (composed(plan, one)[0] for one in (times, more))
    assert after >= before * (1.0 - 1e-12)


@given(st.integers(1, 6), st.integers(2, 4), time, time, time, st.sampled_from([0.0, 1.0]))
@settings(max_examples=60, deadline=None)
def test_bubbles_of_equal_stages_are_those_of_the_longest_paths(half, groups, forward, inputs, weights, synchronous):
    stages, microbatches = 2.0 * half, 2.0 * half * groups
    passes = (forward, inputs, weights)
    bubbles = {
        "zb-h1": pipeline_schedules.zb_h1_bubble_time(stages, *passes, synchronous),
        "zb-v": pipeline_schedules.zb_v_bubble_time(stages, *passes, synchronous),
        "dualpipe": pipeline_schedules.dualpipe_bubble_time(stages, *passes, sum(passes)),
    }
    for schedule, bubble in bubbles.items():
        plan = numbers(schedule, stages, microbatches, virtual_of(schedule), synchronous)
        whole = microbatches * sum(passes) + bubble
        assert composed(plan, [passes] * int(stages)) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_columns_are_their_rows(schedule):
    random = np.random.default_rng(7)
    stages = random.choice([2.0, 4.0, 8.0], 40)
    microbatches = stages * random.integers(2, 5, 40)
    virtual = np.full(40, float(virtual_of(schedule)))
    times = random.uniform(0.5, 1.5, (3, 3, 40))
    times[1][:, stages == 2] = 0.0  # as of a class that a plan does not have
    counts = [np.ones(40), stages - 2.0, np.ones(40)]
    together = composed(numbers(schedule, stages, microbatches, virtual), times, counts)
    for row in range(40):
        each = [tuple(float(part) for part in one[:, row]) for one in times]
        plan = numbers(schedule, stages[row], microbatches[row], virtual[row])
        held = [np.atleast_1d(count[row]) for count in counts]
        assert composed(plan, each, held, call=call_each)[0] == pytest.approx(together[row], rel=1e-12)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_more_work_never_shortens_a_step(schedule, data):
    stages, microbatches, virtual = 4, 12, virtual_of(schedule)
    times = [data.draw(time) for _ in range(3)]
    more = [one * data.draw(st.floats(1.0, 2.0)) for one in times]
    plan = numbers(schedule, stages, microbatches, virtual)
    before, after = (composed(plan, [tuple(one)] * stages)[0] for one in (times, more))
    assert after >= before * (1.0 - 1e-12)
    assert before >= microbatches * sum(times) * (1.0 - 1e-12)


def test_one_stage_has_no_bubble():
    assert composed(numbers("1f1b", 1, 8), [(1.0, 1.0, 1.0)])[0] == 24.0


def test_a_forward_pass_alone_waits_once_for_every_stage():
    forward = SimpleNamespace(training=False)
    found = composed(numbers("1f1b", 4, 8), [(1.0, 0.0, 0.0)] * 4, workload=forward)
    assert found == pytest.approx(8.0 + 3.0)


# -- whole scenarios -------------------------------------------------------------------------------------
def pipeline_of(schedule: str) -> dict[str, Any]:
    return {"schedule": schedule, "virtual_stages": virtual_of(schedule)}


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_the_derivation_is_the_result(run, schedule):
    result = run("megatron-175b", strategy__pipeline=pipeline_of(schedule), strategy__zero=1)
    assert result.reasons == () or all("memory" in one for one in result.reasons)
    for key in ("time.step_s", "time.breakdown.pipeline_bubble_s", "memory.peak_bytes", "energy.per_step_j"):
        assert result.explain(key).value == pytest.approx(result.value(key), rel=1e-12)
    assert sum(result.time["breakdown"].values()) == pytest.approx(result.time["step_s"], rel=1e-9)


def test_what_each_schedule_gains_and_costs(run):
    found = {name: run("megatron-175b", strategy__pipeline=pipeline_of(name)) for name in SCHEDULES}
    bubble = {name: result.time["breakdown"]["pipeline_bubble_s"] for name, result in found.items()}
    assert bubble["1f1b"] > bubble["interleaved-1f1b"]
    assert bubble["1f1b"] > bubble["zb-h1"] > bubble["zb-v"]
    assert bubble["1f1b"] > bubble["dualpipe"]
    kept = {name: max(row.in_flight for row in result.stages) for name, result in found.items()}
    microbatches = found["gpipe"].plans[0]["num_microbatches"]
    assert kept == pytest.approx(
        {"gpipe": microbatches, "1f1b": 8, "interleaved-1f1b": 8 * (1 + 7 / 16), "zb-h1": 8, "zb-v": 8, "dualpipe": 9}
    )


def test_dualpipe_keeps_every_parameter_twice(run):
    one, two = (run("megatron-175b", strategy__pipeline=pipeline_of(name)) for name in ("1f1b", "dualpipe"))
    assert two.stages[1].memory["weights_bytes"] == pytest.approx(2 * one.stages[1].memory["weights_bytes"])
    # The two copies share the state that ZeRO shards.
    sharded = [
        run("megatron-175b", strategy__pipeline=pipeline_of(name), strategy__zero=1).stages[1]
        for name in ("1f1b", "dualpipe")
    ]
    assert sharded[1].memory["optimizer_bytes"] == pytest.approx(sharded[0].memory["optimizer_bytes"])
    # Without a data-parallel group they still have to agree on gradients.
    alone = {"strategy__pp": 8, "cluster__devices": 64, "workload__global_batch": 64}
    apart, both = (run("megatron-175b", strategy__pipeline=pipeline_of(name), **alone) for name in ("1f1b", "dualpipe"))
    assert apart.time["breakdown"]["data_communication_s"] == 0.0
    assert both.time["breakdown"]["data_communication_s"] > 0.0


def test_zb_v_needs_no_second_copy_of_tied_weights(run):
    folded = run("megatron-175b", strategy__pipeline=pipeline_of("zb-v"))
    assert folded.stages[0].has_embedding
    assert folded.stages[0].has_head
    assert folded.stages[0].memory["logits_bytes"] > 0.0 == folded.stages[-1].memory["logits_bytes"]
    plain = run("megatron-175b", strategy__pipeline=pipeline_of("1f1b"))
    both = plain.stages[0].memory["weights_bytes"] + plain.stages[-1].memory["weights_bytes"]
    middle = plain.stages[1].memory["weights_bytes"]
    table = plain.stages[0].memory["weights_bytes"] - middle
    # Position embeddings and the last norm are small beside the vocabulary.
    assert folded.stages[0].memory["weights_bytes"] == pytest.approx(both - middle - table, rel=0.01)
