"""The optimizer step and gradient accumulation: passes over state at memory bandwidth."""

from __future__ import annotations

import numpy as np

from perfmodel.units import Bandwidth, Bytes, BytesPerElement, Count, Flop, Ratio, Seconds, equation

ADAM = "Kingma and Ba 2015, arXiv 1412.6980"
MUON = "Liu et al. 2025, arXiv 2502.16982 (Muon)"
STEP_STUDY = "perfmodel training-step study (closed forms for measured steps)"


@equation(reference=f"{ADAM}; {STEP_STUDY}")
def optimizer_traffic(parameters: Count, bytes_per_parameter_state: BytesPerElement, traffic_factor: Ratio) -> Bytes:
    r"""Memory traffic of one optimizer step.

    .. math:: Q = f\, N\, b

    Parameters
    ----------
    parameters
        Parameters that this rank updates :math:`N` [1].
    bytes_per_parameter_state
        Bytes read and written per parameter in one fused pass :math:`b` [B] (mixed-precision Adam: reads of
        gradient, master weight and two moments, writes of the last three and of the low-precision weight: 30).
    traffic_factor
        Traffic of the stack relative to that pass :math:`f` [1]: norm, clipping, unfused passes.

    Returns
    -------
    Bytes
        Traffic [B].

    Notes
    -----
    Arithmetic never limits an elementwise optimizer.

    Examples
    --------
    >>> float(optimizer_traffic(1e9, 30.0, 1.5)) / 1e9
    45.0
    """
    return parameters * bytes_per_parameter_state * traffic_factor


@equation(reference=f"{ADAM}; {STEP_STUDY}")
def optimizer_time(traffic: Bytes, bandwidth: Bandwidth, bandwidth_fraction: Ratio) -> Seconds:
    r"""Time of one optimizer step.

    .. math:: t = \frac{Q}{\beta B}

    Parameters
    ----------
    traffic
        Memory traffic :math:`Q` [B].
    bandwidth
        Memory bandwidth :math:`B` [B/s].
    bandwidth_fraction
        Sustained fraction of it :math:`\beta` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Multi-tensor kernels: launches do not count.

    Examples
    --------
    >>> round(float(optimizer_time(45e9, 3e12, 0.75)), 6)
    0.02
    """
    return traffic / (bandwidth * bandwidth_fraction)


@equation(reference="counting; Micikevicius et al. 2018, arXiv 1710.03740 (mixed precision)")
def accumulation_traffic(parameters: Count, gradient_bytes: BytesPerElement) -> Bytes:
    r"""Memory traffic to add the weight gradients of one micro-batch to the accumulated ones.

    .. math:: Q = 2\, N\, b

    Parameters
    ----------
    parameters
        Parameters of the device :math:`N` [1].
    gradient_bytes
        Bytes per accumulated gradient :math:`b` [B].

    Returns
    -------
    Bytes
        Traffic [B]: one read and one write.

    Notes
    -----
    Fused into the weight-gradient matmul it is the read of its output tile.

    Examples
    --------
    >>> float(accumulation_traffic(1e9, 4.0)) / 1e9
    8.0
    """
    return 2.0 * parameters * gradient_bytes


@equation(reference=f"{MUON}, section 2.1; counting")
def newton_schulz_flop(
    matrices: Count, rows: Count, columns: Count, iterations: Count, flop_per_multiply_accumulate: Flop = 2.0
) -> Flop:
    r"""Work of making the updates of matrices orthogonal by Newton-Schulz iterations.

    .. math:: W = n\, k\, (4 s^2 l + 2 s^3), \qquad s = \min(r, c),\; l = \max(r, c)

    Parameters
    ----------
    matrices
        Equal matrices :math:`n` [1].
    rows, columns
        Size of each :math:`r, c` [1].
    iterations
        Iterations :math:`k` [1]: 5 of a polynomial of fifth order.
    flop_per_multiply_accumulate
        Work of one multiply-accumulate [FLOP].

    Returns
    -------
    Flop
        Work [FLOP].

    Notes
    -----
    Per iteration ``A = X X^T``, ``B = b A + c A A`` and ``a X + B X``: two products with the long side and one
    without. Symmetry is not used.

    Examples
    --------
    >>> float(newton_schulz_flop(1.0, 100.0, 300.0, 5.0)) / 1e6
    70.0
    """
    short, long = np.minimum(rows, columns), np.maximum(rows, columns)
    return flop_per_multiply_accumulate * matrices * iterations * (2.0 * short * short * long + short * short * short)


@equation(reference=f"{MUON}, section 2.3 (distributed Muon); counting")
def dealt_out_flop(flop: Flop, largest: Flop, ranks: Count) -> Flop:
    r"""Work of the busiest rank when whole matrices are dealt out to ranks.

    .. math:: W_r = \max(W / n,\; W_1)

    Parameters
    ----------
    flop
        Work on all matrices :math:`W` [FLOP].
    largest
        Work on the largest matrix :math:`W_1` [FLOP].
    ranks
        Ranks that share the matrices :math:`n` [1].

    Returns
    -------
    Flop
        Work [FLOP].

    Notes
    -----
    A lower bound of the best distribution: no rank has less than its largest matrix.

    Examples
    --------
    >>> float(dealt_out_flop(100.0, 7.0, 10.0)), float(dealt_out_flop(100.0, 7.0, 50.0))
    (10.0, 7.0)
    """
    return np.maximum(flop / ranks, largest)
