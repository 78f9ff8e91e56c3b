"""Uncertainty of a prediction: log-normal intervals and combination of errors."""

from __future__ import annotations

import numpy as np

from perfmodel.units import Count, Ratio, Seconds, equation

GUM = "JCGM 100:2008 (Guide to the expression of uncertainty in measurement), section 5.1"
CORRELATED = "JCGM 100:2008 (Guide to the expression of uncertainty in measurement), section 5.2"
RATIO_ESTIMATOR = "Cochran 1977, Sampling Techniques, third edition, section 6.2"
LOGARITHMIC = "Saltelli et al. 2008, Global Sensitivity Analysis: The Primer, section 1.2, doi:10.1002/9780470725184"
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


@equation(reference=RATIO_ESTIMATOR)
def measured_ratio(measured: Seconds, predicted: Seconds) -> Ratio:
    r"""Measured over predicted time of one configuration.

    .. math:: R = y / x

    Parameters
    ----------
    measured
        Measured time :math:`y` [s].
    predicted
        Predicted time of the same configuration :math:`x` [s].

    Returns
    -------
    Ratio
        Ratio [1]; above one the run was slower than predicted.

    Notes
    -----
    One configuration, one measurement.

    Examples
    --------
    >>> measured_ratio(6.0, 5.0)
    1.2
    """
    return measured / predicted


@equation(reference=RATIO_ESTIMATOR)
def ratio_estimate(predicted: Seconds, measured: Seconds, predicted_there: Seconds) -> Seconds:
    r"""A time predicted here, scaled by the ratio of a measurement elsewhere to its prediction.

    .. math:: \hat{Y} = y\, \frac{X}{x}

    Parameters
    ----------
    predicted
        Prediction of the configuration that is asked about :math:`X` [s].
    measured
        Measured time of another configuration :math:`y` [s].
    predicted_there
        Prediction of that other configuration :math:`x` [s].

    Returns
    -------
    Seconds
        Estimate [s]: the measurement itself where both configurations are one.

    Notes
    -----
    Assumes that the prediction is wrong by one factor in both configurations: the causes of the error (plateaus,
    clocks, exposed fractions) take the same share of both steps. A cause that grows with the scale is not carried over.

    Examples
    --------
    >>> round(ratio_estimate(4.0, 6.0, 5.0), 6)
    4.8
    """
    return measured * (predicted / predicted_there)


@equation(reference=RATIO_ESTIMATOR)
def time_at_rate(time: Seconds, rate: Ratio, measured_rate: Ratio) -> Seconds:
    r"""The time in which the same work would run at a measured rate.

    .. math:: y = x\, r / r_m

    Parameters
    ----------
    time
        Predicted time :math:`x` [s].
    rate
        Predicted rate :math:`r`, in any unit [1]: a utilisation, or tokens in a second.
    measured_rate
        Measured rate :math:`r_m`, in the same unit [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Assumes that both rates count the same work per step (the same convention of model FLOP).

    Examples
    --------
    >>> time_at_rate(4.0, 0.45, 0.36)
    5.0
    """
    return time * (rate / measured_rate)


@equation(reference=RATIO_ESTIMATOR)
def rate_at_time(rate: Ratio, time: Seconds, other_time: Seconds) -> Ratio:
    r"""The rate of the same work in another time.

    .. math:: r' = r\, x / x'

    Parameters
    ----------
    rate
        Rate :math:`r` [1].
    time, other_time
        Time at that rate, and the other time :math:`x, x'` [s].

    Returns
    -------
    Ratio
        Rate [1].

    Notes
    -----
    Inverse of :func:`time_at_rate`.

    Examples
    --------
    >>> round(rate_at_time(0.45, 4.0, 5.0), 6)
    0.36
    """
    return rate * (time / other_time)


@equation(reference=RATIO_ESTIMATOR)
def sole_factor(term: Seconds, measured: Seconds, predicted: Seconds) -> Ratio:
    r"""Factor by which one term of a sum would have to change to explain a difference alone.

    .. math:: f = 1 + \frac{y - x}{x_i}

    Parameters
    ----------
    term
        The term :math:`x_i` of the prediction [s], larger than zero.
    measured, predicted
        Measured and predicted sum :math:`y, x` [s].

    Returns
    -------
    Ratio
        Factor [1]; below zero the term is too small to explain the difference.

    Notes
    -----
    All other terms stay as they are.

    Examples
    --------
    >>> sole_factor(2.0, 6.0, 5.0)
    1.5
    """
    return 1.0 + (measured - predicted) / term


@equation(reference=CORRELATED)
def anchored_deviation(between: Ratio, alone: Ratio) -> Ratio:
    r"""Relative deviation of a prediction that is scaled by a measurement of another configuration.

    .. math:: c = \min\!\left(c_b, c_a\right), \qquad c_b = c_a \sqrt{2\,(1 - \rho)}

    Parameters
    ----------
    between
        Relative standard deviation :math:`c_b` of the ratio of the residuals (measured over predicted) of two
        configurations [1].
    alone
        Relative standard deviation :math:`c_a` of one prediction without a measurement [1].

    Returns
    -------
    Ratio
        Relative standard deviation [1].

    Notes
    -----
    Residuals of one stack on one device have the correlation :math:`\rho`, so that most of them cancels in the ratio.
    :math:`c_b` is what validation measures on pairs of configurations; with :math:`\rho < 1/2` scaling would widen the
    interval, and the prediction alone is the better one.

    Examples
    --------
    >>> float(anchored_deviation(0.05, 0.1))
    0.05
    """
    return np.minimum(between, alone)


@equation(reference=LOGARITHMIC)
def elasticity(result_ratio: Ratio, input_ratio: Ratio) -> Ratio:
    r"""Relative change of a result over the relative change of one input.

    .. math:: \eta = \frac{\ln (y_1 / y_0)}{\ln (x_1 / x_0)} \approx \frac{\partial \ln y}{\partial \ln x}

    Parameters
    ----------
    result_ratio
        Result at one end over that at the other :math:`y_1 / y_0` [1].
    input_ratio
        Input at the same ends :math:`x_1 / x_0` [1], not one.

    Returns
    -------
    Ratio
        Elasticity [1]: -1 for a time that is inversely proportional to the input, 0 for an input that is not used.

    Notes
    -----
    The exponent of the power law through both ends. A time that nothing but rates and times determines has elasticities
    that sum to -1 over the rates minus those over the times (Euler's theorem on homogeneous functions).

    Examples
    --------
    >>> round(float(elasticity(0.5, 2.0)), 6)
    -1.0
    """
    return np.log(result_ratio) / np.log(input_ratio)


@equation(reference=LOGARITHMIC)
def power_law_change(exponent: Ratio, relative_change: Ratio) -> Ratio:
    r"""Relative change of a result for a relative change of one input.

    .. math:: \frac{\Delta y}{y} = (1 + \delta)^{\eta} - 1

    Parameters
    ----------
    exponent
        Elasticity of the result in the input :math:`\eta` [1].
    relative_change
        Of the input :math:`\delta` [1], above -1.

    Returns
    -------
    Ratio
        Relative change [1].

    Notes
    -----
    For small changes, where the elasticity is that of the point.

    Examples
    --------
    >>> round(float(power_law_change(-1.0, 0.01)), 6)
    -0.009901
    """
    return np.expm1(exponent * np.log1p(relative_change))
