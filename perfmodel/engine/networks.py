"""Collectives of one group on the tiers of the network.

A group is placed by rank order: ``members[j]`` of its ranks share one domain of tier ``j``. A group may
straddle tiers: inside tier 0 it talks over the scale-up links (``engine.domains``), and above it one ring per
member of a node passes all ranks, so that every member uses its own share of the outer links.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from perfmodel.engine.domains import (
    ALL_GATHER,
    ALL_REDUCE,
    ALL_TO_ALL,
    LAPS,
    REDUCE_SCATTER,
    SEND,
    domain_bandwidth,
    domain_time,
    message_bandwidth,
    plain,
)
from perfmodel.equations import collective_topologies, collectives, energy
from perfmodel.machine.machine import NetworkTier
from perfmodel.units import Numeric

__all__ = [
    "ALL_GATHER", "ALL_REDUCE", "ALL_TO_ALL", "REDUCE_SCATTER", "SEND", "Group",
    "collective_time", "link_energy", "outer_domains", "plain", "send_energy", "send_time", "spanned_tiers",
]  # fmt: skip

#: Extra global hops of a packet that a dragonfly sends over a third group.
_DETOUR = 1.0


@dataclass(frozen=True)
class Group:
    """A process group: its size and the number of its ranks inside one domain of each tier."""

    ranks: Numeric
    members: tuple[Numeric, ...]


def collective_time(
    operation: str, size: Numeric, group: Group, tiers: Sequence[NetworkTier], reducible: Numeric = 1.0
) -> Numeric:
    """Time of one collective.

    Parameters
    ----------
    operation
        ``all-reduce``, ``all-gather``, ``reduce-scatter`` or ``all-to-all``.
    size
        Bytes of the full buffer; of an all-to-all: what one rank sends, its own block included.
    group, tiers
        Where the ranks are, and the network, innermost tier first.
    reducible
        1 when switches can sum the data type (floating point), 0 when not (integers).
    """
    ranks, together = plain(group.ranks), plain(group.members[0]) >= plain(group.ranks)
    if np.all(ranks <= 1.0):
        return 0.0
    if len(tiers) == 1 or np.all(together):
        return domain_time(operation, size, group.ranks, tiers[0], reducible)
    # The part inside a domain is no faster than the same collective of the domain alone.
    inner = domain_time(operation, _inner_size(operation, size, group), group.members[0], tiers[0], reducible)
    outer = np.maximum(_across(operation, size, group, tiers), inner)
    if not np.any(together):
        return outer
    inside = domain_time(operation, size, group.ranks, tiers[0], reducible)
    return np.where(group.members[0] >= group.ranks, inside, outer)


def _inner_size(operation: str, size: Numeric, group: Group) -> Numeric:
    """The buffer that stays in the innermost domain: all of it, or the blocks of an all-to-all for its members."""
    return size * group.members[0] / group.ranks if operation == ALL_TO_ALL else size


def _across(operation: str, size: Numeric, group: Group, tiers: Sequence[NetworkTier]) -> Numeric:
    """Ranks in several domains: ring (and tree for all-reduce), or pairwise exchange, over the links of the group."""
    outer, count = tiers[1], group.ranks / group.members[0]
    if operation == ALL_TO_ALL:
        return _exchange(size, group, tiers)
    laps = LAPS[operation]
    wire = reduce(np.maximum, _ring_wires(size, laps, group, tiers))
    latency = collectives.ring_latency(
        size, group.ranks, count, laps, outer.hop_latency, outer.hop_growth, outer.hop_half_size, tiers[0].step_latency
    )
    ring = collectives.transfer_time(outer.base_latency, latency, wire)
    if operation != ALL_REDUCE:
        return np.where(group.ranks > 1.0, ring, 0.0)
    tree_wire = reduce(np.maximum, _tree_wires(size, group, tiers))
    tree_latency = collectives.tree_latency(
        size, count, group.members[0], outer.tree_hop_latency, outer.hop_growth, outer.hop_half_size,
        tiers[0].step_latency,
    )  # fmt: skip
    tree = collectives.transfer_time(outer.base_latency, tree_latency, tree_wire)
    return np.where(group.ranks > 1.0, collectives.multi_node_all_reduce_time(ring, tree), 0.0)


def _ring_wires(size: Numeric, laps: float, group: Group, tiers: Sequence[NetworkTier]) -> list[Numeric]:
    """Wires of every tier: one flat ring per member of a node passes all ranks and leaves each domain once per lap."""
    inner = group.members[0]
    wires = [
        collectives.tier_wire_time(size, laps, inner, 1.0, domain_bandwidth(inner, tiers[0]), tiers[0].link_fraction)
    ]
    for level, (tier, joined) in enumerate(zip(tiers[1:], outer_domains(group), strict=True)):
        stops = np.where(joined > 1.0, group.ranks, 1.0)
        bandwidth = _tier_bandwidth(tier, joined)
        wires.append(collectives.tier_wire_time(size, laps, stops, group.members[level], bandwidth, tier.link_fraction))
    return wires


def _tree_wires(size: Numeric, group: Group, tiers: Sequence[NetworkTier]) -> list[Numeric]:
    """Wires of every tier for two trees over all nodes, with chains inside the nodes."""
    inner = group.members[0]
    nodes = group.ranks / inner
    wires = [
        collectives.tier_wire_time(size, 1.0, inner, 1.0, domain_bandwidth(inner, tiers[0]), tiers[0].link_fraction)
    ]
    for level, (tier, joined) in enumerate(zip(tiers[1:], outer_domains(group), strict=True)):
        bandwidth, stops = _tier_bandwidth(tier, joined), np.where(joined > 1.0, nodes, 1.0)
        wires.append(
            collectives.tree_wire_time(size, stops, group.members[level], bandwidth, _tree_fraction(tier, tiers))
        )
    return wires


def _tree_fraction(tier: NetworkTier, tiers: Sequence[NetworkTier]) -> Numeric:
    return tiers[1].tree_fraction if tier.tree_fraction is None else tier.tree_fraction


def _tier_bandwidth(tier: NetworkTier, joined: Numeric) -> Numeric:
    """Bandwidth of a rank on a tier above the innermost for rings and trees over ``joined`` domains."""
    if tier.topology != "dragonfly":
        return tier.bandwidth
    return collective_topologies.dragonfly_ring_bandwidth(tier.bandwidth, joined, _DETOUR)


def _exchange(size: Numeric, group: Group, tiers: Sequence[NetworkTier]) -> Numeric:
    """All-to-all across domains: every rank sends to all others at once."""
    outer = tiers[1]
    wires = [
        collective_topologies.tier_all_to_all_time(
            size, group.ranks, group.members[level], tier.bandwidth, tier.link_fraction
        )
        for level, tier in enumerate(tiers[1:])
    ]
    hop = collectives.hop_time(size / group.ranks, outer.hop_latency, outer.hop_growth, outer.hop_half_size)
    latency = collectives.all_to_all_steps(group.ranks / group.members[0]) * hop
    latency = latency + collectives.all_to_all_steps(group.members[0]) * tiers[0].step_latency
    exchange = collectives.transfer_time(outer.base_latency, latency, reduce(np.maximum, wires))
    return np.where(group.ranks > 1.0, exchange, 0.0)


def link_energy(operation: str, size: Numeric, group: Group, tiers: Sequence[NetworkTier]) -> Numeric:
    """Energy of one collective on the links of one rank [J]: what it sends inside its domain, and beyond."""
    stays = _inner_size(operation, size, group)
    inside = collectives.all_gather_wire(stays, group.members[0])
    joules = energy.movement_energy(LAPS[operation] * inside, tiers[0].energy_per_byte)
    if len(tiers) == 1:
        return joules
    beyond = collectives.all_gather_wire(size, group.ranks / group.members[0])
    beyond = beyond if operation == ALL_TO_ALL else beyond / group.members[0]
    return joules + energy.movement_energy(LAPS[operation] * beyond, tiers[1].energy_per_byte)


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
    total = collectives.point_to_point_time(size, message_bandwidth(first), first.link_fraction, first.base_latency)
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
