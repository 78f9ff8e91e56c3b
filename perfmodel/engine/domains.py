"""Collectives inside one domain of a tier: switch, pairs, graph of links, torus, host bus; libraries and engines."""

from __future__ import annotations

from functools import reduce

import numpy as np

from perfmodel.equations import collective_direct, collective_topologies, collectives
from perfmodel.machine.machine import DirectParameters, NetworkTier
from perfmodel.units import Numeric

ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER = "all-reduce", "all-gather", "reduce-scatter"
ALL_TO_ALL, SEND = "all-to-all", "send"
#: Passes of the full buffer around a ring (an all-to-all moves it once).
LAPS = {ALL_REDUCE: 2.0, ALL_GATHER: 1.0, REDUCE_SCATTER: 1.0, ALL_TO_ALL: 1.0}


def plain(value: Numeric) -> np.ndarray:
    """The numbers behind a possibly traced operand, for structural choices only."""
    return np.asarray(getattr(value, "value", value))


def domain_time(operation: str, size: Numeric, ranks: Numeric, tier: NetworkTier, reducible: Numeric) -> Numeric:
    """Time of a collective whose ranks share one domain of a tier.

    Parameters
    ----------
    operation
        Key of :data:`LAPS`.
    size
        Bytes of the full buffer.
    ranks
        Ranks of the group.
    tier
        The tier.
    reducible
        1 when switches can sum the data type, else 0.
    """
    if tier.kind != "scale-up" and tier.topology != "torus":
        return _flat_ring(operation, size, ranks, tier)
    bandwidth = domain_bandwidth(ranks, tier)
    library = _library_time(operation, size, ranks, tier, bandwidth, reducible)
    if operation != ALL_REDUCE or tier.direct is None:
        return library
    return _engine_time(size, ranks, tier.direct, bandwidth, library)


def domain_bandwidth(ranks: Numeric, tier: NetworkTier) -> Numeric:
    """Bandwidth per rank and direction that a group of ``ranks`` can use inside the domain."""
    bandwidth = tier.bandwidth
    if tier.topology == "torus":
        link = bandwidth / (2.0 * len(tier.dimensions))
        bandwidth = collective_topologies.torus_bandwidth(link, _used(torus_extents(ranks, tier.dimensions)))
    if tier.pair_bandwidth is not None:
        bandwidth = collectives.mesh_bandwidth(bandwidth, tier.pair_bandwidth, ranks)
    if tier.rings:
        count = np.clip(plain(ranks), 2, len(tier.rings) - 1).astype(np.int64)
        rings = np.maximum(np.asarray(tier.rings)[count], 1.0)
        bandwidth = collective_topologies.link_graph_bandwidth(tier.link_bandwidth, rings + 0.0 * ranks)
    if tier.shared_bandwidth is not None:
        bandwidth = collective_topologies.shared_bandwidth(
            bandwidth, tier.shared_bandwidth, tier.devices, ranks, tier.switch_devices
        )
    return bandwidth


def peer_bandwidth(bandwidth: Numeric, ranks: Numeric, tier: NetworkTier) -> Numeric:
    """Bandwidth for messages to all other ranks of a group, which may be limited per peer."""
    if tier.peer_fraction is None:
        return bandwidth
    return collectives.mesh_bandwidth(bandwidth, bandwidth * tier.peer_fraction, ranks)


def message_bandwidth(tier: NetworkTier) -> Numeric:
    """Bandwidth of one message between neighbours in a domain: one link of a torus, the links of a pair."""
    if tier.topology == "torus":
        return tier.bandwidth / (2.0 * len(tier.dimensions))
    return peer_bandwidth(domain_bandwidth(2.0, tier), 2.0, tier)


def torus_extents(ranks: Numeric, dimensions: tuple[int, ...]) -> list[Numeric]:
    """Ranks of a group along each dimension of a torus that it fills one dimension after the other."""
    extents: list[Numeric] = []
    for length in dimensions:
        extents.append(np.minimum(ranks, float(length)))
        ranks = np.ceil(ranks / float(length))
    return extents


def _used(extents: list[Numeric]) -> Numeric:
    """Dimensions along which a group extends, at least one."""
    return np.maximum(reduce(np.add, (np.where(extent > 1.0, 1.0, 0.0) for extent in extents)), 1.0)


