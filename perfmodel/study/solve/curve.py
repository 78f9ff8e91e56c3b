"""One result as a function of one input, for many values at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.build import Question, build_question
from perfmodel.engine.columns import evaluate_columns, evaluate_one
from perfmodel.engine.headline import headline_columns, plan_rules
from perfmodel.errors import SpecError, UnsupportedOperator
from perfmodel.parallel.rules import violated
from perfmodel.specs.axes import Axis
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.progress import Progress, tracked, unseen
from perfmodel.study.search.choices import ROW_PATHS, chosen_values, plan_space
from perfmodel.study.solve.inputs import Input


@dataclass(frozen=True)
class Samples:
    """The result at some values of the input.

    Attributes
    ----------
    values
        Of the input.
    results
        Of the result; not a number where there is none (an integer rule is broken, or the value is not allowed).
    feasible
        Where the plan can be: rules kept, memory and power enough.
    """

    values: NDArray[np.float64]
    results: NDArray[np.float64]
    feasible: NDArray[np.bool_]


@dataclass(frozen=True)
class Curve:
    """Evaluates a result key at values of an input.

    Numbers of the machine and sizes of a plan are columns of one call; any other value is a scenario of its own.
    """

    resolved: ResolvedScenario
    varied: Input
    key: str
    progress: Progress = unseen

    @functools.cached_property
    def question(self) -> Question:
        """The scenario as it is written."""
        return build_question(self.resolved.candidate())

    @property
    def is_columns(self) -> bool:
        """Many values cost little more than one."""
        return self.varied.column is not None or self.varied.path in ROW_PATHS

    def at(self, values: NDArray[np.float64]) -> Samples:
        """Sample the curve."""
        with np.errstate(all="ignore"):
            if self.varied.column is not None:
                return self._of_hardware(values, self.varied.column)
            if self.varied.path in ROW_PATHS:
                return self._of_plans(values)
            return self._of_scenarios(values)

    def _of_hardware(self, values: NDArray[np.float64], path: str) -> Samples:
        problem = self.question.problem
        plan = self.question.plan.take(np.zeros(len(values), dtype=np.int64))
        columns = evaluate_columns(problem, plan, {path: values}, self.resolved.devices)
        return self._samples(values, columns, np.ones(len(values), dtype=bool))

    def _of_plans(self, values: NDArray[np.float64]) -> Samples:
        whole = tuple(int(value) for value in values)
        axis = Axis(self.varied.path, whole, self.resolved.place("vary"))
        chosen = chosen_values({axis.path: axis}, self.question, None) or {}
        own = self.question.plan
        if ROW_PATHS[axis.path] != "dp_replicate":
            chosen["rows"]["dp_replicate"] = own.dp_replicate[:1]
        space = plan_space(chosen, self.question, own.layers_per_stage)
        rows = np.arange(len(values), dtype=np.int64)
        plan = space.plans(rows)
        devices = space.row_columns(rows)["devices"]
        columns = evaluate_columns(self.question.problem, plan, None, devices)
        kept = ~violated(plan_rules(self.question.problem, plan, devices)) & (plan.devices == devices)
        return self._samples(values, columns, kept)

    def _samples(
        self, values: NDArray[np.float64], columns: dict[str, NDArray[Any]], kept: NDArray[np.bool_]
    ) -> Samples:
        results = np.where(kept, columns[self.key], np.nan)
        cap = self.question.problem.power_cap
        feasible = columns["feasible"] & kept
        if cap is not None:
            feasible = feasible & (columns["energy.average_power_w"] <= cap)
        return Samples(values, results, feasible)

    def _of_scenarios(self, values: NDArray[np.float64]) -> Samples:
        found: list[tuple[float, bool]] = []
        errors: list[Exception] = []
        for value in tracked(list(values), "values tried", self.progress):
            try:
                found.append(self._of_scenario(float(value)))
            except (SpecError, UnsupportedOperator) as error:
                errors.append(error)
                found.append((math.nan, False))
        if len(errors) == len(values):
            raise errors[0]
        return Samples(values, np.array([one[0] for one in found]), np.array([one[1] for one in found]))

    def _of_scenario(self, value: float) -> tuple[float, bool]:
        changed = self.resolved.candidate(**{self.varied.path: self.varied.written(value)})
        question = build_question(changed)
        problem, plan, devices = question.problem, question.plan, changed.devices
        evaluation, _ = evaluate_one(problem, plan)
        columns = headline_columns(problem, plan, evaluation, devices)
        if bool(violated(plan_rules(problem, plan, devices))[0]):
            return math.nan, False
        within = problem.power_cap is None or columns["energy.average_power_w"][0] <= problem.power_cap
        return float(columns[self.key][0]), bool(columns["feasible"][0] and within)


def joined(samples: Sequence[Samples]) -> Samples:
    """Samples of one curve in the order of the input, each value once."""
    values = np.concatenate([one.values for one in samples])
    unique, first = np.unique(values, return_index=True)
    return Samples(
        unique,
        np.concatenate([one.results for one in samples])[first],
        np.concatenate([one.feasible for one in samples])[first],
    )
