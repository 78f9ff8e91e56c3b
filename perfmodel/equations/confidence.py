"""Confidence that a log-normal quantity stays within a limit."""

from __future__ import annotations

import numpy as np

from perfmodel.equations.uncertainty import LOGNORMAL
from perfmodel.units import Ratio, equation


@equation(reference=LOGNORMAL)
def sure_factor(logarithm_deviation: Ratio, normal_quantile: Ratio) -> Ratio:
    r"""Factor by which the median of a log-normal quantity may be exceeded.

    .. math:: f = \exp(z\, \sigma)

    Parameters
    ----------
    logarithm_deviation
        Standard deviation of the logarithm :math:`\sigma` [1].
    normal_quantile
        Quantile of the normal distribution :math:`z` [1]: 0.8416 for a probability of 80 %.

    Returns
    -------
    Ratio
        Factor [1]: the quantity is below f times its median with the probability of the quantile.

    Notes
    -----
    The deviation is of the logarithm; ``uncertainty.interval_factor`` takes one that is relative to the mean.

    Examples
    --------
    >>> round(float(sure_factor(0.1, 0.8416)), 4)
    1.0878
    """
    return np.exp(normal_quantile * logarithm_deviation)


@equation(reference=LOGNORMAL)
def margin_quantile(logarithm_deviation: Ratio, margin: Ratio) -> Ratio:
    r"""Normal quantile up to which a log-normal quantity stays within a margin; the inverse of :func:`sure_factor`.

    .. math:: z = \frac{\ln f}{\sigma}

    Parameters
    ----------
    logarithm_deviation
        Standard deviation of the logarithm :math:`\sigma` [1], positive.
    margin
        Limit over the median of the quantity :math:`f` [1], positive.

    Returns
    -------
    Ratio
        Quantile of the normal distribution [1].

    Notes
    -----
    Not defined for a quantity that is known exactly.

    Examples
    --------
    >>> round(float(margin_quantile(0.1, 1.0878)), 3)
    0.842
    """
    return np.log(margin) / logarithm_deviation
