"""Memory-bound kernels of a stack: one floor for all kinds, and the share of the bandwidth that each reaches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from perfmodel.engine.kernel_forms import FORMS, Column
from perfmodel.specs.efficiency import ANY
from perfmodel.study.calibration.kernel_fit import Fit, left_out, rounded
from perfmodel.study.calibration.search import minimise, smoothed_error
from perfmodel.study.kernel_numbers import Numbered
from perfmodel.study.kernel_tables import Case

FLOOR, SHARE = (0.2e-6, 100e-6), (0.02, 1.2)
RANGES = ("tokens", "features")


def fit_memory_bound(groups: Mapping[str, tuple[Numbered, list[Case], Column]], software: str) -> list[Fit]:
    """Fit all kinds together, every kind with the same weight.

    Parameters
    ----------
    groups
        Kind -> numbers to start from, cases, measured times [s].
    software
        Name of the stack.
    """
    if not groups:
        return []
    kinds = list(groups)
    sizes = {kind: entry.sizes(cases) for kind, (entry, cases, _) in groups.items()}
    out = {kind: left_out(cases) for kind, (_, cases, _) in groups.items()}

    def times(kind: str, values: Column) -> Column:
        entry = groups[kind][0]
        numbers = {"launch_floor": float(values[0]), "bandwidth_fraction": float(values[1 + kinds.index(kind)])}
        return FORMS["elementwise"](sizes[kind], entry.numbers | numbers, entry.chip).seconds

    def loss(values: Column) -> float:
        parts = (smoothed_error(times(kind, values)[~out[kind]], groups[kind][2][~out[kind]]) for kind in kinds)
        return float(np.mean(list(parts)))

    bounds = np.array([FLOOR, *[SHARE for _ in kinds]])
    first = next(iter(groups.values()))[0].numbers["launch_floor"]
    start = np.array([first, *(groups[kind][0].numbers["bandwidth_fraction"] for kind in kinds)])
    found = minimise(loss, np.clip(start, bounds[:, 0], bounds[:, 1]), bounds[:, 0], bounds[:, 1])
    found = np.array([rounded(value) for value in found.tolist()])
    fits: list[Fit] = []
    for place, kind in enumerate(kinds):
        error = np.log(times(kind, found) / groups[kind][2])
        valid = {name: (float(sizes[kind][name].min()), float(sizes[kind][name].max())) for name in RANGES}
        numbers = {"bandwidth_fraction": float(found[1 + place])}
        fits.append(Fit("elementwise", kind, software, numbers, {}, error[~out[kind]], error[out[kind]], valid))
    every = np.concatenate([fit.fitted for fit in fits]), np.concatenate([fit.left_out for fit in fits])
    return [Fit("elementwise", ANY, software, {"launch_floor": float(found[0])}, {}, *every, {}), *fits]
