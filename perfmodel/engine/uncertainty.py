"""Intervals of the headlines: from the residuals of the studies behind the equations and the ranges of the inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from perfmodel.engine.build import Question
from perfmodel.engine.columns import evaluate_columns, evaluate_moves
from perfmodel.engine.rows import amount
from perfmodel.equations import uncertainty
from perfmodel.machine.columns import stated_numbers
from perfmodel.provenance import Sourced
from perfmodel.workload.operators import EXPERTS

#: Standard normal quantile of 90 %: the bounds p10 and p90 of an 80 % interval.
NORMAL_QUANTILE_90 = 1.2815515655446004

_TIME, _ENERGY, _MONEY = "time.step_s", "energy.per_step_j", "money.per_step_usd"
_TIME_KEYS = (_TIME, "run.days", "run.device_hours")
_MONEY_KEYS = (_MONEY, "money.per_million_tokens_usd", "run.usd")
_RATE_KEYS = ("metrics.mfu", "metrics.hfu", "metrics.tokens_per_s", "metrics.tokens_per_s_per_device")
_ENERGY_KEYS = ("energy.per_step_j", "energy.per_token_j", "run.energy_kwh", "carbon.per_step_kg", "run.kg_co2e")


def plain_operand(value: float, _: str) -> float:
    """An operand of an evaluation that is not traced: the number itself."""
    return value


def intervals(
    question: Question, numbers: Mapping[str, Any], operand: Callable[[float, str], Any] = plain_operand
) -> dict[str, dict[str, Any]]:
    """An 80 % interval for every headline that exists.

    Parameters
    ----------
    question
        The question; its machine knows the residual of its class of device and stack, and the stated
        ranges of its numbers.
    numbers
        Result numbers by dotted key; traced for an explanation.
    operand
        Makes an operand of a deviation and its name; the number itself unless it is to be traced.

    Notes
    -----
    The residual of the class, and the spread that the stated ranges of the inputs cause (each taken as an
    80 % interval, all independent), add up in quadrature.
    """
    machine = question.problem.machine
    spread = input_deviations(question, (_TIME, _ENERGY, _MONEY))
    inputs = {key: operand(value, f"deviation of {key} from the ranges of the inputs") for key, value in spread.items()}
    time = uncertainty.combined_deviation(residual_of_time(question, operand), inputs[_TIME])
    memory = operand(float(machine.memory_error or 0.0), "residual of memory")
    alone = operand(float(machine.power_error or 0.0), "residual of power")
    power = uncertainty.combined_deviation(alone, inputs[_ENERGY])
    energy = uncertainty.combined_deviation(time, power)
    money = uncertainty.combined_deviation(time, inputs[_MONEY])
    widths = dict.fromkeys((*_TIME_KEYS, *_RATE_KEYS), time) | dict.fromkeys(_ENERGY_KEYS, energy)
    widths |= dict.fromkeys(_MONEY_KEYS, money)
    widths |= {"memory.peak_bytes": memory, "energy.average_power_w": power}
    return {
        key: _interval(numbers[key], deviation, machine.confidence)
        for key, deviation in widths.items()
        if numbers.get(key) is not None
    }


def residual_of_time(question: Question, operand: Callable[[float, str], Any] = plain_operand) -> Any:
    """Relative deviation of a step time by how well device, stack and family of the model are known."""
    machine = question.problem.machine
    residual = operand(float(machine.relative_error or 0.0), f"residual of step times, {machine.confidence}")
    if EXPERTS not in question.problem.graph.axes:
        return residual
    experts = operand(float(machine.experts_error or 0.0), "residual of models with experts")
    return uncertainty.combined_deviation(residual, experts)


def _interval(middle: Any, deviation: Any, basis: str) -> dict[str, Any]:
    factor = uncertainty.interval_factor(deviation, NORMAL_QUANTILE_90)
    bounds = {"p10": middle / factor, "p50": middle, "p90": middle * factor}
    return {name: amount(value) for name, value in bounds.items()} | {"basis": basis}


def input_deviations(question: Question, keys: Sequence[str]) -> dict[str, float]:
    """Relative deviation of results from the stated ranges of the inputs, each moved alone to its ends.

    The ends are columns of one evaluation: two rows per number and one for the nominal values.
    """
    moves = list(_ranged(question).values())
    columns = _at_the_ends(question, moves)
    return {key: quadrature(columns[key]) if key in columns else 0.0 for key in keys}


def scaled_input_deviation(here: Question, there: Question) -> float:
    """The same of the step time here over that there: an input of both moves both, so that most of it cancels."""
    ranged, ranged_there = _ranged(here), _ranged(there)
    shared = [one for path, one in ranged.items() if ranged_there.get(path) == one]
    apart = [[one for one in found.values() if one not in shared] for found in (ranged, ranged_there)]
    moves = [*shared, *apart[0], *(None for _ in apart[1])]
    moves_there = [*shared, *(None for _ in apart[0]), *apart[1]]
    steps, steps_there = _at_the_ends(here, moves)[_TIME], _at_the_ends(there, moves_there)[_TIME]
    return quadrature(steps / steps_there)


def _ranged(question: Question) -> dict[str, Sourced]:
    """Numbers of the machine that state a range, by path."""
    machine = question.problem.machine
    # A product that is known by the path of one of its factors is moved by that factor.
    stated = stated_numbers(machine)
    numbers = [stated.get(one.path, one) for one in machine.provenance.values()]
    return {one.path: one for one in numbers if one.path and (one.low is not None or one.high is not None)}


def _at_the_ends(question: Question, moves: Sequence[Sourced | None]) -> dict[str, np.ndarray]:
    """Result columns with two rows for each number at its ends (None: at rest), and one row of nominal values."""
    rows = 2 * len(moves) + 1
    hardware: dict[str, np.ndarray] = {}
    for position, one in enumerate(moves):
        if one is None:
            continue
        column = np.full(rows, one.value)
        column[2 * position] = one.value if one.low is None else one.low
        column[2 * position + 1] = one.value if one.high is None else one.high
        hardware[one.path] = column
    if not hardware:  # nothing moves here, while something does in the question that this one is compared with
        plans = question.plan.take(np.zeros(rows, dtype=np.int64))
        return evaluate_columns(question.problem, plans)
    return evaluate_moves(question.problem, question.plan, hardware)


def quadrature(column: np.ndarray) -> float:
    """Root of the summed squares of the half ranges, over the nominal value in the last row."""
    half = np.abs(column[1:-1:2] - column[0:-1:2]) / (2.0 * NORMAL_QUANTILE_90 * column[-1])
    return float(np.sqrt(np.sum(half * half)))
