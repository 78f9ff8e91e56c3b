"""The replay of pipelines: against arithmetic that holds for any correct schedule, and against closed forms."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.equations.pipeline import in_flight_microbatches, pipeline_time
from perfmodel.errors import UsageError
from perfmodel.parallel.schedule import BACKWARD, FORWARD, Timeline, replay, stage_order

uniform = st.tuples(st.integers(1, 8), st.integers(1, 5), st.integers(1, 4), st.floats(0.1, 3), st.floats(0.1, 6))


def check_dependencies(timeline: Timeline, stages: int, virtual: int, microbatches: int, transfer: float) -> None:
    """Every pass once, stages do one thing at a time, and data arrives before it is used."""
    ended = {(e.phase, e.chunk * stages + e.stage, e.microbatch): e.end for e in timeline.events}
    assert len(ended) == len(timeline.events) == 2 * stages * virtual * microbatches
    by_stage = defaultdict(list)
    last = stages * virtual - 1
    for event in timeline.events:
        by_stage[event.stage].append(event)
        depth = event.chunk * stages + event.stage
        if event.phase == FORWARD and depth > 0:
            assert event.start >= ended[FORWARD, depth - 1, event.microbatch] + transfer - 1e-9
        if event.phase == BACKWARD:
            assert event.start >= ended[FORWARD, depth, event.microbatch] - 1e-9
            if depth < last:
                assert event.start >= ended[BACKWARD, depth + 1, event.microbatch] + transfer - 1e-9
    for events in by_stage.values():
        assert all(after.start >= before.end - 1e-9 for before, after in itertools.pairwise(events))


@given(uniform)
@settings(max_examples=80, deadline=None)
def test_uniform_pipeline_has_the_published_bubble(case):
    """Narayanan et al. 2021 (arXiv 2104.04473), section 2.2: idle time (p - 1) (f + b) / v."""
    stages, groups, virtual, forward, backward = case
    virtual = virtual if stages > 1 else 1
    microbatches = groups * stages
    timeline = replay([forward] * stages, [backward] * stages, microbatches, virtual)
    check_dependencies(timeline, stages, virtual, microbatches, 0.0)
    one = forward + backward
    assert timeline.makespan == pytest.approx(microbatches * one + (stages - 1) / virtual * one, rel=1e-9)


@given(st.integers(1, 9), st.integers(1, 20), st.floats(0.1, 3), st.floats(0.1, 6))
@settings(max_examples=60, deadline=None)
def test_plain_schedule_needs_no_multiple_of_the_stages(stages, microbatches, forward, backward):
    timeline = replay([forward] * stages, [backward] * stages, microbatches)
    assert timeline.makespan == pytest.approx((microbatches + stages - 1) * (forward + backward), rel=1e-9)


@given(
    st.lists(st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)), min_size=1, max_size=6),
    st.integers(1, 4), st.integers(1, 3), st.floats(0, 0.5),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_any_pipeline_keeps_order_and_lower_bounds(times, groups, virtual, transfer):
    stages = len(times)
    virtual = virtual if stages > 1 else 1
    forward, backward = [f for f, _ in times], [b for _, b in times]
    timeline = replay(forward, backward, groups * stages, virtual, transfer)
    check_dependencies(timeline, stages, virtual, groups * stages, transfer if stages > 1 else 0.0)
    # A stage does all its work; one micro-batch passes all chunks forward and back.
    busiest = max(f + b for f, b in times) * groups * stages
    latency = sum(forward) + sum(backward) + 2 * transfer * (stages * virtual - 1) * (stages > 1)
    assert timeline.makespan >= max(busiest, latency) - 1e-9


@pytest.mark.parametrize("stages", [1, 2, 4, 7])
@pytest.mark.parametrize("microbatches", [1, 3, 4, 16])
def test_plain_schedule_keeps_min_of_depth_and_microbatches(stages, microbatches):
    timeline = replay([1.0] * stages, [2.0] * stages, microbatches)
    kept = [timeline.in_flight(i) for i in range(stages)]
    assert kept == [min(stages - i, microbatches) for i in range(stages)]
    assert kept == [float(in_flight_microbatches(stages, i, microbatches, 1.0)) for i in range(stages)]


@pytest.mark.parametrize(
    ("stages", "virtual", "groups"), [(2, 2, 1), (4, 2, 1), (4, 2, 4), (4, 7, 2), (8, 3, 4), (16, 8, 1)]
)
def test_interleaved_schedule_keeps_the_warm_up_chunks(stages, virtual, groups):
    """Megatron: 2 (p - i - 1) + (v - 1) p warm-up passes, one more in the steady state, at most all of them."""
    microbatches = groups * stages
    timeline = replay([1.0] * stages, [2.0] * stages, microbatches, virtual)
    kept = [timeline.in_flight(i, virtual) for i in range(stages)]
    passes = [min((stages - i - 1) * 2 + (virtual - 1) * stages + 1, microbatches * virtual) for i in range(stages)]
    assert kept == pytest.approx([one / virtual for one in passes])
    assert kept == pytest.approx(
        [float(in_flight_microbatches(stages, i, microbatches, virtual)) for i in range(stages)]
    )


def test_order_of_a_small_interleaved_pipeline():
    """Figure 4 of arXiv 2104.04473: four stages, two chunks, eight micro-batches, first and last device."""
    first = [(s.phase[0], s.chunk, s.microbatch) for s in stage_order(0, 4, 8, 2)]
    assert first[:10] == [("f", 0, m) for m in range(4)] + [("f", 1, m) for m in range(4)] + [("f", 0, 4), ("f", 0, 5)]
    assert first[10:14] == [("f", 0, 6), ("b", 1, 0), ("f", 0, 7), ("b", 1, 1)]
    last = [(s.phase[0], s.chunk, s.microbatch) for s in stage_order(3, 4, 8, 2)]
    assert last[:8] == [*[("f", 0, m) for m in range(4)], ("f", 1, 0), ("b", 1, 0), ("f", 1, 1), ("b", 1, 1)]
    assert Counter(phase for phase, _, _ in last) == {"f": 16, "b": 16}


def closed_form(totals: np.ndarray, microbatches: int, virtual: int = 1) -> float:
    slowest = totals.max()
    return float(pipeline_time(microbatches, slowest, totals.sum() - slowest, virtual))


uneven = st.lists(st.floats(0.5, 2), min_size=1, max_size=9)


@given(uneven, st.integers(0, 3), st.floats(1, 3))
@settings(max_examples=80, deadline=None)
def test_uneven_plain_pipeline_takes_no_longer_than_the_closed_form(times, groups, ratio):
    """The exact time is in ``tests/engine/test_pipelines.py``."""
    forward, backward = np.array(times), ratio * np.array(times)
    microbatches = len(times) * (groups + 1)
    makespan = replay(list(forward), list(backward), microbatches).makespan
    assert makespan <= closed_form(forward + backward, microbatches) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("stages", "virtual", "microbatches"), [(4, 1, 4), (8, 1, 64), (8, 2, 16), (16, 8, 16), (16, 8, 32)]
)
@pytest.mark.parametrize("excess", [0.0, 0.2, 1.0])
def test_closed_form_is_exact_when_the_head_makes_the_last_stage_the_slowest(stages, virtual, microbatches, excess):
    forward = np.ones(stages)
    forward[-1] += excess
    makespan = replay(list(forward), list(2 * forward), microbatches, virtual).makespan
    assert closed_form(3 * forward, microbatches, virtual) == pytest.approx(makespan, rel=1e-9)


@pytest.mark.parametrize("head", [0.5, 1.0, 1.6])
@pytest.mark.parametrize(("virtual", "microbatches"), [(1, 16), (1, 128), (8, 16), (8, 32)])
def test_closed_form_holds_for_a_layout_that_counts_embedding_and_head_as_layers(head, virtual, microbatches):
    """126 layers on 16 stages as 7, 14 x 8, 7, with a head worth ``head`` layers: within 2 %."""
    forward = np.array([7.0, *[8.0] * 14, 7.0 + head])
    makespan = replay(list(forward), list(2 * forward), microbatches, virtual).makespan
    assert closed_form(3 * forward, microbatches, virtual) == pytest.approx(makespan, rel=0.02)


@pytest.mark.parametrize("excess", [0.02, 0.1])
def test_closed_form_overstates_a_slow_first_stage_of_a_long_step_by_less_than_two_percent(excess):
    forward = np.ones(8)
    forward[0] += excess
    makespan = replay(list(forward), list(2 * forward), 32).makespan
    assert makespan < closed_form(3 * forward, 32) < 1.02 * makespan


def test_schedules_that_cannot_run_are_refused():
    with pytest.raises(UsageError, match="per stage"):
        replay([1.0], [1.0, 2.0], 4)
    with pytest.raises(UsageError, match="per stage"):
        replay([], [], 4)
    with pytest.raises(UsageError, match="zb-v"):
        replay([1.0], [1.0], 4, schedule="zbv")
    with pytest.raises(UsageError, match="weight gradients"):
        replay([1.0, 1.0], [1.0, 1.0], 4, schedule="zb-h1", weight_gradient_s=[1.0])
    with pytest.raises(UsageError, match="4 micro-batches cannot run dualpipe on 4 stages"):
        replay([1.0] * 4, [1.0] * 4, 4, schedule="dualpipe")


@pytest.mark.parametrize(("stages", "virtual", "microbatches"), [(16, 8, 32), (64, 1, 512)])
def test_large_pipelines_are_replayed_completely(stages, virtual, microbatches):
    timeline = replay([1.0] * stages, [2.0] * stages, microbatches, virtual)
    assert len(timeline.events) == 2 * stages * virtual * microbatches
