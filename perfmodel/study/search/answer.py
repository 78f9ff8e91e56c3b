"""Answers a search: goes through the space, and makes the result of what was found."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from perfmodel.engine.build import build_question
from perfmodel.engine.columns import evaluate_columns
from perfmodel.engine.evaluate import answer as evaluate_question
from perfmodel.engine.recall import Recall
from perfmodel.engine.result import Result
from perfmodel.engine.summary import ROLE, plan_summary
from perfmodel.parallel.plan import OVERLAPS, Plan
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.progress import Progress, unseen
from perfmodel.study.search.choices import LAYERS
from perfmodel.study.search.regions import SearchSpace, search_space
from perfmodel.study.search.result import Entry, SearchResult
from perfmodel.study.search.walk import Found, Table
from perfmodel.study.search.wanted import Wanted, wanted
from perfmodel.study.search.work import Work, found_by


def search(
    resolved: ResolvedScenario, progress: Progress = unseen, work: Work | None = None, recall: Recall | None = None
) -> SearchResult:
    """Search the space of a scenario.

    Parameters
    ----------
    work
        Who does the work, and where it is kept; None: this process, nowhere. The answer does not depend on it.
    recall
        What the searches of a session know; None: nothing is kept. The answer does not depend on it either.

    Raises
    ------
    SpecError, UsageError
        The space, an objective or a constraint cannot be; the engine or the checkpoint cannot be used.
    """
    start = time.perf_counter()
    space = search_space(resolved, recall)
    looked_for = wanted(resolved, space.regions[0].question)
    found = explore(space, looked_for, progress, work)
    return answer_of(space, looked_for, found, time.perf_counter() - start)


def explore(space: SearchSpace, looked_for: Wanted, progress: Progress = unseen, work: Work | None = None) -> Found:
    """Go through a space."""
    return found_by(work or Work(), space, looked_for, progress)


def answer_of(space: SearchSpace, looked_for: Wanted, found: Found, seconds: float) -> SearchResult:
    """The answer behind what was found."""
    best, pareto, bests = entries_of(space, (found.best, found.front, found.bests))
    shown = found.best if len(found.best) else found.least_memory
    result = full_result(space, shown)
    return SearchResult(space, looked_for, found, result, best, pareto, bests, seconds)


def full_result(space: SearchSpace, table: Table) -> Result:
    """The full result of the first candidate of a table; of the first plan of the space when there is none."""
    settings = settings_of(space, *table.place[0].tolist()) if len(table) else {}
    return evaluate_question(build_question(space.resolved.candidate(**settings)))


def entries_of(space: SearchSpace, tables: Sequence[Table]) -> list[tuple[Entry, ...]]:
    """Entries of several tables, those that they share made once."""
    every = np.unique(np.concatenate([table.place for table in tables]), axis=0)
    made = entries(space, Table(every, np.zeros((len(every), 1))))
    known = {tuple(place): entry for place, entry in zip(every.tolist(), made, strict=True)}
    return [tuple(known[tuple(place)] for place in table.place.tolist()) for table in tables]


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
    return settings | strategy_settings(plan) | _of_axes(space.resolved, plan)


def _of_axes(resolved: ResolvedScenario, plan: Plan) -> dict[str, Any]:
    """Axes that would otherwise stay lists, because a strategy does not need to say them: of one, or as usual."""
    values: dict[str, Any] = {
        f"strategy.overlap.{name.removesuffix('_overlap')}": bool(getattr(plan, name)[0]) for name in OVERLAPS
    }
    values["strategy.dp_replicate"] = int(plan.dp_replicate[0])
    values["strategy.recompute.policy"] = plan.recompute_policies[int(plan.recompute[0])]
    values["strategy.recompute.fraction"] = float(plan.recompute_fraction[0])
    if plan.layers_per_stage is None:
        values[LAYERS] = None  # an even split
    return {axis.path: values[axis.path] for axis in resolved.axes if axis.path in values}


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
