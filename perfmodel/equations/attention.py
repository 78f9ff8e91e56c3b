"""Attention: attended pairs, work, traffic and the on-chip time of fused and unfused kernels."""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import larger_and_ratio, only_where
from perfmodel.equations.roofline import KERNEL_STUDY
from perfmodel.units import (
    Bytes,
    BytesPerElement,
    Count,
    Flop,
    FlopRate,
    Numeric,
    Ratio,
    Seconds,
    SecondsPerElement,
    equation,
)

FLASH = "Dao et al. 2022, arXiv 2205.14135; Dao 2023, arXiv 2307.08691"

#: Query rows of one tile.
ROW_TILE = 128.0
#: Rows of the smallest matrix instruction: short tiles are padded to a multiple.
ROW_GRANULE = 16.0
#: Keys that a tile visits at a time.
KEY_GRANULE = 32.0
#: Work of the backward kernel relative to the forward one: five matrix products instead of two.
BACKWARD_WORK = 2.5


@equation(reference="counting; Vaswani et al. 2017, arXiv 1706.03762, section 3.2.3")
def causal_pairs(queries: Count, cached: Count) -> Count:
    r"""Query-key pairs of causal attention after ``cached`` earlier tokens.

    .. math:: N = s P + s (s + 1) / 2

    Parameters
    ----------
    queries
        New tokens :math:`s` [1].
    cached
        Earlier tokens :math:`P` [1].

    Returns
    -------
    Count
        Attended pairs of one head of one sequence [1].

    Notes
    -----
    Each query sees every earlier token and itself.

    Examples
    --------
    >>> float(causal_pairs(4.0, 0.0))
    10.0
    """
    return queries * cached + queries * (queries + 1.0) / 2.0


@equation(reference="counting; Beltagy et al. 2020, arXiv 2004.05150")
def windowed_pairs(queries: Count, cached: Count, window: Count) -> Count:
    r"""Query-key pairs of causal attention in a sliding window.

    .. math:: a = \mathrm{clip}(w - P, 0, s), \qquad N = a P + a (a + 1) / 2 + (s - a) w

    Parameters
    ----------
    queries
        New tokens :math:`s` [1].
    cached
        Earlier tokens :math:`P` [1].
    window
        Keys that one query sees at most, itself included :math:`w` [1].

    Returns
    -------
    Count
        Attended pairs of one head of one sequence [1].

    Notes
    -----
    A window of at least ``queries + cached`` is plain causal attention.

    Examples
    --------
    >>> float(windowed_pairs(4.0, 0.0, 2.0))
    7.0
    """
    growing = np.minimum(np.maximum(window - cached, 0.0), queries)
    return growing * cached + growing * (growing + 1.0) / 2.0 + (queries - growing) * window


@equation(reference="counting; Child et al. 2019, arXiv 1904.10509 (attention inside blocks)")
def chunked_pairs(queries: Count, chunk: Count) -> Count:
    r"""Query-key pairs of causal attention inside chunks that do not see each other.

    .. math:: n = \lfloor s / w \rfloor, \quad r = s - n w, \qquad N = n\, w (w + 1) / 2 + r (r + 1) / 2

    Parameters
    ----------
    queries
        Tokens :math:`s` [1].
    chunk
        Tokens of a chunk :math:`w` [1].

    Returns
    -------
    Count
        Attended pairs of one head of one sequence [1].

    Notes
    -----
    Each token sees itself and the earlier tokens of its chunk; the last chunk may be short. No token is cached.

    Examples
    --------
    >>> float(chunked_pairs(5.0, 2.0))
    7.0
    """
    whole = np.floor(queries / chunk)
    rest = queries - whole * chunk
    return whole * chunk * (chunk + 1.0) / 2.0 + rest * (rest + 1.0) / 2.0


@equation(reference=f"Korthikanti et al. 2022, arXiv 2205.05198, appendix A; {FLASH}")
def attention_flop(
    batch: Count, heads: Count, pairs: Count, query_dim: Count, value_dim: Count,
    flop_per_multiply_accumulate: Flop = 2.0,
) -> Flop:  # fmt: skip
    r"""Work of the two matrix products of attention over the attended pairs.

    .. math:: W = 2\, b\, h\, N\, (d_q + d_v)

    Parameters
    ----------
    batch
        Sequences :math:`b` [1].
    heads
        Query heads :math:`h` [1].
    pairs
        Attended pairs of one head :math:`N` [1].
    query_dim, value_dim
        Head sizes of queries and of values :math:`d_q, d_v` [1].
    flop_per_multiply_accumulate
        Work of one multiply-accumulate [FLOP].

    Returns
    -------
    Flop
        Work [FLOP]; the softmax is not counted.

    Notes
    -----
    Pass all ``queries * keys`` pairs for a kernel that does not skip masked tiles.

    Examples
    --------
    >>> float(attention_flop(1.0, 2.0, 10.0, 4.0, 4.0))
    320.0
    """
    return flop_per_multiply_accumulate * batch * heads * pairs * (query_dim + value_dim)


