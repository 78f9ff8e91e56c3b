"""Costs of the collectives that the placements of a graph imply, per shard key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perfmodel.engine.networks import (
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
from perfmodel.parallel.collective_rules import EXCHANGED, CollectiveUse
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
    for use in problem.collectives:
        # Of one kind of context parallelism.
        key = (use.operation, use.features, use.storage, use.group, use.tokens, use.sequence)
        if key not in known:
            here = sizes.at(use.sequence)
            tokens = here.tokens if use.tokens == "full" else here.micro_batch * here.full_sequence
            local = sizes.exchanged if use.context == EXCHANGED else sizes.local
            size = tokens * local(use.features) * problem.formats.on_the_wire(use.storage)
            known[key] = _cost_of_use(problem, sizes, use, size, groups[use.group])
        size, time, joules = known[key]
        switch = {
            "always": 1.0,
            "sequence_parallel": sizes.sequence_parallel,
            "tensor_parallel_only": 1.0 - sizes.sequence_parallel,
        }
        times = use.count * switch[use.applies]
        hops = sizes.cp - 1.0 if use.operation == SEND else 1.0
        rows.append(CommunicationCost(use, size, times * hops, time, joules))
    return tuple(rows)


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
    time = collective_time(use.operation, size, group, problem.machine.tiers)
    joules = link_energy(use.operation, size, group, problem.machine.tiers)
    return size, time, joules * sizes.routed_mean if use.group == "etp" else joules
