"""The kinds of tables that calibrate a stack on an accelerator, and what each fit has to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from perfmodel.errors import UsageError, nearest
from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.progress import Progress, unseen
from perfmodel.study.validation.lines import Row


@dataclass(frozen=True)
class Calibrated:
    """A calibrated stack.

    Attributes
    ----------
    spec
        A software spec that extends the stack; plain data.
    report
        What moved and how well it fits, in sentences.
    """

    spec: dict[str, Any]
    report: tuple[str, ...]


#: Fits rows: (rows, accelerator, software, catalogue, progress) -> the calibrated stack.
Calibrator: TypeAlias = Callable[[Sequence[Row], str, str, Catalogue, Progress], Calibrated]


def calibrate(
    kind: str,
    rows: Sequence[Row],
    accelerator: str,
    software: str,
    catalogue: Catalogue,
    progress: Progress = unseen,
) -> Calibrated:
    """Fit the numbers of a stack on an accelerator to a table of measurements.

    Parameters
    ----------
    kind
        ``training``, ``collectives`` or ``kernels``.
    rows
        The table; rows of other stacks and devices are left out.
    accelerator, software
        Names of the catalogue.
    progress
        Told about every step of the fit.

    Raises
    ------
    UsageError
        Unknown kind, or no row that the fit can use.
    """
    if kind not in CALIBRATORS:
        raise UsageError(f"no calibration of {kind!r}; there are {', '.join(CALIBRATORS)}{nearest(kind, CALIBRATORS)}")
    return CALIBRATORS[kind](rows, accelerator, software, catalogue, progress)


def _training(
    rows: Sequence[Row], accelerator: str, software: str, catalogue: Catalogue, progress: Progress
) -> Calibrated:
    from perfmodel.study.calibration.stack_spec import calibrate_stack

    found = calibrate_stack(rows, accelerator, software, catalogue, progress)
    moved = [f"{leaf}: {before:.4g} -> {after:.4g}" for leaf, (before, after) in found.changes.items()]
    return Calibrated(found.spec, (*moved, _errors("steps", found.residuals)))


def _collectives(
    rows: Sequence[Row], accelerator: str, software: str, catalogue: Catalogue, progress: Progress
) -> Calibrated:
    from perfmodel.study.calibration.collective_spec import calibrate_collectives

    found = calibrate_collectives(rows, accelerator, software, catalogue, progress)
    lines = [
        f"{form} ({fit.family}): {', '.join(f'{name} {value:.3g}' for name, value in fit.numbers.items())}; "
        f"mean error {100 * fit.loss:.1f} % of {fit.large.rows + fit.small.rows} collectives"
        for form, fit in found.fits.items()
    ]
    return Calibrated(found.spec, tuple(lines))


def _kernels(
    rows: Sequence[Row], accelerator: str, software: str, catalogue: Catalogue, progress: Progress
) -> Calibrated:
    from perfmodel.study.calibration.kernels import calibrate as calibrate_kernels

    names = catalogue.load("accelerator", accelerator).name, catalogue.load("software", software).name
    found = calibrate_kernels(rows, *names, catalogue, progress)
    fits = [
        f"{fit.family} {fit.key}: {', '.join(f'{name} {value:.3g}' for name, value in fit.numbers.items())}"
        for fit in found.fits
    ]
    skipped = [f"left out: {count} rows: {why}" for why, count in found.skipped.items()]
    return Calibrated(found.spec(), (*fits, _errors("kernels", found.residuals), *skipped))


def _errors(what: str, residuals: Sequence[float]) -> str:
    size = np.abs(np.asarray(residuals))
    return f"{size.size} {what}: mean error {100 * size.mean():.1f} %, largest {100 * size.max():.1f} %"


CALIBRATORS: dict[str, Calibrator] = {"training": _training, "collectives": _collectives, "kernels": _kernels}
