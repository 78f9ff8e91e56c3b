"""The closed forms of the pipeline against a replay of the schedules, event by event."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.equations import pipeline

Task = tuple[str, int, int]  # direction, micro-batch, chunk of the whole model


def _order(stages: int, stage: int, microbatches: int, chunks: int) -> list[Task]:
    """The tasks of one stage in the order of Megatron-LM: warm-up, one forward one backward, cool-down."""
    total = microbatches * chunks

    def task(direction: str, index: int) -> Task:
        group, inside = divmod(index, stages * chunks)
        chunk, slot = divmod(inside, stages)
        chunk = chunk if direction == "F" else chunks - 1 - chunk
        return direction, group * stages + slot, chunk * stages + stage

    warmup = stages - stage - 1 if chunks == 1 else 2 * (stages - stage - 1) + (chunks - 1) * stages
    warmup = min(warmup, total)
    order = [task("F", index) for index in range(warmup)]
    for index in range(total - warmup):
        order += [task("F", warmup + index), task("B", index)]
    return order + [task("B", index) for index in range(total - warmup, total)]


def _replay(
    stages: int, microbatches: int, chunks: int, forward: list[float], backward: list[float]
) -> tuple[float, list[int]]:
    """Time of the step and the most chunks in flight of each stage."""
    orders = [_order(stages, stage, microbatches, chunks) for stage in range(stages)]
    done: dict[Task, float] = {}
    clock = [0.0] * stages
    position = [0] * stages
    flying, peak = [0] * stages, [0] * stages
    last = stages * chunks - 1
    while any(position[stage] < len(orders[stage]) for stage in range(stages)):
        progress = False
        for stage in range(stages):
            while position[stage] < len(orders[stage]):
                direction, batch, part = orders[stage][position[stage]]
                if direction == "F":
                    needs = None if part == 0 else ("F", batch, part - 1)
                else:
                    needs = ("F", batch, part) if part == last else ("B", batch, part + 1)
                if needs is not None and needs not in done:
                    break
                start = max(clock[stage], done[needs] if needs is not None else 0.0)
                clock[stage] = start + (forward if direction == "F" else backward)[stage] / chunks
                done[direction, batch, part] = clock[stage]
                flying[stage] += 1 if direction == "F" else -1
                peak[stage] = max(peak[stage], flying[stage])
                position[stage] += 1
                progress = True
        assert progress, "the schedule waits for itself"
    return max(clock), peak


@pytest.mark.parametrize("stages", [1, 2, 4, 8])
@pytest.mark.parametrize("groups", [1, 2, 5])
@pytest.mark.parametrize("chunks", [1, 2, 3])
def test_equal_stages(stages: int, groups: int, chunks: int) -> None:
    microbatches = stages * groups
    time, peak = _replay(stages, microbatches, chunks, [1.0] * stages, [2.0] * stages)
    assert time == pytest.approx(pipeline.pipeline_time(microbatches, 3.0, 3.0 * (stages - 1), chunks), rel=1e-12)
    ideal = 3.0 * microbatches
    assert (time - ideal) / ideal == pytest.approx(
        pipeline.bubble_fraction(float(stages), float(microbatches), float(chunks)), rel=1e-9, abs=1e-12
    )
    for stage in range(stages):
        kept = pipeline.in_flight_microbatches(float(stages), float(stage), float(microbatches), float(chunks))
        assert peak[stage] / chunks == pytest.approx(kept, rel=1e-12)


@given(st.lists(st.tuples(st.floats(0.5, 1.5), st.floats(1.0, 3.0)), min_size=1, max_size=8), st.integers(0, 24))
@settings(max_examples=60)
def test_the_closed_form_bounds_unequal_stages(stages: list[tuple[float, float]], extra: int) -> None:
    # A slow stage hides part of its own start-up behind the forward passes that it runs ahead.
    forward, backward = [list(part) for part in zip(*stages, strict=True)]
    both = [one + other for one, other in stages]
    microbatches = len(stages) + extra
    time, _ = _replay(len(stages), microbatches, 1, forward, backward)
    closed = pipeline.pipeline_time(float(microbatches), max(both), sum(both) - max(both), 1.0)
    assert microbatches * max(both) * (1.0 - 1e-12) <= time <= closed * (1.0 + 1e-12)


def test_the_closed_form_is_exact_when_the_last_stage_is_slow() -> None:
    time, _ = _replay(4, 32, 1, [1.0, 1.0, 1.0, 1.5], [2.0, 2.0, 2.0, 3.0])
    assert time == pytest.approx(pipeline.pipeline_time(32.0, 4.5, 9.0, 1.0), rel=1e-12)


def test_the_bubble_of_narayanan() -> None:
    # Narayanan et al. 2021, section 2.2: bubble over ideal time is (p - 1) / m, and v times less interleaved.
    assert pipeline.bubble_fraction(8.0, 8.0, 1.0) == pytest.approx(7.0 / 8.0)
    assert pipeline.bubble_fraction(8.0, 64.0, 1.0) == pytest.approx(7.0 / 64.0)
    assert pipeline.bubble_fraction(8.0, 64.0, 4.0) == pytest.approx(7.0 / 256.0)
    assert pipeline.pipeline_bubble_time(7.0 * 3.0, 4.0) / (64.0 * 3.0) == pytest.approx(7.0 / 256.0)


def test_messages_between_stages() -> None:
    # A middle stage sends each micro-batch on and its gradient back, once per chunk.
    assert pipeline.pipeline_transfers(4.0, 16.0, 1.0, 2.0) == 32.0
    assert pipeline.pipeline_transfers(4.0, 16.0, 2.0, 2.0) == 64.0
    # GPT-3: 2048 tokens of 12288 values in 2 bytes, sent in eight parts.
    assert pipeline.pipeline_message_bytes(2048.0, 12288.0, 2.0, 8.0) == 2048 * 12288 * 2 / 8
