"""Walking a search space: tasks, what each finds, and how findings are joined.

A task is a range of rows of a region. What it finds depends on nothing but the task, and findings join in any order to
the same result: tasks may run on any number of workers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.blocks import Block, blocks_of_rows, possible_rows
from perfmodel.parallel.space import chunks
from perfmodel.study.search.frontier import pareto_rows, smallest_rows
from perfmodel.study.search.prune import Known, can_prune, holds_for, promising_parts
from perfmodel.study.search.regions import Region, SearchSpace
from perfmodel.study.search.wanted import Wanted

#: Candidates of one task, possible or not: a second or two of work; smaller ones cost more in all ...
TASK_CANDIDATES = 4_194_304
#: ... and of a task that leaves most of them out: what it knows of the best ones ends with it.
PRUNED_TASK_CANDIDATES = 134_217_728
#: Tasks of a search; where they would be more, each is larger. A task is a message and a file.
MOST_TASKS = 4096
#: Rows whose columns are in memory at a time.
_ROWS_AT_A_TIME = 262_144


@dataclass(frozen=True)
class Task:
    """Rows ``start`` to ``stop`` of a region."""

    region: int
    start: int
    stop: int


@dataclass(frozen=True)
class Table:
    """Candidates with their objectives (smaller is better).

    Attributes
    ----------
    place
        Region, hardware point and candidate: shape ``(n, 3)``.
    values
        Objectives: shape ``(n, k)``.
    """

    place: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.place)

    @classmethod
    def empty(cls, objectives: int) -> Table:
        """No candidates."""
        return cls(np.zeros((0, 3), dtype=np.int64), np.zeros((0, objectives)))

    def take(self, rows: NDArray[np.int64]) -> Table:
        """Some of the candidates."""
        return Table(self.place[rows], self.values[rows])

    def in_order(self) -> Table:
        """Sorted by the first objective; equal ones by region, point and candidate."""
        keys = (*self.place.T[::-1], self.values[:, 0])
        return self.take(np.lexsort(keys))

    @classmethod
    def joined(cls, tables: Sequence[Table], objectives: int) -> Table:
        """All candidates of several tables, in order."""
        several = [cls.empty(objectives), *tables]
        return cls(
            np.concatenate([one.place for one in several]), np.concatenate([one.values for one in several])
        ).in_order()


@dataclass(frozen=True)
class Found:
    """What a task (or several) found.

    Attributes
    ----------
    enumerated, evaluated, feasible
        Points of the product space; those that keep the integer rules and had their memory costed; those that fit.
    allowed
        Those of the feasible ones that keep the constraints.
    best
        The best by the first objective.
    front
        The Pareto front; empty with one objective.
    bests
        The best of every (group, hardware point, devices).
    least_memory
        The candidate with the least memory, whatever fits: what to say when nothing does.
    """

    enumerated: int
    evaluated: int
    feasible: int
    allowed: int
    best: Table
    front: Table
    bests: Table
    least_memory: Table


def task_candidates(wanted: Wanted) -> int:
    """Candidates of a task, about."""
    return PRUNED_TASK_CANDIDATES if not wanted.exhaustive and can_prune(wanted) else TASK_CANDIDATES


def tasks_of(space: SearchSpace, candidates: int = TASK_CANDIDATES) -> list[Task]:
    """The tasks of a search, in order.

    Parameters
    ----------
    candidates
        Of one task, about; what a search finds does not depend on it.
    """
    candidates = max(candidates, len(space) // MOST_TASKS)
    tasks: list[Task] = []
    for region in space.regions:
        of_a_row = region.space.switch_count * len(region.sweep)
        ranges = chunks(region.space.row_count, max(candidates // of_a_row, 1))
        tasks += [Task(region.number, start, stop) for start, stop in ranges]
    return tasks


def run_task(space: SearchSpace, wanted: Wanted, task: Task) -> Found:
    """Go through the rows of a task."""
    region = space.regions[task.region]
    problem, plans, points = region.question.problem, region.space, region.sweep.points
    prunes = not wanted.exhaustive and can_prune(wanted) and holds_for(points.spread(problem, (len(points),)))
    known = _nothing_known(region, wanted) if prunes else None
    parts = [_nothing(wanted, (task.stop - task.start) * plans.switch_count * len(points))]
    for start, stop in chunks(task.stop - task.start, _ROWS_AT_A_TIME):
        rows = possible_rows(problem, plans, task.start + start, task.start + stop)
        blocks = blocks_of_rows(problem, plans, rows, points, space.book(region), space.shelf(region))
        parts += [_of_block(space, region, wanted, block, known) for block in blocks]
    return joined(space, wanted, parts)


def _nothing(wanted: Wanted, enumerated: int = 0, evaluated: int = 0, feasible: int = 0) -> Found:
    empty = Table.empty(len(wanted.objectives))
    return Found(enumerated, evaluated, feasible, 0, empty, empty, empty, Table.empty(1))


def _nothing_known(region: Region, wanted: Wanted) -> Known:
    return Known(np.full((len(region.sweep), len(region.space.rows["devices"])), np.inf), wanted.top)


def _of_block(space: SearchSpace, region: Region, wanted: Wanted, block: Block, known: Known | None) -> Found:
    """Memory of a block, and the objectives of what fits of it (of what may be an answer, where something is known)."""
    counted = _nothing(wanted, 0, block.count(block.possible), block.count(block.fits))
    found = [replace(counted, least_memory=_least_memory(region, block))]
    rows_per_devices = region.space.row_count // len(region.space.rows["devices"])
    parts = block.parts() if known is None else promising_parts(block, wanted, known, block.rows // rows_per_devices)
    for part in parts:
        rows = np.flatnonzero(part.everywhere(part.fits & wanted.allowed(part)).ravel())
        if not len(rows):
            continue
        values = wanted.values(part)[rows]
        point, candidate = part.candidates(rows)
        place = np.stack([np.full(len(rows), region.number), point, candidate], axis=1)
        found.append(_reduced(space, wanted, Table(place, values)))
    together = joined(space, wanted, found)
    if known is None:
        return together
    # All limits are on columns of plans: what is allowed is known without composing it.
    return replace(together, allowed=block.count(block.fits & wanted.allowed(block)))


def _least_memory(region: Region, block: Block) -> Table:
    peak = np.where(block.possible, block.peak_bytes, np.inf)
    least = np.unravel_index(int(np.argmin(peak)), peak.shape)
    if not np.isfinite(peak[least]):
        return Table.empty(1)
    # Along dimensions on which memory does not depend the first one counts.
    point, candidate = block.candidates(np.array([np.ravel_multi_index(least, block.shape)]))
    return Table(np.array([[region.number, point[0], candidate[0]]]), np.array([[peak[least]]]))


def _reduced(space: SearchSpace, wanted: Wanted, table: Table) -> Found:
    """Of candidates that are allowed, those that can be an answer."""
    front = Table.empty(len(wanted.objectives))
    if len(wanted.objectives) > 1:
        front = table.take(pareto_rows(table.values))
    best, bests = table.take(smallest_rows(table.values[:, 0], wanted.top)), _bests(space, table)
    return Found(0, 0, 0, len(table), best, front, bests, Table.empty(1))


def _bests(space: SearchSpace, table: Table) -> Table:
    """The best of every group; of equal ones the first by place."""
    if not len(table):
        return table
    groups = group_of(space, table)
    span = groups.max(axis=0) + 1
    code = (groups[:, 0] * span[1] + groups[:, 1]) * span[2] + groups[:, 2]
    least = np.full(int(code.max()) + 1, np.inf)
    np.minimum.at(least, code, table.values[:, 0])
    ordered = table.take(np.flatnonzero(table.values[:, 0] <= least[code])).in_order()
    _, first = np.unique(group_of(space, ordered), return_index=True, axis=0)
    return ordered.take(np.sort(first))


def group_of(space: SearchSpace, table: Table) -> NDArray[np.int64]:
    """Group, hardware point and index of the devices of every candidate: shape ``(n, 3)``."""
    region, point, candidate = table.place.T
    return np.stack([space.group_numbers[region], point, candidate // space.candidates_per_devices[region]], axis=1)


def joined(space: SearchSpace, wanted: Wanted, parts: Sequence[Found]) -> Found:
    """What several tasks found, together."""
    count = len(wanted.objectives)
    best = Table.joined([one.best for one in parts], count)
    front = Table.joined([one.front for one in parts if len(one.front)], count)
    bests = Table.joined([one.bests for one in parts], count)
    least = Table.joined([one.least_memory for one in parts], 1)
    enumerated, evaluated, feasible, allowed = (
        sum(getattr(one, name) for one in parts) for name in ("enumerated", "evaluated", "feasible", "allowed")
    )
    return Found(
        enumerated,
        evaluated,
        feasible,
        allowed,
        best.take(np.arange(min(len(best), wanted.top))),
        front.take(pareto_rows(front.values)),
        _bests(space, bests),
        least.take(np.arange(min(len(least), 1))),
    )
