"""Fit the shipped software stacks to the calibration rows of the shipped table, and write the numbers into their files.

``python tools/calibrate_stacks.py [--write]``: without ``--write`` it prints what would change. All stacks and
devices are fitted together: the rate that a device sustains is one number for all stacks that ran on it.
``--without ACCELERATOR`` leaves the rows of an accelerator out and scores them.
"""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from perfmodel.engine.uncertainty import NORMAL_QUANTILE_90, input_deviations
from perfmodel.machine.columns import with_columns
from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.calibration.stack_spec import number_entry
from perfmodel.study.calibration.training import (
    FIT_SOURCE,
    FREE_NUMBERS,
    TIME,
    Calibration,
    Observation,
    Slot,
    calibrate,
    observe,
    predicted,
)
from perfmodel.study.validation.kinds import KINDS, shipped_table
from perfmodel.study.validation.tables import matching, read_table

#: What the specs said before the first fit; a number that is not there starts from the specs.
PRIORS = Path(__file__).with_name("stack_priors.csv")
#: Share of unseen steps of a stack that its residual alone shall explain; with the pooling below, the intervals of all
#: of them hold somewhat more, as intervals of forms that were chosen in their sight should.
COVERED = 0.74
#: Smallest residual: repeated runs of one configuration differ by as much.
SMALLEST = 0.02
#: Steps that all stacks together count for beside the own ones of a stack.
POOL = 10
#: Relative change that is worth writing.
WORTH_WRITING = 5e-3


def main() -> None:
    """Fit, print, and write if asked to."""
    arguments = argparse.ArgumentParser(description="Fit the shipped software stacks to published steps.")
    arguments.add_argument("--write", action="store_true")
    arguments.add_argument("--without", metavar="ACCELERATOR", action="append", default=[])
    options = arguments.parse_args()
    catalogue = Catalogue()
    table = read_table(shipped_table("training", KINDS["training"]), KINDS["training"].needed)
    observations = observe([row for _, row in matching(table, ["canonical=1"])], catalogue)
    used = [one for one in observations if one.row["role"] == "calibration" and _device(one) not in options.without]
    priors = read_priors(PRIORS)
    fitted = calibrate(used, priors=priors)
    for slot in sorted(fitted.values):
        print(f"{slot.software:22} {slot.accelerator:20} {slot.leaf:28} "
              f"{fitted.priors[slot]:.4g} -> {fitted.values[slot]:.4g}")  # fmt: skip
    scored = [one for one in observations if not options.without or _device(one) in options.without]
    _print_errors(scored, fitted, priors)
    errors = relative_errors([one for one in observations if one.row["role"] == "public_test"], fitted)
    for name, value in errors.items():
        print(f"residual of {name}: {value:.3f}")
    if options.write:
        write(fitted, used, catalogue)
        write_errors(errors, catalogue)


