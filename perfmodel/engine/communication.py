"""Costs of the collectives that the placements of a graph imply, per shard key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perfmodel.engine.networks import (
    ALL_GATHER,
    ALL_TO_ALL,
    SEND,
    Group,
    collective_time,
    link_energy,
    send_energy,
    send_time,
)
from perfmodel.engine.problem import Problem
from perfmodel.engine.routing import exchange_cost
from perfmodel.engine.sizes import Sizes
from perfmodel.equations import summa
from perfmodel.parallel.collective_rules import EXCHANGED, CollectiveUse
from perfmodel.parallel.grid_rules import PANELS
from perfmodel.units import Numeric


@dataclass(frozen=True)
class CommunicationCost:
    """One collective of one block: per occurrence and micro-batch."""

    use: CollectiveUse
    size: Numeric  # bytes of the full buffer
    applied: Numeric  # 0 or 1 from the sequence-parallel switch, times the count of the use
    time: Numeric  # of one operation
    energy: Numeric  # of one operation, on the links of one rank


def communication_costs(problem: Problem, sizes: Sizes, groups: Mapping[str, Group]) -> tuple[CommunicationCost, ...]:
    """Cost the collectives that the placements imply; equal buffers are costed once."""
    known: dict[tuple[Any, ...], tuple[Numeric, Numeric, Numeric]] = {}
    rows: list[CommunicationCost] = []
    grid = sizes.grid
    line = 1.0 if grid is None else 1.0 - grid.active
    switch = {
        "always": 1.0,
        "sequence_parallel": sizes.sequence_parallel * line,
        "tensor_parallel_only": (1.0 - sizes.sequence_parallel) * line,
        "grid": 0.0 if grid is None else grid.active,
    }
    for use in problem.collectives:
        if use.applies == "grid" and grid is None:
            continue
        # Of one kind of context parallelism.
        width = problem.formats.on_the_wire(use.storage)
        key = (use.operation, use.features, id(width), use.group, use.tokens, use.sequence)
        if key not in known:
            size = _elements(sizes, use) * width
            known[key] = _cost_of_use(problem, sizes, use, size, groups[use.group])
        size, time, joules = known[key]
        rows.append(CommunicationCost(use, size, use.count * switch[use.applies] * _repeats(sizes, use), time, joules))
    return tuple(rows)


def _elements(sizes: Sizes, use: CollectiveUse) -> Numeric:
    """Elements of the full buffer."""
    here = sizes.at(use.sequence)
    if sizes.grid is not None and use.applies == "grid" and use.group != "tp":
        tokens = {"row": here.tokens / sizes.grid.rows, "none": 1.0, "sequence": here.micro_batch * here.full_sequence}
        # Ranks of a row hold the features between them, those of a column have the same ones.
        return tokens[use.tokens] * (sizes.whole if use.group == "columns" else sizes.heads)(use.features)
    tokens_here = here.tokens if use.tokens == "full" else here.micro_batch * here.full_sequence
    return tokens_here * (sizes.exchanged if use.context == EXCHANGED else sizes.local)(use.features)


def _repeats(sizes: Sizes, use: CollectiveUse) -> Numeric:
    """How often one operation is done: the hops of a ring, the panels of a product."""
    if use.operation in PANELS and sizes.grid is not None:
        return sizes.grid.blocks
    return sizes.cp - 1.0 if use.operation == SEND else 1.0


def _cost_of_use(
    problem: Problem, sizes: Sizes, use: CollectiveUse, size: Numeric, group: Group
) -> tuple[Numeric, Numeric, Numeric]:
    """Buffer, time and energy of one collective."""
    if use.operation == SEND:
        return size, send_time(size, group, problem.machine.tiers), send_energy(size, group, problem.machine.tiers)
    if use.operation == ALL_TO_ALL and use.group == "ep":
        sent = size / sizes.etp  # each of the ranks that share an expert exchanges its own copies
        time, joules = exchange_cost(problem, sent, group)
        return sent, time, joules * sizes.routed_mean
    if use.operation in PANELS and sizes.grid is not None:
        panel, tiers = size / sizes.grid.blocks, problem.machine.tiers
        buffer = summa.broadcast_buffer(panel, group.ranks)
        return panel, collective_time(ALL_GATHER, buffer, group, tiers), link_energy(ALL_GATHER, buffer, group, tiers)
    time = collective_time(use.operation, size, group, problem.machine.tiers)
    joules = link_energy(use.operation, size, group, problem.machine.tiers)
    return size, time, joules * sizes.routed_mean if use.group == "etp" else joules
