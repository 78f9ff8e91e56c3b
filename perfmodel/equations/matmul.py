"""Matrix multiplication: work, traffic and the tile loop."""

from __future__ import annotations

import functools

import numpy as np

from perfmodel.equations.roofline import KERNEL_STUDY, ROOFLINE
from perfmodel.units import (
    Bandwidth,
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

SPLIT = "Osama et al. 2023, doi:10.1145/3572848.3577479"

#: Output tiles (rows, columns) that kernel libraries choose from. More candidates did not lower the error of the form.
TILES = ((16.0, 64.0), (64.0, 64.0), (128.0, 128.0))
#: Tile area for which ``loop_latency`` is stated.
REFERENCE_TILE_AREA = 64.0 * 64.0
#: Shortest piece of the contracted axis that is worth a split.
MINIMUM_SPLIT_LENGTH = 128.0
#: Most pieces of the contracted axis that libraries use.
MAXIMUM_SPLIT = 32.0


@equation(reference="Golub and Van Loan 2013, Matrix Computations, section 1.1")
def matmul_flop(
    batch: Count, rows: Count, columns: Count, contraction: Count, flop_per_multiply_accumulate: Flop = 2.0
) -> Flop:
    r"""Arithmetic work of ``batch`` products of a (rows, contraction) by a (contraction, columns) matrix.

    .. math:: W = 2\, b\, m\, n\, k

    Parameters
    ----------
    batch
        Independent products :math:`b` [1].
    rows, columns, contraction
        Sizes :math:`m, n, k` [1].
    flop_per_multiply_accumulate
        Work of one multiply-accumulate [FLOP].

    Returns
    -------
    Flop
        Work [FLOP].

    Notes
    -----
    Assumes the classical algorithm (no Strassen) and dense operands.

    Examples
    --------
    >>> float(matmul_flop(1.0, 2.0, 3.0, 4.0))
    48.0
    """
    return flop_per_multiply_accumulate * batch * rows * columns * contraction


@equation(reference=ROOFLINE)
def matmul_traffic(
    batch: Count, rows: Count, columns: Count, contraction: Count,
    input_bytes: BytesPerElement, weight_bytes: BytesPerElement, output_bytes: BytesPerElement,
) -> Bytes:  # fmt: skip
    r"""Compulsory memory traffic of a matrix product: each operand moves once.

    .. math:: Q = b\,(a\,m\,k + w\,k\,n + o\,m\,n)

    Parameters
    ----------
    batch
        Independent products :math:`b` [1].
    rows, columns, contraction
        Sizes :math:`m, n, k` [1].
    input_bytes, weight_bytes, output_bytes
        Bytes per element :math:`a, w, o` of left operand, right operand and result [B], scales included.

    Returns
    -------
    Bytes
        Traffic [B].

    Notes
    -----
    Assumes that re-reads of tiles are served on chip.

    Examples
    --------
    >>> float(matmul_traffic(1.0, 2.0, 3.0, 4.0, 2.0, 2.0, 2.0))
    52.0
    """
    per_product = (
        input_bytes * rows * contraction + weight_bytes * contraction * columns + output_bytes * rows * columns
    )
    return batch * per_product


def _tile_candidate(
    tile: tuple[float, float], batch: Numeric, rows: Numeric, columns: Numeric, contraction: Numeric,
    units: Numeric, element_time: Numeric, loop_latency: Numeric, loop_growth: Numeric,
    tile_overhead: Numeric, split_overhead: Numeric,
) -> Numeric:  # fmt: skip
    """Time with one tile shape: the faster of the whole loop and the split loop."""
    area = tile[0] * tile[1]
    step = np.maximum(area * element_time, loop_latency * (area / REFERENCE_TILE_AREA) ** loop_growth)
    tiles = np.maximum(batch * (np.ceil(rows / tile[0]) * np.ceil(columns / tile[1])), 1.0)
    rounds = np.maximum(tiles / units, 1.0)
    longest_split = np.minimum(np.maximum(np.floor(contraction / MINIMUM_SPLIT_LENGTH), 1.0), MAXIMUM_SPLIT)
    split = np.minimum(np.maximum(np.floor(units / tiles), 1.0), longest_split)
    loop = contraction * step
    # A split never needs more units than there are (split * tiles <= units), so that the number of rounds is the
    # same for both; without idle units split is 1 and the second term is the first plus the overhead.
    return rounds * np.minimum(loop + tile_overhead, loop / split + tile_overhead + split_overhead / rounds)


@equation(reference=f"{KERNEL_STUDY}; arithmetic roof: {ROOFLINE}; split of the loop: {SPLIT}")
def tile_loop_time(
    batch: Count, rows: Count, columns: Count, contraction: Count, peak: FlopRate, units: Count, plateau: Ratio,
    loop_latency: SecondsPerElement, loop_growth: Ratio, tile_overhead: Seconds, split_overhead: Seconds,
    flop_per_multiply_accumulate: Flop = 2.0,
) -> Seconds:  # fmt: skip
    r"""On-chip time of a matrix product: the serial loop of a tile, shared out over the units.

    .. math::
        T &= b \lceil m/t_m \rceil \lceil n/t_n \rceil, \qquad
        \sigma = \max\!\left(\frac{2\, t_m t_n}{\eta\, P / U},\;
                             \tau \left(\frac{t_m t_n}{64^2}\right)^{g}\right) \\
        c &= \min_{(t_m, t_n),\; s \in \{1, s^*\}} \max(1, T s / U)\,(k \sigma / s + o) + [s > 1]\, t_s, \qquad
        s^* = \mathrm{clip}(\lfloor U / T \rfloor, 1, \mathrm{clip}(\lfloor k / 128 \rfloor, 1, 32))

    Parameters
    ----------
    batch
        Independent products :math:`b` [1]; they multiply the tiles.
    rows, columns, contraction
        Sizes :math:`m, n, k` [1].
    peak
        Dense peak of the device :math:`P` [FLOP/s].
    units
        Compute units of the device :math:`U` [1].
    plateau
        Sustained fraction of the peak of a long loop :math:`\eta` [1].
    loop_latency
        Least time per element of the contracted axis :math:`\tau` [s].
    loop_growth
        Exponent :math:`g` of that latency in the tile area [1].
    tile_overhead
        Prologue and epilogue of a tile :math:`o` [s].
    split_overhead
        Fixed cost of splitting the loop :math:`t_s` [s]; infinite for kernels that do not split.
    flop_per_multiply_accumulate
        Work of one multiply-accumulate [FLOP].

    Returns
    -------
    Seconds
        On-chip time [s], without launch floor and memory time.

    Notes
    -----
    Rounds of tiles are not rounded up: measured kernels do not show the rounding, and the form stays monotone.
    The candidates (three tiles, split or not) are part of the form.

    Examples
    --------
    A large product runs at the plateau, 2 * 8192**3 / (0.8 * 1e15) = 1.37 ms:

    >>> round(float(tile_loop_time(1.0, 8192.0, 8192.0, 8192.0, 1e15, 128.0, 0.8, 1e-9, 0.0, 0.0, 3e-6)) * 1e3, 2)
    1.37
    """
    element_time = flop_per_multiply_accumulate * units / (peak * plateau)
    candidates = (
        _tile_candidate(
            tile, batch, rows, columns, contraction, units, element_time, loop_latency, loop_growth,
            tile_overhead, split_overhead,
        )
        for tile in TILES
    )  # fmt: skip
    return functools.reduce(np.minimum, candidates)


@equation(reference=KERNEL_STUDY)
def quantise_time(
    rows: Count, contraction: Count, quantise_bytes: BytesPerElement, row_latency: Seconds,
    bandwidth: Bandwidth, bandwidth_fraction: Ratio, units: Count,
) -> Seconds:  # fmt: skip
    r"""Time of quantising the activations of a matrix product in a kernel before it, beyond its launch.

    .. math:: t = \max\left(\frac{c_q\, m\, k}{\beta B},\; \frac{r_q\, m}{U}\right)

    Parameters
    ----------
    rows, contraction
        Sizes of the activations :math:`m, k` [1].
    quantise_bytes
        Bytes moved per element :math:`c_q` [B]; zero when another kernel quantises on its way.
    row_latency
        Time of one row on one unit :math:`r_q` [s], for kernels that give each row a block; zero otherwise.
    bandwidth
        Data-sheet memory bandwidth :math:`B` [B/s].
    bandwidth_fraction
        Sustained fraction of it :math:`\beta` [1].
    units
        Compute units of the device :math:`U` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Assumes scales that depend on the data, so that the activations are read before the product starts.

    Examples
    --------
    >>> round(float(quantise_time(1000.0, 1000.0, 4.0, 0.0, 1e12, 0.8, 100.0)) * 1e6, 3)
    5.0
    """
    moved = quantise_bytes * rows * contraction / (bandwidth * bandwidth_fraction)
    return np.maximum(moved, row_latency * rows / units)