@equation(reference=f"{FLASH}; {KERNEL_STUDY}")
def attention_traffic(
    batch: Count, queries: Count, keys: Count, heads: Count, kv_heads: Count, query_dim: Count, value_dim: Count,
    activation_bytes: BytesPerElement, cache_bytes: BytesPerElement,
) -> Bytes:  # fmt: skip
    r"""Memory traffic of fused attention: queries, outputs and new keys once, all keys and values once.

    .. math:: Q = b\,(d_q + d_v)\,\bigl(a\, s\, (h + h_{kv}) + c\, L\, h_{kv}\bigr)

    Parameters
    ----------
    batch
        Sequences :math:`b` [1].
    queries, keys
        Query rows :math:`s` and visible keys :math:`L` of a sequence [1].
    heads, kv_heads
        Query heads :math:`h` and key-value heads :math:`h_{kv}` [1].
    query_dim, value_dim
        Head sizes :math:`d_q, d_v` [1].
    activation_bytes, cache_bytes
        Bytes per element of activations :math:`a` and of stored keys and values :math:`c` [B].

    Returns
    -------
    Bytes
        Traffic [B].

    Notes
    -----
    Scores stay on chip; re-reads of keys and values by other query tiles are served by the cache.

    Examples
    --------
    >>> float(attention_traffic(1.0, 2.0, 2.0, 1.0, 1.0, 4.0, 4.0, 2.0, 2.0))
    96.0
    """
    rows = activation_bytes * queries * (heads + kv_heads) + cache_bytes * keys * kv_heads
    return batch * (query_dim + value_dim) * rows


def _mean_tile_keys(queries: Numeric, keys: Numeric, mean_keys: Numeric, span: Numeric, longest: Numeric) -> Numeric:
    """Keys that an average tile visits: the union of the rows of a tile is longer than a row."""
    # Rows that still grow by one key per query miss 0 + 1 + ... + (a - 1) keys of the longest row, rows at the
    # window miss none: that gives a. A tile of growing rows is longer than its mean row by (span - 1) / 2, a
    # tile of sliding rows by span - 1.
    missing = np.maximum(queries * (keys - mean_keys), 0.0)
    growing = np.minimum((0.5 + np.sqrt(2.0 * missing + 0.25)) / queries, 1.0)
    union = mean_keys + (span - 1.0) / 2.0 * (2.0 - growing)
    return np.minimum(union, longest) + only_where(longest > KEY_GRANULE, KEY_GRANULE / 2.0)


@equation(reference=f"{KERNEL_STUDY}; tiling: {FLASH}")
def attention_on_chip_time(
    batch: Count, queries: Count, keys: Count, mean_keys: Count, heads: Count, kv_heads: Count,
    query_dim: Count, value_dim: Count, peak: FlopRate, units: Count, plateau: Ratio,
    softmax_latency: SecondsPerElement, tile_overhead: Seconds, packed: Ratio,
    flop_per_multiply_accumulate: Flop = 2.0,
) -> Seconds:  # fmt: skip
    r"""On-chip time of fused attention: the longest tile in series, or all tiles shared out evenly.

    .. math::
        \sigma &= r \left(\frac{2 (d_q + d_v)}{\eta P / U} + \tau_s\right), \qquad
        n_t = \lceil s G / 128 \rceil, \quad T = b\, h\, n_t / G, \quad r = \min(128, 16 \lceil s G / 16 \rceil) \\
        c &= \left((L_\mathrm{max} \sigma + o)^4 + \left(\tfrac{T}{U} (L_\mathrm{mean} \sigma + o)\right)^4\right)^{1/4}

    with :math:`G = h / h_{kv}` for packed kernels and 1 otherwise, a tile spanning :math:`g = 128 / G` queries,
    :math:`L_\mathrm{max} = 32 \lceil L / 32 \rceil` and, for causal rows,
    :math:`L_\mathrm{mean} = \min(\bar L + (g - 1)/2, L_\mathrm{max}) + 16\,[L_\mathrm{max} > 32]`.

    Parameters
    ----------
    batch, queries
        Sequences :math:`b`, and query rows :math:`s` of each on this device [1].
    keys, mean_keys
        Keys of the longest row :math:`L` (the window, if any) and of the mean row :math:`\bar L` (pairs / queries) [1].
    heads, kv_heads, query_dim, value_dim
        Query heads :math:`h`, key-value heads :math:`h_{kv}`, head sizes :math:`d_q, d_v` [1].
    peak
        Dense peak :math:`P` [FLOP/s].
    units, plateau
        Compute units :math:`U`, and sustained fraction of the peak :math:`\eta` [1].
    softmax_latency, tile_overhead
        Softmax time per score and unit :math:`\tau_s`, and prologue and epilogue of a tile :math:`o` [s].
    packed
        1 when the query heads of a group share a tile, else 0 [1].
    flop_per_multiply_accumulate
        Work of one multiply-accumulate [FLOP].

    Returns
    -------
    Seconds
        On-chip time [s], without launch floor and memory time.

    Notes
    -----
    With fewer tiles than units the longest tile bounds the time. A tile reads the union of its rows' windows.

    Examples
    --------
    >>> sizes = {"batch": 1.0, "queries": 128.0, "keys": 128.0, "mean_keys": 128.0, "heads": 1.0, "kv_heads": 1.0}
    >>> device = {"query_dim": 64.0, "value_dim": 64.0, "peak": 1e99, "units": 100.0, "plateau": 1.0}
    >>> kernel = {"softmax_latency": 10e-9 / 128.0, "tile_overhead": 0.0, "packed": 0.0}
    >>> round(float(attention_on_chip_time(**sizes, **device, **kernel)) * 1e6, 3)  # 128 keys of 10 ns in series
    1.28
    """
    group = np.where(packed > 0.5, heads / kv_heads, 1.0)
    stacked_rows = queries * group
    tiles = batch * np.where(packed > 0.5, kv_heads, heads) * np.ceil(stacked_rows / ROW_TILE)
    rows = np.minimum(ROW_TILE, ROW_GRANULE * np.ceil(stacked_rows / ROW_GRANULE))
    span = np.maximum(ROW_TILE / group, 1.0)
    score_time = flop_per_multiply_accumulate * (query_dim + value_dim) * units / (peak * plateau) + softmax_latency
    longest = np.minimum(
        KEY_GRANULE * np.ceil(np.maximum(keys, queries) / KEY_GRANULE),
        np.where(keys < queries, keys + span + KEY_GRANULE, KEY_GRANULE * np.ceil(keys / KEY_GRANULE)),
    )
    mean = _mean_tile_keys(queries, keys, mean_keys, span, longest)
    step = rows * score_time
    serial = longest * step + tile_overhead
    balanced = tiles / units * (mean * step + tile_overhead)
    larger, ratio = larger_and_ratio(serial, balanced)
    square = ratio * ratio
    return larger * np.sqrt(np.sqrt(1.0 + square * square))


