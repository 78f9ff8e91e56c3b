"""A measured step beside its prediction, and the prediction that is scaled by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfmodel.engine.result import MeasuredTerm, Result
from perfmodel.report.display import (
    MISSING,
    clean,
    column,
    is_number,
    key_quantity,
    label_of_key,
    percent,
    quantity,
    scale,
    signed_percent,
    significant,
)
from perfmodel.report.table import Table

_REST = "all other terms"


def measured_table(result: Result) -> Table | None:
    """The terms of the measured step, its ratio to the prediction, and the scaled prediction of the scenario."""
    told = result.measured
    if not told:
        return None
    terms = [row for row in told["terms"] if row.predicted_s or row.measured_s]
    profiled = any(row.measured_s is not None for row in terms)
    factor, symbol = scale([told["step_s"], told["predicted_s"]], "s")
    rows = _profiled_rows(terms, factor) if profiled else _sole_rows(terms, factor)
    step = column([told["predicted_s"], told["step_s"], told["difference_s"]], factor)
    # In the order of the columns: the prediction first, as nothing else is known of a term without a profile.
    last = f"x {significant(told['ratio'])}"
    total = ("step", *step, last) if profiled else ("step", step[0], f"measured {step[1]}", last)
    headers = ("term", f"predicted {symbol}", f"measured {symbol}", f"difference {symbol}", "measured / predicted")
    if not profiled:
        headers = ("term", f"predicted {symbol}", "share", "alone would explain it")
    title = "Measured step" + (f", at {_at(told['at'])}" if told["at"] else "")
    return Table(title, headers, (*rows, total), totals=1, notes=(*_reasons(told), _scaled(result, told)))


def _at(at: Mapping[str, Any]) -> str:
    return ", ".join(f"{clean(path)} = {clean(value)}" for path, value in at.items())


def _name(row: MeasuredTerm) -> str:
    return _REST if row.term == "rest" else label_of_key(f"{row.term}_s")


def _profiled_rows(terms: Sequence[MeasuredTerm], factor: float) -> list[tuple[str, ...]]:
    """Largest difference first."""
    ordered = sorted(terms, key=lambda row: -abs(row.difference_s or 0.0))
    return [
        (_name(row), *column([row.predicted_s, row.measured_s, row.difference_s], factor), _times(row))
        for row in ordered
    ]


def _times(row: MeasuredTerm) -> str:
    if not row.predicted_s or row.measured_s is None:
        return MISSING
    return f"x {significant(row.measured_s / row.predicted_s)}"


def _sole_rows(terms: Sequence[MeasuredTerm], factor: float) -> list[tuple[str, ...]]:
    """Largest term first: a profile is not there, so that each could be the cause."""
    ordered = sorted(terms, key=lambda row: -row.predicted_s)
    whole = sum(row.predicted_s for row in terms)
    return [
        (
            _name(row),
            column([row.predicted_s], factor)[0],
            percent(row.predicted_s / whole),
            f"x {significant(row.factor)}" if is_number(row.factor) else "cannot",
        )
        for row in ordered
    ]


def _reasons(told: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"that plan is predicted not to be possible: {clean(one)}" for one in told["reasons"])


def _scaled(result: Result, told: Mapping[str, Any]) -> str:
    """What the measurement says about the scenario."""
    anchored = told["anchored"]
    moved = signed_percent(told["ratio"] - 1.0)
    rates = f"{key_quantity('metrics.tokens_per_s', anchored['tokens_per_s'])}, MFU {percent(anchored['mfu'])}"
    days = f", {key_quantity('run.days', anchored['days'])} for the run" if is_number(anchored["days"]) else ""
    if not told["at"]:
        return f"the step took {moved} against the prediction; with it: {rates}{days}"
    between = f"80 % interval {quantity(anchored['p10'], 's')} to {quantity(anchored['p90'], 's')}"
    step = f"{quantity(anchored['step_s'], 's')} per step ({between})"
    alone = quantity(result.time.get("step_s"), "s")
    return f"{moved} against its prediction; this scenario scaled by it: {step} instead of {alone}, {rates}{days}"
