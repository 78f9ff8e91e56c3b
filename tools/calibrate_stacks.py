"""Fit the shipped software stacks to the calibration rows of the shipped table, and write the numbers into their files.

``python tools/calibrate_stacks.py [--write]``: without ``--write`` it prints what would change. All stacks and
devices are fitted together: the rate that a device sustains is one number for all stacks that ran on it.
``--without ACCELERATOR`` leaves the rows of an accelerator out and scores them.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.calibration.stack_spec import number_entry
from perfmodel.study.calibration.training import Calibration, Observation, Slot, calibrate, observe, predicted
from perfmodel.study.validation.kinds import KINDS, shipped_table
from perfmodel.study.validation.tables import matching, read_table

SOURCE = "perfmodel-training-fit"
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
    fitted = calibrate(used)
    for slot in sorted(fitted.values):
        print(f"{slot.software:22} {slot.accelerator:20} {slot.leaf:28} "
              f"{fitted.priors[slot]:.4g} -> {fitted.values[slot]:.4g}")  # fmt: skip
    scored = [one for one in observations if not options.without or _device(one) in options.without]
    _print_errors(scored, fitted)
    if options.write:
        write(fitted, used, catalogue)


def _device(one: Observation) -> str:
    return one.question.problem.machine.accelerator


def _print_errors(observations: Sequence[Observation], fitted: Calibration) -> None:
    for role in ("calibration", "public_test"):
        rows = [one for one in observations if one.row["role"] == role]
        errors = np.array([predicted(one, fitted.leaves(one)) / one.measured - 1.0 for one in rows])
        if errors.size:
            size = np.abs(errors)
            print(f"{role}: {errors.size} steps, mean {100 * size.mean():.1f} %, median {100 * np.median(size):.1f} %, "
                  f"bias {100 * errors.mean():+.1f} %")  # fmt: skip


def write(fitted: Calibration, used: Sequence[Observation], catalogue: Catalogue) -> None:
    """Put the fitted numbers into the files of the stacks and of the accelerators."""
    counts = {slot: sum(slot in (one.slot(number) for number in _numbers()) for one in used) for slot in fitted.values}
    for slot, value in fitted.values.items():
        before = fitted.priors[slot]
        if abs(value - before) <= WORTH_WRITING * max(abs(before), 0.1):
            continue
        rounded = float(f"{value:.3g}")
        entry = number_entry(slot.leaf, rounded, SOURCE, f"fitted to {counts[slot]} published steps")
        _edit(_file(slot, catalogue), slot, entry)


def _numbers() -> Any:
    from perfmodel.study.calibration.training import FREE_NUMBERS

    return FREE_NUMBERS


def _file(slot: Slot, catalogue: Catalogue) -> Path:
    kind, name = ("accelerator", slot.accelerator) if slot.software == "*" else ("software", slot.software)
    return catalogue.find(kind, name)


def _edit(path: Path, slot: Slot, entry: dict[str, Any]) -> None:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    data = yaml.load(path.read_text(encoding="utf-8"))
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
