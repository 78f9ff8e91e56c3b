"""Collectives between nodes: wires of a tier, hops, rings and trees.

The functions are also names of :mod:`perfmodel.equations.collectives`.
"""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import inverse_count, larger_and_ratio, only_where, safe_ratio, smaller_and_ratio
from perfmodel.equations.collective_volumes import MPICH, RING, STUDY
from perfmodel.units import Bandwidth, Bytes, Count, Ratio, Seconds, equation

TWO_TREE = "Sanders, Speck and Traeff 2009, doi:10.1016/j.parco.2009.09.001 (two trees)"
HOCKNEY = "Hockney 1994, doi:10.1016/S0167-8191(06)80021-9"

#: Chunks into which a tree all-reduce cuts its buffer.
TREE_CHUNKS = 8.0


@equation(reference=f"{RING}; {STUDY}")
def tier_wire_time(
    size: Bytes, laps: Count, domains: Count, members: Count, bandwidth: Bandwidth, link_fraction: Ratio
) -> Seconds:
    r"""Time on the wires of one network tier of a ring that crosses it.

    .. math:: X = \ell\, \frac{N - 1}{N}\, \frac{S}{g\, \eta B}

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    laps
        Laps of the ring :math:`\ell` [1]: 2 for all-reduce, 1 for all-gather and reduce-scatter.
    domains
        Stops of the ring :math:`N` [1]: all ranks of a flat ring, or the domains that a hierarchical ring joins.
    members
        Ranks of the group inside one domain :math:`g` [1]; their ports share the load.
    bandwidth
        Bandwidth per rank and direction at this tier :math:`B` [B/s].
    link_fraction
        Sustained fraction of it :math:`\eta` [1].

    Returns
    -------
    Seconds
        Time [s]; zero for one domain.

    Notes
    -----
    Assumes one ring per member port, so that all ports of a domain carry equal shares.

    Examples
    --------
    >>> float(tier_wire_time(8.0, 2.0, 4.0, 2.0, 1.0, 0.5))
    12.0
    """
    return laps * (1.0 - inverse_count(domains)) * size / (members * bandwidth * link_fraction)


@equation(reference=f"{STUDY}; {TWO_TREE}")
def tree_wire_time(size: Bytes, domains: Count, members: Count, bandwidth: Bandwidth, tree_fraction: Ratio) -> Seconds:
    r"""Time on the wires between nodes of a tree all-reduce.

    .. math:: X = 2\, \frac{N - 1}{N} \frac{S}{g\, \eta_t B}

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    domains
        Nodes :math:`N` [1].
    members
        Ranks of the group inside one node :math:`g` [1].
    bandwidth
        Bandwidth between nodes per rank and direction :math:`B` [B/s].
    tree_fraction
        Sustained fraction of it for the tree :math:`\eta_t` [1].

    Returns
    -------
    Seconds
        Time [s]; zero for one node.

    Notes
    -----
    Two trees carry half of the buffer each, and a node that is a leaf in one of them is an inner node of the other:
    with two nodes every port carries the buffer once, with many nodes twice.

    Examples
    --------
    >>> float(tree_wire_time(8.0, 4.0, 2.0, 1.0, 0.5))
    12.0
    """
    return 2.0 * (1.0 - inverse_count(domains)) * size / (members * bandwidth * tree_fraction)


@equation(reference=STUDY)
def hop_time(chunk: Bytes, hop_latency: Seconds, hop_growth: Seconds, hop_half_size: Bytes) -> Seconds:
    r"""Latency of one hop between nodes, longer once the chunk leaves the eager protocol.

    .. math:: h(c) = h_0 + h_b \frac{c}{c + c_h}

    Parameters
    ----------
    chunk
        Bytes of one message :math:`c` [B].
    hop_latency
        Latency of a small message :math:`h_0` [s].
    hop_growth
        Extra latency of a large message :math:`h_b` [s].
    hop_half_size
        Message with half of the extra :math:`c_h` [B].

    Returns
    -------
    Seconds
        Latency [s].

    Notes
    -----
    The extra is the handshake of the rendezvous protocol.

    Examples
    --------
    >>> float(hop_time(100.0, 1.0, 2.0, 100.0))
    2.0
    """
    return hop_latency + hop_growth * safe_ratio(chunk, chunk + hop_half_size)


