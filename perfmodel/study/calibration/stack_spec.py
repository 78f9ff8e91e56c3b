"""From fitted numbers to a software spec, and the calibration of one stack on one accelerator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.errors import UsageError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.writer import exact_quantity
from perfmodel.study.calibration.training import FREE_NUMBERS, Calibration, FreeNumber, Observation, calibrate, observe
from perfmodel.study.progress import Progress, unseen
from perfmodel.study.validation.lines import Row

#: Columns whose range says where the numbers hold.
VALIDITY = ("n_gpus", "seq_len", "micro_batch", "hidden", "layers", "tp", "pp", "cp", "ep")
#: Units of the leaves that have one.
_UNITS = {"step.block_overhead": "s", "step.expert_block_overhead": "s"}
#: Significant digits of a fitted number.
DIGITS = 4


@dataclass(frozen=True)
class StackCalibration:
    """A calibrated stack.

    Attributes
    ----------
    spec
        A software spec that extends the stack; plain data.
    changes
        Leaf -> before and after, in SI units.
    residuals
        Relative errors of the fitted steps.
    validity
        Column -> smallest and largest value among the steps.
    """

    spec: dict[str, Any]
    changes: dict[str, tuple[float, float]]
    residuals: tuple[float, ...]
    validity: dict[str, tuple[float, float]]


def calibrate_stack(
    rows: Sequence[Row], accelerator: str, software: str, catalogue: Catalogue, progress: Progress = unseen
) -> StackCalibration:
    """Fit a stack on an accelerator to measured steps.

    Parameters
    ----------
    rows
        A table of training runs; only those of the stack on the accelerator count.
    accelerator, software
        Names of the catalogue.
    progress
        Told about every row, and every step of the fit.

    Raises
    ------
    UsageError
        No row is a step of the stack on the accelerator that can be predicted.
    """
    wanted = catalogue.load("accelerator", accelerator).name, catalogue.load("software", software).name
    every = observe(rows, catalogue, progress)
    found = [one for one in every if _where(one) == wanted]
    if not found:
        others = sorted({f"{stack} on {device}" for device, stack in map(_where, every)})
        raise UsageError(
            f"no row of the table is a step of {wanted[1]} on {wanted[0]} that can be predicted; "
            f"the table has {', '.join(others) or 'none'}"
        )
    numbers = [number for number in FREE_NUMBERS if number.per != "accelerator"]
    fitted = calibrate(found, numbers, progress=progress)
    changes = {slot.leaf: (fitted.priors[slot], rounded(value)) for slot, value in fitted.values.items()}
    validity = _validity([one.row for one in found])
    return StackCalibration(_spec(*wanted, changes, fitted, validity), changes, fitted.residuals, validity)


def _where(one: Observation) -> tuple[str, str]:
    machine = one.question.problem.machine
    return machine.accelerator, machine.software


def rounded(value: float) -> float:
    """A number with the digits that a calibrated spec states."""
    return float(f"{value:.{DIGITS}g}")


def _validity(rows: Sequence[Row]) -> dict[str, tuple[float, float]]:
    ranges: dict[str, tuple[float, float]] = {}
    for column in VALIDITY:
        values = [float(row[column]) for row in rows if row.get(column)]
        if values:
            ranges[column] = min(values), max(values)
    return ranges


def _spec(
    accelerator: str,
    software: str,
    changes: dict[str, tuple[float, float]],
    fitted: Calibration,
    validity: dict[str, tuple[float, float]],
) -> dict[str, Any]:
    errors = np.abs(fitted.residuals)
    held = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in validity.items())
    spec: dict[str, Any] = {
        "kind": "software",
        "extends": software,
        "name": f"{software}-on-{accelerator}",
        "title": f"{software}, calibrated on {accelerator}",
        "aliases": [],
        "note": f"Fitted to {errors.size} measured steps; mean error {100 * errors.mean():.1f} %, largest "
        f"{100 * errors.max():.1f} %. Range of the steps: {held}.",
        "calibrated_on": [accelerator],
    }
    for leaf, (before, after) in changes.items():
        place(
            spec, leaf, accelerator, number_entry(leaf, after, "user", f"fitted to measured steps; before {before:.4g}")
        )
    return spec


def number_entry(leaf: str, value: float, source: str, note: str, basis: str = "measured") -> dict[str, Any]:
    """A number as a file states it, with its source and basis."""
    unit = _UNITS.get(leaf)
    written: Any = exact_quantity(value, unit) if unit else value
    return {"value": written, "source": source, "basis": basis, "note": note}


def place(spec: dict[str, Any], leaf: str, accelerator: str, entry: dict[str, Any]) -> None:
    """Put a number where a software file states it: in the behaviour, or under the accelerator."""
    head, _, rest = leaf.partition(".")
    if head == "step":
        spec.setdefault("behaviour", {})[rest] = entry
        return
    data_type, _, name = rest.partition(".")
    own = spec.setdefault("efficiency", {}).setdefault(accelerator, {})
    own.setdefault(head, {}).setdefault(data_type, {})[name] = entry


__all__ = ["FreeNumber", "StackCalibration", "calibrate_stack", "number_entry", "place", "rounded"]
