"""The order in which every pipeline stage works, by schedule, and where the chunks of the model lie.

A schedule is a fixed order of steps per stage. A step is one pass of one micro-batch through one chunk, or a
forward pass beside a backward pass (DualPipe).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

FORWARD = "forward"
#: Gradients of input and weights in one pass.
BACKWARD = "backward"
#: The two halves of a backward pass that is split: only the first is waited for by other stages.
INPUT_GRADIENT, WEIGHT_GRADIENT = "input gradient", "weight gradient"

GPIPE, ONE_F_ONE_B, INTERLEAVED = "gpipe", "1f1b", "interleaved-1f1b"
ZB_H1, ZB_V, DUALPIPE = "zb-h1", "zb-v", "dualpipe"


class Slot(NamedTuple):
    """A pass in a stage's order: what is done, on which chunk of the stage, for which micro-batch."""

    phase: str
    chunk: int
    microbatch: int


Step: TypeAlias = tuple[Slot, ...]
Order: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True)
class Schedule:
    """What is known about a schedule beside its order.

    Attributes
    ----------
    name
        As scenarios spell it.
    chunks
        Chunks of the model per stage; None: as many as ``virtual_stages`` says.
    copies
        Copies of every parameter in one pipeline: 2 where micro-batches enter at both ends.
    splits_backward
        Weight gradients are passes of their own.
    folded
        The second chunks run back through the stages, so that the first stage holds both ends of the model.
    """

    name: str
    chunks: int | None = 1
    copies: float = 1.0
    splits_backward: bool = False
    folded: bool = False

    def depth(self, stage: int, chunk: int, stages: int) -> int:
        """Position of a chunk in the model, counted in chunks from the input."""
        if self.folded and chunk:
            return 2 * stages - 1 - stage
        if self.copies > 1.0:
            return stages - 1 - stage if chunk else stage
        return chunk * stages + stage

    def depths(self, stages: int, virtual_stages: int) -> int:
        """Chunks that a micro-batch passes."""
        return stages * (virtual_stages if self.chunks is None else self.chunks)


SCHEDULES: Mapping[str, Schedule] = {
    one.name: one
    for one in (
        Schedule(GPIPE),
        Schedule(ONE_F_ONE_B),
        Schedule(INTERLEAVED, chunks=None),
        Schedule(ZB_H1, splits_backward=True),
        Schedule(ZB_V, chunks=2, splits_backward=True, folded=True),
        Schedule(DUALPIPE, copies=2.0, splits_backward=True),
    )
}


def order_of(schedule: str, stage: int, stages: int, num_microbatches: int, virtual_stages: int = 1) -> Order:
    """The steps of one stage, first to last."""
    if schedule in (ONE_F_ONE_B, INTERLEAVED):
        return tuple((slot,) for slot in stage_order(stage, stages, num_microbatches, virtual_stages))
    return _ORDERS[schedule](stage, stages, num_microbatches)


