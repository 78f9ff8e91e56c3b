"""The plans that an estimate tries: a fixed and small grid, so that the same question always has the same answer.

Plans whose layers divide by the stages are one table. Every other split of the layers is a table of its own, because
the layers of the stages are no column of a plan.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.columns import evaluate_columns
from perfmodel.engine.problem import Problem
from perfmodel.parallel.plan import Plan
from perfmodel.parallel.strategy import plan_from_table
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.progress import Progress, unseen

#: Sequences of this length or longer are also split over devices.
LONG_SEQUENCE = 32_768

_MICRO_BATCHES = (1, 2, 4, 8)
_CONTEXT = (1, 2, 4, 8)
_ZERO = (0, 1, 2, 3)
_LARGEST_TENSOR = 16
_LARGEST_PIPELINE = 64
_LARGEST_VIRTUAL = 8
#: Stages and virtual stages that the layers need not divide by: those of real clusters, to keep the grid small.
_UNEVEN_PIPELINES = (2, 4, 8, 16, 32, 64)
_UNEVEN_VIRTUAL = (1, 2, 4, 8)


@dataclass(frozen=True)
class Grid:
    """Plans to choose from, simplest first.

    Attributes
    ----------
    tables
        One per split of the layers: the even one, then the others.
    """

    tables: tuple[Plan, ...]

    def __len__(self) -> int:
        return sum(map(len, self.tables))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Every column of the plans by name."""
        return _joined([table.columns() for table in self.tables])

    def is_even(self) -> NDArray[np.bool_]:
        """Which plans have the same number of layers on every stage."""
        return np.concatenate([np.full(len(table), table.layers_per_stage is None) for table in self.tables])

    def plan(self, row: int) -> Plan:
        """The plan of a row, alone."""
        for table in self.tables:
            if row < len(table):
                return table.take(slice(row, row + 1))
            row -= len(table)
        raise IndexError(row)

    def evaluate(self, problem: Problem, progress: Progress = unseen) -> dict[str, NDArray[Any]]:
        """Headline columns of all plans."""
        parts: list[dict[str, NDArray[Any]]] = []
        done = 0
        for table in self.tables:
            parts.append(evaluate_columns(problem, table))
            done += len(table)
            progress("plans costed", done, len(self))
        return _joined(parts)


def _joined(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def plan_grid(resolved: ResolvedScenario) -> Grid:
    """Every plan that is tried, simplest first."""
    tables = [_table(resolved, list(_even_shapes(resolved)), None)]
    for stages, virtual, split in uneven_splits(resolved.model.layers, resolved.devices):
        shapes = list(_with_experts(resolved, _sizes(resolved, stages), virtual))
        if shapes:
            tables.append(_table(resolved, shapes, split))
    return Grid(tuple(tables))


def domain_of(resolved: ResolvedScenario) -> int:
    """Devices of the innermost network tier."""
    return resolved.cluster.tiers[0].devices


def uneven_splits(layers: int, devices: int) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """(stages, virtual stages, layers of every chunk) where the layers do not divide by the chunks."""
    for stages, virtual in itertools.product(_UNEVEN_PIPELINES, _UNEVEN_VIRTUAL):
        chunks = stages * virtual
        if devices % stages == 0 and chunks < layers and layers % chunks:
            for split in natural_splits(layers, stages, virtual):
                yield stages, virtual, split


def natural_splits(layers: int, stages: int, virtual: int) -> list[tuple[int, ...]]:
    """How stacks split layers that do not divide by the chunks of the pipeline: layers of every chunk.

    The remainder is spread, and the chunks with a layer less are the last one, which has the head, and then the first
    ones, which have the embedding and keep the most activations. Or all chunks are as long as the longest, and the last
    one takes what is left (``--decoder-last-pipeline-num-layers`` of Megatron): better for a model with a costly head.

    At most one chunk of a stage is a layer short. Where more are, the chunks of a stage take different times, which
    holds up the interleaved schedule in a way that its equations, with chunks that are alike, do not see.
    """
    chunks = stages * virtual
    shortest, more = divmod(layers, chunks)
    short = chunks - more
    rest = layers - (chunks - 1) * (shortest + 1)
    spread = (*[shortest] * (short - 1), *[shortest + 1] * more, shortest)
    last = (*[shortest + 1] * (chunks - 1), rest)
    allowed = ((spread, short <= stages), (last, rest >= 1 and last != spread))
    return [split for split, natural in allowed if natural]


@dataclass(frozen=True)
class _Shape:
    """Parallel sizes of a plan: tensor, context, pipeline with its virtual stages, experts."""

    tp: int
    cp: int
    pp: int
    virtual_stages: int
    ep: int


def _even_shapes(resolved: ResolvedScenario) -> Iterator[_Shape]:
    """Sizes that divide the devices, the layers and the experts, simplest first."""
    for stages in _divisors(resolved.model.layers, _LARGEST_PIPELINE):
        chunks = _divisors(resolved.model.layers // stages, _LARGEST_VIRTUAL) if stages > 1 else [1]
        for size, virtual in itertools.product(_sizes(resolved, stages), chunks):
            yield from _with_experts(resolved, [size], virtual)


def _sizes(resolved: ResolvedScenario, stages: int) -> list[tuple[int, int, int]]:
    """(tp, cp, pp) that divide the devices, simplest first."""
    node = min(domain_of(resolved), _LARGEST_TENSOR, resolved.devices)
    length = resolved.scenario.workload.sequence_length or 0
    contexts = _CONTEXT if length >= LONG_SEQUENCE else (1,)
    pairs = itertools.product(_divisors(node, node), contexts)
    return [(tp, cp, stages) for tp, cp in pairs if resolved.devices % (tp * cp * stages) == 0]


def _with_experts(resolved: ResolvedScenario, sizes: Sequence[tuple[int, int, int]], virtual: int) -> Iterator[_Shape]:
    for tp, cp, stages in sizes:
        for ep in _expert_sizes(resolved, resolved.devices // stages):
            yield _Shape(tp, cp, stages, virtual, ep)


def _expert_sizes(resolved: ResolvedScenario, ranks: int) -> list[int]:
    """Powers of two that divide the experts and the ranks of a stage; 1 for a dense model."""
    moe = resolved.model.moe
    if moe is None:
        return [1]
    both = math.gcd(moe.experts, ranks)
    return [2**power for power in range(both.bit_length()) if both % 2**power == 0]


def _divisors(number: int, largest: int) -> list[int]:
    return [one for one in range(1, min(number, largest) + 1) if number % one == 0]


def _table(resolved: ResolvedScenario, shapes: Sequence[_Shape], split: tuple[int, ...] | None) -> Plan:
    """All plans of these shapes, simplest first; those whose experts leave the scale-up domain last."""
    policies = tuple(resolved.software.recompute_policies)
    rows = [
        (*astuple(shape), micro, policy, zero)
        for policy, zero, shape, micro in itertools.product(range(len(policies)), _ZERO, shapes, _MICRO_BATCHES)
    ]
    names: Sequence[str] = (*(one.name for one in fields(_Shape)), "micro_batch", "recompute", "zero")
    columns: dict[str, NDArray[np.int64]] = dict(zip(names, np.array(rows, dtype=np.int64).T, strict=True))
    order = np.argsort(columns["ep"] > domain_of(resolved), kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    columns["sequence_parallel"] = (columns["tp"] > 1).astype(np.int64)
    return plan_from_table(
        columns,
        global_batch=resolved.scenario.workload.global_batch,
        devices=resolved.devices,
        recompute_policies=policies,
        layers_per_stage=split,
    )