@equation(reference=FLASH)
def attention_backward_flop(forward_flop: Flop) -> Flop:
    r"""Work of the backward pass of fused attention, recomputed scores included.

    .. math:: W_b = \tfrac{5}{2} W_f

    Parameters
    ----------
    forward_flop
        Work of the forward pass :math:`W_f` [FLOP].

    Returns
    -------
    Flop
        Work of the backward pass [FLOP].

    Notes
    -----
    Five matrix products (scores again, and the gradients of values, probabilities, queries and keys) against two.

    Examples
    --------
    >>> float(attention_backward_flop(2.0))
    5.0
    """
    return BACKWARD_WORK * forward_flop


@equation(reference=f"{FLASH}; {KERNEL_STUDY}")
def attention_backward_time(forward_on_chip_time: Seconds, backward_fraction: Ratio) -> Seconds:
    r"""On-chip time of the backward pass of fused attention.

    .. math:: c_b = \frac{5}{2} \frac{c_f}{\eta_b}

    Parameters
    ----------
    forward_on_chip_time
        On-chip time of the forward pass :math:`c_f` [s].
    backward_fraction
        Rate of the backward kernel relative to the forward one :math:`\eta_b` [1].

    Returns
    -------
    Seconds
        On-chip time of the backward pass [s].

    Notes
    -----
    Assumes the same tiling; the lower rate is that of the longer inner loop and of the atomic sums.

    Examples
    --------
    >>> float(attention_backward_time(1.0, 0.5))
    5.0
    """
    return BACKWARD_WORK * forward_on_chip_time / backward_fraction


@equation(reference="Korthikanti et al. 2022, arXiv 2205.05198, section 4.1")
def softmax_traffic(batch: Count, heads: Count, pairs_or_scores: Count, bytes_per_score: BytesPerElement) -> Bytes:
    r"""Memory traffic of unfused attention scores (mask, softmax, dropout as kernels of their own).

    .. math:: Q = b\, h\, N\, c

    Parameters
    ----------
    batch
        Sequences :math:`b` [1].
    heads
        Query heads :math:`h` [1].
    pairs_or_scores
        Scores of one head :math:`N` [1]; unfused kernels compute all ``queries * keys``.
    bytes_per_score
        Bytes read and written per score by all the kernels together :math:`c` [B].

    Returns
    -------
    Bytes
        Traffic [B].

    Notes
    -----
    The traffic of the two matrix products is counted by ``matmul_traffic``.

    Examples
    --------
    >>> float(softmax_traffic(1.0, 2.0, 16.0, 12.0))
    384.0
    """
    return batch * heads * pairs_or_scores * bytes_per_score
