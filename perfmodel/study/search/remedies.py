"""What would make an impossible plan possible: its neighbours in the space of plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from perfmodel.engine.blocks import possible_rows, redundant
from perfmodel.engine.headline import plan_rules
from perfmodel.errors import SpecError, UsageError
from perfmodel.parallel.plan import Plan
from perfmodel.parallel.rule import RuleOutcome
from perfmodel.parallel.space import chunks
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.search.answer import Entry, entries, explore
from perfmodel.study.search.choices import RECOMPUTE, ROW_PATHS
from perfmodel.study.search.narrowed import narrowed, outside, pinned
from perfmodel.study.search.regions import Region, SearchSpace, search_space
from perfmodel.study.search.violations import violations_of
from perfmodel.study.search.wanted import Wanted

#: Fields of a strategy that change what a device keeps and not the layout of its groups, and tp; each with its values.
FREED: tuple[Mapping[str, Any], ...] = (
    {RECOMPUTE: "auto"},
    {"strategy.zero": "auto"},
    {"strategy.micro_batch": "auto"},
    {"strategy.tp": "auto", "strategy.sequence_parallel": [True, False]},
)
#: Neighbours that are told of each kind.
_TOLD = 3
#: Candidates whose rules are applied at a time.
_CHUNK = 65_536


@dataclass(frozen=True)
class Remedy:
    """A plan near an impossible one that fits.

    Attributes
    ----------
    changes
        What differs, by dotted path.
    entry
        The plan with its numbers.
    in_space
        The search has it among its candidates.
    allowed
        It keeps the constraints.
    """

    changes: Mapping[str, Any]
    entry: Entry
    in_space: bool
    allowed: bool


def memory_remedies(space: SearchSpace, wanted: Wanted, settings: Mapping[str, Any]) -> tuple[Remedy, ...]:
    """Plans of the same layout that fit, the best first: one field changed, or several where that is not enough."""
    single = [remedy for free in FREED for remedy in _around(space, wanted, settings, free)]
    found = single or _around(space, wanted, settings, {path: value for one in FREED for path, value in one.items()})
    objective = wanted.objectives[0]
    unique = {repr(sorted(one.changes.items())): one for one in found}
    return tuple(sorted(unique.values(), key=lambda one: objective.sign * one.entry.numbers[objective.key]))


def _around(space: SearchSpace, wanted: Wanted, settings: Mapping[str, Any], free: Mapping[str, Any]) -> list[Remedy]:
    """The best plans that fit with everything but the free fields as in the settings."""
    try:
        near = search_space(pinned(space.resolved, settings, free))
    except (SpecError, UsageError):
        return []  # the field cannot vary with the rest of this plan (a grid of the tensor group)
    found = explore(near, replace(wanted, bounds=(), top=_TOLD))
    remedies: list[Remedy] = []
    for entry in entries(near, found.best):
        changes = {path: one for path, one in entry.settings.items() if path in free and settings.get(path) != one}
        in_space, allowed = not outside(space, entry.settings), not violations_of(wanted, entry)
        remedies.append(Remedy(changes, entry, in_space, allowed))
    return remedies


@dataclass(frozen=True)
class Broken:
    """A candidate that breaks fewer rules than others.

    Attributes
    ----------
    place
        Region and candidate.
    sentences
        Of the rules that it breaks; first those that all candidates break. Empty for a plan that is another one written
        differently.
    """

    place: tuple[int, int]
    sentences: tuple[str, ...]


def least_broken(space: SearchSpace) -> Broken | None:
    """Of candidates that all break rules, the first that breaks the fewest; None where there is no candidate."""
    fewest: tuple[int, tuple[int, int]] | None = None
    always: set[str] | None = None
    for region in space.regions:
        for start, outcomes in _outcomes(region):
            counts = np.sum([outcome.violated for outcome in outcomes], axis=0)
            every = {outcome.name for outcome in outcomes if outcome.violated.all()}
            always = every if always is None else always & every
            row = int(np.argmin(counts))
            if fewest is None or counts[row] < fewest[0]:
                fewest = (int(counts[row]), (region.number, start + row))
    if fewest is None:
        return None
    number, candidate = fewest[1]
    broken = [one for one in _rules(space.regions[number], np.array([candidate])) if one.violated[0]]
    broken.sort(key=lambda one: one.name not in (always or ()))
    return Broken(fewest[1], tuple(one.describe(0) for one in broken))


def _outcomes(region: Region) -> Iterator[tuple[int, tuple[RuleOutcome, ...]]]:
    for start, stop in chunks(len(region.space), _CHUNK):
        yield start, _rules(region, np.arange(start, stop, dtype=np.int64))


def _rules(region: Region, candidates: np.ndarray) -> tuple[RuleOutcome, ...]:
    rows = candidates // region.space.switch_count
    devices = region.space.row_columns(rows)["devices"]
    return plan_rules(region.question.problem, region.space.plans(candidates), devices)


def same_plan_as(plan: Plan) -> dict[str, Any]:
    """What a plan that is another one written differently is said to be; empty for every other plan."""
    if not redundant(plan)[0]:
        return {}
    changes: dict[str, Any] = {}
    if plan.sequence_parallel[0] > 0 and plan.tp[0] == 1:
        changes["strategy.sequence_parallel"] = False
    if 0 < plan.zero[0] < 3 and plan.dp[0] * plan.cp[0] == 1:
        changes["strategy.zero"] = 0
    return changes


def nearest_valid(resolved: ResolvedScenario, fixed: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """For each named size alone, the next smaller and larger value that keeps the rules with the other named ones."""
    found: dict[str, tuple[int, ...]] = {}
    for path, value in fixed.items():
        if path not in ROW_PATHS or path == "cluster.devices" or not isinstance(value, int):
            continue
        values = _valid_values(search_space(narrowed(resolved, fixed).replace(**{path: "auto"})), path)
        below, above = [one for one in values if one < value][-1:], [one for one in values if one > value][:1]
        if below or above:
            found[path] = (*below, *above)
    return found


def _valid_values(space: SearchSpace, path: str) -> list[int]:
    """Values of a size with which some candidate keeps the integer rules, ascending."""
    values: set[int] = set()
    for region in space.regions:
        rows = possible_rows(region.question.problem, region.space, 0, region.space.row_count)
        values |= set(region.space.row_columns(rows)[ROW_PATHS[path]].tolist())
    return sorted(values)


def plan_at(space: SearchSpace, place: tuple[int, int]) -> Plan:
    """The plan of a region and a candidate."""
    return space.regions[place[0]].space.plans([place[1]])
