"""Pipeline stages as a few classes: what the stages of a plan hold.

Stages of one class are alike, so that a sum over stages is a sum over classes times their multiplicity and
a table of a million plans has three classes instead of as many stages as the deepest pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from perfmodel.parallel.orders import SCHEDULES

if TYPE_CHECKING:
    from perfmodel.parallel.plan import Counts, Plan

Column: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class StageTable:
    """Stage classes; every attribute but ``names`` holds one column (shape ``(n,)``) per class.

    A class that a plan does not have (``middle`` of two stages) has multiplicity, layers and switches 0: it
    adds nothing to a sum and never is a maximum.

    Attributes
    ----------
    names
        ``first``, ``middle``, ``last``; or ``stage 0``, ``stages 1 to 14`` ... of a given layout.
    layers
        Layers held by one stage of the class (fractional only where the split is not even).
    has_embedding, has_head
        0.0 or 1.0.
    position
        Pipeline rank of the representative stage: of the middle ones the second, which keeps the most
        micro-batches in flight.
    multiplicity
        Number of stages of the class.
    leading
        Of the layers, those that stand at the start of the model only.
    copies
        Copies of every parameter in one pipeline. With two, a stage also holds what the stage opposite holds; its
        layers, embedding and head are the mean of both, because half of the micro-batches see each.
    """

    names: tuple[str, ...]
    layers: tuple[Column, ...]
    has_embedding: tuple[Column, ...]
    has_head: tuple[Column, ...]
    position: tuple[Column, ...]
    multiplicity: tuple[Column, ...]
    leading: tuple[Column, ...] = ()
    copies: float = 1.0

    def __len__(self) -> int:
        return len(self.names)


def stage_table(plan: Plan, graph_layers: int, leading_layers: int = 0) -> StageTable:
    """The stage classes of every plan.

    Parameters
    ----------
    plan
        Plans; ``layers_per_stage`` and ``embedding_and_head_as_layers`` choose the split.
    graph_layers
        Repeating layers of the model.
    leading_layers
        Those of a kind that stands at the start of the model only.

    Notes
    -----
    A given layout has one entry per stage, or one per chunk: chunk ``c`` lies on stage ``c mod pp``.

    With ``embedding_and_head_as_layers`` the ``graph_layers + 2`` units are split evenly, and the first and
    last stage give one unit each to the embedding and the head (Llama 3: 126 layers on 16 stages are
    7, 14 x 8, 7).

    A folded schedule (ZB-V) has both ends of the model on its first stage.

    Leading layers fill the first chunk of the first stage. What does not fit there is spread over the middle stages
    evenly, and only what these cannot hold lies on the last one.
    """
    schedule = SCHEDULES[plan.schedule]
    if plan.layers_per_stage is not None:
        held = _stage_sums(plan.layers_per_stage, plan, folded=schedule.folded)
        table = _given_stages(held, plan.pp.shape, folded=schedule.folded)
    else:
        extra = 1.0 if plan.embedding_and_head_as_layers else 0.0
        table = _even_stages(plan.pp, float(graph_layers), extra, folded=schedule.folded)
    table = replace(table, leading=_leading(table, plan, float(leading_layers)))
    table = _with_opposite(table, schedule.copies) if schedule.copies > 1.0 else table
    return table if plan.layers_per_stage is None else _merged(table)


def _merged(table: StageTable) -> StageTable:
    """Neighbouring stages of a given layout that hold the same as one class, the first of them being its rank."""
    held = list(zip(table.layers, table.has_embedding, table.has_head, table.leading, strict=True))
    kinds = [tuple(float(column.flat[0]) for column in one) for one in held]
    starts = [stage for stage, kind in enumerate(kinds) if not stage or kind != kinds[stage - 1]]
    ends = [*starts[1:], len(kinds)]

    def chosen(columns: tuple[Column, ...]) -> tuple[Column, ...]:
        return tuple(columns[start] for start in starts)

    return replace(
        table,
        names=tuple(
            f"stage {start}" if end - start == 1 else f"stages {start} to {end - 1}"
            for start, end in zip(starts, ends, strict=True)
        ),
        layers=chosen(table.layers),
        has_embedding=chosen(table.has_embedding),
        has_head=chosen(table.has_head),
        position=chosen(table.position),
        multiplicity=tuple(table.multiplicity[start] * (end - start) for start, end in zip(starts, ends, strict=True)),
        leading=chosen(table.leading),
    )


def _leading(table: StageTable, plan: Plan, leading: float) -> tuple[Column, ...]:
    """Leading layers of one stage of each class; over all stages they add up to ``leading``."""
    if plan.layers_per_stage is not None:
        return _given_leading(plan, leading, len(table))
    first, middle, last = table.layers
    between = table.multiplicity[1]
    chunk = np.where(plan.pp > 1, first / plan.virtual_stages, first)
    on_first = np.minimum(chunk, leading)
    per_middle = np.minimum(middle, (leading - on_first) / np.maximum(between, 1.0))
    rest = np.maximum(leading - on_first - between * per_middle, 0.0)
    on_last = np.minimum(last, rest)
    return (on_first + rest - on_last, per_middle, on_last)


def _given_leading(plan: Plan, leading: float, stages: int) -> tuple[Column, ...]:
    """Of a given layout: chunk by chunk in the order of the model."""
    given = plan.layers_per_stage or ()
    held, left = [0.0] * stages, leading
    for chunk, layers in enumerate(given):
        taken = min(float(layers), left)
        held[chunk % stages] += taken
        left -= taken
    return tuple(np.full(plan.pp.shape, value) for value in held)


def _with_opposite(table: StageTable, copies: float) -> StageTable:
    def mean(columns: tuple[Column, ...]) -> tuple[Column, ...]:
        return tuple((one + other) / copies for one, other in zip(columns, columns[::-1], strict=True))

    return replace(
        table,
        layers=mean(table.layers),
        has_embedding=mean(table.has_embedding),
        has_head=mean(table.has_head),
        leading=mean(table.leading),
        copies=copies,
    )


def _even_stages(stages: Counts, layers: float, extra: float, *, folded: bool) -> StageTable:
    count = stages.astype(np.float64)
    one = np.ones_like(count)
    only = np.where(count == 1, 1.0, 0.0)
    middle = np.where(count > 2, 1.0, 0.0)
    last = 1.0 - only
    # The stage that holds the head: the last one, or the first where the second half of the model comes back.
    first_has_head, last_has_head = (one, 0.0 * one) if folded else (only, last)
    units = (layers + 2.0 * extra) / np.maximum(count, 1.0)
    return StageTable(
        names=("first", "middle", "last"),
        layers=(units - extra * (1.0 + first_has_head), middle * units, last * units - extra * last_has_head),
        has_embedding=(one, 0.0 * one, 0.0 * one),
        has_head=(first_has_head, 0.0 * one, last_has_head),
        position=(0.0 * one, middle, count - 1.0),
        multiplicity=(one, np.maximum(count - 2.0, 0.0), last),
    )


def _stage_sums(given: tuple[int, ...], plan: Plan, *, folded: bool) -> tuple[int, ...]:
    """Layers per stage from a layout per stage or per chunk (the plans of one layout share ``pp``)."""
    stages = int(plan.pp.flat[0])
    chunks = stages * int(plan.virtual_stages.flat[0])
    if len(given) != chunks or chunks == stages:
        return given
    if folded:
        return tuple(there + back for there, back in zip(given[:stages], given[::-1], strict=False))
    return tuple(sum(given[stage::stages]) for stage in range(stages))


def _given_stages(layers_per_stage: tuple[int, ...], shape: tuple[int, ...], *, folded: bool) -> StageTable:
    def columns(values: list[float]) -> tuple[Column, ...]:
        return tuple(np.full(shape, value) for value in values)

    stages = range(len(layers_per_stage))
    return StageTable(
        names=tuple(f"stage {stage}" for stage in stages),
        layers=columns([float(layers) for layers in layers_per_stage]),
        has_embedding=columns([float(stage == 0) for stage in stages]),
        has_head=columns([float(stage == (0 if folded else stages[-1])) for stage in stages]),
        position=columns([float(stage) for stage in stages]),
        multiplicity=columns([1.0 for _ in stages]),
    )
