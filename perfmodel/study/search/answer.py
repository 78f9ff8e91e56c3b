"""The answer of a search: counts, the best strategies, the Pareto front, the best of every point of a sweep."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.engine.build import build_question
from perfmodel.engine.columns import evaluate_columns
from perfmodel.engine.evaluate import answer as evaluate_question
from perfmodel.engine.result import Result
from perfmodel.engine.summary import ROLE, plan_summary
from perfmodel.parallel.plan import OVERLAPS, Plan
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.progress import Progress, unseen
from perfmodel.study.search.regions import SearchSpace, search_space
from perfmodel.study.search.walk import Found, Table
from perfmodel.study.search.wanted import Wanted, wanted
from perfmodel.study.search.work import Work, found_by


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
    def feasible(self) -> bool:
        """Some candidate is allowed."""
        return self.found.allowed > 0

    @functools.cached_property
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


def search(resolved: ResolvedScenario, progress: Progress = unseen, work: Work | None = None) -> SearchResult:
    """Search the space of a scenario.

    Parameters
    ----------
    work
        Who does the work, and where it is kept; None: this process, nowhere. The answer does not depend on it.

    Raises
    ------
    SpecError, UsageError
        The space, an objective or a constraint cannot be; the engine or the checkpoint cannot be used.
    """
    start = time.perf_counter()
    space = search_space(resolved)
    looked_for = wanted(resolved, space.regions[0].question)
    found = explore(space, looked_for, progress, work)
    return answer_of(space, looked_for, found, time.perf_counter() - start)


def explore(space: SearchSpace, looked_for: Wanted, progress: Progress = unseen, work: Work | None = None) -> Found:
    """Go through a space."""
    return found_by(work or Work(), space, looked_for, progress)


def answer_of(space: SearchSpace, looked_for: Wanted, found: Found, seconds: float) -> SearchResult:
    """The answer behind what was found."""
    best, pareto, bests = (entries(space, table) for table in (found.best, found.front, found.bests))
    shown = found.best if len(found.best) else found.least_memory
    result = full_result(space, shown)
    return SearchResult(space, looked_for, found, result, best, pareto, bests, seconds)


def full_result(space: SearchSpace, table: Table) -> Result:
    """The full result of the first candidate of a table; of the first plan of the space when there is none."""
    settings = settings_of(space, *table.place[0].tolist()) if len(table) else {}
    return evaluate_question(build_question(space.resolved.candidate(**settings)))


def entries(space: SearchSpace, table: Table) -> tuple[Entry, ...]:
    """Candidates with all of their numbers, in the order of the table."""
    found: dict[int, Entry] = {}
    for number in np.unique(table.place[:, 0]):
        rows = np.flatnonzero(table.place[:, 0] == number)
        region = space.regions[number]
        points, candidates = table.place[rows, 1], table.place[rows, 2]
        plan = region.space.plans(candidates)
        hardware = {path: values[points] for path, values in region.sweep.points.columns.items()}
        columns = evaluate_columns(region.question.problem, plan, hardware, plan.devices)
        numbers = {key: values for key, values in columns.items() if key != "feasible"}
        role = ROLE[region.question.problem.workload.kind]
        for position, row in enumerate(rows):
            found[int(row)] = Entry(
                settings_of(space, *table.place[row].tolist()),
                plan_summary(plan.take(slice(position, position + 1)), role),
                {key: float(values[position]) for key, values in numbers.items()},
            )
    return tuple(found[row] for row in range(len(table)))


def settings_of(space: SearchSpace, region_number: int, point: int, candidate: int) -> dict[str, Any]:
    """What a scenario sets to be a candidate, by dotted path."""
    region = space.regions[region_number]
    plan = region.space.plans([candidate])
    settings = dict(region.changes) | region.sweep.changes(point)
    if len(region.space.rows["devices"]) > 1:
        settings["cluster.devices"] = int(plan.devices[0])
    return settings | strategy_settings(plan)


def strategy_settings(plan: Plan) -> dict[str, Any]:
    """The strategy of a plan of one row, by dotted path."""
    numbers = {name: column[0].item() for name, column in plan.columns().items()}
    sizes = ("tp", "cp", "pp", "ep", "etp", "micro_batch", "zero")
    settings: dict[str, Any] = {f"strategy.{name}": numbers[name] for name in sizes}
    if numbers["dp_replicate"] > 1:
        settings["strategy.dp_replicate"] = numbers["dp_replicate"]
    settings["strategy.sequence_parallel"] = bool(numbers["sequence_parallel"])
    settings["strategy.recompute"] = {
        "policy": plan.recompute_policies[numbers["recompute"]], "fraction": numbers["recompute_fraction"],
    }  # fmt: skip
    settings["strategy.pipeline.virtual_stages"] = numbers["virtual_stages"]
    settings |= {f"strategy.overlap.{name.removesuffix('_overlap')}": False for name in OVERLAPS if not numbers[name]}
    return settings
