"""Memory-bound kernels: norms, activations, residuals, rotary positions, embeddings."""

from __future__ import annotations

from perfmodel.equations.roofline import KERNEL_STUDY, ROOFLINE
from perfmodel.units import Bytes, BytesPerElement, Count, Flop, FlopRate, Ratio, Seconds, equation

FP8 = "Micikevicius et al. 2022, arXiv 2209.05433 (FP8 formats)"


@equation(reference=f"{ROOFLINE}; {KERNEL_STUDY}")
def elementwise_traffic(
    tokens: Count, features: Count, elements_moved: Count, bytes_per_element: BytesPerElement
) -> Bytes:
    r"""Memory traffic of a kernel that visits each element once.

    .. math:: Q = T\, h\, e\, b

    Parameters
    ----------
    tokens
        Rows :math:`T` [1].
    features
        Elements per row :math:`h` [1].
    elements_moved
        Elements read and written per element of the row :math:`e` [1] (a residual addition moves 3, a norm 2).
    bytes_per_element
        Bytes per element :math:`b` [B].

    Returns
    -------
    Bytes
        Traffic [B].

    Notes
    -----
    Assumes streaming access and no reuse between kernels.

    Examples
    --------
    >>> float(elementwise_traffic(10.0, 100.0, 3.0, 2.0))
    6000.0
    """
    return tokens * features * elements_moved * bytes_per_element


@equation(reference=ROOFLINE)
def vector_time(flop: Flop, vector_peak: FlopRate) -> Seconds:
    r"""Time of arithmetic on the vector units.

    .. math:: t = W / P_v

    Parameters
    ----------
    flop
        Work :math:`W` [FLOP].
    vector_peak
        Peak of the vector units :math:`P_v` [FLOP/s].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Assumes full use of the vector units; special functions count as their number of operations.

    Examples
    --------
    >>> float(vector_time(6e12, 3e12))
    2.0
    """
    return flop / vector_peak


@equation(reference="counting; Narayanan et al. 2021, arXiv 2104.04473, section 4.2 (kernel fusion)")
def unfused_traffic(traffic: Bytes, inflation: Ratio) -> Bytes:
    r"""Memory traffic of a stack that fuses less than the minimum-traffic kernels.

    .. math:: Q' = \phi\, Q

    Parameters
    ----------
    traffic
        Traffic of fully fused kernels :math:`Q` [B].
    inflation
        Traffic of the stack relative to it :math:`\phi \ge 1` [1].

    Returns
    -------
    Bytes
        Traffic [B].

    Notes
    -----
    One factor for all memory-bound kernels of a stack.

    Examples
    --------
    >>> float(unfused_traffic(100.0, 1.5))
    150.0
    """
    return traffic * inflation


@equation(reference=f"counting; {FP8}")
def quantise_traffic(elements: Count, bytes_per_element: BytesPerElement, inflation: Ratio) -> Bytes:
    r"""Memory traffic of making the low-bit operand of a matrix product.

    .. math:: Q = \phi\, n\, b_q

    Parameters
    ----------
    elements
        Elements of the operand on this rank :math:`n` [1].
    bytes_per_element
        Bytes moved per element :math:`b_q` [B]: reads of the 16-bit value (twice when its maximum is found first)
        and writes of the low-bit copies (along rows and columns).
    inflation
        Traffic of the stack relative to it :math:`\phi` [1]; 0 when the producer of the operand writes it.

    Returns
    -------
    Bytes
        Traffic [B].

    Notes
    -----
    A kernel of its own; the scales are part of the width of the format.

    Examples
    --------
    A 16-bit read and two 8-bit writes:

    >>> float(quantise_traffic(1e9, 4.0, 1.0)) / 1e9
    4.0
    """
    return inflation * elements * bytes_per_element


@equation(reference=f"counting; {FP8}")
def weight_cast_traffic(parameters: Count, bytes_per_parameter: BytesPerElement, casts: Ratio) -> Bytes:
    r"""Memory traffic of making low-bit weights from those of higher precision.

    .. math:: Q = c\, N\, b_c

    Parameters
    ----------
    parameters
        Parameters of linear layers on this rank :math:`N` [1].
    bytes_per_parameter
        Bytes moved per parameter and cast :math:`b_c` [B]; 0 when the optimizer writes the low-bit weight itself.
    casts
        Casts :math:`c` [1]: once per step, or once per micro-batch.

    Returns
    -------
    Bytes
        Traffic [B].

    Notes
    -----
    Frozen weights are cast once for the whole run.

    Examples
    --------
    >>> float(weight_cast_traffic(1e9, 4.0, 1.0)) / 1e9
    4.0
    """
    return casts * parameters * bytes_per_parameter
