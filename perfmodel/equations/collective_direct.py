"""Collectives by direct access to the memory of the peers: all-reduce kernels of serving engines, expert dispatch.

One kernel, no ring: every rank reads from (or writes to) all others at once. The latency is a constant, and the bytes
are those of the simplest algorithm.
"""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import inverse_count, larger_and_ratio, only_where, smaller_and_ratio
from perfmodel.units import Bandwidth, Bytes, Count, Ratio, Seconds, equation

_STUDY = "perfmodel collective study (closed forms for measured collectives)"
_KERNELS = f"{_STUDY}; algorithms: vLLM and TensorRT-LLM custom all-reduce (one-shot, two-shot)"
_DEEP_EP = f"{_STUDY}; DeepSeek-AI 2025, DeepEP (github.com/deepseek-ai/DeepEP); arXiv 2412.19437, section 3.2.2"


@equation(reference=_KERNELS)
def one_shot_all_reduce_time(
    size: Bytes, ranks: Count, bandwidth: Bandwidth, one_shot_fraction: Ratio, latency: Seconds, step_latency: Seconds
) -> Seconds:
    r"""Time of an all-reduce in which every rank reads the whole buffer of all others.

    .. math:: T = c_0 + c_1 (n - 2) + \frac{(n - 1)\, S}{e_1 B}

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    ranks
        Ranks of the group :math:`n` [1].
    bandwidth
        Bandwidth per rank and direction :math:`B` [B/s].
    one_shot_fraction
        Sustained fraction of it :math:`e_1` [1].
    latency
        Latency of the kernel with two ranks :math:`c_0` [s].
    step_latency
        Latency per further rank :math:`c_1` [s].

    Returns
    -------
    Seconds
        Time [s]; zero for one rank or an empty buffer.

    Notes
    -----
    One barrier; no partial sums travel.

    Examples
    --------
    >>> float(one_shot_all_reduce_time(4.0, 3.0, 8.0, 0.5, 1.0, 0.5))
    3.5
    """
    time = latency + step_latency * (ranks - 2.0) + (ranks - 1.0) * size / (bandwidth * one_shot_fraction)
    return only_where((ranks > 1.0) & (size > 0.0), time)


@equation(reference=_KERNELS)
def two_shot_all_reduce_time(
    size: Bytes, ranks: Count, bandwidth: Bandwidth, two_shot_fraction: Ratio, latency: Seconds, step_latency: Seconds,
    two_shot_latency: Seconds,
) -> Seconds:  # fmt: skip
    r"""Time of an all-reduce by a scatter and a gather with direct access.

    .. math:: T = c_0 + c_1 (n - 2) + s_2 + 2\, \frac{n - 1}{n} \frac{S}{e_2 B}

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    ranks
        Ranks of the group :math:`n` [1].
    bandwidth
        Bandwidth per rank and direction :math:`B` [B/s].
    two_shot_fraction
        Sustained fraction of it :math:`e_2` [1].
    latency
        Latency of the kernel with two ranks :math:`c_0` [s].
    step_latency
        Latency per further rank :math:`c_1` [s].
    two_shot_latency
        Latency of the second barrier :math:`s_2` [s].

    Returns
    -------
    Seconds
        Time [s]; zero for one rank or an empty buffer.

    Notes
    -----
    Each rank sums its share of the buffer and the others read the sums.

    Examples
    --------
    >>> float(two_shot_all_reduce_time(4.0, 4.0, 8.0, 0.5, 1.0, 0.5, 2.0))
    5.5
    """
    wire = 2.0 * (1.0 - inverse_count(ranks)) * size
    time = latency + step_latency * (ranks - 2.0) + two_shot_latency + wire / (bandwidth * two_shot_fraction)
    return only_where((ranks > 1.0) & (size > 0.0), time)


@equation(reference=_KERNELS)
def direct_all_reduce_time(one_shot_time: Seconds, two_shot_time: Seconds, ranks: Count) -> Seconds:
    r"""Time of a direct all-reduce: one-shot or two-shot, whichever is faster.

    .. math:: T = \left(T_1^{-4} + T_2^{-4}\right)^{-1/4} \; \text{for } n > 2, \quad T_1 \text{ else}

    Parameters
    ----------
    one_shot_time
        Time of the one-shot kernel :math:`T_1` [s].
    two_shot_time
        Time of the two-shot kernel :math:`T_2` [s].
    ranks
        Ranks of the group :math:`n` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    With two ranks both move the same bytes, and the engines run the one-shot kernel.

    Examples
    --------
    >>> float(direct_all_reduce_time(3.0, 1e9, 8.0)), float(direct_all_reduce_time(3.0, 1.0, 2.0))
    (3.0, 3.0)
    """
    smaller, ratio = smaller_and_ratio(one_shot_time, two_shot_time)
    square = ratio * ratio
    return +np.where(ranks > 2.0, smaller / np.sqrt(np.sqrt(1.0 + square * square)), one_shot_time)


@equation(reference=_KERNELS)
def engine_all_reduce_time(size: Bytes, size_limit: Bytes, direct_time: Seconds, library_time: Seconds) -> Seconds:
    r"""Time of an all-reduce of an engine that calls a library for large buffers.

    .. math:: T = T_d \; \text{for } S \le S_c, \quad T_l \text{ else}

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    size_limit
        Largest buffer of the engine's own kernel :math:`S_c` [B].
    direct_time
        Time of its own kernel :math:`T_d` [s].
    library_time
        Time of the library :math:`T_l` [s].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    A limit of the software: its registered buffers have a fixed size.

    Examples
    --------
    >>> float(engine_all_reduce_time(4.0, 8.0, 1.0, 2.0)), float(engine_all_reduce_time(9.0, 8.0, 1.0, 2.0))
    (1.0, 2.0)
    """
    return +np.where(size <= size_limit, direct_time, library_time)


