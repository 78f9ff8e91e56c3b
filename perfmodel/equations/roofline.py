"""Roofline: the time of one kernel from its arithmetic, its memory traffic and its launch."""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import larger_and_ratio, only_where, safe_ratio, smaller_and_ratio
from perfmodel.units import Bandwidth, Bytes, Flop, FlopPerByte, FlopRate, Ratio, Seconds, equation

ROOFLINE = "Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785"
KERNEL_STUDY = "perfmodel kernel study (closed forms for measured kernels)"

#: Share of the last-level cache that a reused operand can fill before it starts to evict itself.
USABLE_CACHE_FRACTION = 0.95


@equation(reference=f"{KERNEL_STUDY}; smooth form of the maximum of {ROOFLINE}")
def smooth_maximum(first: Seconds, second: Seconds, exponent: Ratio) -> Seconds:
    r"""Maximum of two times that partly add when they are near each other.

    .. math:: t = \left(t_1^p + t_2^p\right)^{1/p}

    Parameters
    ----------
    first, second
        Times [s], zero allowed.
    exponent
        Sharpness :math:`p > 0` [1]: 1 is the sum, infinity the hard maximum.

    Returns
    -------
    Seconds
        Smooth maximum [s], between the larger term and the sum (for :math:`p \ge 1`).

    Notes
    -----
    Normalised by the larger term, so that nothing over- or underflows. Assumes that the two resources are
    used by the same kernel and overlap except in their ramps.

    Examples
    --------
    >>> round(float(smooth_maximum(3.0, 4.0, 2.0)), 6)
    5.0
    """
    larger, ratio = larger_and_ratio(first, second)
    return larger * (1.0 + ratio**exponent) ** (1.0 / exponent)


@equation(reference=KERNEL_STUDY)
def smooth_minimum(first: Seconds, second: Seconds, exponent: Ratio) -> Seconds:
    r"""Minimum of two times that dips below both when they are near each other.

    .. math:: t = \left(t_1^{-p} + t_2^{-p}\right)^{-1/p}

    Parameters
    ----------
    first, second
        Times [s], zero allowed (the result is then zero), infinity allowed for one of them.
    exponent
        Sharpness :math:`p > 0` [1].

    Returns
    -------
    Seconds
        Smooth minimum [s], at most the smaller term.

    Notes
    -----
    Assumes that the software picks the faster of two algorithms, with some choices in between.

    Examples
    --------
    >>> round(float(smooth_minimum(2.0, 2.0, 1.0)), 6)
    1.0
    """
    smaller, ratio = smaller_and_ratio(first, second)
    return smaller / (1.0 + ratio**exponent) ** (1.0 / exponent)


@equation(reference=ROOFLINE)
def roofline_time(flop: Flop, traffic: Bytes, peak: FlopRate, bandwidth: Bandwidth) -> Seconds:
    r"""Time of a kernel limited by arithmetic or by memory traffic, whichever is slower.

    .. math:: t = \max(W / P, \; Q / B)

    Parameters
    ----------
    flop
        Arithmetic work :math:`W` [FLOP].
    traffic
        Bytes moved between memory and chip :math:`Q` [B].
    peak
        Peak arithmetic rate :math:`P` [FLOP/s].
    bandwidth
        Memory bandwidth :math:`B` [B/s].

    Returns
    -------
    Seconds
        Lower bound of the kernel time [s].

    Notes
    -----
    Assumes perfect overlap of arithmetic and memory, and no latency.

    Examples
    --------
    >>> float(roofline_time(4e12, 1e12, 1e12, 1e12))
    4.0
    """
    return np.maximum(flop / peak, traffic / bandwidth)


@equation(reference=ROOFLINE)
def plateau_time(flop: Flop, peak: FlopRate, plateau: Ratio) -> Seconds:
    r"""Time of arithmetic at the best sustained rate of the kernel.

    .. math:: t = \frac{W}{\eta P}

    Parameters
    ----------
    flop
        Work :math:`W` [FLOP].
    peak
        Peak rate :math:`P` [FLOP/s].
    plateau
        Sustained fraction of the peak :math:`\eta` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Assumes sizes large enough that ramps do not count.

    Examples
    --------
    >>> float(plateau_time(1e12, 1e12, 0.5))
    2.0
    """
    return flop / (peak * plateau)


@equation(reference=KERNEL_STUDY)
def memory_time(
    cold_traffic: Bytes, hot_traffic: Bytes, bandwidth: Bandwidth, cache_bandwidth: Bandwidth,
    bandwidth_fraction: Ratio, ramp_time: Seconds,
) -> Seconds:  # fmt: skip
    r"""Time of the memory traffic of one kernel, with a power-law bandwidth ramp.

    .. math:: y = \frac{Q_\mathrm{cold}}{\beta B} + \frac{Q_\mathrm{hot}}{B_\mathrm{cache}},
              \qquad t = y + t_r^{2/3} y^{1/3}

    Parameters
    ----------
    cold_traffic
        Bytes that come from or go to memory [B].
    hot_traffic
        Bytes served by the last-level cache [B].
    bandwidth
        Data-sheet memory bandwidth :math:`B` [B/s].
    cache_bandwidth
        Bandwidth of the last-level cache [B/s].
    bandwidth_fraction
        Sustained fraction of the memory bandwidth :math:`\beta` [1].
    ramp_time
        Ramp scale :math:`t_r` [s]: at :math:`y = t_r` the transfer takes twice its ideal time.

    Returns
    -------
    Seconds
        Time of the traffic [s]; zero traffic takes zero time.

    Notes
    -----
    Assumes streaming access. The ramp replaces a half-saturation size: measured bandwidth grows with a power
    of the size and not with a fixed latency.

    Examples
    --------
    >>> round(float(memory_time(1e6, 0.0, 1e12, 2e12, 0.5, 2e-6)) * 1e6, 6)
    4.0
    """
    ideal = cold_traffic / (bandwidth * bandwidth_fraction) + hot_traffic / cache_bandwidth
    return ideal + np.cbrt(ramp_time * ramp_time * ideal)


