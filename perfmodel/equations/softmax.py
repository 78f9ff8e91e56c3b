"""The softmax of a fused attention kernel as work of the vector units, one after the other with the matrix units."""

from __future__ import annotations

from perfmodel.units import Count, Flop, FlopRate, Ratio, Seconds, equation

STUDY = "Subramanian et al. 2024, arXiv 2410.00273"

#: Vector work per score, forward: exponential, sum, scale, and the mask of dropout.
FORWARD_WORK = 4.0
#: Backward: scores again (4), and the gradients of softmax (4) and dropout (1).
BACKWARD_WORK = 9.0


@equation(reference=f"counting; {STUDY}")
def softmax_flop(batch: Count, heads: Count, pairs: Count, flop_per_operation: Flop = 1.0) -> Flop:
    r"""Vector work of the softmax of attention, dropout included.

    .. math:: W_s = 4\, b\, h\, N

    Parameters
    ----------
    batch, heads
        Sequences :math:`b` and query heads :math:`h` [1].
    pairs
        Attended pairs of one head :math:`N` [1].
    flop_per_operation
        Work of one operation on one score [FLOP].

    Returns
    -------
    Flop
        Work [FLOP].

    Notes
    -----
    An exponential counts as one operation.

    Examples
    --------
    >>> float(softmax_flop(1.0, 2.0, 10.0))
    80.0
    """
    return FORWARD_WORK * flop_per_operation * batch * heads * pairs


@equation(reference=f"counting; {STUDY}")
def softmax_backward_flop(forward_flop: Flop) -> Flop:
    r"""Vector work of the backward pass of the softmax in a fused kernel, which computes the scores again.

    .. math:: W_{sb} = \tfrac{9}{4} W_s

    Parameters
    ----------
    forward_flop
        Work of the forward pass :math:`W_s` [FLOP].

    Returns
    -------
    Flop
        Work [FLOP].

    Notes
    -----
    Four operations per score again, four for the gradient of the softmax and one for that of dropout.

    Examples
    --------
    >>> float(softmax_backward_flop(80.0))
    180.0
    """
    return BACKWARD_WORK * forward_flop / FORWARD_WORK


@equation(reference=STUDY)
def two_unit_time(flop: Flop, peak: FlopRate, vector_flop: Flop, vector_peak: FlopRate, plateau: Ratio) -> Seconds:
    r"""Time of a kernel whose matrix and vector work follow each other.

    .. math:: t = \frac{1}{\eta} \left(\frac{W}{P} + \frac{W_v}{P_v}\right)

    Parameters
    ----------
    flop
        Matrix work :math:`W` [FLOP].
    peak
        Peak of the matrix units :math:`P` [FLOP/s].
    vector_flop
        Vector work :math:`W_v` [FLOP].
    vector_peak
        Peak of the vector units :math:`P_v` [FLOP/s].
    plateau
        Sustained fraction of either peak :math:`\eta` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Assumes no overlap of the two units; kernels that interleave two tiles hide most of the softmax.

    Examples
    --------
    >>> float(two_unit_time(8.0, 2.0, 1.0, 1.0, 0.5))
    10.0
    """
    return (flop / peak + vector_flop / vector_peak) / plateau
