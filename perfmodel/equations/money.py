"""Money and carbon: rental, amortised purchase, electricity, emissions."""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import divisor
from perfmodel.units import (
    Count,
    Dollars,
    DollarsPerJoule,
    DollarsPerSecond,
    Joules,
    Kilograms,
    KilogramsPerJoule,
    Ratio,
    Seconds,
    equation,
)

TCO = "Barroso, Hoelzle and Ranganathan 2018, The Datacenter as a Computer, chapter 6"
ANNUITY = "Brealey, Myers and Allen, Principles of Corporate Finance, chapter 2 (annuities)"
CARBON = "Patterson et al. 2021, arXiv 2104.10350"

#: Seconds of a Julian year.
SECONDS_PER_YEAR = 365.25 * 86400.0


@equation(reference=TCO)
def rental_cost(devices: Count, device_rate: DollarsPerSecond, time: Seconds, utilisation: Ratio) -> Dollars:
    r"""Cost of devices that are paid by time.

    .. math:: C = \frac{n\, r\, t}{u}

    Parameters
    ----------
    devices
        Devices :math:`n` [1].
    device_rate
        Price of one device :math:`r` [USD/s].
    time
        Time of the work :math:`t` [s].
    utilisation
        Fraction of the paid time that the work uses :math:`u` [1].

    Returns
    -------
    Dollars
        Cost [USD].

    Notes
    -----
    No volume discount.

    Examples
    --------
    >>> round(float(rental_cost(8.0, 3.0 / 3600, 7200.0, 1.0)), 6)
    48.0
    """
    return devices * device_rate * time / utilisation


@equation(reference=TCO)
def energy_cost(energy: Joules, price: DollarsPerJoule) -> Dollars:
    r"""Cost of electricity.

    .. math:: C = E\, p

    Parameters
    ----------
    energy
        Energy at the meter :math:`E` [J].
    price
        Price :math:`p` [USD/J].

    Returns
    -------
    Dollars
        Cost [USD].

    Notes
    -----
    A flat tariff.

    Examples
    --------
    >>> round(float(energy_cost(3.6e9, 0.1 / 3.6e6)), 6)
    100.0
    """
    return energy * price


@equation(reference=f"{ANNUITY}; {TCO}")
def amortised_rate(
    price: Dollars, years: Count, discount_rate: Ratio, residual_fraction: Ratio = 0.0,
    seconds_per_year: Seconds = SECONDS_PER_YEAR,
) -> DollarsPerSecond:  # fmt: skip
    r"""Cost per time of a purchase over its life: the annuity with the same present value.

    .. math:: r = P\,\bigl(1 - \rho (1 + i)^{-y}\bigr)\, \frac{i}{1 - (1 + i)^{-y}} \Big/ t_\mathrm{year}

    Parameters
    ----------
    price
        Purchase price :math:`P` [USD].
    years
        Years of use :math:`y` [1].
    discount_rate
        Interest per year :math:`i` [1]; zero is straight-line depreciation.
    residual_fraction
        Value at the end relative to the price :math:`\rho` [1].
    seconds_per_year
        Length of a year [s].

    Returns
    -------
    DollarsPerSecond
        Cost per time [USD/s].

    Notes
    -----
    Payments at the end of each year, spread evenly over it.

    Examples
    --------
    >>> round(float(amortised_rate(40000.0, 4.0, 0.0)) * 365.25 * 86400, 6)
    10000.0
    """
    present_value = -np.expm1(-years * np.log1p(discount_rate))
    annuity = np.where(discount_rate > 0.0, discount_rate / divisor(present_value), 1.0 / years)
    return price * (1.0 - residual_fraction * (1.0 - present_value)) * annuity / seconds_per_year


@equation(reference=CARBON)
def carbon(energy: Joules, grid_intensity: KilogramsPerJoule) -> Kilograms:
    r"""Emissions of carbon dioxide equivalents from electricity.

    .. math:: m = E\, \gamma

    Parameters
    ----------
    energy
        Energy at the meter :math:`E` [J].
    grid_intensity
        Emissions per energy :math:`\gamma` [kg/J].

    Returns
    -------
    Kilograms
        Emissions [kg].

    Notes
    -----
    Average and not marginal intensity; manufacture is not included.

    Examples
    --------
    >>> round(float(carbon(3.6e9, 0.4 / 3.6e6)), 6)
    400.0
    """
    return energy * grid_intensity
