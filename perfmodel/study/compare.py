"""Scenarios side by side: their results, and how sure it is that the first is the fastest."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from perfmodel.engine.build import Question
from perfmodel.engine.measured import difference_deviation
from perfmodel.engine.result import Result
from perfmodel.equations.uncertainty import interval_factor

SCHEMA = "perfmodel.comparison/1"

#: The interval of a headline runs from the 10th to the 90th percentile.
_UPPER_QUANTILE = NormalDist().inv_cdf(0.9)


@dataclass(frozen=True)
class Comparison:
    """Results of two or more scenarios.

    Attributes
    ----------
    results
        In the order in which they were named; differences are relative to the first.
    probabilities
        For each result after the first, the probability that a step of the first takes less time than a
        step of it; None where a plan is infeasible or has no interval.
    """

    results: tuple[Result, ...]
    probabilities: tuple[float | None, ...]

    @property
    def feasible(self) -> bool:
        """Whether every plan can be."""
        return all(result.feasible for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain Python: every result as in its own JSON."""
        return {
            "schema": SCHEMA,
            "feasible": self.feasible,
            "results": [result.to_dict() for result in self.results],
            "probability_first_is_faster": list(self.probabilities),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)


def compare(results: Sequence[Result]) -> Comparison:
    """Compare results by the time of a step.

    Two predictions of one software stack on one device are wrong by mostly the same factor (the same efficiency is off
    for both), so that their difference is surer than each of them: its deviation is the one that validation finds on
    pairs of runs of a stack (``relative_error.anchored`` of the class). Between stacks or devices errors are taken as
    independent, and so they are where a result is scaled by a measurement or was read from a file.
    """
    first, *others = results
    return Comparison(tuple(results), tuple(_probability_faster(first, other) for other in others))


def _probability_faster(first: Result, second: Result) -> float | None:
    if not (first.feasible and second.feasible):
        return None
    difference = _log_ratio(first, second)
    if difference is None:
        return None
    if difference.stdev == 0:
        return 0.5 if difference.mean == 0 else float(difference.mean < 0)
    return difference.cdf(0.0)


def _log_ratio(first: Result, second: Result) -> NormalDist | None:
    """Distribution of the logarithm of the ratio of two step times."""
    one, other = _log_time(first), _log_time(second)
    if one is None or other is None:
        return None
    known = all(isinstance(result.origin, Question) and result.measured is None for result in (first, second))
    if not known:
        return one - other
    deviation = difference_deviation(first.origin, second.origin)
    return NormalDist(one.mean - other.mean, math.log(interval_factor(deviation, 1.0)))


def _log_time(result: Result) -> NormalDist | None:
    """Distribution of the logarithm of the step time, from its interval (times err by factors: lognormal).

    Where the result is scaled by a measurement, that is the better estimate.
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
