"""Pipeline schedules replayed event by event.

The step time comes from the closed forms in ``perfmodel.equations.pipeline``, ``pipeline_paths``, ``pipeline_waves``
and ``pipeline_mirrored``; the replay draws the timeline and is the independent check of those forms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from perfmodel.errors import UsageError, nearest
from perfmodel.parallel.orders import (
    BACKWARD,
    FORWARD,
    INPUT_GRADIENT,
    INTERLEAVED,
    ONE_F_ONE_B,
    SCHEDULES,
    WEIGHT_GRADIENT,
    Slot,
    Step,
    order_of,
    stage_order,
)

__all__ = [
    "BACKWARD", "FORWARD", "INPUT_GRADIENT", "WEIGHT_GRADIENT", "Event", "Slot", "Timeline", "replay", "stage_order",
]  # fmt: skip


class Event(NamedTuple):
    """One pass of one micro-batch through one model chunk; times in s from the start of the step."""

    stage: int
    chunk: int
    microbatch: int
    phase: str
    start: float
    end: float
    beside: bool = False  # a backward pass that shares its time with the forward pass before it


@dataclass(frozen=True)
class Timeline:
    """A replayed step.

    Attributes
    ----------
    events
        In the order in which they were placed (of one stage: in time order).
    makespan
        End of the last event [s].
    """

    events: tuple[Event, ...]
    makespan: float

    def in_flight(self, stage: int, virtual_stages: int = 1) -> float:
        """Largest number of micro-batches whose activations a stage keeps; a chunk counts ``1 / virtual_stages``.

        Activations are kept until the weight gradients are done.
        """
        kept = peak = 0
        for event in self.events:
            if event.stage == stage:
                kept += {FORWARD: 1, INPUT_GRADIENT: 0}.get(event.phase, -1)
                peak = max(peak, kept)
        return peak / virtual_stages

    @property
    def longest_stage(self) -> float:
        """Time of the stage that is longest from its first pass to its last one [s].

        The time between steps where no stage waits for the others before it updates its weights.
        """
        first: dict[int, float] = {}
        last: dict[int, float] = {}
        for event in self.events:
            first[event.stage] = min(event.start, first.get(event.stage, event.start))
            last[event.stage] = max(event.end, last.get(event.stage, event.end))
        return max(last[stage] - first[stage] for stage in first)


def replay(
    forward_s: Sequence[float],
    backward_s: Sequence[float],
    num_microbatches: int,
    virtual_stages: int = 1,
    transfer_s: float = 0.0,
    *,
    schedule: str | None = None,
    weight_gradient_s: Sequence[float] | None = None,
    pair_s: Sequence[float] | None = None,
) -> Timeline:
    """Replay one step of a pipeline.

    Parameters
    ----------
    forward_s, backward_s
        Time of one micro-batch on each stage [s], over all its chunks; chunks take equal shares.
    num_microbatches
        Micro-batches per step.
    virtual_stages
        Model chunks per stage.
    transfer_s
        Time from the end of a pass to its availability on another stage [s]; it occupies no stage.
    schedule
        Its name; None: 1F1B, interleaved where there are virtual stages.
    weight_gradient_s
        The part of ``backward_s`` that makes weight gradients [s], for schedules that split it; None: half.
    pair_s
        Time of a forward pass beside a backward pass [s] (DualPipe); None: the sum of both.

    Returns
    -------
    Timeline
        Every pass with its start and end.

    Raises
    ------
    UsageError
        Lists of different length, an unknown schedule, or a schedule that cannot run.
    """
    if not forward_s or len(forward_s) != len(backward_s) or num_microbatches < 1 or virtual_stages < 1:
        raise UsageError("replay needs one forward and one backward time per stage and at least one micro-batch")
    name = schedule or (INTERLEAVED if virtual_stages > 1 else ONE_F_ONE_B)
    if name not in SCHEDULES:
        raise UsageError(f"no schedule {name!r}{nearest(name, SCHEDULES)}; there are {', '.join(SCHEDULES)}")
    weights = [time / 2 for time in backward_s] if weight_gradient_s is None else list(weight_gradient_s)
    pairs = [one + other for one, other in zip(forward_s, backward_s, strict=True)] if pair_s is None else list(pair_s)
    if not len(weights) == len(pairs) == len(forward_s):
        raise UsageError("replay needs one time per stage for weight gradients and for passes side by side")
    durations = {
        FORWARD: list(forward_s),
        BACKWARD: list(backward_s),
        INPUT_GRADIENT: [time - part for time, part in zip(backward_s, weights, strict=True)],
        WEIGHT_GRADIENT: weights,
    }
    return _Replay(name, durations, pairs, num_microbatches, virtual_stages, transfer_s).run()


class _Replay:
    """Stages work through fixed orders; each pass waits for the same micro-batch next door."""

    def __init__(
        self,
        schedule: str,
        durations: dict[str, list[float]],
        pairs: list[float],
        num_microbatches: int,
        virtual_stages: int,
        transfer: float,
    ) -> None:
        kind = SCHEDULES[schedule]
        self.kind, self.name = kind, schedule
        self.stages, self.microbatches = len(pairs), num_microbatches
        self.chunks = virtual_stages if kind.chunks is None else kind.chunks
        self.depths = kind.depths(self.stages, virtual_stages)
        self.transfer = transfer
        self.orders = [
            order_of(schedule, stage, self.stages, num_microbatches, self.chunks) for stage in range(self.stages)
        ]
        self.duration = {phase: [time / self.chunks for time in times] for phase, times in durations.items()}
        self.pairs = pairs
        # Stage and end of each pass that others wait for, by depth in the model and micro-batch.
        self.forward: dict[tuple[int, int], tuple[int, float]] = {}
        self.gradient: dict[tuple[int, int], tuple[int, float]] = {}
        self.next_step = [0] * self.stages
        self.clock = [0.0] * self.stages

    def run(self) -> Timeline:
        events: list[Event] = []
        waiting = True
        while waiting:
            placed = [event for stage in range(self.stages) for event in self._advance(stage)]
            events += placed
            waiting = bool(placed)
        if any(len(order) > step for order, step in zip(self.orders, self.next_step, strict=True)):
            raise UsageError(self._stuck())
        return Timeline(tuple(events), max(self.clock))

    def _stuck(self) -> str:
        chunks = f" with {self.chunks} virtual stages" if self.chunks > 1 else ""
        advice = f"; use a multiple of {self.stages} micro-batches" if self.name == INTERLEAVED else ""
        return f"{self.microbatches} micro-batches cannot run {self.name} on {self.stages} stages{chunks}{advice}"

    def _advance(self, stage: int) -> Iterator[Event]:
        """Place steps of a stage until one waits for a pass that is not placed yet."""
        order = self.orders[stage]
        for number in range(self.next_step[stage], len(order)):
            step = order[number]
            start = self._start(stage, step)
            if start is None:
                return
            end = start + (self.duration[step[0].phase][stage] if len(step) == 1 else self.pairs[stage])
            self.clock[stage], self.next_step[stage] = end, number + 1
            for slot in step:
                self._record(stage, slot, end)
                yield Event(stage, slot.chunk, slot.microbatch, slot.phase, start, end, slot is not step[0])

    def _record(self, stage: int, slot: Slot, end: float) -> None:
        depth = self.kind.depth(stage, slot.chunk, self.stages)
        if slot.phase == FORWARD:
            self.forward[depth, slot.microbatch] = (stage, end)
        elif slot.phase != WEIGHT_GRADIENT:
            self.gradient[depth, slot.microbatch] = (stage, end)

    def _start(self, stage: int, step: Step) -> float | None:
        """When a stage is free and all inputs of a step have arrived; None when one has no producer yet."""
        start = self.clock[stage]
        for slot in step:
            for found in self._inputs(stage, slot):
                if found is None:
                    return None
                producer, ended = found
                start = max(start, ended + (self.transfer if producer != stage else 0.0))
        return start

    def _inputs(self, stage: int, slot: Slot) -> list[tuple[int, float] | None]:
        """Stage and end of the passes that a pass waits for."""
        depth, microbatch = self.kind.depth(stage, slot.chunk, self.stages), slot.microbatch
        if slot.phase == FORWARD:
            return [self.forward.get((depth - 1, microbatch))] if depth > 0 else []
        if slot.phase == WEIGHT_GRADIENT:
            return [self.gradient.get((depth, microbatch))]
        above = [self.gradient.get((depth + 1, microbatch))] if depth < self.depths - 1 else []
        return [self.forward.get((depth, microbatch)), *above]
