"""Uncertainty of a prediction: log-normal intervals and combination of errors."""

from __future__ import annotations

import numpy as np

from perfmodel.units import Count, Ratio, equation

GUM = "JCGM 100:2008 (Guide to the expression of uncertainty in measurement), section 5.1"
LOGNORMAL = "Limpert, Stahel and Abbt 2001, doi:10.1641/0006-3568(2001)051[0341:LNDATS]2.0.CO;2"


@equation(reference=LOGNORMAL)
def interval_factor(relative_standard_deviation: Ratio, normal_quantile: Ratio) -> Ratio:
    r"""Factor from the median of a log-normal quantity to the end of an interval.

    .. math:: f = \exp\!\left(z \sqrt{\ln(1 + c^2)}\right)

    Parameters
    ----------
    relative_standard_deviation
        Standard deviation relative to the mean :math:`c` [1].
    normal_quantile
        Quantile of the normal distribution :math:`z` [1]: 1.2816 for an 80 % interval.

    Returns
    -------
    Ratio
        Factor [1]: the interval runs from value / f to value * f.

    Notes
    -----
    Times are positive and their errors multiply, so that the logarithm is the normal quantity.

    Examples
    --------
    >>> round(float(interval_factor(0.1, 1.2816)), 4)
    1.1364
    """
    return np.exp(normal_quantile * np.sqrt(np.log1p(relative_standard_deviation * relative_standard_deviation)))


@equation(reference=GUM)
def combined_deviation(first: Ratio, second: Ratio) -> Ratio:
    r"""Relative deviation of a product of two independent factors.

    .. math:: c = \sqrt{c_1^2 + c_2^2}

    Parameters
    ----------
    first, second
        Relative standard deviations :math:`c_1, c_2` [1].

    Returns
    -------
    Ratio
        Relative standard deviation [1].

    Notes
    -----
    To first order in the deviations.

    Examples
    --------
    >>> round(float(combined_deviation(0.3, 0.4)), 6)
    0.5
    """
    return np.hypot(first, second)


@equation(reference=GUM)
def propagated_deviation(sensitivity: Ratio, deviation: Ratio) -> Ratio:
    r"""Relative deviation of a result from that of one input.

    .. math:: c_y = \left|\frac{\partial \ln y}{\partial \ln x}\right| c_x

    Parameters
    ----------
    sensitivity
        Elasticity of the result in the input [1].
    deviation
        Relative standard deviation of the input :math:`c_x` [1].

    Returns
    -------
    Ratio
        Relative standard deviation of the result [1].

    Notes
    -----
    To first order.

    Examples
    --------
    >>> float(propagated_deviation(-0.5, 0.2))
    0.1
    """
    return np.abs(sensitivity) * deviation


@equation(reference=GUM)
def averaged_deviation(deviation: Ratio, independent_parts: Count, correlation: Ratio) -> Ratio:
    r"""Relative deviation of a sum of equal parts whose errors are correlated.

    .. math:: c = c_1 \sqrt{\rho + (1 - \rho) / n}

    Parameters
    ----------
    deviation
        Relative standard deviation of one part :math:`c_1` [1].
    independent_parts
        Number of equal parts :math:`n` [1].
    correlation
        Correlation of the errors of two parts :math:`\rho` [1].

    Returns
    -------
    Ratio
        Relative standard deviation of the sum [1].

    Notes
    -----
    Errors of kernels of one device share causes: a correlation of zero promises too much.

    Examples
    --------
    >>> round(float(averaged_deviation(0.2, 4.0, 0.0)), 6)
    0.1
    """
    return deviation * np.sqrt(correlation + (1.0 - correlation) / independent_parts)
