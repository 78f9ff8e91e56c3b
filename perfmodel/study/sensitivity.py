"""Which number of a spec moves the answer most: every number of the machine, each alone, around one plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from perfmodel.engine.build import Question, build_question
from perfmodel.engine.columns import evaluate_moves
from perfmodel.engine.result import Result
from perfmodel.engine.session import LoadedScenario
from perfmodel.equations.uncertainty import elasticity, power_law_change
from perfmodel.errors import UsageError, nearest
from perfmodel.machine.columns import moved_one_by_one, stated_numbers
from perfmodel.provenance import Sourced
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.progress import Progress, unseen
from perfmodel.study.search.answer import SearchResult, search
from perfmodel.study.search_again import Searched, search_at_ends

#: What is looked at when nothing is named; the first one orders the numbers.
KEYS = ("time.step_s", "money.per_step_usd", "energy.per_step_j")
#: Relative change of each number.
CHANGE = 0.1
#: Numbers at whose ends the plan is searched again.
SEARCHED_AGAIN = 5
_POWER = "energy.average_power_w"
_ONE_PERCENT = 0.01
_NO_PRICE = "no price is declared (pricing:)"


@dataclass(frozen=True)
class Ends:
    """One result when a number is at its lower and at its upper end.

    Attributes
    ----------
    low, high
        The result, in the unit of its key.
    elasticity
        Relative change of the result over that of the number; None for a number that is zero.
    """

    low: float
    high: float
    elasticity: float | None


@dataclass(frozen=True)
class Effect:
    """What one number does.

    Attributes
    ----------
    number
        As the spec states it.
    low, high
        Its ends.
    results
        By result key.
    feasible
        Whether the plan can be at the lower and at the upper end.
    usd, watts
        Change of the cost (of the run, else of a step) and of the average power when the number is 1 % larger.
    searched
        The best plan at both ends; None where the plan was held.
    """

    number: Sourced
    low: float
    high: float
    results: Mapping[str, Ends]
    feasible: tuple[bool, bool]
    usd: float | None
    watts: float | None
    searched: Searched | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain Python."""
        number = self.number
        told: dict[str, Any] = {
            "path": number.path, "value": float(number.value), "unit": number.unit, "basis": str(number.basis),
            "source": number.source, "low": self.low, "high": self.high,
            "results": {
                key: {"low": one.low, "high": one.high, "elasticity": one.elasticity}
                for key, one in self.results.items()
            },
            "feasible_low": self.feasible[0], "feasible_high": self.feasible[1],
            "usd_of_one_percent": self.usd, "watts_of_one_percent": self.watts,
        }  # fmt: skip
        return told if self.searched is None else told | {"searched": self.searched.to_dict()}


@dataclass(frozen=True)
class Sensitivities:
    """Effects of every number, largest first.

    Attributes
    ----------
    change
        Relative change of each number.
    base
        Results with every number as stated.
    cost
        Result key of the cost behind ``usd``; None without a price.
    missing
        Why a result has no effects, by key.
    settings
        What of a search is held; empty for an evaluation.
    """

    change: float
    base: Mapping[str, float]
    effects: tuple[Effect, ...]
    cost: str | None
    missing: Mapping[str, str]
    settings: Mapping[str, Any]

    def bars(self, key: str | None = None, count: int = 12) -> list[tuple[str, float, float]]:
        """Bars of a tornado: number, result at its lower end and at its upper end; those that move it most."""
        key = next(iter(self.base)) if key is None else key
        if key not in self.base:
            reason = self.missing.get(key)
            raise UsageError(f"no effects on {key!r}" + (f": {reason}" if reason else nearest(key, self.base)))
        moving = [one for one in self.effects if _size(one, key, self.base[key]) > 0.0]
        moving.sort(key=lambda one: -_size(one, key, self.base[key]))
        return [(one.number.path, one.results[key].low, one.results[key].high) for one in moving[:count]]

    def to_dict(self) -> dict[str, Any]:
        """The published JSON object."""
        return {
            "change": self.change, "held": dict(self.settings), "base": dict(self.base), "cost": self.cost,
            "missing": dict(self.missing), "numbers": [one.to_dict() for one in self.effects],
        }  # fmt: skip

    def to_frame(self) -> Any:
        """One row per number and result."""
        import pandas as pd

        return pd.DataFrame([
            {"path": one.number.path, "value": one.number.value, "unit": one.number.unit, "key": key, "low": ends.low,
             "high": ends.high, "elasticity": ends.elasticity}
            for one in self.effects for key, ends in one.results.items()
        ])  # fmt: skip