@equation(reference=_STUDY)
def eager_collective_time(
    size: Bytes, graph_time: Seconds, call_floor: Seconds, memory_bandwidth: Bandwidth, staging_fraction: Ratio
) -> Seconds:
    r"""Time of a collective that is launched call by call, with a copy of its buffer.

    .. math:: T = \max\left(t_c,\; T_g + \frac{2 S}{r M}\right)

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    graph_time
        Time of the same collective inside a captured graph :math:`T_g` [s].
    call_floor
        Time that the host needs per call :math:`t_c` [s].
    memory_bandwidth
        Bandwidth of the main memory of the device :math:`M` [B/s].
    staging_fraction
        Sustained fraction of it :math:`r` [1].

    Returns
    -------
    Seconds
        Time [s]; zero when the collective takes none.

    Notes
    -----
    The copy reads and writes the buffer. The host prepares the next call while the device works, so the longer of the
    two counts.

    Examples
    --------
    >>> float(eager_collective_time(4.0, 1.0, 2.0, 8.0, 0.5)), float(eager_collective_time(0.4, 1.0, 2.0, 8.0, 0.5))
    (3.0, 2.0)
    """
    time = np.maximum(call_floor, graph_time + 2.0 * size / (memory_bandwidth * staging_fraction))
    return only_where(graph_time > 0.0, time)


@equation(reference=_DEEP_EP)
def low_latency_dispatch_time(
    volume: Bytes, domains: Count, bandwidth: Bandwidth, port_bandwidth: Bandwidth, link_fraction: Ratio,
    port_fraction: Ratio, base_latency: Seconds, hop_latency: Seconds,
) -> Seconds:  # fmt: skip
    r"""Time of a dispatch or a combine of few tokens, written directly to the experts' ranks.

    .. math:: T = a_0 + a_1 \log_2 N + \left(X_p^4 + X_l^4\right)^{1/4}, \quad
              X_p = \frac{N - 1}{N} \frac{V}{e_p B_p}, \quad X_l = \frac{V}{e_l B}

    Parameters
    ----------
    volume
        Bytes of all copies of the tokens of one rank :math:`V` [B]: tokens, experts per token, hidden size and
        bytes per element.
    domains
        Nodes of the group :math:`N` [1].
    bandwidth
        Links inside a node, per rank and direction :math:`B` [B/s].
    port_bandwidth
        Port between nodes, per rank and direction :math:`B_p` [B/s].
    link_fraction
        Sustained fraction of the links :math:`e_l` [1].
    port_fraction
        Sustained fraction of the port :math:`e_p` [1].
    base_latency
        Latency in one node :math:`a_0` [s].
    hop_latency
        Latency per doubling of the nodes :math:`a_1` [s].

    Returns
    -------
    Seconds
        Time [s]; zero when nothing is sent.

    Notes
    -----
    One message per token and expert, no forwarding inside a node.

    Examples
    --------
    >>> float(low_latency_dispatch_time(8.0, 1.0, 4.0, 1.0, 0.5, 0.5, 1.0, 2.0))
    5.0
    """
    port = (1.0 - inverse_count(domains)) * volume / (port_bandwidth * port_fraction)
    link = volume / (bandwidth * link_fraction)
    larger, ratio = larger_and_ratio(port, link)
    square = ratio * ratio
    latency = base_latency + hop_latency * np.log2(np.maximum(domains, 1.0))
    return only_where(volume > 0.0, latency + larger * np.sqrt(np.sqrt(1.0 + square * square)))


@equation(reference=_DEEP_EP)
def high_throughput_dispatch_time(
    token_bytes: Bytes, tokens: Count, ranks: Count, destinations: Count, units: Count, unit_rate: Bandwidth,
    bandwidth: Bandwidth, link_fraction: Ratio, base_latency: Seconds,
) -> Seconds:  # fmt: skip
    r"""Time of a dispatch or a combine of many tokens inside one node, by kernels on a part of the processors.

    .. math:: T = a + \frac{t\, h\, R\, (n - 1) / n}{r}, \qquad r = \left((c u)^{-4} + (e B)^{-4}\right)^{-1/4}

    Parameters
    ----------
    token_bytes
        Bytes of one token with its scales and indices :math:`h` [B].
    tokens
        Tokens of one rank :math:`t` [1].
    ranks
        Ranks of the group :math:`n` [1].
    destinations
        Ranks that a token goes to :math:`R` [1], see ``experts.distinct_domains``.
    units
        Processors that the kernel may use :math:`u` [1].
    unit_rate
        Rate of one processor :math:`c` [B/s].
    bandwidth
        Links per rank and direction :math:`B` [B/s].
    link_fraction
        Sustained fraction of them :math:`e` [1].
    base_latency
        Latency :math:`a` [s].

    Returns
    -------
    Seconds
        Time [s]; zero for one rank.

    Notes
    -----
    A token travels once per rank, whatever the number of its experts there.

    Examples
    --------
    >>> round(float(high_throughput_dispatch_time(2.0, 8.0, 2.0, 1.0, 1e9, 1.0, 4.0, 0.5, 1.0)), 6)
    5.0
    """
    smaller, ratio = smaller_and_ratio(units * unit_rate, bandwidth * link_fraction)
    square = ratio * ratio
    rate = smaller / np.sqrt(np.sqrt(1.0 + square * square))
    volume = tokens * token_bytes * destinations * (1.0 - inverse_count(ranks))
    return only_where((ranks > 1.0) & (tokens > 0.0), base_latency + volume / rate)
