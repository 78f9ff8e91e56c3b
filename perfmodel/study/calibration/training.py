"""Calibration of software stacks on measured training steps.

Kernels and collectives keep the numbers that were measured on them; what a stack adds around them is fitted: its
matmul slow-down, the inflation of memory-bound work, what it leaves exposed of each kind of communication, its launch
overhead; and for a device the rate that it sustains at its power limit.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from perfmodel.engine.build import Question
from perfmodel.engine.columns import evaluate_columns
from perfmodel.provenance import Basis
from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.calibration.robust import Prior, Vector, fit
from perfmodel.study.progress import Progress, tracked, unseen
from perfmodel.study.validation.lines import Row
from perfmodel.study.validation.tables import RowProblem
from perfmodel.study.validation.training import VOCABULARY, measured_quantities, question_of
from perfmodel.study.validation.training_scenario import RowReader

TIME = "time.step_s"
#: Source of the numbers that a fit to published steps has put into the shipped specs.
FIT_SOURCE = "perfmodel-training-fit"
#: Relative step of the numerical derivative.
_STEP = 0.02
#: A number that fewer steps see stays where it is, but for plateau (matmul slow-down) and floor (launch overhead).
ENOUGH_STEPS = 4
FEW = ("step.matmul_slowdown", "step.block_overhead")
#: How much further the numbers of a device may move when nothing was measured on it or its class.
LOOSENED = 1.5
#: A number that moves no step by more than this share of its own change was not measured.
_UNSEEN = 1e-4


@dataclass(frozen=True)
class FreeNumber:
    """A number that may be fitted.

    Attributes
    ----------
    leaf
        Where it stands in the machine.
    deviation
        How far it may be from its prior: relative for scales, absolute for fractions.
    low, high
        Bounds.
    per
        ``software``, ``accelerator``, or ``both``: for which rows it is one number.
    """

    leaf: str
    deviation: float
    low: float
    high: float
    per: str = "software"

    @property
    def is_fraction(self) -> bool:
        """Fitted as it is; a scale is fitted as its logarithm."""
        return self.leaf.endswith("_exposed")


#: What is fitted to steps; at most eight numbers per accelerator, stack and data type.
FREE_NUMBERS = (
    FreeNumber("step.matmul_slowdown", 0.15, 0.7, 2.0),
    FreeNumber("step.elementwise_inflation", 0.3, 0.7, 4.0),
    FreeNumber("step.tensor_exposed", 0.3, 0.0, 1.0),
    FreeNumber("step.data_exposed", 0.2, 0.0, 1.0),
    FreeNumber("step.expert_exposed", 0.4, 0.0, 1.0),
    FreeNumber("step.grouped_slowdown", 0.25, 0.6, 3.0),
    FreeNumber("step.block_overhead", 0.5, 1e-6, 5e-4),
    FreeNumber("step.expert_block_overhead", 0.5, 1e-6, 2e-3),
    FreeNumber("sustained_rate", 0.08, 0.5, 1.0, per="accelerator"),
    FreeNumber("matmul.fp8.plateau", 0.08, 0.2, 0.95, per="accelerator"),
    FreeNumber("matmul.mxfp8.plateau", 0.08, 0.2, 0.95, per="accelerator"),
    FreeNumber("matmul.nvfp4.plateau", 0.08, 0.2, 0.95, per="accelerator"),
    FreeNumber("attention.bf16.plateau", 0.2, 0.1, 0.95, per="both"),
    FreeNumber("attention.bf16.backward_fraction", 0.2, 0.3, 1.2, per="both"),
)


class Slot(NamedTuple):
    """One fitted number: a leaf for a software stack (``*``: all) on an accelerator (``*``: all)."""

    leaf: str
    software: str
    accelerator: str


@dataclass(frozen=True)
class Observation:
    """A measured step and the question that predicts it."""

    row: Row
    question: Question
    measured: float
    weight: float

    def slots(self, numbers: Sequence[FreeNumber]) -> list[Slot]:
        """The numbers that this step sees and that a fit to steps may move."""
        return [self.slot(number) for number in numbers if self._may_move(number)]

    def _may_move(self, number: FreeNumber) -> bool:
        """A number of the device moves only where it was not measured itself and the stack does not state it."""
        found = self.question.problem.machine.provenance.get(number.leaf)
        if found is None or number.per != "accelerator":
            return found is not None
        return not self._is_measured(number.leaf) and not found.path.startswith("software.")

    def slot(self, number: FreeNumber) -> Slot:
        """Where a number stands for this step."""
        machine = self.question.problem.machine
        software = "*" if number.per == "accelerator" else machine.software
        accelerator = "*" if number.per == "software" else machine.accelerator
        return Slot(number.leaf, software, accelerator)

    def _is_measured(self, leaf: str) -> bool:
        """The number was measured on the device itself, not fitted to steps."""
        found = self.question.problem.machine.provenance[leaf]
        return found.basis == Basis.MEASURED and found.source != FIT_SOURCE

    def freedom(self, slot: Slot) -> float:
        """How much more than usual a number may move: one of a device that nothing is known of."""
        loose = slot.accelerator != "*" and self.question.problem.machine.confidence == "assumed"
        return LOOSENED if loose else 1.0

    def prior(self, leaf: str) -> float | None:
        """The value in the specs; None where the machine has no such number."""
        found = self.question.problem.machine.provenance.get(leaf)
        return None if found is None else float(found.value)


@dataclass(frozen=True)
class Calibration:
    """Fitted numbers and how well they explain the steps.

    Attributes
    ----------
    values
        By slot, in SI units.
    priors
        What they were before.
    residuals
        Relative error of every step after the fit, predicted over measured minus one.
    """

    values: Mapping[Slot, float]
    priors: Mapping[Slot, float]
    residuals: tuple[float, ...] = field(repr=False)

    def leaves(self, observation: Observation, numbers: Sequence[FreeNumber] = FREE_NUMBERS) -> dict[str, float]:
        """The fitted numbers that a step sees, by leaf."""
        return {slot.leaf: self.values[slot] for slot in observation.slots(numbers) if slot in self.values}


def observe(rows: Sequence[Row], catalogue: Catalogue, progress: Progress = unseen) -> list[Observation]:
    """The rows that can be predicted, as observations; equal configurations share the weight of their square root."""
    reader = RowReader(catalogue, catalogue.load("vocabulary", VOCABULARY))
    found: list[tuple[Row, Question, float, str]] = []
    for row in tracked(rows, "rows read", progress):
        measured = measured_quantities(row).get("iter_time_s")
        if measured is None:
            continue
        try:
            question, scenario = question_of(row, reader, catalogue)
        except RowProblem:
            continue  # `validate` names them; a calibration uses what can be predicted
        found.append((row, question, measured, json.dumps(scenario.mapping, sort_keys=True, default=str)))
    keys = [key for *_, key in found]
    return [Observation(row, one, measured, 1.0 / np.sqrt(keys.count(key))) for row, one, measured, key in found]


def predicted(observation: Observation, leaves: Mapping[str, float]) -> float:
    """Step time with numbers of the machine replaced [s]."""
    question = observation.question
    columns = {leaf: np.array([value]) for leaf, value in leaves.items()}
    return float(evaluate_columns(question.problem, question.plan, columns)[TIME][0])


def calibrate(
    observations: Sequence[Observation],
    numbers: Sequence[FreeNumber] = FREE_NUMBERS,
    priors: Mapping[Slot, float] | None = None,
    progress: Progress = unseen,
) -> Calibration:
    """Fit the free numbers to measured steps.

    Parameters
    ----------
    observations
        Steps of any stacks and devices; each fits the numbers that it sees.
    numbers
        What may move.
    priors
        Numbers to start from instead of those of the specs.
    progress
        Told about every step of every pass of the fit.

    Returns
    -------
    Calibration
        One value per slot that some observation depends on.
    """
    seen = Counter(slot for one in observations for slot in one.slots(numbers))
    slots = [slot for slot, count in seen.items() if count >= ENOUGH_STEPS or slot.leaf in FEW]
    problem = _Fit(observations, numbers, slots, priors or {}, progress)
    point = fit(problem.model, problem.prior(), np.array([one.weight for one in observations]))
    residuals, slopes = problem.model(point)
    informed = [slot for slot, seen in zip(slots, np.abs(slopes).max(axis=0) > _UNSEEN, strict=True) if seen]
    values = {slot: problem.value(slot, point[problem.position[slot]]) for slot in informed}
    priors = {slot: problem.start[slot] for slot in informed}
    return Calibration(values, priors, tuple(float(np.expm1(one)) for one in residuals))


class _Fit:
    """The regression problem: slots as a vector, steps as residuals."""

    def __init__(
        self,
        observations: Sequence[Observation],
        numbers: Sequence[FreeNumber],
        slots: Sequence[Slot],
        priors: Mapping[Slot, float],
        progress: Progress,
    ) -> None:
        self.progress, self.passes = progress, 0
        self.observations = observations
        self.slots = slots
        self.numbers = {number.leaf: number for number in numbers}
        self.position = {slot: position for position, slot in enumerate(slots)}
        self.start = {
            slot: priors.get(slot, float(one.prior(slot.leaf) or 0.0))
            for one in observations
            for slot in one.slots(numbers)
        }

        self.freedom = {slot: one.freedom(slot) for one in observations for slot in one.slots(numbers)}

    def coordinate(self, slot: Slot, value: float) -> float:
        """Logarithm of a scale, a fraction as it is."""
        return value if self.numbers[slot.leaf].is_fraction else float(np.log(max(value, self.numbers[slot.leaf].low)))

    def value(self, slot: Slot, coordinate: float) -> float:
        """Inverse of :meth:`coordinate`."""
        return float(coordinate if self.numbers[slot.leaf].is_fraction else np.exp(coordinate))

    def prior(self) -> Prior:
        """Start at the specs, with the spread and bounds of the free numbers."""
        free = [self.numbers[slot.leaf] for slot in self.slots]
        pairs = list(zip(self.slots, free, strict=True))
        low = np.array([self.coordinate(slot, number.low) for slot, number in pairs])
        high = np.array([self.coordinate(slot, number.high) for slot, number in pairs])
        middle = np.clip([self.coordinate(slot, self.start[slot]) for slot in self.slots], low, high)
        deviation = np.array([number.deviation for number in free])
        return Prior(middle, deviation * np.array([self.freedom[slot] for slot in self.slots]), low, high)

    def model(self, point: Vector) -> tuple[Vector, Vector]:
        """Log ratios of predicted to measured, and their slopes."""
        residuals = np.empty(len(self.observations))
        slopes = np.zeros((len(self.observations), len(self.slots)))
        self.passes += 1
        what = f"pass {self.passes} of the fit, steps"
        for row, one in enumerate(tracked(self.observations, what, self.progress)):
            found = one.slots(list(self.numbers.values()))
            seen = [self.position[slot] for slot in found if slot in self.position]
            times = self._times(one, seen, point)
            logs = np.log(times)
            residuals[row] = logs[-1] - np.log(one.measured)
            slopes[row, seen] = (logs[0:-1:2] - logs[1:-1:2]) / (2.0 * _STEP)
        return residuals, slopes

    def _times(self, one: Observation, seen: Sequence[int], point: Vector) -> Vector:
        """Step time with each number moved up and down, and as it is: one evaluation with columns."""
        count = 2 * len(seen) + 1
        columns: dict[str, Vector] = {}
        for order, position in enumerate(seen):
            slot = self.slots[position]
            moved = np.full(count, point[position])
            moved[2 * order] += _STEP
            moved[2 * order + 1] -= _STEP
            columns[slot.leaf] = moved if self.numbers[slot.leaf].is_fraction else np.exp(moved)
        plans = one.question.plan.take(np.zeros(count, dtype=np.int64))
        return evaluate_columns(one.question.problem, plans, columns)[TIME]
