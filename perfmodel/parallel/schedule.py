"""Pipeline schedules replayed event by event: 1F1B and Megatron's interleaved 1F1B.

The step time comes from the closed form in ``perfmodel.equations.pipeline``; the replay draws the timeline
and is the independent check of that form.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from perfmodel.errors import UsageError

FORWARD = "forward"
BACKWARD = "backward"


class Event(NamedTuple):
    """One pass of one micro-batch through one model chunk; times in s from the start of the step."""

    stage: int
    chunk: int
    microbatch: int
    phase: str
    start: float
    end: float


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
        """Largest number of micro-batches whose activations a stage keeps; a chunk counts ``1 / virtual_stages``."""
        kept = peak = 0
        for event in self.events:
            if event.stage == stage:
                kept += 1 if event.phase == FORWARD else -1
                peak = max(peak, kept)
        return peak / virtual_stages


class Slot(NamedTuple):
    """One entry of a stage's order: a chunk and a micro-batch, forward or backward."""

    phase: str
    chunk: int
    microbatch: int


def stage_order(stage: int, stages: int, num_microbatches: int, virtual_stages: int = 1) -> tuple[Slot, ...]:
    """The order in which a pipeline stage works.

    Parameters
    ----------
    stage, stages
        Pipeline rank and number of ranks.
    num_microbatches
        Micro-batches per step.
    virtual_stages
        Model chunks per rank; 1 is plain 1F1B.

    Notes
    -----
    Narayanan et al., "Efficient large-scale language model training on GPU clusters" (arXiv 2104.04473),
    section 2.2, as implemented in Megatron-Core (``pipeline_parallel/schedules.py``): warm-up forwards, then
    one forward and one backward in turn, then the remaining backwards. Interleaved, micro-batches pass in
    groups of ``stages`` through chunk 0, 1, ...; backward takes the chunks in reverse.
    """
    forwards = [
        (chunk, microbatch)
        for start in range(0, num_microbatches, stages)
        for chunk in range(virtual_stages)
        for microbatch in range(start, min(start + stages, num_microbatches))
    ]
    warm_up = stages - stage - 1
    if virtual_stages > 1:
        warm_up = 2 * warm_up + (virtual_stages - 1) * stages
    warm_up = min(warm_up, len(forwards))
    forward = [Slot(FORWARD, *one) for one in forwards]
    backward = [Slot(BACKWARD, virtual_stages - 1 - chunk, microbatch) for chunk, microbatch in forwards]
    steady = [slot for pair in zip(forward[warm_up:], backward, strict=False) for slot in pair]
    return (*forward[:warm_up], *steady, *backward[len(forward) - warm_up :])


def replay(
    forward_s: Sequence[float],
    backward_s: Sequence[float],
    num_microbatches: int,
    virtual_stages: int = 1,
    transfer_s: float = 0.0,
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

    Returns
    -------
    Timeline
        Every pass with its start and end.

    Raises
    ------
    UsageError
        Lists of different length, or a schedule that cannot run.
    """
    if not forward_s or len(forward_s) != len(backward_s) or num_microbatches < 1 or virtual_stages < 1:
        raise UsageError("replay needs one forward and one backward time per stage and at least one micro-batch")
    return _Replay(forward_s, backward_s, num_microbatches, virtual_stages, transfer_s).run()


class _Replay:
    """Stages work through fixed orders; each entry waits for the same micro-batch next door."""

    def __init__(
        self,
        forward_s: Sequence[float],
        backward_s: Sequence[float],
        num_microbatches: int,
        chunks: int,
        transfer: float,
    ) -> None:
        self.stages = len(forward_s)
        self.chunks = chunks
        self.transfer = transfer if self.stages > 1 else 0.0
        self.microbatches = num_microbatches
        self.orders = [stage_order(i, self.stages, num_microbatches, chunks) for i in range(self.stages)]
        self.duration = {
            FORWARD: [time / chunks for time in forward_s],
            BACKWARD: [time / chunks for time in backward_s],
        }
        # End of each pass by depth * microbatches + microbatch; depth counts chunks through the whole model.
        self.ended: dict[str, list[float | None]] = {
            phase: [None] * (self.stages * chunks * num_microbatches) for phase in (FORWARD, BACKWARD)
        }
        self.next_slot = [0] * self.stages
        self.clock = [0.0] * self.stages

    def run(self) -> Timeline:
        events: list[Event] = []
        ready = list(range(self.stages))
        while ready:
            stage = ready.pop()
            done = list(self._advance(stage))
            events += done
            if done:
                ready += [(stage - 1) % self.stages, (stage + 1) % self.stages]
        if any(len(order) > slot for order, slot in zip(self.orders, self.next_slot, strict=True)):
            raise UsageError(
                f"{self.microbatches} micro-batches cannot run interleaved on {self.stages} stages with "
                f"{self.chunks} virtual stages; use a multiple of {self.stages} micro-batches"
            )
        return Timeline(tuple(events), max(self.clock))

    def _advance(self, stage: int) -> Iterator[Event]:
        """Place passes of a stage until one waits for a pass that is not placed yet."""
        order = self.orders[stage]
        for slot in range(self.next_slot[stage], len(order)):
            phase, chunk, microbatch = order[slot]
            depth = chunk * self.stages + stage
            available = self._available(phase, depth, microbatch)
            if available is None:
                return
            start = max(self.clock[stage], available)
            end = start + self.duration[phase][stage]
            self.clock[stage] = self.ended[phase][depth * self.microbatches + microbatch] = end
            self.next_slot[stage] = slot + 1
            yield Event(stage, chunk, microbatch, phase, start, end)

    def _available(self, phase: str, depth: int, microbatch: int) -> float | None:
        """When the input of a pass has arrived; None when its producer has not been placed."""
        if phase == FORWARD:
            if depth == 0:
                return 0.0
            ended = self.ended[FORWARD][(depth - 1) * self.microbatches + microbatch]
        elif depth == self.stages * self.chunks - 1:
            return self.ended[FORWARD][depth * self.microbatches + microbatch]
        else:
            ended = self.ended[BACKWARD][(depth + 1) * self.microbatches + microbatch]
        return None if ended is None else ended + self.transfer
