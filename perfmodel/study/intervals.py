"""How sure a predicted time is: the distribution behind the interval of a result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from perfmodel.engine.result import Result
from perfmodel.equations import confidence as confidences

#: The interval of a headline runs from the 10th to the 90th percentile.
_UPPER_QUANTILE = NormalDist().inv_cdf(0.9)


def log_time(result: Result) -> NormalDist | None:
    """Distribution of the logarithm of the step time, from its interval (times err by factors: lognormal).

    Where the result is scaled by a measurement, that is the better estimate. None without an interval.
    """
    interval: Mapping[str, Any] = result.uncertainty.get("time.step_s", {})
    if result.measured is not None:
        anchored = result.measured["anchored"]
        interval = {**anchored, "p50": anchored["step_s"]}
    bounds = [interval.get(name) for name in ("p10", "p50", "p90")]
    if any(bound is None or bound <= 0 for bound in bounds):
        return None
    low, middle, high = (math.log(bound) for bound in bounds if bound is not None)
    return NormalDist(middle, (high - low) / (2 * _UPPER_QUANTILE))


def sure_factor(deviation: float, confidence: float) -> float:
    """By how much a time may be exceeded so that it still holds with a probability, of a lognormal time.

    Parameters
    ----------
    deviation
        Standard deviation of the logarithm of the time [1].
    confidence
        Probability [1].
    """
    return float(confidences.sure_factor(deviation, NormalDist().inv_cdf(confidence)))


def probability_within(deviation: float, margin: float) -> float:
    """Probability that a lognormal time stays below ``margin`` times its median."""
    if deviation <= 0.0:
        return float(margin >= 1.0)
    return NormalDist().cdf(float(confidences.margin_quantile(deviation, margin)))
