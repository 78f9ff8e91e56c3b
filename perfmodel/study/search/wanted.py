"""Objectives and constraints of a search as columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.blocks import Block
from perfmodel.engine.build import Question
from perfmodel.engine.columns import evaluate_one
from perfmodel.engine.headline import result_numbers
from perfmodel.engine.rows import number
from perfmodel.errors import SpecError, nearest
from perfmodel.parallel.plan import Plan
from perfmodel.parallel.rule import Mask
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.specs.scenario import key_unit
from perfmodel.specs.search import MACHINE_SIZES, BoundSpec
from perfmodel.units import UnitError, format_quantity, parse_quantity, parse_unit

#: Objective of a search that names none.
DEFAULT_OBJECTIVE = "time.step_s"
_STRATEGY = "strategy."


@dataclass(frozen=True)
class Objective:
    """A result key, and whether less (1) or more (-1) of it is better."""

    key: str
    sign: float

    @property
    def sense(self) -> str:
        return "min" if self.sign > 0 else "max"


@dataclass(frozen=True)
class Bound:
    """Limits of a result key or a plan column, in the unit of the key."""

    key: str
    lower: float
    upper: float

    @property
    def column(self) -> str | None:
        """Plan column, for limits of the strategy."""
        return self.key.removeprefix(_STRATEGY) if self.key.startswith(_STRATEGY) else None

    def describe(self, value: float) -> str:
        """Why a value is outside."""
        unit = key_unit(self.key)
        side, limit = ("above", self.upper) if value > self.upper else ("below", self.lower)
        return f"{self.key} = {_shown(value, unit)} is {side} the limit of {_shown(limit, unit)}"

    def holds(self, values: NDArray[Any]) -> Mask:
        """Where the limits are kept."""
        return (values >= self.lower) & (values <= self.upper)


#: Units that take an SI prefix.
_PREFIXED = ("s", "B", "J", "W")


def _shown(value: float, unit: str) -> str:
    if unit in _PREFIXED:
        return format_quantity(value, unit)
    return f"{value:g}" if unit == "1" else f"{value:g} {unit}"


@dataclass(frozen=True)
class Wanted:
    """What a search looks for.

    Attributes
    ----------
    objectives
        The first one orders the answers; several give a Pareto front.
    bounds
        Limits that an answer keeps.
    top
        Answers to keep.
    exhaustive
        Everything that fits is composed, also where it cannot be an answer.
    """

    objectives: tuple[Objective, ...]
    bounds: tuple[Bound, ...]
    top: int
    exhaustive: bool = True

    @property
    def keys(self) -> tuple[str, ...]:
        """Result keys of the objectives."""
        return tuple(one.key for one in self.objectives)

    def values(self, block: Block) -> NDArray[np.float64]:
        """Objectives of a block, smaller is better, one column per objective: shape ``(size, k)``."""
        numbers = block.numbers(self.keys)
        return np.stack([one.sign * numbers[one.key].ravel() for one in self.objectives], axis=1)

    def allowed(self, block: Block) -> Mask:
        """Candidates of a block within the limits."""
        mask = np.ones(block.shape, dtype=bool)
        for bound in self.bounds:
            column = bound.column
            values = _plan_column(block.plan, column) if column else block.numbers([bound.key])[bound.key]
            mask &= bound.holds(values)
        return mask


def _plan_column(plan: Plan, name: str) -> NDArray[Any]:
    return getattr(plan, name)


def wanted(resolved: ResolvedScenario, question: Question) -> Wanted:
    """Objectives and limits of a scenario.

    Raises
    ------
    SpecError
        A key is not a number of the result, or a limit has the wrong unit.
    """
    evaluation, _ = evaluate_one(question.problem, question.plan)
    known = {key for key, value in result_numbers(question.problem, evaluation).items() if np.isfinite(number(value))}
    scenario = resolved.scenario
    stated: Mapping[str, str] = scenario.objectives or {DEFAULT_OBJECTIVE: "min"}
    objectives = tuple(
        Objective(_known(resolved, "objectives", key, known), 1.0 if sense == "min" else -1.0)
        for key, sense in stated.items()
    )
    bounds = [_bound(resolved, key, bound, known, question) for key, bound in scenario.constraints.items()]
    cap = question.problem.power_cap
    if cap is not None:
        bounds.append(Bound("energy.average_power_w", -np.inf, cap))
    return Wanted(objectives, tuple(bounds), scenario.top, bool(scenario.exhaustive))


def _known(resolved: ResolvedScenario, where: str, key: str, known: set[str]) -> str:
    if key in known:
        return key
    place = "" if resolved.document is None else f"{resolved.document.place((where, key))}: "
    needs = ""
    if key.startswith(("money.", "run.usd")):
        needs = "; it needs `pricing:`"
    elif key.startswith("run."):
        needs = "; it needs workload.tokens"
    raise SpecError(f"{place}{where}: {key!r} is not a number of this result{needs}{nearest(key, known)}")


def _bound(resolved: ResolvedScenario, key: str, bound: BoundSpec, known: set[str], question: Question) -> Bound:
    columns = {f"{_STRATEGY}{name}": name for name in (*Plan.from_columns({}).columns(), "dp", "devices")}
    if key not in columns:
        _known(resolved, "constraints", key, known | set(columns))
    place = "" if resolved.document is None else f"{resolved.document.place(('constraints', key))}: "

    def limit(value: float | str | None, absent: float) -> float:
        if value is None:
            return absent
        if value in MACHINE_SIZES:
            if key not in columns:
                raise SpecError(f"{place}constraints.{key}: {value!r} is a size of the machine; {key} is not a size")
            return float(_machine_size(question, str(value)))
        unit = "1" if key in columns else key_unit(key)
        try:
            # Results state energies in kWh and durations of runs in days: limits are in the unit of their key.
            factor = parse_unit(unit).factor
            return float(value) if isinstance(value, (int, float)) else parse_quantity(value, unit) / factor
        except UnitError as error:
            raise SpecError(f"{place}constraints.{key}: {error}") from None

    found = Bound(key, limit(bound.min, -np.inf), limit(bound.max, np.inf))
    if found.lower > found.upper:
        raise SpecError(f"{place}constraints.{key}: min {bound.min} is above max {bound.max}: nothing can be between")
    return found


def _machine_size(question: Question, name: str) -> int:
    machine = question.problem.machine
    return machine.devices_per_node if name == "node" else int(number(machine.tiers[0].devices))
