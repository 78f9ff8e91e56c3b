"""A measured run beside its prediction, term by term, and the prediction of the scenario scaled by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from perfmodel.engine.build import Question
from perfmodel.engine.economics import SECONDS_PER_DAY
from perfmodel.engine.problem import total
from perfmodel.engine.result import MeasuredTerm
from perfmodel.engine.rows import amount, number
from perfmodel.engine.uncertainty import (
    NORMAL_QUANTILE_90,
    plain_operand,
    quadrature,
    residual_of_time,
    scaled_input_deviation,
)
from perfmodel.equations import metrics, uncertainty
from perfmodel.provenance import Sourced, Traced
from perfmodel.specs.measured import MeasuredBreakdown, MeasuredSpec

#: Terms of a step, without the unit of their result keys.
TERMS = tuple(MeasuredBreakdown.model_fields)
#: What a profile leaves out, as one term.
REST = "rest"
#: Result key of each measurement that says how long a step took, beside the step time itself.
RATES = {"tokens_per_second": "metrics.tokens_per_s", "mfu": "metrics.mfu"}

_STEP = "time.step_s"


def measured_answer(
    question: Question,
    here: Mapping[str, Any],
    there: Mapping[str, Any],
    reasons: tuple[str, ...] = (),
    operand: Callable[[float, str], Any] = plain_operand,
) -> dict[str, Any] | None:
    """What the result says about a measured step; None where no step was measured.

    Parameters
    ----------
    question
        The question; its scenario holds the measurement.
    here, there
        Result numbers of the scenario and of the configuration in which it was measured, by dotted key; traced for an
        explanation.
    reasons
        Why the plan of that configuration cannot be, if so.
    operand
        Makes an operand of a deviation and its name.
    """
    spec = question.resolved.scenario.measured
    if spec is None or spec.pace is None:
        return None
    name, stated = spec.pace
    predicted = there[_STEP]
    value = _operand(stated, predicted)
    step = value if name == "step_time" else uncertainty.time_at_rate(predicted, there[RATES[name]], value)
    return {
        "at": dict(spec.at),
        "step_s": amount(step),
        "predicted_s": amount(predicted),
        "difference_s": amount(step - predicted),
        "ratio": amount(uncertainty.measured_ratio(step, predicted)),
        "reasons": reasons,
        "terms": _terms(spec, there, step),
        "anchored": _anchored(question, here, step, predicted, _deviation(question, stated, operand)),
    }


def _operand(stated: Sourced, like: Any) -> Any:
    return Traced.from_sourced(stated) if isinstance(like, Traced) else float(stated.value)


def _terms(spec: MeasuredSpec, there: Mapping[str, Any], step: Any) -> tuple[MeasuredTerm, ...]:
    """Every term of the prediction; with a profile, those that it states and the rest of the step."""
    predicted = {name: there[f"time.breakdown.{name}_s"] for name in TERMS}
    told = {} if spec.breakdown is None else spec.breakdown.stated()
    whole = there[_STEP]
    if not told:
        return tuple(_term(name, None, one, step, whole) for name, one in predicted.items())
    measured = {name: _operand(one, whole) for name, one in told.items()}
    rest_predicted = total([0.0, *(one for name, one in predicted.items() if name not in told)])
    rest_measured = step - total(measured.values())
    rows = [_term(name, one, predicted[name], step, whole) for name, one in measured.items()]
    return (*rows, _term(REST, rest_measured, rest_predicted, step, whole))


def _term(name: str, measured: Any, predicted: Any, step: Any, whole: Any) -> MeasuredTerm:
    """One row; the factor by which the term alone would explain the difference, where any factor would."""
    factor = uncertainty.sole_factor(predicted, step, whole) if number(predicted) > 0.0 else None
    return MeasuredTerm(
        name,
        None if measured is None else amount(measured),
        amount(predicted),
        None if measured is None else amount(measured - predicted),
        None if factor is None or number(factor) < 0.0 else amount(factor),
    )


def _anchored(
    question: Question, here: Mapping[str, Any], measured: Any, predicted: Any, deviation: Any
) -> dict[str, Any]:
    """The prediction of the scenario, scaled by the ratio of the measurement to its own prediction."""
    step = uncertainty.ratio_estimate(here[_STEP], measured, predicted)
    factor = uncertainty.interval_factor(deviation, NORMAL_QUANTILE_90)
    tokens = here["step.tokens"]
    numbers = {
        "step_s": step,
        "tokens_per_s": metrics.tokens_per_second(tokens, step),
        "mfu": uncertainty.rate_at_time(here["metrics.mfu"], here[_STEP], step),
        "days": None,
        "p10": step / factor,
        "p90": step * factor,
    }
    if "run.tokens" in here:
        seconds = metrics.run_time(here["run.tokens"], tokens, step, here.get("run.goodput", 1.0))
        numbers["days"] = seconds / SECONDS_PER_DAY
    found = {key: None if value is None else amount(value) for key, value in numbers.items()}
    return found | {"basis": _basis(question)}


def _basis(question: Question) -> str:
    """What the interval rests on: the measurement, or it and how well stack and device are known."""
    there = question.measured_at
    if there is None:
        return "measured"
    return "anchored" if _same_stack(question, there) else question.problem.machine.confidence


def _same_stack(one: Question, other: Question) -> bool:
    """Whether residuals of the two have their causes in common: the same software on the same device."""
    first, second = one.problem.machine, other.problem.machine
    return (first.accelerator, first.software) == (second.accelerator, second.software)


def difference_deviation(one: Question, other: Question) -> float:
    """Relative deviation of the ratio of two predicted step times.

    Errors of one stack on one device have their causes in common, so that most of them cancel (what is left is what
    validation finds on pairs of runs); those of different stacks or devices are independent. An input of both with a
    stated range moves both.
    """
    residuals = [residual_of_time(question) for question in (one, other)]
    between = uncertainty.combined_deviation(*residuals)
    machine = one.problem.machine
    if _same_stack(one, other):
        left = float(machine.anchored_error or 0.0)
        if one.problem.has_experts != other.problem.has_experts:
            left = uncertainty.combined_deviation(left, float(machine.experts_error or 0.0))
        between = uncertainty.anchored_deviation(left, between)
    return float(uncertainty.combined_deviation(between, scaled_input_deviation(one, other)))


def _deviation(question: Question, stated: Sourced, operand: Callable[[float, str], Any]) -> Any:
    """Relative deviation of the scaled prediction: of the measurement, of what does not cancel, of the inputs."""
    there = question.measured_at
    low, high = (stated.value if end is None else end for end in (stated.low, stated.high))
    own = operand(quadrature(np.array([low, high, stated.value])), "deviation of the measurement from its range")
    if there is None:
        return own
    alone = residual_of_time(question, operand)
    if _same_stack(question, there):
        label = "residual of a step time scaled from another configuration"
        stated_between = operand(float(question.problem.machine.anchored_error or 0.0), label)
        between = uncertainty.anchored_deviation(stated_between, alone)
    else:
        between = uncertainty.combined_deviation(alone, residual_of_time(there, operand))
    inputs = operand(
        scaled_input_deviation(question, there), "deviation of the scaled step from the ranges of the inputs"
    )
    return uncertainty.combined_deviation(uncertainty.combined_deviation(between, inputs), own)
