"""Collectives of one group on the tiers of the network.

A group is placed by rank order: ``members[j]`` of its ranks share one domain of tier ``j``. A group may
straddle tiers: inside tier 0 it talks over the scale-up links, and above it every member uses its own
share of the outer links, as hierarchical rings do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from perfmodel.equations import collectives, energy
from perfmodel.machine.machine import NetworkTier
from perfmodel.units import Numeric

ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, SEND = "all-reduce", "all-gather", "reduce-scatter", "send"
ALL_TO_ALL = "all-to-all"
#: Libraries reduce in the switches from this many ranks on: measured all-reduces of 2 and 4 ranks follow the
#: ring (NVIDIA NCCL with NVLS; perfmodel collective study).
IN_NETWORK_MINIMUM_RANKS = 8.0
#: Passes of the full buffer around a ring.
_LAPS = {ALL_REDUCE: 2.0, ALL_GATHER: 1.0, REDUCE_SCATTER: 1.0, ALL_TO_ALL: 1.0}


@dataclass(frozen=True)
class Group:
    """A process group: its size and the number of its ranks inside one domain of each tier."""

    ranks: Numeric
    members: tuple[Numeric, ...]


def collective_time(operation: str, size: Numeric, group: Group, tiers: Sequence[NetworkTier]) -> Numeric:
    """Time of one collective.

    Parameters
    ----------
    operation
        ``all-reduce``, ``all-gather``, ``reduce-scatter`` or ``all-to-all``.
    size
        Bytes of the full buffer; of an all-to-all: of what one rank sends, its own block included.
    group, tiers
        Where the ranks are, and the network, innermost tier first.
    """
    ranks, together = plain(group.ranks), plain(group.members[0]) >= plain(group.ranks)
    if np.all(ranks <= 1.0):
        return 0.0
    if len(tiers) == 1 or np.all(together):
        return _inside(operation, size, group.ranks, tiers[0])
    # The part inside a domain is no faster than the same collective of the domain alone.
    outer = np.maximum(_across(operation, size, group, tiers), _inside(operation, size, group.members[0], tiers[0]))
    if not np.any(together):
        return outer
    return np.where(group.members[0] >= group.ranks, _inside(operation, size, group.ranks, tiers[0]), outer)


def plain(value: Numeric) -> np.ndarray:
    """The numbers behind a possibly traced operand, for structural choices only."""
    return np.asarray(getattr(value, "value", value))


def _inside(operation: str, size: Numeric, ranks: Numeric, tier: NetworkTier) -> Numeric:
    """All ranks in one domain of the innermost tier."""
    if tier.kind != "scale-up":
        return _flat_ring(operation, size, ranks, tier)
    bandwidth = tier.bandwidth
    if tier.pair_bandwidth is not None:
        bandwidth = collectives.mesh_bandwidth(bandwidth, tier.pair_bandwidth, ranks)
    if operation == ALL_REDUCE:
        wire, steps = collectives.all_reduce_wire(size, ranks), collectives.all_reduce_steps(ranks)
        copy = collectives.all_reduce_copy(size, ranks)
    elif operation == ALL_TO_ALL:
        wire, steps = collectives.all_to_all_wire(size, ranks), collectives.all_to_all_steps(ranks)
        copy = collectives.all_gather_copy(size, ranks)
    else:
        wire, steps = collectives.all_gather_wire(size, ranks), collectives.all_gather_steps(ranks)
        copy = collectives.all_gather_copy(size, ranks)
    ring = collectives.switched_ring_time(
        wire,
        copy,
        steps,
        bandwidth,
        tier.link_fraction,
        tier.copy_fraction,
        tier.fill_time,
        tier.base_latency,
        tier.step_latency,
    )
    if operation != ALL_REDUCE or not tier.in_network_reduction:
        return ring
    in_network = collectives.in_network_all_reduce_time(
        size, ranks, bandwidth, tier.reduction_latency, tier.reduction_fraction
    )
    available = np.where(ranks >= IN_NETWORK_MINIMUM_RANKS, tier.in_network_reduction, 0.0)
    return collectives.switched_all_reduce_time(ring, in_network, available)


def _flat_ring(operation: str, size: Numeric, ranks: Numeric, tier: NetworkTier) -> Numeric:
    laps = _LAPS[operation]
    wire = collectives.tier_wire_time(size, laps, ranks, 1.0, tier.bandwidth, tier.link_fraction)
    latency = collectives.ring_latency(
        size, ranks, ranks, laps, tier.hop_latency, tier.hop_growth, tier.hop_half_size, tier.step_latency
    )
    return np.where(ranks > 1.0, collectives.transfer_time(tier.base_latency, latency, wire), 0.0)


def _across(operation: str, size: Numeric, group: Group, tiers: Sequence[NetworkTier]) -> Numeric:
    """Ranks in several domains: ring (and tree for all-reduce) over all links that the group owns."""
    if operation == ALL_TO_ALL:
        return _exchange_across(size, group, tiers)
    laps, outer = _LAPS[operation], tiers[1]
    inner_members, domains = group.members[0], outer_domains(group)
    inside = collectives.tier_wire_time(size, laps, inner_members, 1.0, tiers[0].bandwidth, tiers[0].link_fraction)
    wires = [
        collectives.tier_wire_time(size, laps, joined, group.members[level], tier.bandwidth, tier.link_fraction)
        for level, (tier, joined) in enumerate(zip(tiers[1:], domains, strict=True))
    ]
    wire = reduce(np.maximum, wires, inside)
    count = group.ranks / inner_members
    latency = collectives.ring_latency(
        size, group.ranks, count, laps, outer.hop_latency, outer.hop_growth, outer.hop_half_size, tiers[0].step_latency
    )
    ring = collectives.transfer_time(outer.base_latency, latency, wire)
    if operation != ALL_REDUCE:
        return np.where(group.ranks > 1.0, ring, 0.0)
    tree_wire = collectives.tree_wire_time(size, count, inner_members, outer.bandwidth, outer.tree_fraction)
    tree_latency = collectives.tree_latency(
        size, count, inner_members, outer.tree_hop_latency, outer.hop_growth, outer.hop_half_size, tiers[0].step_latency
    )
    tree = collectives.transfer_time(outer.base_latency, tree_latency, np.maximum(tree_wire, wire / laps))
    return np.where(group.ranks > 1.0, collectives.multi_node_all_reduce_time(ring, tree), 0.0)


def _exchange_across(size: Numeric, group: Group, tiers: Sequence[NetworkTier]) -> Numeric:
    """All-to-all over several domains: every rank sends through its own ports what leaves the domain of a tier."""
    outer, inner_members = tiers[1], group.members[0]
    wire = _exchange_inside(size, group) / (tiers[0].bandwidth * tiers[0].link_fraction)
    for members, tier in zip(group.members[:-1], tiers[1:], strict=True):
        leaving = collectives.all_to_all_wire(size, group.ranks / members)
        wire = np.maximum(wire, leaving / (tier.bandwidth * tier.link_fraction))
    hop = collectives.hop_time(size / group.ranks, outer.hop_latency, outer.hop_growth, outer.hop_half_size)
    steps = collectives.all_to_all_steps(group.ranks / inner_members)
    time = collectives.transfer_time(outer.base_latency, hop * steps, wire)
    return np.where(group.ranks > 1.0, time, 0.0)


def _exchange_inside(size: Numeric, group: Group) -> Numeric:
    """Bytes of an all-to-all that a rank sends to the other ranks of its innermost domain."""
    inside = group.members[0]
    return collectives.all_to_all_wire(size * inside / group.ranks, inside)


def link_energy(operation: str, size: Numeric, group: Group, tiers: Sequence[NetworkTier]) -> Numeric:
    """Energy of one collective on the links of one rank [J]: what it sends inside its domain, and beyond."""
    if operation == ALL_TO_ALL:
        joules = energy.movement_energy(_exchange_inside(size, group), tiers[0].energy_per_byte)
        leaving = collectives.all_to_all_wire(size, group.ranks / group.members[0])
        return joules + (energy.movement_energy(leaving, tiers[1].energy_per_byte) if len(tiers) > 1 else 0.0)
    inside = collectives.all_gather_wire(size, group.members[0])
    joules = energy.movement_energy(_LAPS[operation] * inside, tiers[0].energy_per_byte)
    if len(tiers) == 1:
        return joules
    beyond = collectives.all_gather_wire(size, group.ranks / group.members[0]) / group.members[0]
    return joules + energy.movement_energy(_LAPS[operation] * beyond, tiers[1].energy_per_byte)


def send_energy(size: Numeric, group: Group, tiers: Sequence[NetworkTier]) -> Numeric:
    """Energy of a transfer between neighbours of a group, on the outermost tier that it crosses [J]."""
    per_byte = tiers[0].energy_per_byte
    for level in range(1, len(tiers)):
        crosses = group.members[level] > group.members[level - 1]
        per_byte = np.where(crosses, tiers[level].energy_per_byte, per_byte)
    return np.where(group.ranks > 1.0, energy.movement_energy(size, per_byte), 0.0)


def outer_domains(group: Group) -> list[Numeric]:
    """Domains of the tier below that each tier above the innermost joins."""
    return [np.ceil(upper / lower) for lower, upper in zip(group.members[:-1], group.members[1:], strict=True)]


def send_time(size: Numeric, group: Group, tiers: Sequence[NetworkTier]) -> Numeric:
    """Time of a transfer between neighbours of a group, on the outermost tier that the group crosses.

    The slowest hop sets the pace of a pipeline.
    """
    if np.all(plain(group.ranks) <= 1.0):
        return 0.0
    first = tiers[0]
    total = collectives.point_to_point_time(size, first.bandwidth, first.link_fraction, first.base_latency)
    for level in range(1, len(tiers)):
        tier = tiers[level]
        time = collectives.point_to_point_time(size, tier.bandwidth, tier.link_fraction, tier.base_latency)
        total = np.where(group.members[level] > group.members[level - 1], time, total)
    return np.where(group.ranks > 1.0, total, 0.0)


def spanned_tiers(group: Group, tiers: Sequence[NetworkTier]) -> tuple[str, ...]:
    """Names of the tiers that the group's traffic crosses (one plan: numbers, not columns)."""
    members = [float(np.ravel(plain(count))[0]) for count in group.members]
    if float(np.ravel(plain(group.ranks))[0]) <= 1.0:
        return ()
    below = [1.0, *members[:-1]]
    return tuple(tier.name for tier, here, inner in zip(tiers, members, below, strict=True) if here > inner)