def _library_time(
    operation: str, size: Numeric, ranks: Numeric, tier: NetworkTier, bandwidth: Numeric, reducible: Numeric
) -> Numeric:
    """Ring, pairwise exchange or in-network reduction of a library."""
    if operation == ALL_REDUCE:
        wire, steps = collectives.all_reduce_wire(size, ranks), collectives.all_reduce_steps(ranks)
        copy = collectives.all_reduce_copy(size, ranks)
    elif operation == ALL_TO_ALL:
        wire, steps = collectives.all_to_all_wire(size, ranks), collectives.all_to_all_steps(ranks)
        copy = collectives.all_gather_copy(size, ranks)
    else:
        wire, steps = collectives.all_gather_wire(size, ranks), collectives.all_gather_steps(ranks)
        copy = collectives.all_gather_copy(size, ranks)
    if tier.topology == "torus":
        wire, steps = _on_torus(operation, size, ranks, tier, wire)
    elif operation == ALL_TO_ALL:
        bandwidth = peer_bandwidth(bandwidth, ranks, tier)
    ring = collectives.switched_ring_time(
        wire, copy, steps, bandwidth, tier.link_fraction, *_ring_numbers(tier), tier.base_latency, tier.step_latency
    )
    if operation == ALL_TO_ALL and tier.message_latency is not None:
        return collectives.switched_exchange_time(ring, tier.message_latency)
    if operation != ALL_REDUCE or not tier.in_network_reduction:
        return ring
    in_network = collectives.in_network_all_reduce_time(
        size, ranks, bandwidth, tier.reduction_latency, tier.reduction_fraction
    )
    available = np.where(ranks >= tier.reduction_minimum_ranks, tier.in_network_reduction * reducible, 0.0)
    return collectives.switched_all_reduce_time(ring, in_network, available)


def _ring_numbers(tier: NetworkTier) -> tuple[Numeric, Numeric]:
    """Copy fraction and fill time; a torus of ports between nodes states neither: no copy to speak of, no fill."""
    return (np.inf, 0.0) if tier.copy_fraction is None else (tier.copy_fraction, tier.fill_time)


def _on_torus(
    operation: str, size: Numeric, ranks: Numeric, tier: NetworkTier, wire: Numeric
) -> tuple[Numeric, Numeric]:
    """Bytes and steps on a torus: rings along the dimensions, one after the other; bisection for an all-to-all."""
    extents = torus_extents(ranks, tier.dimensions)
    steps = reduce(np.add, (collectives.all_gather_steps(extent) for extent in extents))
    if operation == ALL_TO_ALL:
        longest = reduce(np.maximum, extents)
        return collective_topologies.torus_all_to_all_wire(size, longest, _used(extents)), steps
    return wire, LAPS[operation] * steps


def _engine_time(
    size: Numeric, ranks: Numeric, kernels: DirectParameters, bandwidth: Numeric, library: Numeric
) -> Numeric:
    """All-reduce of an engine: its own kernels for small buffers, the library for large ones."""
    one = collective_direct.one_shot_all_reduce_time(
        size, ranks, bandwidth, kernels.one_shot_fraction, kernels.latency, kernels.step_latency
    )
    two = collective_direct.two_shot_all_reduce_time(
        size, ranks, bandwidth, kernels.two_shot_fraction, kernels.latency, kernels.step_latency,
        kernels.two_shot_latency,
    )  # fmt: skip
    direct = collective_direct.direct_all_reduce_time(one, two, ranks)
    time = collective_direct.engine_all_reduce_time(size, kernels.limit, direct, library)
    if kernels.call_floor is None:
        return time
    return collective_direct.eager_collective_time(
        size, time, kernels.call_floor, kernels.memory_bandwidth, kernels.staging_fraction
    )


def _flat_ring(operation: str, size: Numeric, ranks: Numeric, tier: NetworkTier) -> Numeric:
    """One rank per node, all nodes on one network."""
    if operation == ALL_TO_ALL:
        wire = collective_topologies.tier_all_to_all_time(size, ranks, 1.0, tier.bandwidth, tier.link_fraction)
        hop = collectives.hop_time(size / np.maximum(ranks, 1.0), tier.hop_latency, tier.hop_growth, tier.hop_half_size)
        latency = collectives.all_to_all_steps(ranks) * hop
    else:
        laps = LAPS[operation]
        wire = collectives.tier_wire_time(size, laps, ranks, 1.0, tier.bandwidth, tier.link_fraction)
        latency = collectives.ring_latency(
            size, ranks, ranks, laps, tier.hop_latency, tier.hop_growth, tier.hop_half_size, tier.step_latency
        )
    return np.where(ranks > 1.0, collectives.transfer_time(tier.base_latency, latency, wire), 0.0)