def sensitivities(
    scenario: LoadedScenario | ResolvedScenario,
    *,
    change: float = CHANGE,
    keys: Sequence[str] | None = None,
    hold: bool = True,
    found: SearchResult | None = None,
    progress: Progress = unseen,
) -> Sensitivities:
    """Move every number of the machine alone, up and down, and see what the results do.

    Parameters
    ----------
    scenario
        An evaluation, or a search: then the plan is its best.
    change
        Relative change of each number.
    keys
        Result keys, the first orders the numbers; absent: step time, cost and energy of a step (of a search, its first
        objective before them).
    hold
        False: at both ends of the numbers that matter most a search looks for its best plan again.
    found
        The answer of the search, where it is known already.

    Raises
    ------
    UsageError
        A key is no number of the result, the change is not between 0 and 1, or a plan is not held that is not searched.
    """
    if not 0.0 < change < 1.0:
        raise UsageError(f"the change of a number must be between 0 and 1 (0.1 is 10 %), not {change}")
    resolved = scenario.resolved if isinstance(scenario, LoadedScenario) else scenario
    settings: dict[str, Any] = {}
    if resolved.scenario.question != "search":
        if not hold:
            raise UsageError(f"{resolved.name}: only a search can look for its plan again; this question has one plan")
        question = build_question(resolved)
    else:
        found = search(resolved, progress) if found is None else found
        settings = _settings_of_best(found)
        question = build_question(found.space.resolved.candidate(**settings))
    first = [] if found is None else [found.wanted.objectives[0].key]
    looked_at = tuple(dict.fromkeys([*first, *KEYS] if keys is None else keys))
    answer = _of_question(question, looked_at, change, settings)
    return answer if found is None or hold else _searched_again(found, answer, progress)


def with_sensitivities(answer: Any, resolved: ResolvedScenario, progress: Progress = unseen) -> Any:
    """The same answer (of an evaluation or a search) with the sensitivities that belong to it."""
    if isinstance(answer, SearchResult):
        if not answer.feasible:
            return answer
        told = sensitivities(resolved, found=answer, progress=progress).to_dict()
        return replace(answer, result=replace(answer.result, sensitivities=told))
    result: Result = answer
    return replace(result, sensitivities=sensitivities(resolved, progress=progress).to_dict())


def _settings_of_best(found: SearchResult) -> dict[str, Any]:
    if not found.feasible:
        raise UsageError(f"{found.space.resolved.name}: no plan to look around: {'; '.join(found.reasons)}")
    return dict(found.best[0].settings)


def _of_question(question: Question, keys: Sequence[str], change: float, settings: Mapping[str, Any]) -> Sensitivities:
    numbers = stated_numbers(question.problem.machine)
    at_rest = {path: float(one.value) for path, one in numbers.items()}
    moves = {path: [value * (1.0 - change), value * (1.0 + change)] for path, value in at_rest.items()}
    columns = evaluate_moves(question.problem, question.plan, moved_one_by_one(moves, at_rest))
    known = [key for key in keys if key in columns]
    missing = {key: _why_missing(key, columns) for key in keys if key not in columns}
    cost = next((key for key in ("run.usd", "money.per_step_usd") if key in columns), None)
    effects = [
        _effect(number, moves[path], columns, slice(2 * row, 2 * row + 2), known, cost)
        for row, (path, number) in enumerate(numbers.items())
    ]
    base = {key: float(columns[key][-1]) for key in known}
    if known:
        effects.sort(key=lambda one: -_size(one, known[0], base[known[0]]))
    return Sensitivities(change, base, tuple(effects), cost, missing, settings)


def _why_missing(key: str, columns: Mapping[str, np.ndarray]) -> str:
    """A result that does not apply, or a mistake."""
    if key.startswith("money.") or key == "run.usd":
        return _NO_PRICE
    if key.startswith("carbon.") or key == "run.kg_co2e":
        return "no grid intensity is declared (site.grid)"
    if key.startswith("run."):
        return "the tokens of the run are not stated (workload.tokens)"
    raise UsageError(f"{key!r} is not a number of this result{nearest(key, columns)}")


def _effect(
    number: Sourced, ends: Sequence[float], columns: Mapping[str, np.ndarray], rows: slice, keys: Sequence[str],
    cost: str | None,
) -> Effect:  # fmt: skip
    low, high = ends

    def at_ends(key: str) -> Ends:
        below, above = columns[key][rows].tolist()
        return Ends(below, above, _elasticity(below, above, low, high))

    def of_one_percent(key: str) -> float | None:
        exponent = at_ends(key).elasticity
        return None if exponent is None else float(columns[key][-1] * power_law_change(exponent, _ONE_PERCENT))

    feasible = columns["feasible"][rows].tolist()
    return Effect(
        number, low, high, {key: at_ends(key) for key in keys}, (bool(feasible[0]), bool(feasible[1])),
        None if cost is None else of_one_percent(cost), of_one_percent(_POWER),
    )  # fmt: skip


def _elasticity(below: float, above: float, low: float, high: float) -> float | None:
    """None for a number or a result that is zero; exactly zero where the result does not move."""
    if low == high or below <= 0.0 or above <= 0.0:
        return None
    return 0.0 if below == above else float(elasticity(above / below, high / low))


def _size(effect: Effect, key: str, base: float) -> float:
    """Largest deviation of a result from its value at rest."""
    ends = effect.results[key]
    return max(abs(ends.low - base), abs(ends.high - base))


def _searched_again(found: SearchResult, answer: Sensitivities, progress: Progress) -> Sensitivities:
    """The best plan at both ends of the numbers that matter most."""
    first, rest = answer.effects[:SEARCHED_AGAIN], answer.effects[SEARCHED_AGAIN:]
    again = [
        replace(one, searched=search_at_ends(found, one.number.path, (one.low, one.high), progress)) for one in first
    ]
    return replace(answer, effects=(*again, *rest))
