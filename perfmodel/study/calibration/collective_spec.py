"""Calibration of the collectives of a stack on an accelerator: a software spec from a table of collectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from perfmodel.errors import UsageError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.efficiency import InterconnectEfficiency
from perfmodel.specs.hardware import ClusterSpec
from perfmodel.specs.writer import exact_quantity
from perfmodel.study.calibration.collectives import Calibration, fit_collectives
from perfmodel.study.calibration.stack_spec import rounded
from perfmodel.study.collective_model import Networks
from perfmodel.study.collective_rows import VOCABULARY, CollectiveRow, read_row
from perfmodel.study.progress import Progress, tracked, unseen
from perfmodel.study.validation.lines import Row
from perfmodel.study.validation.tables import RowProblem

_UNITS = {"latency": "s", "growth": "s", "time": "s", "size": "B"}


@dataclass(frozen=True)
class CollectiveCalibration:
    """Fits of a stack's collectives, by form of the network.

    Attributes
    ----------
    spec
        A software spec that extends the stack; plain data.
    fits
        ``scale-up`` or ``scale-out`` -> numbers, errors and range.
    """

    spec: dict[str, Any]
    fits: dict[str, Calibration]


def calibrate_collectives(
    rows: Sequence[Row], accelerator: str, software: str, catalogue: Catalogue, progress: Progress = unseen
) -> CollectiveCalibration:
    """Fit the collectives of a stack inside a domain and between domains.

    Parameters
    ----------
    rows
        A table of collectives; only those of the accelerator and of the library that the stack calls count.
    accelerator, software
        Names of the catalogue.
    progress
        Told about every row, and every fit.

    Raises
    ------
    UsageError
        No row of the table measures such a collective.
    """
    device, stack = catalogue.load("accelerator", accelerator).name, catalogue.load("software", software)
    networks, vocabulary = Networks(catalogue), catalogue.load("vocabulary", VOCABULARY)
    groups: dict[tuple[str, str], list[CollectiveRow]] = {}
    for raw in tracked(rows, "rows read", progress):
        try:
            row = read_row(raw, vocabulary)
        except RowProblem:
            continue  # `validate` says why
        cluster: ClusterSpec = catalogue.load("cluster", row.system.cluster)
        if cluster.accelerator == device and row.library == stack.collectives and row.measured is not None:
            groups.setdefault((row.system.cluster, "scale-out" if row.nodes > 1 else "scale-up"), []).append(row)
    if not groups:
        library = stack.collectives or "the usual library"
        raise UsageError(f"no row of the table is a collective of {library} on {device}")
    largest = {form: max((key for key in groups if key[1] == form), key=lambda key: len(groups[key]), default=None)
               for form in ("scale-up", "scale-out")}  # fmt: skip
    chosen = [(form, key) for form, key in largest.items() if key is not None]
    fits = {
        form: fit_collectives(groups[key], networks.of(key[0], stack.collectives).tiers)
        for form, key in tracked(chosen, "networks fitted", progress)
    }
    return CollectiveCalibration(_spec(device, stack.name, fits), fits)


def _spec(accelerator: str, software: str, fits: dict[str, Calibration]) -> dict[str, Any]:
    known = set(InterconnectEfficiency.model_fields)
    collective = {
        form: {
            name: {"value": _written(name, value), "source": "user", "basis": "measured", "note": _range(fit)}
            for name, value in fit.numbers.items()
            if name in known
        }
        for form, fit in fits.items()
    }
    return {
        "kind": "software",
        "extends": software,
        "name": f"{software}-on-{accelerator}",
        "title": f"{software}, collectives calibrated on {accelerator}",
        "aliases": [],
        "note": "; ".join(f"{form}: mean error {100 * fit.loss:.1f} %, {_range(fit)}" for form, fit in fits.items()),
        "efficiency": {accelerator: {"collective": collective}},
    }


def _written(name: str, value: float) -> Any:
    unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)
    return rounded(value) if unit is None else exact_quantity(rounded(value), unit)


def _range(fit: Calibration) -> str:
    (fewest, most), (small, large) = fit.ranks, fit.sizes
    return f"{fewest} to {most} ranks, {small:.3g} to {large:.3g} bytes"
