"""Collectives of one group: times inside a switched domain, messages, and the names of all collective equations.

A group of one rank, or an empty buffer, takes exactly no time. Volumes are in ``collective_volumes``, what
happens between nodes in ``collective_routes``; both are names of this module as well.
"""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import inverse_count, only_where, safe_ratio, smaller_and_ratio
from perfmodel.equations.collective_routes import (
    HOCKNEY,
    hop_time,
    multi_node_all_reduce_time,
    ring_latency,
    tier_wire_time,
    transfer_time,
    tree_latency,
    tree_wire_time,
)
from perfmodel.equations.collective_volumes import (
    RING,
    STUDY,
    all_gather_copy,
    all_gather_steps,
    all_gather_wire,
    all_reduce_copy,
    all_reduce_steps,
    all_reduce_wire,
    all_to_all_steps,
    all_to_all_wire,
)
from perfmodel.units import Bandwidth, Bytes, Count, Ratio, Seconds, equation

__all__ = [
    "all_gather_copy",
    "all_gather_steps",
    "all_gather_wire",
    "all_reduce_copy",
    "all_reduce_steps",
    "all_reduce_wire",
    "all_to_all_steps",
    "all_to_all_wire",
    "hop_time",
    "in_network_all_reduce_time",
    "mesh_bandwidth",
    "message_efficiency",
    "multi_node_all_reduce_time",
    "point_to_point_time",
    "ring_latency",
    "switched_all_reduce_time",
    "switched_exchange_time",
    "switched_ring_time",
    "tier_wire_time",
    "transfer_time",
    "tree_latency",
    "tree_wire_time",
]


@equation(reference=f"{STUDY}; bandwidth term: {RING}; latency term: {HOCKNEY}")
def switched_ring_time(
    wire: Bytes, copy: Bytes, steps: Count, bandwidth: Bandwidth, link_fraction: Ratio, copy_fraction: Ratio,
    fill_time: Seconds, base_latency: Seconds, step_latency: Seconds,
) -> Seconds:  # fmt: skip
    r"""Time of a pipelined collective inside one switched domain.

    .. math:: X = \frac{w}{\eta B} + \frac{q}{r B}, \qquad T = a_0 + a_1 k + X + 2 \sqrt{f X}

    Parameters
    ----------
    wire
        Bytes sent per rank :math:`w` [B].
    copy
        Bytes copied locally per rank :math:`q` [B].
    steps
        Latency steps :math:`k` [1].
    bandwidth
        Bandwidth per rank and direction :math:`B` [B/s].
    link_fraction
        Sustained fraction of it :math:`\eta` [1].
    copy_fraction
        Rate of the local copy relative to the bandwidth :math:`r` [1].
    fill_time
        Pipeline fill at the best chunk size :math:`f` [s].
    base_latency
        Latency of the call :math:`a_0` [s].
    step_latency
        Latency per step :math:`a_1` [s].

    Returns
    -------
    Seconds
        Time [s]; zero when nothing is sent.

    Notes
    -----
    The square root is what remains of a pipeline of chunks when the chunk size is chosen best.

    Examples
    --------
    256 MiB all-reduce on eight ranks of 300 GB/s:

    >>> size = 256 * 2.0**20
    >>> time = switched_ring_time(1.75 * size, size / 16, 14.0, 300e9, 0.80, 2.76, 7.05e-6, 9.3e-6, 0.74e-6)
    >>> round(1.75 * size / float(time) / 1e9)
    210
    """
    transfer = wire / (bandwidth * link_fraction) + copy / (bandwidth * copy_fraction)
    time = base_latency + step_latency * steps + transfer + 2.0 * np.sqrt(fill_time * transfer)
    return only_where(wire > 0.0, time)


@equation(reference=f"{STUDY}; {HOCKNEY}")
def switched_exchange_time(ring_time: Seconds, message_latency: Seconds) -> Seconds:
    r"""Time of an all-to-all inside one switched domain, as messages between pairs.

    .. math:: T = T_r + m

    Parameters
    ----------
    ring_time
        Time of the same bytes and steps as a pipelined collective, :func:`switched_ring_time` :math:`T_r` [s].
    message_latency
        What setting up messages to all peers takes longer :math:`m` [s].

    Returns
    -------
    Seconds
        Time [s]; zero when nothing is sent.

    Notes
    -----
    A ring talks to two neighbours, an exchange to all.

    Examples
    --------
    >>> float(switched_exchange_time(3.0, 2.0)), float(switched_exchange_time(0.0, 2.0))
    (5.0, 0.0)
    """
    return only_where(ring_time > 0.0, ring_time + message_latency)


