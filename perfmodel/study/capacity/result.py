"""The answer of a capacity question."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from perfmodel.engine.result import Result
from perfmodel.study.capacity.goal import DAYS, PEAK_POWER, RATE, Goal
from perfmodel.study.capacity.sizes import Size

#: What a row of the table of sizes says: its key -> result key.
ROW_KEYS = {
    "days": DAYS, "tokens_per_s": RATE, "step_s": "time.step_s", "mfu": "metrics.mfu", "usd": "run.usd",
    "usd_per_million_tokens": "money.per_million_tokens_usd", "energy_kwh": "run.energy_kwh",
    "peak_power_w": PEAK_POWER, "peak_memory_bytes": "memory.peak_bytes",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One size in a table.

    Attributes
    ----------
    stops
        What keeps it from being an answer; empty where it meets the goal.
    probability
        That it meets the goal; None without a plan.
    """

    size: Size
    stops: tuple[str, ...]
    probability: float | None

    def to_dict(self) -> dict[str, Any]:
        size = self.size
        numbers = {name: size.value(key) for name, key in ROW_KEYS.items()}
        return {
            "devices": size.devices,
            "cluster": size.variant.cluster,
            "pricing": size.variant.pricing,
            "meets_goal": size.met,
            "stopped_by": list(self.stops),
            "probability": self.probability,
            **{name: value if np.isfinite(value) else None for name, value in numbers.items()},
            "settings": None if size.entry is None else dict(size.entry.settings),
        }


@dataclass(frozen=True)
class CapacityResult:
    """The answer of a capacity question.

    Attributes
    ----------
    chosen
        The answer; None where nothing meets the goal.
    binding
        What stops the next smaller size of the chosen cluster.
    granularity
        Devices: every smaller multiple of it was tried.
    sizes
        Around the answer, in order.
    others
        The choice of every other cluster and price.
    confidence
        Probability [1] -> the choice that meets the goal with it; None where there is none.
    result
        Full result of the answer; without one, of the plan that comes nearest.
    """

    goal: Goal
    chosen: Row | None
    binding: tuple[str, ...]
    granularity: int
    sizes: tuple[Row, ...]
    others: tuple[Row, ...]
    confidence: Mapping[float, Row | None]
    result: Result

    @property
    def question(self) -> str:
        """What was asked: says how the answer is shown."""
        return "capacity"

    @property
    def feasible(self) -> bool:
        """Some size meets the goal within the limits."""
        return self.result.feasible

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why there is no answer."""
        return self.result.reasons

    def to_dict(self) -> dict[str, Any]:
        """The published JSON object: that of the result of the chosen point, and what was chosen."""
        row = None if self.chosen is None else self.chosen.to_dict()
        goal = self.goal
        return self.result.to_dict() | {
            "devices": None if row is None else row["devices"],
            "cluster": None if row is None else row["cluster"],
            "pricing": None if row is None else row["pricing"],
            "settings": None if row is None else row["settings"],
            "binding_constraint": self.binding[0] if self.binding else None,
            "binding_constraints": list(self.binding),
            "granularity_devices": self.granularity,
            "goal": {
                "minimise": goal.minimise,
                "deadline_days": goal.days if np.isfinite(goal.days) else None,
                "tokens_per_s": goal.tokens_per_s or None,
            },
            "sizes": [one.to_dict() for one in self.sizes],
            "others": [one.to_dict() for one in self.others],
            "confidence": {
                f"{100 * share:.0f}": None if one is None else one.to_dict() for share, one in self.confidence.items()
            },
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @property
    def sentence(self) -> str:
        """The answer in a sentence; nothing where there is none."""
        from perfmodel.study.capacity.words import sentence

        return sentence(self)

    # The report room is above this one; it is looked up when a person asks for a picture.
    def figures(self) -> Mapping[str, Any]:
        """The plotly figures of the report: ``sizes``, then those of the chosen point."""
        return importlib.import_module("perfmodel.report.capacity_page").figures(self)

    def report(self, path: str | Path) -> None:
        """Write the one-file HTML report."""
        importlib.import_module("perfmodel.report.capacity_page").write_report(self, Path(path))

    def _repr_html_(self) -> str:
        return importlib.import_module("perfmodel.report.capacity_page").to_html_fragment(self)
