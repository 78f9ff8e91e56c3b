"""Scenarios side by side: their results, and how sure it is that the first is the fastest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perfmodel.engine.result import Result
from perfmodel.study.intervals import log_time

SCHEMA = "perfmodel.comparison/1"


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

    The errors of two predictions are taken as independent. Those of two plans on one machine mostly are
    not (the same efficiency is off for both), so that the probability is then cautious: nearer to one half.
    """
    first, *others = results
    return Comparison(tuple(results), tuple(_probability_faster(first, other) for other in others))


def _probability_faster(first: Result, second: Result) -> float | None:
    if not (first.feasible and second.feasible):
        return None
    one, other = log_time(first), log_time(second)
    if one is None or other is None:
        return None
    difference = one - other
    if difference.stdev == 0:
        return 0.5 if difference.mean == 0 else float(difference.mean < 0)
    return difference.cdf(0.0)
