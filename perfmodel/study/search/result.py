"""The answer of a search: counts, the best strategies, the Pareto front, the best of every point of a sweep."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perfmodel.engine.result import Result
from perfmodel.specs.plain import is_list, is_mapping
from perfmodel.study.search.regions import SearchSpace
from perfmodel.study.search.walk import Found
from perfmodel.study.search.wanted import Wanted

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Entry:
    """One candidate of the answer.

    Attributes
    ----------
    settings
        What a scenario sets to be this candidate, by dotted path.
    plan
        The plan as results state it.
    numbers
        Every numeric result key.
    """

    settings: Mapping[str, Any]
    plan: Mapping[str, Any]
    numbers: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """An evaluate-like entry: nested keys, and what to set."""
        tree: dict[str, Any] = {"settings": dict(self.settings), "plans": [dict(self.plan)]}
        for key, value in self.numbers.items():
            *parents, leaf = key.split(".")
            branch = tree
            for parent in parents:
                branch = branch.setdefault(parent, {})
            branch[leaf] = value
        tree.pop("step", None)
        return tree

    def row(self) -> dict[str, Any]:
        """One row of a table: what to set, the plan, and every number by its dotted key."""
        plan = {f"plan.{name}": value for name, value in self.plan.items()}
        numbers = {key: value for key, value in self.numbers.items() if not key.startswith("step.")}
        return dict(_cells(self.settings)) | plan | numbers


def _cells(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings with one value per path; lists as a scenario writes them."""
    for path, value in settings.items():
        if is_mapping(value):
            yield from _cells(value, f"{prefix}{path}.")
        else:
            yield f"{prefix}{path}", json.dumps(value) if is_list(value) else value


@dataclass(frozen=True)
class SearchResult:
    """The answer of a search.

    Attributes
    ----------
    result
        Full result of the best candidate; of the one that needs the least memory when nothing is feasible.
    best, pareto
        The best by the first objective, and the front of all objectives in the order of the first.
    bests
        The best of every point of a sweep, of every machine and of every number of devices.
    """

    space: SearchSpace
    wanted: Wanted
    found: Found
    result: Result
    best: tuple[Entry, ...]
    pareto: tuple[Entry, ...]
    bests: tuple[Entry, ...]
    seconds: float

    @property
    def question(self) -> str:
        """What was asked: says how the answer is shown."""
        return "search"

    @property
    def feasible(self) -> bool:
        """Some candidate is allowed."""
        return self.found.allowed > 0

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why there is no answer; empty when there is one."""
        if self.feasible:
            return ()
        found = self.found
        if not found.evaluated:
            return (f"none of the {found.enumerated:,} candidates keeps the integer rules of model and machine",)
        if found.feasible:
            limits = ", ".join(one.key for one in self.wanted.bounds)
            return (f"{found.feasible:,} candidates fit, but none keeps the constraints ({limits})",)
        return (
            f"none of {found.evaluated:,} possible candidates fits; the one that needs the least memory:",
            *self.result.reasons,
        )

    def to_dict(self) -> dict[str, Any]:
        """The published JSON object."""
        scenario = self.space.resolved
        return self.result.to_dict() | {
            "scenario": {"name": scenario.name, "sha256": scenario.sha256},
            "question": "search",
            "feasible": self.feasible,
            "reasons": list(self.reasons),
            "objectives": {one.key: one.sense for one in self.wanted.objectives},
            "candidates_enumerated": self.found.enumerated,
            "candidates_evaluated": self.found.evaluated,
            "candidates_feasible": self.found.feasible,
            "candidates_allowed": self.found.allowed,
            "seconds": self.seconds,
            "best": [one.to_dict() for one in self.best],
            "pareto": [one.to_dict() for one in self.pareto],
            "sweep": [one.to_dict() for one in self.bests],
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def rows(self) -> list[dict[str, Any]]:
        """Every entry as one row: ``list`` is ``best``, ``pareto`` or ``sweep``, ``rank`` its place there."""
        lists = {"best": self.best, "pareto": self.pareto, "sweep": self.bests}
        return [
            {"list": name, "rank": rank} | entry.row()
            for name, entries in lists.items()
            for rank, entry in enumerate(entries, 1)
        ]

    def to_frame(self) -> pd.DataFrame:
        """Tidy columns, one row per entry of the answer."""
        import pandas as pd

        return pd.DataFrame(self.rows(), columns=None if self.feasible else ["list", "rank"])

    # The report room is above this one; it is looked up when a person asks for a picture.
    def figures(self) -> Mapping[str, Any]:
        """The plotly figures of the report: those of the search, then those of the best candidate."""
        return importlib.import_module("perfmodel.report.search_page").figures(self)

    def report(self, path: str | Path) -> None:
        """Write the one-file HTML report."""
        importlib.import_module("perfmodel.report.search_page").write_report(self, Path(path))

    def _repr_html_(self) -> str:
        return importlib.import_module("perfmodel.report.search_page").to_html_fragment(self)
