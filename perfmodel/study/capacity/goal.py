"""What a capacity question asks for, as objectives and limits of searches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from perfmodel.engine.build import Question
from perfmodel.engine.columns import evaluate_one
from perfmodel.engine.economics import SECONDS_PER_DAY
from perfmodel.engine.headline import result_numbers
from perfmodel.engine.rows import number
from perfmodel.errors import SpecError
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.specs.search import Minimised
from perfmodel.study.search.wanted import Bound, Objective, Wanted, wanted

DAYS, RATE = "run.days", "metrics.tokens_per_s"
PEAK_POWER = "energy.peak_power_w"
#: What is minimised -> key of the run, and of a token where the run has no length.
_KEYS = {
    "money": ("run.usd", "money.per_million_tokens_usd"),
    "energy": ("run.energy_kwh", "energy.per_token_j"),
}
#: Limit in a word, by the key that it is on.
_WORDS = {DAYS: "deadline", RATE: "tokens_per_s", "run.usd": "budget", PEAK_POWER: "power",
          "energy.average_power_w": "power", "memory.peak_bytes": "memory"}  # fmt: skip


@dataclass(frozen=True)
class Goal:
    """A deadline, a rate, or both, and what is as small as possible.

    Attributes
    ----------
    minimise
        ``devices``, ``money`` or ``energy``.
    days
        Calendar time of the run [day]; infinite without a deadline.
    tokens_per_s
        Least rate; 0 without one.
    key
        Result key that orders plans of one size.
    """

    minimise: Minimised
    days: float
    tokens_per_s: float
    key: str

    @property
    def bounds(self) -> tuple[Bound, ...]:
        """The goal as limits."""
        limits = [Bound(DAYS, -np.inf, self.days)] if np.isfinite(self.days) else []
        return (*limits, *([Bound(RATE, self.tokens_per_s, np.inf)] if self.tokens_per_s else []))

    @property
    def bounds_time(self) -> bool:
        """Plans of one size are ordered by time, so that the goal is a question about the first of them."""
        return self.minimise == "devices"

    def surer(self, factor: float) -> Goal:
        """The goal for times that may be longer by a factor."""
        return replace(self, days=self.days / factor, tokens_per_s=self.tokens_per_s * factor)

    def met(self, numbers: Mapping[str, float]) -> bool:
        """Numbers of a plan meet the goal."""
        return all(bool(one.holds(np.array(numbers[one.key]))) for one in self.bounds)

    def margin(self, numbers: Mapping[str, float]) -> float:
        """By how much times may be longer until the goal is missed."""
        ratios = [self.days / numbers[DAYS]] if np.isfinite(self.days) else []
        ratios += [numbers[RATE] / self.tokens_per_s] if self.tokens_per_s else []
        return min(ratios)


def goal_of(resolved: ResolvedScenario, question: Question) -> Goal:
    """The goal of a scenario on one of its clusters at one of its prices.

    Raises
    ------
    SpecError
        It needs a number that the scenario does not have.
    """
    stated = resolved.scenario.goal
    place = resolved.place("goal")
    if stated is None:
        raise SpecError(f"{place}: goal: missing; for example goal: {{minimise: devices, deadline: 60 day}}")
    evaluation, _ = evaluate_one(question.problem, question.plan)
    known = {key for key, value in result_numbers(question.problem, evaluation).items() if np.isfinite(number(value))}
    if stated.deadline is not None and DAYS not in known:
        raise SpecError(f"{place}: goal: a deadline needs workload.tokens: how much is to be trained on")
    key = DAYS if stated.deadline is not None else RATE
    if stated.minimise in _KEYS:
        key = next((one for one in _KEYS[stated.minimise] if one in known), "")
    if not key:
        priced = resolved.scenario.pricing is not None
        needs = "`site: {electricity:}`" if priced else "`pricing:` (or a device with a price)"
        raise SpecError(f"{place}: goal: to minimise money on {resolved.cluster.name}, the scenario needs {needs}")
    days = np.inf if stated.deadline is None else float(stated.deadline.value) / SECONDS_PER_DAY
    return Goal(stated.minimise, days, float(stated.tokens_per_s or 0), key)


def limits_of(resolved: ResolvedScenario, question: Question, goal: Goal) -> tuple[Bound, ...]:
    """The limits of a scenario, the power of its site at peak among them.

    Raises
    ------
    SpecError
        A limit is on something that is no number of the result, or has the wrong unit.
    """
    bounds = wanted(resolved, question).bounds
    cap = question.problem.power_cap
    peak = () if cap is None else (Bound(PEAK_POWER, -np.inf, cap),)
    contradicting = [one for one in bounds if one.key == DAYS and one.lower > goal.days]
    contradicting += [one for one in bounds if one.key == RATE and one.upper < goal.tokens_per_s]
    if contradicting:
        key = contradicting[0].key
        place = resolved.place("constraints", key)
        raise SpecError(f"{place}: constraints.{key}: contradicts the goal: nothing can keep both")
    return (*bounds, *peak)


def looked_for(key: str, bounds: tuple[Bound, ...], *, most: bool = False) -> Wanted:
    """The search of one size: the plan with the least (or the most) of a result within limits."""
    return Wanted((Objective(key, -1.0 if most else 1.0),), bounds, 1)


def limit_word(bound: Bound) -> str:
    """A limit in a word."""
    return _WORDS.get(bound.key, bound.key)
