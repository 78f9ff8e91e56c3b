"""The order of every schedule: possible, complete, and that of the published figures."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.parallel.orders import (
    BACKWARD,
    FORWARD,
    INPUT_GRADIENT,
    SCHEDULES,
    WEIGHT_GRADIENT,
    Order,
    order_of,
    slots,
)
from perfmodel.parallel.schedule import Timeline, replay
from perfmodel.specs.strategy import PipelineSpec

SHORT = {FORWARD: "F", BACKWARD: "G", INPUT_GRADIENT: "B", WEIGHT_GRADIENT: "W"}


def spelled(order: Order) -> list[str]:
    """``F0.3``: chunk and micro-batch; ``F0.3&G1.2`` for passes side by side."""
    return ["&".join(f"{SHORT[one.phase]}{one.chunk}.{one.microbatch}" for one in step) for step in order]


def depth_of(schedule: str, stage: int, chunk: int, stages: int) -> int:
    """Written again on its own: where a chunk lies in the model."""
    straight = chunk * stages + stage
    return {
        "zb-v": [stage, 2 * stages - 1 - stage][min(chunk, 1)],
        "dualpipe": [stage, stages - 1 - stage][min(chunk, 1)],
    }.get(schedule, straight)


def check(timeline: Timeline, schedule: str, stages: int, chunks: int, microbatches: int, transfer: float) -> None:
    """Each pass once, one thing at a time on a stage, and nothing before what it needs."""
    depths = stages if schedule == "dualpipe" else stages * chunks
    forward, gradient, weights = {}, {}, {}
    busy = defaultdict(list)
    for event in timeline.events:
        key = depth_of(schedule, event.stage, event.chunk, stages), event.microbatch
        made = {FORWARD: [forward], BACKWARD: [gradient, weights], INPUT_GRADIENT: [gradient]}
        for table in made.get(event.phase, [weights]):
            assert key not in table
            table[key] = event
        if not event.beside:
            busy[event.stage].append(event)
    everything = set(itertools.product(range(depths), range(microbatches)))
    assert set(forward) == set(gradient) == set(weights) == everything

    def arrived(producer, consumer):
        return producer.end + (transfer if producer.stage != consumer.stage else 0.0) - 1e-9

    for depth, microbatch in everything:
        one, back = forward[depth, microbatch], gradient[depth, microbatch]
        assert back.start >= one.end - 1e-9
        assert weights[depth, microbatch].end >= back.end
        if depth > 0:
            assert one.start >= arrived(forward[depth - 1, microbatch], one)
        if depth < depths - 1:
            assert back.start >= arrived(gradient[depth + 1, microbatch], back)
    for events in busy.values():
        assert all(after.start >= before.end - 1e-9 for before, after in itertools.pairwise(events))


time = st.floats(0.1, 3.0)


@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.lists(st.tuples(time, time, st.floats(0.1, 0.9)), min_size=2, max_size=8).filter(lambda x: len(x) % 2 == 0),
    st.integers(2, 4), st.integers(2, 3), st.floats(0.0, 0.5),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_every_order_is_possible_and_complete(schedule, times, groups, chunks, transfer):
    stages = len(times)
    virtual = {"interleaved-1f1b": chunks, "zb-v": 2, "dualpipe": 1}.get(schedule, 1)
    forward, backward = [f for f, _, _ in times], [b for _, b, _ in times]
    timeline = replay(
        forward,
        backward,
        groups * stages,
        virtual,
        transfer,
        schedule=schedule,
        weight_gradient_s=[b * share for _, b, share in times],
    )
    check(timeline, schedule, stages, virtual, groups * stages, transfer)


def test_scenarios_may_name_every_schedule_and_no_other():
    names = PipelineSpec.model_json_schema()["properties"]["schedule"]["anyOf"][0]["enum"]
    assert sorted(names) == sorted(SCHEDULES)


def test_zb_h1_of_four_stages():
    """Figure 3 (top) of arXiv 2401.10241: four stages, eight micro-batches, first and last device."""
    first = spelled(order_of("zb-h1", 0, 4, 8))
    assert first[:9] == ["F0.0", "F0.1", "F0.2", "F0.3", "B0.0", "W0.0", "F0.4", "B0.1", "W0.1"]
    assert first[-4:] == ["B0.6", "W0.6", "B0.7", "W0.7"]
    last = spelled(order_of("zb-h1", 3, 4, 8))
    assert last[:10] == ["F0.0", "B0.0", "F0.1", "B0.1", "F0.2", "B0.2", "F0.3", "B0.3", "W0.0", "F0.4"]
    assert last[-5:] == ["B0.7", "W0.4", "W0.5", "W0.6", "W0.7"]


def test_zb_v_of_four_stages():
    """Figure 6 of arXiv 2401.10241: the last device turns each micro-batch round as soon as it arrives."""
    last = spelled(order_of("zb-v", 3, 4, 8))
    assert last[:9] == ["F0.0", "F1.0", "F0.1", "F1.1", "F0.2", "F1.2", "F0.3", "F1.3", "B1.0"]
    first = spelled(order_of("zb-v", 0, 4, 8))
    assert first[:10] == [*(f"F0.{one}" for one in range(7)), "F1.0", "B1.0", "W1.0"]
    assert first[-1].startswith("W0")


def test_dualpipe_of_eight_stages_and_twenty_micro_batches():
    """Figure 5 of arXiv 2412.19437: 8 stages, 20 micro-batches in two directions."""
    first = spelled(order_of("dualpipe", 0, 8, 20))
    assert first[:8] == [*(f"F0.{one}" for one in range(7)), "F1.10"]
    assert first[8:11] == ["B1.10", "W1.10", "F1.11"]
    assert first[17:20] == ["F0.7&G1.13", "F1.14&G0.0", "F0.8&G1.14"]
    middle = spelled(order_of("dualpipe", 3, 8, 20))
    assert middle[:10] == ["F0.0", "F1.10", "F0.1", "F1.11", "F0.2", "F1.12", "F0.3", "F1.13", "F0.4", "G1.10"]
    assert middle[10] == "F1.14&G0.0"
    # The stage opposite does the same in the other direction.
    swapped = str.maketrans({"0": "1", "1": "0"})
    opposite = order_of("dualpipe", 7, 8, 20)
    assert [one[0].phase for one in opposite] == [one[0].phase for one in order_of("dualpipe", 0, 8, 20)]
    assert [one[:2].translate(swapped) for one in spelled(opposite)] == [one[:2] for one in first]


@pytest.mark.parametrize("schedule", ["gpipe", "zb-h1", "zb-v", "dualpipe"])
def test_passes_of_a_stage(schedule):
    found = Counter(one.phase for one in slots(order_of(schedule, 1, 4, 12, 2 if schedule == "zb-v" else 1)))
    chunks = 2 if schedule == "zb-v" else 1
    assert found[FORWARD] == 12 * chunks
    assert found[BACKWARD] + found[INPUT_GRADIENT] == 12 * chunks
    assert found[INPUT_GRADIENT] == found[WEIGHT_GRADIENT]


@pytest.mark.parametrize(
    ("schedule", "bubble", "kept"), [("1f1b", 21.0, 8), ("zb-h1", 7.0, 8), ("zb-v", 0.0, 8), ("dualpipe", 6.0, 9)]
)
def test_published_bubbles_of_equal_passes(schedule, bubble, kept):
    """F = B = W = 1 on 8 stages: arXiv 2401.10241, tables 1 and 2, section 6; arXiv 2412.19437, table 2.

    1F1B (p - 1)(F + B + W), ZB-H1 (p - 1)(F + B - W), ZB-V none, DualPipe (p/2 - 1)(F&B + B - 3W) with B = 2 there.
    """
    timeline = replay([1.0] * 8, [2.0] * 8, 24, 2 if schedule == "zb-v" else 1, schedule=schedule)
    assert timeline.longest_stage - 24 * 3.0 == pytest.approx(bubble)
    chunks = 2 if schedule == "zb-v" else 1
    assert max(timeline.in_flight(stage, chunks) for stage in range(8)) == kept
