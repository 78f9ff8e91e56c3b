"""Constraints that one candidate does not keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.study.search.answer import Entry
from perfmodel.study.search.wanted import Bound, Wanted


@dataclass(frozen=True)
class Violation:
    """A constraint that a plan does not keep, and the value that it has there."""

    bound: Bound
    value: float

    @property
    def sentence(self) -> str:
        """Key, value and limit in words."""
        return self.bound.describe(self.value)

    def to_dict(self) -> dict[str, Any]:
        """Plain Python."""
        limits = {"min": self.bound.lower, "max": self.bound.upper}
        stated = {name: value if np.isfinite(value) else None for name, value in limits.items()}
        return {"key": self.bound.key, "value": self.value, **stated, "sentence": self.sentence}


def violations_of(wanted: Wanted, entry: Entry) -> tuple[Violation, ...]:
    """Constraints that a candidate does not keep, in the order of the scenario."""
    sizes = {f"strategy.{name}": float(one) for name, one in entry.plan.items() if isinstance(one, (int, float))}
    known = sizes | dict(entry.numbers)
    values = [(bound, known[bound.key]) for bound in wanted.bounds]
    return tuple(Violation(bound, value) for bound, value in values if not bound.holds(np.array(value)))
