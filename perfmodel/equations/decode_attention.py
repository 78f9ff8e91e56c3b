"""Attention of one new token per sequence: the cache streams through the units, cut into pieces."""

from __future__ import annotations

import numpy as np

from perfmodel.equations.roofline import KERNEL_STUDY
from perfmodel.units import Bandwidth, Bytes, BytesPerElement, Count, Flop, FlopRate, Numeric, Ratio, Seconds, equation

FLASH_DECODING = "Dao et al. 2023, Flash-Decoding for long-context inference"
LATENT = "DeepSeek-AI 2024, arXiv 2405.04434, section 2.1"

#: Shortest piece of a cache that is worth a block of its own.
SHORTEST_PIECE = 128.0
#: Query heads that share a tile at most, in kernels with that limit.
LARGEST_GROUP = 32.0
#: Pieces are made until every unit has this many blocks.
BLOCKS_PER_UNIT = 2.0


@equation(reference=KERNEL_STUDY)
def decode_groups(heads: Count, kv_heads: Count, limited: Ratio) -> Count:
    r"""Groups of query heads that read keys and values together in decode attention.

    .. math:: g = h_{kv} \text{ for } h / h_{kv} \le 32 \text{ or unlimited kernels, else } h

    Parameters
    ----------
    heads, kv_heads
        Query heads :math:`h` and key-value heads :math:`h_{kv}` [1].
    limited
        1 for kernels whose tile holds 32 query heads and that fall back to one head at a time beyond, else 0 [1].

    Returns
    -------
    Count
        Groups [1].

    Notes
    -----
    A kernel without a tile for so large a group reads the same keys once per query head.

    Examples
    --------
    >>> float(decode_groups(64.0, 2.0, 1.0)), float(decode_groups(64.0, 1.0, 1.0)), float(decode_groups(64.0, 1.0, 0.0))
    (2.0, 64.0, 1.0)
    """
    beyond = (limited > 0.5) & (heads > LARGEST_GROUP * kv_heads)
    return +np.where(beyond, heads, kv_heads)


def _pieces_time(
    pieces: Numeric, sequences: Numeric, keys: Numeric, step: Numeric, units: Numeric, tile_overhead: Numeric
) -> Numeric:
    """On-chip time when the cache of a sequence and head group is cut into that many pieces."""
    rounds = np.maximum(sequences * pieces / units, 1.0)
    return rounds * (keys / pieces * step + tile_overhead)


@equation(reference=f"{KERNEL_STUDY}; split of the cache: {FLASH_DECODING}")
def decode_on_chip_time(
    batch: Count, keys: Count, blocks: Count, key_bytes: Bytes, key_flop: Flop, peak: FlopRate, units: Count,
    unit_bandwidth: Bandwidth, tile_overhead: Seconds, split_overhead: Seconds,
) -> Seconds:  # fmt: skip
    r"""On-chip time of decode attention: the walk of a block along the cache, whole or cut into pieces.

    .. math::
        T = b\, g, \qquad \sigma = \frac{q_k}{B_u} + \frac{w_k\, U}{P}, \qquad
        c_s &= \max\!\left(1, \frac{T s}{U}\right) \left(\frac{L}{s} \sigma + o\right) \\
        c = \min(c_1,\; c_{s^*} + t_s), \qquad
        s^* &= \mathrm{clip}\!\left(\lfloor 2 U / T \rfloor, 1, \max(1, \lfloor L / 128 \rfloor)\right)

    Parameters
    ----------
    batch, keys
        Sequences :math:`b`, and keys that one query sees :math:`L` (the window, if any) [1].
    blocks
        Blocks of one sequence :math:`g` [1]: its key-value heads, or for one shared latent its query heads over 64.
    key_bytes
        Bytes of keys and values of one position that a block reads :math:`q_k` [B].
    key_flop
        Work of a block for one position :math:`w_k` [FLOP]; zero where it never binds.
    peak, units
        Dense peak :math:`P` [FLOP/s] and compute units :math:`U` [1] of the device.
    unit_bandwidth
        Largest bandwidth that one unit can draw :math:`B_u` [B/s].
    tile_overhead
        Prologue and epilogue of a block :math:`o` [s].
    split_overhead
        Cost of cutting the cache and of joining the pieces :math:`t_s` [s]; very large for kernels that never do.

    Returns
    -------
    Seconds
        On-chip time [s], without launch floor and memory time.

    Notes
    -----
    Assumes sequences of one length. The arithmetic of grouped queries (up to 32 per key) never binds in
    measured kernels; that of a latent shared by 128 heads does.

    Examples
    --------
    One sequence of 1280 keys on 5 units, 10 ns per key: ten pieces of 1.28 us, two rounds:

    >>> sizes = {"batch": 1.0, "keys": 1280.0, "blocks": 1.0, "key_bytes": 100.0, "key_flop": 0.0}
    >>> device = {"peak": 1e15, "units": 5.0, "unit_bandwidth": 1e10}
    >>> round(float(decode_on_chip_time(**sizes, **device, tile_overhead=0.0, split_overhead=0.0)) * 1e6, 3)
    2.56
    """
    step = key_bytes / unit_bandwidth + key_flop * units / peak
    sequences = batch * blocks
    most = np.maximum(np.floor(keys / SHORTEST_PIECE), 1.0)
    pieces = np.minimum(np.maximum(np.floor(BLOCKS_PER_UNIT * units / sequences), 1.0), most)
    whole = _pieces_time(1.0, sequences, keys, step, units, tile_overhead)
    return np.minimum(whole, _pieces_time(pieces, sequences, keys, step, units, tile_overhead) + split_overhead)


@equation(reference=LATENT)
def latent_attention_traffic(
    batch: Count, queries: Count, keys: Count, heads: Count, latent_dim: Count, rotary_dim: Count,
    activation_bytes: BytesPerElement, cache_bytes: BytesPerElement,
) -> Bytes:  # fmt: skip
    r"""Memory traffic of absorbed latent attention: one latent per position serves all heads as key and value.

    .. math:: Q = b\,\bigl(c\, L\, (d_c + d_r) + a\, s\, h\, (2 d_c + d_r)\bigr)

    Parameters
    ----------
    batch
        Sequences :math:`b` [1].
    queries, keys
        Query rows :math:`s` and visible keys :math:`L` of a sequence [1].
    heads
        Query heads :math:`h` on this device [1].
    latent_dim, rotary_dim
        Sizes of the compressed latent :math:`d_c` and of the shared rotary key :math:`d_r` [1].
    activation_bytes, cache_bytes
        Bytes per element of queries and outputs :math:`a` and of the cache :math:`c` [B].

    Returns
    -------
    Bytes
        Traffic [B].

    Notes
    -----
    Queries and outputs live in the latent space. The projections into and out of it are matmuls of their own.

    Examples
    --------
    >>> float(latent_attention_traffic(1.0, 1.0, 10.0, 2.0, 4.0, 2.0, 2.0, 1.0))
    100.0
    """
    rows = activation_bytes * queries * heads * (2.0 * latent_dim + rotary_dim)
    return batch * (cache_bytes * keys * (latent_dim + rotary_dim) + rows)
