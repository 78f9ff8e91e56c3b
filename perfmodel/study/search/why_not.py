"""Why not this plan: whether it can be, whether it is allowed, and how far it is behind the best of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from perfmodel import __version__
from perfmodel.engine.recall import Recall
from perfmodel.engine.result import Result
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.progress import Progress, unseen
from perfmodel.study.search.answer import Entry, entries, explore, full_result, settings_of
from perfmodel.study.search.narrowed import Outside, named_paths, narrowed, outside
from perfmodel.study.search.regions import SearchSpace, search_space
from perfmodel.study.search.remedies import (
    Remedy,
    least_broken,
    memory_remedies,
    nearest_valid,
    plan_at,
    same_plan_as,
)
from perfmodel.study.search.violations import Violation, violations_of
from perfmodel.study.search.walk import Found, Table
from perfmodel.study.search.wanted import Bound, Objective, Wanted, wanted

SCHEMA = "perfmodel.why-not/1"
#: Verdicts.
BEST, LOSES, WOULD_WIN, CONSTRAINT, MEMORY, RULES = "best", "loses", "would-win", "constraint", "memory", "rules"
#: Candidates whose objectives differ by less than this share are equally good.
_EQUAL = 1e-12


@dataclass(frozen=True)
class Term:
    """One part of a sum, of the plan and of the best one."""

    key: str
    plan: float
    best: float

    @property
    def difference(self) -> float:
        return self.plan - self.best

    def to_dict(self) -> dict[str, Any]:
        """Plain Python."""
        return {"key": self.key, "plan": self.plan, "best": self.best, "difference": self.difference}


@dataclass(frozen=True)
class WhyNot:
    """Why a plan is not the answer of a search.

    Attributes
    ----------
    named
        What the person named, by dotted path.
    completed
        What the search chose for the rest of what it varies.
    same_as
        What was named and is another plan written differently, with what it is taken as.
    outside
        Named values that the space does not have.
    verdict
        ``rules``: it breaks integer rules; ``memory``: it does not fit; ``constraint``: it is not allowed; ``loses``;
        ``best``: it is the answer; ``would-win``: it would be, and the space does not have it.
    plan
        The plan with its numbers; that which breaks rules has settings only.
    reasons
        Sentences about why it cannot be, as an evaluation says them.
    nearest
        Sizes near the named ones that keep the rules.
    remedies
        Plans of the same layout that fit.
    violations
        Constraints that it does not keep.
    rank, allowed
        Place among the allowed candidates (one more than there are better ones), and how many there are.
    best
        The best candidate; None where none is allowed.
    """

    space: SearchSpace
    wanted: Wanted
    named: Mapping[str, Any]
    verdict: str
    plan: Entry
    allowed: int
    best: Entry | None
    completed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    same_as: Mapping[str, Any] = field(default_factory=dict[str, Any])
    outside: tuple[Outside, ...] = ()
    reasons: tuple[str, ...] = ()
    nearest: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, "tuple[int, ...]"])
    remedies: tuple[Remedy, ...] = ()
    violations: tuple[Violation, ...] = ()
    rank: int | None = None
    result: Result | None = None

    @property
    def objective(self) -> Objective:
        """What orders the candidates."""
        return self.wanted.objectives[0]

    @property
    def feasible(self) -> bool:
        """The plan can be, and is allowed."""
        return self.verdict in (BEST, LOSES, WOULD_WIN)

    @property
    def terms(self) -> tuple[Term, ...]:
        """What the plan and the best one spend, part by part, the largest difference first."""
        if self.best is None or self.verdict == RULES:
            return ()
        family = self.objective.key.split(".", 1)[0]
        prefix = f"{family if family in ('memory', 'energy') else 'time'}.breakdown."
        keys = [key for key in self.plan.numbers if key.startswith(prefix)]
        terms = [Term(key, self.plan.numbers[key], self.best.numbers[key]) for key in keys]
        return tuple(sorted((one for one in terms if one.plan or one.best), key=lambda one: -abs(one.difference)))

    def to_dict(self) -> dict[str, Any]:
        """The published JSON object."""
        scenario, key = self.space.resolved, self.objective.key
        return {
            "schema": SCHEMA, "version": __version__, "scenario": {"name": scenario.name, "sha256": scenario.sha256},
            "named": dict(self.named), "completed": dict(self.completed), "same_as": dict(self.same_as),
            "verdict": self.verdict, "feasible": self.feasible, "outside": [one.to_dict() for one in self.outside],
            "reasons": list(self.reasons), "nearest": {path: list(one) for path, one in self.nearest.items()},
            "remedies": [
                {"changes": dict(one.changes), "peak_bytes": one.entry.numbers["memory.peak_bytes"],
                 "objective": one.entry.numbers[key], "in_space": one.in_space, "allowed": one.allowed}
                for one in self.remedies
            ],
            "constraints": [one.to_dict() for one in self.violations],
            "objective": {
                "key": key, "sense": self.objective.sense, "plan": self.plan.numbers.get(key),
                "best": None if self.best is None else self.best.numbers[key],
            },
            "rank": self.rank, "candidates_allowed": self.allowed,
            "difference": [one.to_dict() for one in self.terms],
            "plan": self.plan.to_dict(), "best": None if self.best is None else self.best.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True)
class _Asked:
    """The question: the whole space with its best, and the part of it that goes with what was named."""

    space: SearchSpace
    wanted: Wanted
    fixed: Mapping[str, Any]
    part: SearchSpace
    found: Found
    whole: Found
    best: Entry | None

    def answer(self, verdict: str, plan: Entry, **more: Any) -> WhyNot:
        """What every answer says."""
        named = dict(self.fixed)
        return WhyNot(
            self.space, self.wanted, named, verdict, plan, self.whole.allowed, self.best,
            completed=_completed(self.space.resolved, self.fixed, plan.settings),
            outside=outside(self.space, self.fixed), **more,
        )  # fmt: skip


def why_not(resolved: ResolvedScenario, named: Mapping[str, Any], progress: Progress = unseen) -> WhyNot:
    """Why a search does not answer with a plan.

    Parameters
    ----------
    resolved
        A search.
    named
        Fields of a strategy, such as ``{"tp": 8, "pp": 4}``; the rest is completed with the best of the space.

    Raises
    ------
    SpecError, UsageError
        The space cannot be, or a named field or value.
    """
    fixed = named_paths(named)
    # The space is gone through again to count what is better: what it takes is known by then.
    space = search_space(resolved, Recall())
    looked_for = replace(wanted(resolved, space.regions[0].question), top=1)
    whole = explore(space, looked_for, progress)
    best = next(iter(entries(space, whole.best)), None)
    return _why_not(space, looked_for, fixed, whole, best)


def _why_not(
    space: SearchSpace, looked_for: Wanted, fixed: Mapping[str, Any], whole: Found, best: Entry | None
) -> WhyNot:
    part = search_space(narrowed(space.resolved, fixed), space.recall)
    found = explore(part, looked_for)
    asked = _Asked(space, looked_for, fixed, part, found, whole, best)
    if not found.evaluated:
        return _breaks_rules(asked)
    if not found.feasible:
        return _does_not_fit(asked)
    return _not_allowed(asked) if not found.allowed else _ranked(asked)


def _breaks_rules(asked: _Asked) -> WhyNot:
    broken = least_broken(asked.part)
    if broken is None:
        plan = Entry(dict(asked.fixed), {}, {})
        return asked.answer(RULES, plan, reasons=("no structure of the space goes with these values",))
    same = {} if broken.sentences else same_plan_as(plan_at(asked.part, broken.place))
    if same:
        fixed = {path: same.get(path, value) for path, value in asked.fixed.items()}
        answer = _why_not(asked.space, asked.wanted, {**fixed, **same}, asked.whole, asked.best)
        return replace(answer, named=dict(asked.fixed), same_as=same)
    number, candidate = broken.place
    plan = Entry(settings_of(asked.part, number, 0, candidate), {}, {})
    return asked.answer(RULES, plan, reasons=broken.sentences, nearest=nearest_valid(asked.space.resolved, asked.fixed))


def _does_not_fit(asked: _Asked) -> WhyNot:
    plan, result = _entry(asked.part, asked.found.least_memory)
    remedies = memory_remedies(asked.space, asked.wanted, plan.settings)
    return asked.answer(MEMORY, plan, reasons=result.reasons, remedies=remedies, result=result)


def _not_allowed(asked: _Asked) -> WhyNot:
    """The best of what fits says which limits it does not keep."""
    plan, result = _entry(asked.part, explore(asked.part, replace(asked.wanted, bounds=())).best)
    violations = violations_of(asked.wanted, plan)
    reasons = tuple(one.sentence for one in violations)
    return asked.answer(CONSTRAINT, plan, reasons=reasons, violations=violations, result=result)


def _ranked(asked: _Asked) -> WhyNot:
    plan, result = _entry(asked.part, asked.found.best)
    objective = asked.wanted.objectives[0]
    better = _better(asked, plan.numbers[objective.key])
    in_space = not outside(asked.space, plan.settings)
    verdict = LOSES if better else BEST if in_space else WOULD_WIN
    return asked.answer(verdict, plan, rank=better + 1, result=result)


def _better(asked: _Asked, value: float) -> int:
    """Allowed candidates of the whole space that are better: those within one more limit."""
    objective = asked.wanted.objectives[0]
    limit = value - objective.sign * abs(value) * _EQUAL
    limits = (-np.inf, np.nextafter(limit, -np.inf)) if objective.sign > 0 else (np.nextafter(limit, np.inf), np.inf)
    best = None if asked.best is None else asked.best.numbers[objective.key]
    bound = Bound(objective.key, *map(float, limits))
    if best is None or not bound.holds(np.array(best)):
        return 0
    return explore(asked.space, replace(asked.wanted, bounds=(*asked.wanted.bounds, bound))).allowed


def _entry(space: SearchSpace, table: Table) -> tuple[Entry, Result]:
    """The first candidate of a table with its numbers, and its full result."""
    (entry,) = entries(space, table.take(np.arange(1)))
    return entry, full_result(space, table)


def _completed(resolved: ResolvedScenario, fixed: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of the settings of a plan, what was not named and the search varies."""
    varied = {axis.path for axis in resolved.axes}
    return {
        path: value for path, value in settings.items()
        if path not in fixed and any(axis == path or axis.startswith(f"{path}.") for axis in varied)
    }  # fmt: skip