def read_priors(path: Path) -> dict[Slot, float]:
    """Numbers before any fit to steps, so that a second run gives the numbers of the first."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {Slot(row["leaf"], row["software"], row["accelerator"]): float(row["value"]) for row in rows}


def relative_errors(unseen: Sequence[Observation], fitted: Calibration) -> dict[str, float]:
    """Relative standard deviation of step times, by stack (dense models), of all stacks, and what experts add.

    From steps that the fit has not seen: the residual that makes :data:`COVERED` of their 80 % intervals hold, beside
    the spread that the stated ranges of the inputs cause. A stack with few such steps is drawn towards all of them.
    """
    steps = [_Step.of(one, fitted) for one in unseen]
    dense = [one for one in steps if one.family == "dense"]
    every = _residual(dense)
    found = {"all stacks": every}
    for name in sorted({one.software for one in dense}):
        own = [one for one in dense if one.software == name]
        found[name] = float((len(own) * _residual(own) + POOL * every) / (len(own) + POOL))
    experts = [
        replace(one, spread=float(np.hypot(one.spread, found.get(one.software, every))))
        for one in steps
        if one.family == "moe"
    ]
    return found | {"experts": _residual(experts)}


@dataclass(frozen=True)
class _Step:
    """Log error of a step that was not fitted, and the deviation that its interval has from elsewhere."""

    software: str
    family: str
    error: float
    spread: float

    @classmethod
    def of(cls, one: Observation, fitted: Calibration) -> _Step:
        leaves = fitted.leaves(one)
        error = float(np.log(predicted(one, leaves) / one.measured))
        machine = with_columns(one.question.problem.machine, leaves)
        question = replace(one.question, problem=replace(one.question.problem, machine=machine))
        spread = input_deviations(question, (TIME,))[TIME]
        return cls(machine.software, one.row["family"], error, spread)


def _residual(steps: Sequence[_Step]) -> float:
    """Smallest residual with which enough intervals hold."""
    errors = np.array([one.error for one in steps]) / NORMAL_QUANTILE_90
    spread = np.array([one.spread for one in steps])
    needed = np.sqrt(np.maximum(errors**2 - spread**2, 0.0))
    return max(float(np.quantile(needed, COVERED)), SMALLEST)


def write_errors(errors: dict[str, float], catalogue: Catalogue) -> None:
    """Put the residuals into the files of the stacks and of the classes."""
    for name, value in errors.items():
        entry = number_entry("", float(f"{value:.2g}"), FIT_SOURCE, "of published steps that were not fitted")
        if name in ("experts", "all stacks"):
            key = "experts" if name == "experts" else "calibrated"
            for one in catalogue.entries("efficiency"):
                _set(one.path, ["relative_error", key], entry)
        else:
            _set(catalogue.find("software", name), ["relative_error"], entry)


def _device(one: Observation) -> str:
    return one.question.problem.machine.accelerator


def _print_errors(observations: Sequence[Observation], fitted: Calibration, priors: Mapping[Slot, float]) -> None:
    """Errors by role; what the fit did not see stands where it was before any fit."""
    for role in ("calibration", "public_test", ""):
        rows = [one for one in observations if role in ("", one.row["role"])]
        errors = np.array([predicted(one, _leaves(one, fitted, priors)) / one.measured - 1.0 for one in rows])
        if errors.size:
            size = np.abs(errors)
            print(f"{role or 'all'}: {errors.size} steps, mean {100 * size.mean():.1f} %, "
                  f"median {100 * np.median(size):.1f} %, bias {100 * errors.mean():+.1f} %")  # fmt: skip


def _leaves(one: Observation, fitted: Calibration, priors: Mapping[Slot, float]) -> dict[str, float]:
    unseen = {slot.leaf: priors[slot] for slot in one.slots(FREE_NUMBERS) if slot in priors}
    return unseen | fitted.leaves(one)


def write(fitted: Calibration, used: Sequence[Observation], catalogue: Catalogue) -> None:
    """Put the fitted numbers into the files of the stacks and of the accelerators."""
    counts = {slot: sum(slot in one.slots(FREE_NUMBERS) for one in used) for slot in fitted.values}
    for slot, value in fitted.values.items():
        before = fitted.priors[slot]
        if abs(value - before) <= WORTH_WRITING * max(abs(before), 0.1):
            continue
        rounded = float(f"{value:.3g}")
        # Steps tell a number of a device only indirectly: it is derived, so that it never passes for measured kernels.
        basis = "derived" if slot.software == "*" else "measured"
        entry = number_entry(slot.leaf, rounded, FIT_SOURCE, f"fitted to {counts[slot]} published steps", basis)
        _edit(_file(slot, catalogue), slot, entry)


def _file(slot: Slot, catalogue: Catalogue) -> Path:
    kind, name = ("accelerator", slot.accelerator) if slot.software == "*" else ("software", slot.software)
    return catalogue.find(kind, name)


def _edit(path: Path, slot: Slot, entry: dict[str, Any]) -> None:
    head, _, rest = slot.leaf.partition(".")
    if slot.leaf == "sustained_rate":
        keys = ["power", "sustained_rate"]
    elif slot.software == "*":
        keys = ["efficiency", *slot.leaf.split(".")]
    elif head == "step":
        keys = ["behaviour", rest]
    else:
        data_type, _, name = rest.partition(".")
        keys = ["efficiency", slot.accelerator, head, data_type, name]
    _set(path, keys, entry)


def _set(path: Path, keys: Sequence[str], entry: dict[str, Any]) -> None:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    data = yaml.load(path.read_text(encoding="utf-8"))
    parent = data
    for key in keys[:-1]:
        if key not in parent:
            parent[key] = CommentedMap()
        parent = parent[key]
    new = CommentedMap(entry)
    new.fa.set_flow_style()
    parent[keys[-1]] = new
    buffer = io.StringIO()
    yaml.dump(data, buffer)
    path.write_text(buffer.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
