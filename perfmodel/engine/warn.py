"""Warnings of a result: assumed numbers with their effect, missing prices, limits that bind."""

from __future__ import annotations

from perfmodel.engine.build import Question
from perfmodel.engine.columns import evaluate_moves
from perfmodel.engine.composition import Evaluation
from perfmodel.engine.result import ResultWarning
from perfmodel.engine.rows import number
from perfmodel.machine.columns import moved_one_by_one, stated_numbers
from perfmodel.provenance import Basis, Sourced
from perfmodel.units import format_quantity

#: An assumed number is perturbed by this factor to see how much the step time moves.
PERTURBATION = 1.2
#: Effects on the step time below this are listed as information, not as warnings.
NOTABLE_EFFECT = 0.01
BYTES_OF_16_BITS = 2.0


def warnings_of(question: Question, evaluation: Evaluation) -> tuple[ResultWarning, ...]:
    """All warnings, the most important first."""
    found = [
        *_assumed(question),
        *_money(question),
        *_power(question, evaluation),
        *_narrow(question),
        *_unused(question),
        *_files(question),
    ]
    return tuple(sorted(found, key=lambda one: (one.severity != "warning", -abs(one.effect or 0.0))))


def _assumed(question: Question) -> list[ResultWarning]:
    numbers = {
        one.path: one for one in question.problem.machine.provenance.values() if one.basis == Basis.ASSUMED and one.path
    }
    effects = step_effects(question, list(numbers))
    return [
        ResultWarning(
            "assumed-number",
            "warning" if abs(effects[path]) >= NOTABLE_EFFECT else "info",
            path,
            _sentence(one),
            effects[path],
        )
        for path, one in numbers.items()
    ]


def _sentence(one: Sourced) -> str:
    shown = f"{one.value:.4g}" if one.unit == "1" else format_quantity(one.value, one.unit)
    return f"{one.path} = {shown} is assumed" + (f" ({one.note})" if one.note else "")


def step_effects(question: Question, paths: list[str]) -> dict[str, float]:
    """Relative change of the step time when each number alone is 20 % larger: one column per number."""
    if not paths:
        return {}
    machine = question.problem.machine
    values = {one.path: one.value for one in machine.provenance.values()}
    values |= {path: one.value for path, one in stated_numbers(machine).items()}
    at_rest = {path: number(values[path]) for path in paths}
    moves = {path: [value * PERTURBATION] for path, value in at_rest.items()}
    steps = evaluate_moves(question.problem, question.plan, moved_one_by_one(moves, at_rest))["time.step_s"]
    return {path: float(steps[position] / steps[-1] - 1.0) for position, path in enumerate(paths)}


def _money(question: Question) -> list[ResultWarning]:
    prices = question.problem.machine.prices
    found = []
    if prices.device_rate is None:
        found.append(ResultWarning("missing-price", "info", "pricing", "no price is declared: money is null"))
    if prices.grid_intensity is None:
        found.append(
            ResultWarning("missing-grid", "info", "site.grid", "no grid intensity is declared: carbon is null")
        )
    return found


def _power(question: Question, evaluation: Evaluation) -> list[ResultWarning]:
    if number(evaluation.energy.capped) >= 1.0:
        return []
    message = "the energy per operation adds up to more than the power limit of a device; it is capped there"
    limit = question.problem.machine.provenance["energy.peak_power"]
    return [ResultWarning("power-limit", "info", limit.path, message)]


def _narrow(question: Question) -> list[ResultWarning]:
    """Products in less than 16 bits that no recipe describes: what surrounds them is not priced."""
    known, formats = question.resolved.formats.bytes_per_value, question.problem.formats
    described = {"matmul"} if formats.linear is not None else set()
    narrow = sorted(
        {name for role, name in formats.compute.items() if known(name) < BYTES_OF_16_BITS and role not in described}
    )
    message = (
        "{} products are taken at their own peak; the casts around them are not priced, because no recipe (the "
        "`linear:` block of the numerics, as in fp8-mixed) describes them"
    )
    return [ResultWarning("narrow-format", "warning", "numerics.compute", message.format(name)) for name in narrow]


def _unused(question: Question) -> list[ResultWarning]:
    """Numbers that a scenario may state and that nothing uses yet."""
    site = question.resolved.scenario.site
    if site is None or site.rack_power is None:
        return []
    return [ResultWarning("not-used", "warning", "site.rack_power", "the power of a rack limits nothing yet")]


def _files(question: Question) -> list[ResultWarning]:
    return [ResultWarning("scenario", "info", "", sentence) for sentence in question.resolved.warnings]
