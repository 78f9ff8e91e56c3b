"""Failures, checkpoints and goodput of long jobs."""

from __future__ import annotations

import numpy as np

from perfmodel.units import Bandwidth, Bytes, Count, Ratio, Seconds, equation

YOUNG = "Young 1974, doi:10.1145/361147.361115"
DALY = "Daly 2006, doi:10.1016/j.future.2004.11.016"

#: Largest exponent that is evaluated: beyond it goodput is zero to every digit.
LARGEST_EXPONENT = 500.0


@equation(reference=f"series system of exponential lifetimes; {DALY}")
def job_mtbf(device_mtbf: Seconds, devices: Count) -> Seconds:
    r"""Mean time between failures of a job that any failed device interrupts.

    .. math:: M = M_d / n

    Parameters
    ----------
    device_mtbf
        Mean time between failures of one device with its share of the host and network :math:`M_d` [s].
    devices
        Devices :math:`n` [1].

    Returns
    -------
    Seconds
        Mean time between failures of the job [s].

    Notes
    -----
    Independent failures at a constant rate.

    Examples
    --------
    >>> float(job_mtbf(16384.0, 16384.0))
    1.0
    """
    return device_mtbf / devices


@equation(reference="counting")
def checkpoint_time(size: Bytes, bandwidth: Bandwidth) -> Seconds:
    r"""Time to write (or read) a checkpoint.

    .. math:: \delta = S / B

    Parameters
    ----------
    size
        Size of the checkpoint of the whole job :math:`S` [B].
    bandwidth
        Storage bandwidth of the whole job :math:`B` [B/s].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    The job waits; for asynchronous checkpoints pass only the part that it waits for.

    Examples
    --------
    >>> float(checkpoint_time(5e12, 1e11))
    50.0
    """
    return size / bandwidth


@equation(reference=f"{YOUNG}; {DALY}")
def young_daly_interval(checkpoint_time: Seconds, mtbf: Seconds) -> Seconds:
    r"""Computation between checkpoints that loses the least time, to first order.

    .. math:: \tau = \sqrt{2\, \delta\, M}

    Parameters
    ----------
    checkpoint_time
        Time of a checkpoint :math:`\delta` [s].
    mtbf
        Mean time between failures of the job :math:`M` [s].

    Returns
    -------
    Seconds
        Interval [s], without the checkpoint itself.

    Notes
    -----
    Holds for :math:`\delta \ll M`.

    Examples
    --------
    >>> float(young_daly_interval(50.0, 10000.0))
    1000.0
    """
    return np.sqrt(2.0 * checkpoint_time * mtbf)


@equation(reference=f"{DALY}, equation 37")
def daly_interval(checkpoint_time: Seconds, mtbf: Seconds) -> Seconds:
    r"""Computation between checkpoints that loses the least time, higher-order estimate.

    .. math::
        \tau = \sqrt{2 \delta M} \left(1 + \frac{1}{3} \sqrt{\frac{\delta}{2 M}}
               + \frac{1}{9} \frac{\delta}{2 M}\right) - \delta \text{ for } \delta < 2 M, \quad M \text{ else}

    Parameters
    ----------
    checkpoint_time
        Time of a checkpoint :math:`\delta` [s].
    mtbf
        Mean time between failures of the job :math:`M` [s].

    Returns
    -------
    Seconds
        Interval [s], without the checkpoint itself.

    Notes
    -----
    Within a fraction of a percent of the true optimum of :func:`goodput`.

    Examples
    --------
    >>> round(float(daly_interval(50.0, 10000.0)), 2)
    966.94
    """
    root = np.sqrt(checkpoint_time / (2.0 * mtbf))
    series = young_daly_interval(checkpoint_time, mtbf) * (1.0 + root / 3.0 + root * root / 9.0) - checkpoint_time
    return +np.where(root < 1.0, series, mtbf)


@equation(reference=f"{DALY}, equation 20")
def goodput(interval: Seconds, checkpoint_time: Seconds, mtbf: Seconds, restart_time: Seconds) -> Ratio:
    r"""Fraction of the wall time that makes progress, with checkpoints, rework and restarts.

    .. math:: G = \frac{\tau}{M\, e^{R / M} \left(e^{(\tau + \delta) / M} - 1\right)}

    Parameters
    ----------
    interval
        Computation between checkpoints :math:`\tau` [s].
    checkpoint_time
        Time of a checkpoint :math:`\delta` [s].
    mtbf
        Mean time between failures of the job :math:`M` [s].
    restart_time
        Time from a failure until work goes on :math:`R` [s]: detection, replacement, loading.

    Returns
    -------
    Ratio
        Goodput [1], between 0 and 1.

    Notes
    -----
    Exponential failures, which may also hit checkpoints and restarts; a spare is ready.

    Examples
    --------
    >>> round(float(goodput(1000.0, 50.0, 10000.0, 300.0)), 4)
    0.8766
    """
    cycle = np.minimum((interval + checkpoint_time) / mtbf, LARGEST_EXPONENT)
    restart = np.minimum(restart_time / mtbf, LARGEST_EXPONENT)
    return (interval / mtbf) * np.exp(-restart) / np.expm1(cycle)


@equation(reference="Poisson stock of spares; Gross et al. 2008, Fundamentals of Queueing Theory, section 2.7")
def spare_devices(devices: Count, device_mtbf: Seconds, repair_time: Seconds, normal_quantile: Ratio) -> Count:
    r"""Spare devices that cover the devices under repair, with a margin.

    .. math:: k = \lambda + z \sqrt{\lambda}, \qquad \lambda = n\, t_r / M_d

    Parameters
    ----------
    devices
        Devices of the job :math:`n` [1].
    device_mtbf
        Mean time between failures of one device :math:`M_d` [s].
    repair_time
        Time until a failed device is back :math:`t_r` [s].
    normal_quantile
        Quantile of the service level :math:`z` [1].

    Returns
    -------
    Count
        Spares [1], not rounded.

    Notes
    -----
    Normal approximation of the Poisson distribution.

    Examples
    --------
    >>> float(spare_devices(10000.0, 1000.0, 10.0, 1.0))
    110.0
    """
    under_repair = devices * repair_time / device_mtbf
    return under_repair + normal_quantile * np.sqrt(under_repair)


@equation(reference="counting")
def paid_devices(devices: Count, spare_fraction: Ratio) -> Count:
    r"""Devices that are powered and paid: those that work and the spares.

    .. math:: n' = n\,(1 + \sigma)

    Parameters
    ----------
    devices
        Devices of the job :math:`n` [1].
    spare_fraction
        Spares relative to them :math:`\sigma` [1].

    Returns
    -------
    Count
        Devices [1].

    Notes
    -----
    Spares idle until they are needed.

    Examples
    --------
    >>> float(paid_devices(1000.0, 0.05))
    1050.0
    """
    return devices * (1.0 + spare_fraction)
