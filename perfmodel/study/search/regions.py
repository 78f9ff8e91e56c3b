"""From the axes of a scenario to the regions of its search.

Axes that decide which operators there are, or what a plan has beside columns (the model, the cluster, a schedule, the
split of the layers), make regions of their own. Numbers of the machine are hardware points, everything else of the
strategy is a column of a plan space.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.blocks import keyed_plan, possible_rows
from perfmodel.engine.build import Question, build_question, replanned
from perfmodel.engine.key_book import HardwarePoints, KeyBook
from perfmodel.engine.problem import Problem, differ_in_order_only
from perfmodel.engine.recall import Recall, Shelf, digest
from perfmodel.errors import SpecError, UsageError
from perfmodel.machine.columns import machine_path, stated_numbers, swept_paths
from perfmodel.parallel.plan import Plan
from perfmodel.parallel.space import PlanSpace
from perfmodel.specs.axes import Axis
from perfmodel.specs.plain import is_mapping
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.search.choices import FOLLOWS, LAYERS, chosen_values, is_column, plan_space, structural_values
from perfmodel.units import UnitError, parse_quantity


@dataclass(frozen=True)
class Sweep:
    """The hardware points of a search: their columns in SI, and what the scenario says for each of them."""

    paths: tuple[str, ...]
    written: tuple[tuple[Any, ...], ...]  # one entry per point: a value per path
    points: HardwarePoints

    def __len__(self) -> int:
        return len(self.written)

    def changes(self, point: int) -> dict[str, Any]:
        """What a scenario sets to be at a point."""
        return dict(zip(self.paths, self.written[point], strict=True))


@dataclass(frozen=True)
class Region:
    """Candidates that share a graph and a machine: one plan space on some hardware points.

    Attributes
    ----------
    number
        Position in the search.
    group
        Regions that differ in the strategy only are of one group; groups differ in what is bought or trained.
    changes
        What a scenario sets to be in this region (without plan columns and hardware points).
    """

    number: int
    group: int
    changes: Mapping[str, Any]
    question: Question
    space: PlanSpace
    sweep: Sweep

    @property
    def size(self) -> int:
        """Candidates, possible or not."""
        return len(self.space) * len(self.sweep)


_Known = TypeVar("_Known")


@dataclass(frozen=True)
class SearchSpace:
    """Everything that a search goes through.

    Attributes
    ----------
    regions
        In the order of the axes.
    group_axes
        Axes by which groups differ, as they are written; beside them, the hardware points.
    """

    resolved: ResolvedScenario
    regions: tuple[Region, ...]
    group_axes: tuple[Axis, ...] = ()
    recall: Recall | None = field(default=None, repr=False, compare=False)  # what the session knows
    books: dict[int, KeyBook | None] = field(default_factory=dict[int, "KeyBook | None"], repr=False, compare=False)
    shelves: dict[int, Shelf] = field(default_factory=dict[int, Shelf], repr=False, compare=False)

    def __len__(self) -> int:
        return sum(region.size for region in self.regions)

    def book(self, region: Region) -> KeyBook | None:
        """Costs of the shard keys of all regions that share a problem; None where they are too many to know before."""
        alike = [one for one in self.regions if one.question.problem is region.question.problem]
        if sum(one.space.row_count for one in alike) > _BOOK_ROWS:
            return None
        key = id(region.question.problem)
        if key not in self.books:
            shelf, other = self.shelf(region), self._in_another_order(region, self.books)
            rows = tuple(digest(one.space.rows, one.space.switches, one.space.structure) for one in alike)
            make = functools.partial(_book, alike, other)
            self.books[key] = make() if shelf is None else shelf.get(("book", *rows), make)
        return self.books[key]

    def shelf(self, region: Region) -> Shelf | None:
        """What is known of the physics of a region; None where nothing is kept."""
        if self.recall is None:
            return None
        key = id(region.question.problem)
        if key not in self.shelves:
            other = self._in_another_order(region, self.shelves)
            self.shelves[key] = Shelf.of_problem(self.recall, region.question.problem, region.sweep.points, other)
        return self.shelves[key]

    def _in_another_order(self, region: Region, known: Mapping[int, _Known]) -> _Known | None:
        """What is known of a problem that differs from that of a region in the order of the groups only."""
        problems = (one.question.problem for one in self.regions if one.group == region.group)
        same = (one for one in problems if id(one) in known and differ_in_order_only(one, region.question.problem))
        found = next(same, None)
        return None if found is None else known[id(found)]

    @functools.cached_property
    def group_numbers(self) -> NDArray[np.int64]:
        """Group of every region."""
        return np.array([region.group for region in self.regions])

    @functools.cached_property
    def candidates_per_devices(self) -> NDArray[np.int64]:
        """Candidates of a region with one number of devices."""
        spaces = [region.space for region in self.regions]
        return np.array([one.row_count // len(one.rows["devices"]) * one.switch_count for one in spaces])


#: Rows whose keys are costed before a search: beyond, every task costs its own.
_BOOK_ROWS = 4_000_000


def _book(regions: Sequence[Region], other: KeyBook | None = None) -> KeyBook | None:
    plans: list[Plan] = []
    for region in regions:
        rows = possible_rows(region.question.problem, region.space, 0, region.space.row_count)
        if len(rows):
            plans.append(keyed_plan(region.space, region.space.row_columns(rows)))
    return KeyBook.of(regions[0].question.problem, plans, regions[0].sweep.points, other) if plans else None


def search_space(resolved: ResolvedScenario, recall: Recall | None = None) -> SearchSpace:
    """Regions of the search of a scenario.

    Parameters
    ----------
    recall
        What a session knows already, and what it will know of this search; None: nothing is kept.

    Raises
    ------
    SpecError, UsageError
        An axis cannot be, or leaves nothing.
    """
    if not resolved.axes:
        raise UsageError(
            f"{resolved.name}: a search needs something to vary; write a list, a range or `auto` in the scenario, "
            "for example strategy: {tp: [1, 2, 4, 8], pp: auto}"
        )
    _refuse_what_follows(resolved)
    columns = {axis.path: axis for axis in resolved.axes if is_column(axis.path)}
    rest = [axis for axis in resolved.axes if axis.path not in columns]
    swept, structure = _split_hardware(resolved, rest)
    groups = [axis for axis in structure if not axis.path.startswith("strategy.")]
    regions: list[Region] = []
    for group, chosen in enumerate(_products(groups)):
        regions += _regions_of_group(resolved, group, chosen, structure, columns, swept, len(regions))
    if regions:
        _check_ends(resolved, swept, regions[0].sweep)
    return SearchSpace(resolved, tuple(regions), tuple(groups), recall)


def _refuse_what_follows(resolved: ResolvedScenario) -> None:
    """Numbers that every candidate has its own of cannot be stated."""
    strategy, listed = resolved.scenario.strategy, {axis.path for axis in resolved.axes}
    for name, others in FOLLOWS.items():
        path = f"strategy.{name}"
        if getattr(strategy, name) is not None or path in listed:
            place = next((f"{axis.place}: " for axis in resolved.axes if axis.path == path), "")
            limit = f"constraints: {{{path}: {{max: ...}}}} limits it"
            raise SpecError(f"{place}{path}: every candidate has its own, {others}; leave it out ({limit})")


def _products(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*(axis.values or () for axis in axes)):
        yield {axis.path: value for axis, value in zip(axes, values, strict=True)}


def _regions_of_group(
    resolved: ResolvedScenario, group: int, chosen: Mapping[str, Any], structure: Sequence[Axis],
    columns: Mapping[str, Axis], swept: Sequence[Axis], first: int,
) -> list[Region]:  # fmt: skip
    """Regions of one model on one machine: every structural choice of the strategy."""
    base = build_question(resolved.candidate(**chosen))
    sweep = _sweep(base, swept)
    own = [axis for axis in structure if axis.path not in chosen]
    listed = [replace(axis, values=structural_values(axis, base, columns)) for axis in own]
    regions: list[Region] = []
    known: dict[str, Question] = {}
    problems = {base.problem.order: base.problem}
    for changes in _products(listed):
        layers = changes.get(LAYERS)
        same = {path: value for path, value in changes.items() if path != LAYERS}
        key = repr(sorted(same.items()))
        if key not in known:
            known[key] = base if not same else _question(resolved, base, dict(chosen) | same, problems)
        values = chosen_values(columns, known[key], layers)
        if values is None:
            continue
        space = plan_space(values, known[key], None if layers is None else layers.layers)
        written = dict(chosen) | same | ({} if layers is None else layers.changes())
        regions.append(Region(first + len(regions), group, written, known[key], space, sweep))
    return regions


#: Choices of a strategy that change neither the graph nor the machine, beside the columns of plans.
_OF_THE_PLAN = {"strategy.pipeline.schedule", "strategy.pipeline.synchronous_update",
                "strategy.pipeline.embedding_and_head_as_layers", "strategy.order"}  # fmt: skip


def _question(
    resolved: ResolvedScenario, base: Question, changes: Mapping[str, Any], problems: dict[tuple[str, ...], Problem]
) -> Question:
    """The question with some choices.

    Where they change the plan alone, those with the same order of the groups share one of the ``problems``.
    """
    own = {path: value for path, value in changes.items() if path.startswith("strategy.")}
    if own == {"strategy.order": list(base.problem.order)}:
        return base
    candidate = resolved.candidate(**changes)
    if not set(own) <= _OF_THE_PLAN:
        return build_question(candidate)
    question = replanned(base, candidate)
    return replace(question, problem=problems.setdefault(question.problem.order, question.problem))


def _split_hardware(resolved: ResolvedScenario, axes: Sequence[Axis]) -> tuple[list[Axis], list[Axis]]:
    """Axes that are numbers of the machine, and those that are structure."""
    if not axes:
        return [], []
    known = set(swept_paths(build_question(resolved.candidate()).problem.machine))
    swept = [axis for axis in axes if machine_path(axis.path) in known and _are_numbers(axis)]
    return swept, [axis for axis in axes if axis not in swept]


def _are_numbers(axis: Axis) -> bool:
    return axis.values is not None and not any(is_mapping(value) or isinstance(value, bool) for value in axis.values)


def _sweep(question: Question, axes: Sequence[Axis]) -> Sweep:
    """All combinations of the numbers of the machine, in SI."""
    machine = question.problem.machine
    units = {one.path: one.unit for one in machine.provenance.values()}
    units |= {path: one.unit for path, one in stated_numbers(machine).items()}
    values = [
        [_number(axis, value, units.get(machine_path(axis.path), "")) for value in axis.values or ()] for axis in axes
    ]
    written = tuple(itertools.product(*(axis.values or () for axis in axes)))
    grid = np.array(list(itertools.product(*values)), dtype=np.float64).reshape(len(written), len(axes))
    columns: dict[str, NDArray[np.float64]] = {
        machine_path(axis.path): grid[:, position] for position, axis in enumerate(axes)
    }
    return Sweep(tuple(axis.path for axis in axes), written, HardwarePoints(columns))


def _check_ends(resolved: ResolvedScenario, axes: Sequence[Axis], sweep: Sweep) -> None:
    """The least and the largest number of each axis are held to the rules of its field, and so are those between."""
    for position, (axis, numbers) in enumerate(zip(axes, sweep.points.columns.values(), strict=True)):
        for at in {int(np.argmin(numbers)), int(np.argmax(numbers))}:
            try:
                resolved.candidate(**{axis.path: sweep.written[at][position]})
            except SpecError as error:
                raise SpecError(f"{axis.place}: {axis.path}: {error}") from None


def _number(axis: Axis, value: Any, unit: str) -> float:
    try:
        return parse_quantity(str(value), unit or "1")
    except (UnitError, ValueError) as error:
        raise SpecError(f"{axis.place}: {axis.path}: {error}") from None