@equation(reference=KERNEL_STUDY)
def hot_fraction(footprint: Bytes, cache_capacity: Bytes) -> Ratio:
    r"""Fraction of a reused operand that is still in the last-level cache.

    .. math:: h = \frac{1}{1 + \left(F / (0.95\, C)\right)^6}

    Parameters
    ----------
    footprint
        Bytes touched between two uses of the operand :math:`F` [B].
    cache_capacity
        Capacity of the last-level cache :math:`C` [B]; zero means no cache.

    Returns
    -------
    Ratio
        Hot fraction [1], from 1 (small footprint) to 0.

    Notes
    -----
    A smooth step for a cache with near least-recently-used replacement. Weights of a model in training are
    cold: their footprint is the whole layer stack.

    Examples
    --------
    >>> float(hot_fraction(0.0, 50e6)), round(float(hot_fraction(47.5e6, 50e6)), 6)
    (1.0, 0.5)
    """
    filled = safe_ratio(footprint, USABLE_CACHE_FRACTION * cache_capacity)
    cube = filled * filled * filled
    return only_where(cache_capacity > 0.0, 1.0 / (1.0 + cube * cube))


@equation(reference=f"{KERNEL_STUDY}; {ROOFLINE}")
def kernel_time(launch_floor: Seconds, on_chip_time: Seconds, memory_time: Seconds) -> Seconds:
    r"""Time of one kernel: a launch floor plus the smooth maximum of on-chip and memory time.

    .. math:: t = t_0 + \left(c^3 + m^3\right)^{1/3}

    Parameters
    ----------
    launch_floor
        Time of an empty kernel in a stream :math:`t_0` [s].
    on_chip_time
        Time of the tile loop or of the vector units :math:`c` [s].
    memory_time
        Time of the memory traffic :math:`m` [s].

    Returns
    -------
    Seconds
        Kernel time [s].

    Notes
    -----
    Assumes that loads are prefetched under the arithmetic. Exponents 2 to 3 describe measured kernels equally
    well; a hard maximum is worse.

    Examples
    --------
    >>> round(float(kernel_time(1.0, 3.0, 0.0)), 6)
    4.0
    """
    larger, ratio = larger_and_ratio(on_chip_time, memory_time)
    return launch_floor + larger * np.cbrt(1.0 + ratio * ratio * ratio)


@equation(reference=f"{ROOFLINE}; Subramanian et al. 2024, arXiv 2410.00273 (the floor beside the arithmetic)")
def floored_roofline_time(launch_floor: Seconds, on_chip_time: Seconds, memory_time: Seconds) -> Seconds:
    r"""Time of one kernel whose launch floor hides behind its memory traffic, but not behind its arithmetic.

    .. math:: t = \max(t_0 + c, \; m)

    Parameters
    ----------
    launch_floor
        Fixed time of a kernel :math:`t_0` [s].
    on_chip_time
        Time of the arithmetic :math:`c` [s].
    memory_time
        Time of the memory traffic :math:`m` [s].

    Returns
    -------
    Seconds
        Kernel time [s].

    Notes
    -----
    Assumes that memory and arithmetic overlap perfectly. A kernel that is bound by memory pays no floor.

    Examples
    --------
    >>> float(floored_roofline_time(1.0, 3.0, 2.0)), float(floored_roofline_time(1.0, 3.0, 9.0))
    (4.0, 9.0)
    """
    return np.maximum(launch_floor + on_chip_time, memory_time)


@equation(reference=ROOFLINE)
def arithmetic_intensity(flop: Flop, traffic: Bytes) -> FlopPerByte:
    r"""Arithmetic work per byte of memory traffic.

    .. math:: I = W / Q

    Parameters
    ----------
    flop
        Work :math:`W` [FLOP].
    traffic
        Memory traffic :math:`Q` [B]; zero traffic gives zero.

    Returns
    -------
    FlopPerByte
        Intensity [FLOP/B].

    Notes
    -----
    Assumes compulsory traffic only, unless the caller counts more.

    Examples
    --------
    >>> float(arithmetic_intensity(100.0, 50.0))
    2.0
    """
    return safe_ratio(flop, traffic)


@equation(reference=ROOFLINE)
def ridge_point(peak: FlopRate, bandwidth: Bandwidth) -> FlopPerByte:
    r"""Arithmetic intensity above which a machine is limited by arithmetic.

    .. math:: I_r = P / B

    Parameters
    ----------
    peak
        Peak rate :math:`P` [FLOP/s].
    bandwidth
        Memory bandwidth :math:`B` [B/s].

    Returns
    -------
    FlopPerByte
        Ridge of the roofline [FLOP/B].

    Notes
    -----
    Data-sheet rates give the ridge of the machine, sustained rates that of a kernel.

    Examples
    --------
    >>> float(ridge_point(1000.0, 4.0))
    250.0
    """
    return peak / bandwidth