@equation(reference=f"{STUDY}; {RING}")
def ring_latency(
    size: Bytes, ranks: Count, domains: Count, laps: Count, hop_latency: Seconds, hop_growth: Seconds,
    hop_half_size: Bytes, step_latency: Seconds,
) -> Seconds:  # fmt: skip
    r"""Latency of a ring over several nodes.

    .. math:: t = \ell\,\bigl(N\, h(S / n) + (n - N)\, a_1\bigr)

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    ranks
        Ranks of the group :math:`n` [1].
    domains
        Nodes :math:`N` that the group spans [1].
    laps
        Laps of the ring :math:`\ell` [1].
    hop_latency, hop_growth, hop_half_size
        See :func:`hop_time` [s, s, B].
    step_latency
        Latency of a step inside a node :math:`a_1` [s].

    Returns
    -------
    Seconds
        Latency [s]; without hops between nodes when there is one node.

    Notes
    -----
    Assumes a ring ordered by node, with one hop out of each node per lap.

    Examples
    --------
    >>> float(ring_latency(0.0, 8.0, 2.0, 1.0, 5.0, 0.0, 1.0, 1.0))
    16.0
    """
    hop = hop_time(size * inverse_count(ranks), hop_latency, hop_growth, hop_half_size)
    return laps * (only_where(domains > 1.0, domains * hop) + np.maximum(ranks - domains, 0.0) * step_latency)


@equation(reference=f"{STUDY}; {MPICH} (tree)")
def tree_latency(
    size: Bytes, domains: Count, members: Count, tree_hop_latency: Seconds, hop_growth: Seconds,
    hop_half_size: Bytes, step_latency: Seconds,
) -> Seconds:  # fmt: skip
    r"""Latency of a tree all-reduce over nodes, with chains inside the nodes.

    .. math:: t = 2 \log_2(N)\, h(S / 8) + 2 (g - 1)\, a_1

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    domains
        Nodes :math:`N` [1].
    members
        Ranks of the group inside one node :math:`g` [1].
    tree_hop_latency, hop_growth, hop_half_size
        See :func:`hop_time` [s, s, B].
    step_latency
        Latency of a step inside a node :math:`a_1` [s].

    Returns
    -------
    Seconds
        Latency [s].

    Notes
    -----
    Assumes a balanced binary tree, traversed up and down, with the buffer in eight chunks.

    Examples
    --------
    >>> float(tree_latency(0.0, 8.0, 4.0, 10.0, 0.0, 1.0, 1.0))
    66.0
    """
    hop = hop_time(size / TREE_CHUNKS, tree_hop_latency, hop_growth, hop_half_size)
    levels = np.log2(np.maximum(domains, 1.0))
    return 2.0 * levels * hop + 2.0 * np.maximum(members - 1.0, 0.0) * step_latency


@equation(reference=f"{STUDY}; {HOCKNEY}")
def transfer_time(base_latency: Seconds, latency: Seconds, wire_time: Seconds) -> Seconds:
    r"""Time of a collective between nodes: latency and wire time overlap in part.

    .. math:: T = a_0 + \left(t^{3/2} + X^{3/2}\right)^{2/3}

    Parameters
    ----------
    base_latency
        Latency of the call :math:`a_0` [s].
    latency
        Latency of the steps :math:`t` [s].
    wire_time
        Time on the wires :math:`X` [s].

    Returns
    -------
    Seconds
        Time [s]; zero when nothing is sent.

    Notes
    -----
    Exponent 1 (the sum) overestimates measured collectives, a hard maximum underestimates them.

    Examples
    --------
    >>> float(transfer_time(1.0, 0.0, 4.0)), float(transfer_time(1.0, 4.0, 0.0))
    (5.0, 0.0)
    """
    larger, ratio = larger_and_ratio(latency, wire_time)
    power = 1.0 + ratio * np.sqrt(ratio)
    return only_where(wire_time > 0.0, base_latency + larger * np.cbrt(power * power))


@equation(reference=STUDY)
def multi_node_all_reduce_time(ring_time: Seconds, tree_time: Seconds) -> Seconds:
    r"""Time of an all-reduce between nodes: ring or tree, whichever is faster.

    .. math:: T = \left(T_r^{-6} + T_t^{-6}\right)^{-1/6}

    Parameters
    ----------
    ring_time
        Time of the ring :math:`T_r` [s].
    tree_time
        Time of the tree :math:`T_t` [s].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Trees win small buffers on many nodes, rings win large buffers.

    Examples
    --------
    >>> float(multi_node_all_reduce_time(2.0, 1e9))
    2.0
    """
    smaller, ratio = smaller_and_ratio(ring_time, tree_time)
    cube = ratio * ratio * ratio
    return smaller / np.sqrt(np.cbrt(1.0 + cube * cube))
