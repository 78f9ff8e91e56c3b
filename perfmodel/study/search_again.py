"""A search on a machine with one number changed: whether the best plan is another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perfmodel.engine.build import Question
from perfmodel.machine.columns import swept_paths, with_columns
from perfmodel.study.progress import Progress, unseen
from perfmodel.study.search.answer import SearchResult, explore, settings_of
from perfmodel.study.search.regions import Region


@dataclass(frozen=True)
class BestAt:
    """The best plan with a number at one of its ends.

    Attributes
    ----------
    value
        First objective of it; None where no plan is allowed.
    settings
        What differs from the best plan with the number as stated.
    """

    value: float | None
    settings: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain Python."""
        return {"value": self.value, "settings": dict(self.settings)}


@dataclass(frozen=True)
class Searched:
    """The best plans at the lower and at the upper end of a number."""

    low: BestAt
    high: BestAt

    @property
    def changes(self) -> bool:
        """Another plan is the best at one of the ends."""
        return any(one.value is None or one.settings for one in (self.low, self.high))

    def to_dict(self) -> dict[str, Any]:
        """Plain Python."""
        return {"best_changes": self.changes, "low": self.low.to_dict(), "high": self.high.to_dict()}


def search_at_ends(found: SearchResult, path: str, ends: tuple[float, float], progress: Progress = unseen) -> Searched:
    """Search the space of an answer again with a number of the machine at each of two ends."""
    low, high = (_best_at(found, path, value, progress) for value in ends)
    return Searched(low, high)


def _best_at(found: SearchResult, path: str, value: float, progress: Progress) -> BestAt:
    space = replace(found.space, regions=_moved(found.space.regions, path, value), books={}, shelves={})
    best = explore(space, replace(found.wanted, top=1), progress).best
    if not len(best):
        return BestAt(None, {})
    objective, usual = found.wanted.objectives[0], found.best[0].settings
    settings = settings_of(space, *best.place[0].tolist())
    different = {key: one for key, one in settings.items() if usual.get(key) != one}
    return BestAt(objective.sign * float(best.values[0, 0]), different)


def _moved(regions: Sequence[Region], path: str, value: float) -> tuple[Region, ...]:
    """Regions with a number of their machine replaced; machines without that number stay as they are."""
    questions: dict[int, Question] = {}
    for region in regions:
        # Regions that share a question go on sharing it: what they have in common is costed once.
        if id(region.question) not in questions:
            questions[id(region.question)] = _with_number(region.question, path, value)
    return tuple(replace(region, question=questions[id(region.question)]) for region in regions)


def _with_number(question: Question, path: str, value: float) -> Question:
    machine = question.problem.machine
    if path not in swept_paths(machine):
        return question
    return replace(question, problem=replace(question.problem, machine=with_columns(machine, {path: value})))
