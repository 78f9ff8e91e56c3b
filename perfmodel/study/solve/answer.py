"""The answer of a solution: the value, what it means, and the full result there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from perfmodel.engine.build import build_question
from perfmodel.engine.columns import evaluate_one
from perfmodel.engine.evaluate import answer as evaluate_question
from perfmodel.engine.headline import result_numbers
from perfmodel.engine.result import Result
from perfmodel.errors import SpecError, nearest
from perfmodel.specs.problems import Problem, raise_problems
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.specs.scenario import key_unit
from perfmodel.study.progress import Progress, unseen
from perfmodel.study.solve.curve import Curve
from perfmodel.study.solve.inputs import Input, input_of
from perfmodel.study.solve.roots import TOLERANCE, Solution, solve_freely, solve_whole
from perfmodel.study.words import shown, shown_result
from perfmodel.units import UnitError, parse_quantity, parse_unit


@dataclass(frozen=True)
class SolveResult:
    """The answer of a solution.

    Attributes
    ----------
    varied
        The input, its unit, and where it was looked for.
    key, target
        The result key and what it had to be, in the unit of the key.
    solution
        What was found, and all that was tried.
    result
        Full result at the value; without one, of the value that comes nearest to the target.
    """

    varied: Input
    key: str
    target: float
    solution: Solution
    result: Result

    @property
    def question(self) -> str:
        """What was asked: says how the answer is shown."""
        return "solve"

    @property
    def value(self) -> float | None:
        """Value of the input, SI."""
        return self.solution.value

    @property
    def feasible(self) -> bool:
        """The target is reached by a plan that can be."""
        return self.result.feasible

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why there is no answer."""
        return self.result.reasons

    @property
    def exact(self) -> bool:
        """The result at the value is the target, and not only at least as good."""
        if self.value is None:
            return False
        return abs(self.result.value(self.key) - self.target) <= TOLERANCE * abs(self.target)

    @property
    def written(self) -> str:
        """The value for people, with its unit."""
        return "" if self.value is None else shown(self.value, self.varied.unit)

    @property
    def sentence(self) -> str:
        """The value and what is attained there; nothing where the target is not reached."""
        if self.value is None:
            return ""
        here, asked = shown_result(self.key, self.result.value(self.key)), shown_result(self.key, self.target)
        if self.exact:
            what = f"brings {self.key} to {here}"
        else:
            what = f"is the {self.solution.how} value that meets {self.key} = {asked} ({here} there)"
        again = f"; it is passed {self.solution.crossings} times, this is the first" if self.solution.several else ""
        return f"{self.varied.path} = {self.written} {what}{again}"

    @property
    def looked(self) -> str:
        """Where the value was looked for."""
        ends = (shown(one, self.varied.unit) for one in (self.varied.lower, self.varied.upper))
        return f"looked for from {' to '.join(ends)}"

    def to_dict(self) -> dict[str, Any]:
        """The published JSON object: that of the result at the value, and what was solved."""
        reached, varied = self.solution.reached, self.varied
        return self.result.to_dict() | {
            "vary": varied.path,
            "value": self.value,
            "unit": varied.unit,
            "written": self.written or None,
            "target": {"key": self.key, "value": self.target, "unit": key_unit(self.key)},
            "exact": self.exact,
            "meets_target": self.solution.how if self.value is not None else None,
            "crossings": self.solution.crossings,
            "between": {"from": varied.lower, "to": varied.upper},
            "reached": None if reached is None else {"from": reached[0], "to": reached[1]},
        }

    def to_json(self, *, indent: int | None = 2) -> str:
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def report(self, path: str | Path) -> None:
        """Write the one-file HTML report of the result at the value."""
        said = tuple(line for line in (self.sentence, self.looked) if line)
        replace(self.result, describe=(*said, *self.result.describe)).report(path)


def solve(resolved: ResolvedScenario, progress: Progress = unseen) -> SolveResult:
    """Find the value of the input that a scenario varies.

    Raises
    ------
    SpecError
        The input or the target is not a number of this scenario.
    """
    key, target = _target(resolved)
    varied = input_of(resolved)
    found = _solved(resolved, Curve(resolved, varied, key, progress), target)
    if found.solution.how == "exact" and found.value is not None and not found.exact and varied.column is not None:
        # A scenario with this number differs in more than the number of the machine: then each value is one of its own.
        found = _solved(resolved, Curve(resolved, replace(varied, column=None), key, progress), target)
    return found


def _solved(resolved: ResolvedScenario, curve: Curve, target: float) -> SolveResult:
    varied, key = curve.varied, curve.key
    solution = (solve_whole if varied.whole else solve_freely)(curve, target)
    at = solution.value if solution.value is not None else _nearest(solution, target)
    changes = {} if at is None else {varied.path: varied.written(at)}
    result = evaluate_question(build_question(resolved.candidate(**changes)))
    why = result.reasons
    if solution.value is None:
        why = (_unreached(varied, key, target, solution), *why)
    named = {"name": resolved.name, "sha256": resolved.sha256}
    said = replace(result, scenario=named, question="solve", feasible=not why, reasons=why)
    return SolveResult(varied, key, target, solution, said)


def _nearest(solution: Solution, target: float) -> float | None:
    """The value whose result comes nearest to the target, of a plan that can be if there is one."""
    tried = solution.samples
    known = np.isfinite(tried.results)
    kept = np.flatnonzero(known & tried.feasible if (known & tried.feasible).any() else known)
    if not len(kept):
        return None
    return float(tried.values[kept[int(np.argmin(np.abs(tried.results[kept] - target)))]])


def _unreached(varied: Input, key: str, target: float, solution: Solution) -> str:
    """What can be reached instead."""
    where = f"with {varied.path} from {shown(varied.lower, varied.unit)} to {shown(varied.upper, varied.unit)}"
    reached, wanted = solution.reached, shown_result(key, target)
    if reached is None:
        return f"no plan keeps the integer rules of model and machine {where}"
    low, high = (shown_result(key, one) for one in reached)
    if low == high:
        return f"{key} = {wanted} is not reached: it stays at {low} {where}"
    meets = "" if np.any(solution.samples.feasible) else " (and no plan of these fits)"
    return f"{key} = {wanted} is not reached: it goes from {low} to {high} {where}{meets}"


def _target(resolved: ResolvedScenario) -> tuple[str, float]:
    """The result key and its target in the unit of the key."""
    stated: Mapping[str, float | str] = resolved.scenario.until or {}
    key, value = next(iter(stated.items()))
    place = resolved.place("until", key)
    question = build_question(resolved.candidate())
    evaluation, _ = evaluate_one(question.problem, question.plan)
    known = {name for name in result_numbers(question.problem, evaluation) if not name.startswith("step.")}
    if key not in known:
        needs = "; it needs `pricing:`" if key.startswith(("money.", "run.usd")) else ""
        needs = "; it needs workload.tokens" if key.startswith("run.") and not needs else needs
        what = f"{key!r} is not a number of this result{needs}{nearest(key, known)}"
        raise_problems([Problem(place, "until", what)])
    try:
        unit = key_unit(key)
        target = parse_quantity(value, unit) / parse_unit(unit).factor if isinstance(value, str) else float(value)
    except UnitError as error:
        raise SpecError(f"{place}: until.{key}: {error}") from None
    if not np.isfinite(target) or target <= 0.0:
        raise SpecError(f"{place}: until.{key}: expected a target above 0, got {value}")
    return key, float(target)