@equation(reference=f"{STUDY}; Graham et al. 2016, doi:10.1109/COMHPC.2016.006 (in-network reduction)")
def in_network_all_reduce_time(
    size: Bytes, ranks: Count, bandwidth: Bandwidth, reduction_latency: Seconds, reduction_fraction: Ratio
) -> Seconds:
    r"""Time of an all-reduce whose sums are made by the switches.

    .. math:: T = a_r + \left(1 + \frac{1}{n}\right) \frac{S}{\eta_r B}

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    ranks
        Ranks of the group :math:`n` [1].
    bandwidth
        Bandwidth per rank and direction :math:`B` [B/s].
    reduction_latency
        Latency of the call :math:`a_r` [s].
    reduction_fraction
        Sustained fraction of the bandwidth :math:`\eta_r` [1].

    Returns
    -------
    Seconds
        Time [s]; zero for one rank or an empty buffer.

    Notes
    -----
    Each rank sends its buffer once and receives its share of the sums.

    Examples
    --------
    >>> round(float(in_network_all_reduce_time(8e9, 8.0, 450e9, 0.0, 1.0)) * 1e3, 6)
    20.0
    """
    time = reduction_latency + (1.0 + inverse_count(ranks)) * size / (bandwidth * reduction_fraction)
    return only_where((ranks > 1.0) & (size > 0.0), time)


@equation(reference=STUDY)
def switched_all_reduce_time(ring_time: Seconds, in_network_time: Seconds, available: Ratio) -> Seconds:
    r"""Time of an all-reduce in a switched domain: ring or in-network, whichever is faster.

    .. math:: T = \left(T_r^{-8} + T_i^{-8}\right)^{-1/8} \; \text{if available, else } T_r

    Parameters
    ----------
    ring_time
        Time of the ring :math:`T_r` [s].
    in_network_time
        Time of the in-network reduction :math:`T_i` [s].
    available
        1 when the switches can reduce this data type and group, else 0 [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    The smooth minimum is over total times, latencies included, as libraries choose.

    Examples
    --------
    >>> float(switched_all_reduce_time(2.0, 1e9, 1.0)), float(switched_all_reduce_time(2.0, 1.0, 0.0))
    (2.0, 2.0)
    """
    smaller, ratio = smaller_and_ratio(ring_time, in_network_time)
    square = ratio * ratio
    fourth = square * square
    minimum = smaller / np.sqrt(np.sqrt(np.sqrt(1.0 + fourth * fourth)))
    return +np.where(available > 0.5, minimum, ring_time)


@equation(reference=HOCKNEY)
def point_to_point_time(size: Bytes, bandwidth: Bandwidth, link_fraction: Ratio, latency: Seconds) -> Seconds:
    r"""Time of one message between two ranks.

    .. math:: T = a + \frac{S}{\eta B}

    Parameters
    ----------
    size
        Message :math:`S` [B].
    bandwidth
        Bandwidth per direction :math:`B` [B/s].
    link_fraction
        Sustained fraction of it :math:`\eta` [1].
    latency
        Latency :math:`a` [s].

    Returns
    -------
    Seconds
        Time [s]; zero for an empty message.

    Notes
    -----
    No contention with other messages.

    Examples
    --------
    >>> float(point_to_point_time(10.0, 10.0, 0.5, 1.0))
    3.0
    """
    return only_where(size > 0.0, latency + size / (bandwidth * link_fraction))


@equation(reference=HOCKNEY)
def message_efficiency(size: Bytes, half_size: Bytes) -> Ratio:
    r"""Fraction of the asymptotic bandwidth that a message of a size reaches.

    .. math:: e = \frac{S}{S + S_{1/2}}

    Parameters
    ----------
    size
        Message :math:`S` [B].
    half_size
        Size at half of the asymptotic bandwidth :math:`S_{1/2}` [B].

    Returns
    -------
    Ratio
        Efficiency [1], below 1; zero for an empty message.

    Notes
    -----
    The same statement as a constant latency of ``half_size / bandwidth``.

    Examples
    --------
    >>> float(message_efficiency(4.0, 4.0))
    0.5
    """
    return safe_ratio(size, size + half_size)


@equation(reference=STUDY)
def mesh_bandwidth(bandwidth: Bandwidth, pair_bandwidth: Bandwidth, ranks: Count) -> Bandwidth:
    r"""Bandwidth that a rank of a group can use when ranks are linked pairwise, without a switch.

    .. math:: B(n) = \min\bigl(B,\; (n - 1)\, B_\mathrm{pair}\bigr)

    Parameters
    ----------
    bandwidth
        All links of the rank :math:`B` [B/s].
    pair_bandwidth
        Link to one peer :math:`B_\mathrm{pair}` [B/s].
    ranks
        Ranks of the group :math:`n` [1].

    Returns
    -------
    Bandwidth
        Bandwidth per direction [B/s]; that of one pair for a group of one.

    Notes
    -----
    Assumes direct transfers only, no forwarding over third ranks. With ``pair_bandwidth`` equal to
    ``bandwidth`` it describes a switch.

    Examples
    --------
    >>> float(mesh_bandwidth(448.0, 64.0, 4.0))
    192.0
    """
    return np.minimum(bandwidth, np.maximum(ranks - 1.0, 1.0) * pair_bandwidth)