def stage_order(stage: int, stages: int, num_microbatches: int, virtual_stages: int = 1) -> tuple[Slot, ...]:
    """The order of 1F1B, plain or interleaved.

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


def _gpipe(_: int, __: int, num_microbatches: int) -> Order:
    """All forward passes, then all backward passes (Huang et al. 2019, arXiv 1811.06965, section 2.3)."""
    forward = [(Slot(FORWARD, 0, one),) for one in range(num_microbatches)]
    return (*forward, *((Slot(BACKWARD, 0, one),) for one in range(num_microbatches)))


@dataclass
class _Writer:
    """Counts the passes of every chunk while an order is written."""

    steps: list[Step] = field(default_factory=list[Step])
    done: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])

    def next(self, phase: str, chunk: int) -> int:
        """Micro-batch of the next pass of a kind through a chunk."""
        number = self.done.get((phase, chunk), 0)
        self.done[phase, chunk] = number + 1
        return number

    def add(self, phase: str, chunk: int = 0) -> None:
        self.steps.append((Slot(phase, chunk, self.next(phase, chunk)),))

    def count(self, phase: str, chunk: int = 0) -> int:
        return self.done.get((phase, chunk), 0)

    def both_gradients(self, chunk: int) -> None:
        self.add(INPUT_GRADIENT, chunk)
        self.add(WEIGHT_GRADIENT, chunk)


def _zb_h1(stage: int, stages: int, num_microbatches: int) -> Order:
    """1F1B whose weight gradients wait ``stage`` micro-batches (Qi et al. 2024, arXiv 2401.10241, section 2.1).

    Every stage then keeps as many micro-batches as the first one of 1F1B, and the weight gradients that were
    put off fill the end of the step.
    """
    order = _Writer()
    for _ in range(min(stages - stage - 1, num_microbatches)):
        order.add(FORWARD)
    while order.count(INPUT_GRADIENT) < num_microbatches:
        if order.count(FORWARD) < num_microbatches:
            order.add(FORWARD)
        order.add(INPUT_GRADIENT)
        if order.count(INPUT_GRADIENT) > stage:
            order.add(WEIGHT_GRADIENT)
    while order.count(WEIGHT_GRADIENT) < num_microbatches:
        order.add(WEIGHT_GRADIENT)
    return tuple(order.steps)


def _zb_v(stage: int, stages: int, num_microbatches: int) -> Order:
    """Two chunks per stage, the second on the way back (arXiv 2401.10241, section 6; arXiv 2405.15362).

    The hand-written order that PyTorch (``ScheduleZBVZeroBubble``) and the authors use, for at least
    ``2 * stages - 1`` micro-batches.
    """
    order = _Writer()
    there, back = 0, 1
    for _ in range(2 * (stages - stage) - 1):
        order.add(FORWARD, there)
    for _ in range(stage):
        order.add(FORWARD, back)
        order.add(FORWARD, there)
    for _ in range(stages - stage):
        order.add(FORWARD, back)
        order.both_gradients(back)
    while order.count(FORWARD, back) < num_microbatches:
        if order.count(FORWARD, there) < num_microbatches:
            order.add(FORWARD, there)
        order.both_gradients(there)
        order.add(FORWARD, back)
        order.both_gradients(back)
    for _ in range(stage):
        order.add(INPUT_GRADIENT, there)
        order.add(INPUT_GRADIENT, back)
    for _ in range(stages - stage):
        order.add(INPUT_GRADIENT, there)
        order.add(WEIGHT_GRADIENT, there)
    for chunk in (back, there):
        while order.count(WEIGHT_GRADIENT, chunk) < num_microbatches:
            order.add(WEIGHT_GRADIENT, chunk)
    return tuple(order.steps)


class _Mirror:
    """One stage of DualPipe: passes of the near direction and of the far one, each with half the micro-batches."""

    def __init__(self, stage: int, stages: int, num_microbatches: int) -> None:
        self.order = _Writer()
        self.swapped = stage >= stages // 2
        self.half = num_microbatches // 2
        self.put_off: list[tuple[int, int]] = []

    def slot(self, phase: str, far: int) -> Slot:
        """The next pass; the chunk is the direction, and the second direction has the second half of the numbers."""
        chunk = far ^ int(self.swapped)
        return Slot(phase, chunk, self.order.next(phase, chunk) + chunk * self.half)

    def forward(self, far: int) -> None:
        self.order.steps.append((self.slot(FORWARD, far),))

    def backward(self, far: int, *, split: bool = False) -> None:
        slot = self.slot(BACKWARD, far)
        if split:
            self.put_off.append((slot.chunk, slot.microbatch))
            slot = slot._replace(phase=INPUT_GRADIENT)
        self.order.steps.append((slot,))

    def weight(self) -> None:
        self.order.steps.append((Slot(WEIGHT_GRADIENT, *self.put_off.pop(0)),))

    def pair(self, far: int) -> None:
        """A forward pass of one direction beside a backward pass of the other one."""
        self.order.steps.append((self.slot(FORWARD, far), self.slot(BACKWARD, 1 - far)))


def _dualpipe(stage: int, stages: int, num_microbatches: int) -> Order:
    """Micro-batches from both ends (DeepSeek-AI 2024, arXiv 2412.19437, section 3.2.1 and the published code).

    Needs an even number of stages and an even number of micro-batches, at least two per stage.
    """
    one = _Mirror(stage, stages, num_microbatches)
    outer = min(stage, stages - 1 - stage)
    inner = stages // 2 - outer - 1
    for _ in range(2 * inner):
        one.forward(0)
    for _ in range(outer + 1):
        one.forward(0)
        one.forward(1)
    for _ in range(inner):
        one.backward(1, split=True)
        one.weight()
        one.forward(1)
    for number in range(num_microbatches // 2 - stages + outer + 1):
        if number == 0 and inner == 0:  # the middle stages do these two one after the other
            one.forward(0)
            one.backward(1)
        else:
            one.pair(0)
        one.pair(1)
    for _ in range(inner):
        one.backward(1)
        one.pair(1)
    for number in range(2 * outer + 2):
        one.backward(1 - number % 2, split=number > outer)
    for _ in range(inner):
        one.weight()
        one.backward(0, split=True)
    for _ in range(outer + 1):
        one.weight()
    return tuple(one.order.steps)


_ORDERS: Mapping[str, Callable[[int, int, int], Order]] = {
    GPIPE: _gpipe, ZB_H1: _zb_h1, ZB_V: _zb_v, DUALPIPE: _dualpipe,
}  # fmt: skip


def slots(order: Order) -> Iterator[Slot]:
    """Every pass of an order."""
    for step in order:
        yield from step
