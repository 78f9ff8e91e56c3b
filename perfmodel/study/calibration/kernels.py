"""Calibration of kernels: the numbers of a stack on an accelerator from a table of measurements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.kernel_forms import FORMS, Column
from perfmodel.errors import PerfmodelError, UsageError
from perfmodel.machine.lookup import Levels
from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.calibration.kernel_choices import (
    BOUNDS,
    RANGES,
    SERIAL,
    TILE_LOOP,
    TYPICAL,
    WORTH_A_CHOICE,
    variants,
)
from perfmodel.study.calibration.search import minimise, smoothed_error
from perfmodel.study.kernel_numbers import Numbered, grouped, levels_of, numbered, power_of, watts
from perfmodel.study.kernel_tables import Case, reader_of
from perfmodel.study.validation.lines import Row
from perfmodel.study.validation.tables import IncompleteRow, InfeasibleRow, UnsupportedRow, number

#: Of ten configurations in sorted order, those that are left out of the fit.
LEFT_OUT = (2, 5, 8)
#: With fewer rows only the plateau (or bandwidth) and the floor move.
ENOUGH_ROWS = 24
#: With fewer configurations none is left out.
ENOUGH_CONFIGURATIONS = 6
#: Fewer rows than this say nothing.
FEWEST_ROWS = 3
MILLISECOND = 1e-3
#: Significant digits of a fitted number.
DIGITS = 3

UNITS = {
    "plateau": "1", "loop_growth": "1", "bandwidth_fraction": "1", "quantise_bytes": "B", "permute_bytes": "B",
    "unit_bandwidth": "B/s", "single_unit_bandwidth": "B/s", "cache_bandwidth": "B/s",
}  # fmt: skip
#: Prefixes in which fitted numbers are written: factor and text, largest first.
PREFIXES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"), (1e-12, "ps")),
    "B": ((1.0, "B"),),
    "B/s": ((1e12, "TB/s"), (1e9, "GB/s")),
}


@dataclass(frozen=True)
class Fit:
    """The fit of one entry: family and key.

    Attributes
    ----------
    numbers
        Every number that moved, SI units.
    switches
        Switches of the kernel that the fit chose.
    fitted, left_out
        Logarithmic errors ln(predicted / measured) of the rows that were fitted and of those that were left out.
    valid
        Smallest and largest size among the fitted rows.
    power
        What a file would say of the power while the kernels run, where the table has it.
    """

    family: str
    key: str
    software: str
    numbers: Mapping[str, float]
    switches: Mapping[str, bool]
    fitted: Column
    left_out: Column
    valid: Mapping[str, tuple[float, float]]
    power: Mapping[str, Any] | None = None

    def entry(self) -> dict[str, Any]:
        """The entry as a file would say it."""
        written = {name: _text(name, value) for name, value in self.numbers.items()}
        power = {"power": dict(self.power)} if self.power is not None else {}
        return dict(self.switches) | written | {"error": self.error()} | power

    def error(self) -> dict[str, Any]:
        """Residuals and range of validity, as a file would say them."""
        judged = self.left_out if self.left_out.size else self.fitted
        spread = np.concatenate([self.fitted, self.left_out])
        ape = np.abs(np.expm1(judged))
        tenth, ninetieth = np.quantile(np.exp(-spread), [0.1, 0.9])
        return {
            "low": _rounded(tenth), "high": _rounded(ninetieth),
            "mean": _rounded(ape.mean()), "median": _rounded(float(np.median(ape))),
            "rows": int(self.fitted.size), "left_out": int(self.left_out.size),
            "valid": {name: [int(low), int(high)] for name, (low, high) in self.valid.items()},
        }  # fmt: skip


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _text(name: str, value: float) -> Any:
    """A fitted number as a file would say it; it was rounded to :data:`DIGITS` before."""
    unit = UNITS.get(name, "s")
    if unit == "1":
        return value
    choices = PREFIXES[unit]
    factor, symbol = next((one for one in choices if value >= one[0]), choices[-1])
    return f"{_rounded(value / factor):g} {symbol}"


@dataclass(frozen=True)
class Calibration:
    """Fits of one stack on one accelerator.

    Attributes
    ----------
    fits
        One per family and key.
    skipped
        Why rows did not take part, and how many.
    """

    accelerator: str
    software: str
    fits: tuple[Fit, ...]
    skipped: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def residuals(self) -> tuple[float, ...]:
        """Relative errors of the rows, fitted ones first."""
        logarithms = [error for fit in self.fits for error in (*fit.fitted, *fit.left_out)]
        return tuple(float(one) for one in np.expm1(logarithms))

    def spec(self) -> dict[str, Any]:
        """A software spec that extends the stack; plain data."""
        return {
            "kind": "software",
            "extends": self.software,
            "name": f"{self.software}-on-{self.accelerator}",
            "title": f"{self.software}, kernels calibrated on {self.accelerator}",
            "aliases": [],
            "note": f"Fitted to {len(self.residuals)} measured kernels; the range of their sizes is with each entry.",
            "efficiency": {
                self.accelerator: {"provenance": {"source": "user", "basis": "measured"}} | self.efficiency()
            },
        }

    def efficiency(self) -> dict[str, Any]:
        """The efficiency section of the accelerator in the file of the stack."""
        families: dict[str, dict[str, Any]] = {}
        for fit in self.fits:
            families.setdefault(fit.family, {})[fit.key] = fit.entry()
        return families


def calibrate(rows: Sequence[Row], accelerator: str, software: str, catalogue: Catalogue) -> Calibration:
    """Fit the numbers of a stack on an accelerator to a table of kernels.

    Minimises the mean smoothed absolute logarithmic error. Configurations (n and k of a product, heads of attention,
    widths of experts) are put in order and three of ten are left out: their errors are reported, all rows give the
    interval. The tile loop of a 16-bit type belongs to the accelerator: a stack moves its plateau and floor only.

    Parameters
    ----------
    rows
        Table of measurements; rows of other devices and stacks, and those marked ``physical_ok = 0``, are skipped.
    accelerator, software
        Names in the catalogue.
    catalogue
        Start values, and what the accelerator and its class state.

    Raises
    ------
    UsageError
        No row of the table times a kernel of that stack on that accelerator.
    """
    skipped: dict[str, int] = {}
    found = list(_cases(rows, skipped, lambda case: (case.accelerator, case.software) == (accelerator, software)))
    cases = [(case, time) for case, time, _ in found]
    levels = levels_of(catalogue, accelerator, software)
    # The search starts where the accelerator and its class stand, so that a second run finds what the first found.
    levels = replace(levels, software=levels.software.model_copy(update={"efficiency": {}}))
    fits: list[Fit] = []
    for (_, _, family, key, peak), group in sorted(grouped(enumerate(case for case, _ in cases)).items()):
        measured = np.array([cases[position][1] for position, _ in group])
        if family not in BOUNDS or measured.size < FEWEST_ROWS:
            skipped[f"{family} {key}: fewer than {FEWEST_ROWS} rows"] = measured.size
            continue
        try:
            entry = numbered(levels, family, key, peak)
        except PerfmodelError as error:
            skipped[str(error)] = measured.size
            continue
        fit = _fit(family, key, software, entry, [case for _, case in group], measured)
        drawn = np.array([found[position][2] for position, _ in group])
        fits.append(replace(fit, power=_power(fit, levels, peak, entry, [case for _, case in group], drawn)))
    if not fits:
        told = "; ".join(f"{count} rows: {why}" for why, count in skipped.items()) or "it has no rows"
        raise UsageError(f"no row of the table calibrates {software} on {accelerator} ({told})")
    return Calibration(accelerator, software, tuple(fits), skipped)


def _cases(rows: Sequence[Row], skipped: dict[str, int], wanted: Any) -> Iterator[tuple[Case, float, float]]:
    """Cases with their measured time [s] and power [W], which is NaN where the table has none."""
    for row in rows:
        try:
            yield from _case(row, wanted)
        except (IncompleteRow, InfeasibleRow, UnsupportedRow) as error:
            skipped[str(error)] = skipped.get(str(error), 0) + 1


def _case(row: Row, wanted: Any) -> Iterator[tuple[Case, float, float]]:
    reader = reader_of(row)
    measured = number(row, "latency_ms")
    if reader is None:
        raise UnsupportedRow(f"op_name {row.get('op_name', '')!r} is no kernel that can be calibrated")
    if measured is None or measured <= 0.0:
        raise IncompleteRow("latency_ms is blank or not positive")
    if row.get("physical_ok", "1") not in {"", "1"}:
        raise UnsupportedRow("physical_ok = 0: faster than the device")
    case = reader(row)
    if not wanted(case):
        raise UnsupportedRow(f"times {case.software} on {case.accelerator}")
    yield case, measured * MILLISECOND, number(row, "power_w") or float("nan")


def left_out(cases: Sequence[Case]) -> NDArray[np.bool_]:
    """Which cases are left out of the fit: all of three in ten configurations, in sorted order."""
    configurations = sorted({case.configuration for case in cases})
    if len(configurations) < ENOUGH_CONFIGURATIONS:
        return np.zeros(len(cases), dtype=bool)
    chosen = {one for position, one in enumerate(configurations) if position % 10 in LEFT_OUT}
    return np.array([case.configuration in chosen for case in cases])


def _fit(family: str, key: str, software: str, entry: Numbered, cases: Sequence[Case], measured: Column) -> Fit:
    out = left_out(cases)
    few = len(cases) < ENOUGH_ROWS
    sizes = entry.sizes(cases)
    fitted = {name: column[~out] for name, column in sizes.items()}
    best: tuple[float, dict[str, float], dict[str, bool], tuple[str, ...], tuple[str, ...]] | None = None
    for switches, fixed, free in variants(family, key, few=few):
        flags = {name: np.full(int((~out).sum()), float(value)) for name, value in switches.items()}
        start = entry.numbers | fixed
        found, loss = _search(family, start, free, fitted | flags, measured[~out], entry, starts=1)
        if best is None or loss < best[0] - WORTH_A_CHOICE:
            best = (loss, found, switches, (*free, *fixed), free)
    assert best is not None  # noqa: S101 (every family has a variant)
    _, numbers, switches, stated, free = best
    flags = {name: np.full(int((~out).sum()), float(value)) for name, value in switches.items()}
    numbers, _ = _search(family, numbers, free, fitted | flags, measured[~out], entry)
    numbers = {name: numbers[name] for name in stated}
    flags = {name: np.full(len(cases), float(value)) for name, value in switches.items()}
    predicted = FORMS[family](sizes | flags, entry.numbers | numbers, entry.chip).seconds
    error = np.log(predicted / measured)
    return Fit(family, key, software, numbers, switches, error[~out], error[out], _valid(family, fitted))


def _power(
    fit: Fit, levels: Levels, peak: str, entry: Numbered, cases: Sequence[Case], measured: Column
) -> dict[str, Any] | None:  # fmt: skip
    """Power of the device while the kernels run, beyond their energy; None where the table has no power."""
    known = measured > 0.0
    if known.sum() < FEWEST_ROWS:
        return None
    device = power_of(levels, peak)
    flags = {name: np.full(len(cases), float(value)) for name, value in fit.switches.items()}
    one = FORMS[fit.family](entry.sizes(cases) | flags, entry.numbers | dict(fit.numbers), entry.chip)

    def error(static: Column) -> Column:
        return np.log(watts(one, entry, device, float(static[0]))[known] / measured[known])

    low, high = np.array([device["idle"] / 2.0]), np.array([device["limit"]])
    best = minimise(lambda value: float(np.mean(np.abs(error(value)))), np.array([device["idle"]]), low, high)
    running = _rounded(float(best[0]))
    ratio = np.exp(-error(np.array([running])))
    ape = np.abs(1.0 / ratio - 1.0)
    tenth, ninetieth = np.quantile(ratio, [0.1, 0.9])
    return {
        "running": f"{running:g} W", "low": _rounded(tenth), "high": _rounded(ninetieth),
        "mean": _rounded(ape.mean()), "median": _rounded(float(np.median(ape))),
    }  # fmt: skip


def _search(
    family: str, start: Mapping[str, float], free: Sequence[str], sizes: Mapping[str, Column], measured: Column,
    entry: Numbered, starts: int = 3,
) -> tuple[dict[str, float], float]:  # fmt: skip
    bounds = np.array([BOUNDS[family][name] for name in free])
    low, high = bounds[:, 0], bounds[:, 1]

    def loss(values: Column) -> float:
        numbers = {**start, **dict(zip(free, values.tolist(), strict=True))}
        return smoothed_error(_times(family, sizes, numbers, entry), measured)

    found = [minimise(loss, np.clip(first, low, high), low, high) for first in _starts(family, start, free)[:starts]]
    best = min((np.array([_rounded(value) for value in one.tolist()]) for one in found), key=loss)
    return {**start, **dict(zip(free, best.tolist(), strict=True))}, loss(best)


def _starts(family: str, start: Mapping[str, float], free: Sequence[str]) -> list[Column]:
    """Where the search starts: the catalogue's numbers, with the serial terms as they are, smaller, and larger."""
    typical = TYPICAL.get(family, {})
    first = np.array([start.get(name, 0.0) or typical[name] for name in free])
    serial = np.array([name in SERIAL for name in free])
    return [first * np.where(serial, factor, 1.0) for factor in (1.0, 0.4, 2.5)]


def calibrate_accelerator(rows: Sequence[Row], accelerator: str, catalogue: Catalogue, key: str = "bf16") -> Fit:
    """Fit the tile loop of an accelerator to products of all stacks together, the bandwidth of its cache included.

    Parameters
    ----------
    rows
        Table of measurements; only products of that type on that accelerator count.
    accelerator
        Name in the catalogue.
    catalogue
        Start values.
    key
        16-bit type.

    Returns
    -------
    Fit
        Eight numbers; ``cache_bandwidth`` belongs to the memory of the accelerator, the others to its efficiency.

    Raises
    ------
    UsageError
        No row counts.
    """

    def wanted(case: Case) -> bool:
        return (case.accelerator, case.family, case.key) == (accelerator, "matmul", key)

    counted = list(_cases(rows, {}, wanted))
    if len(counted) < ENOUGH_ROWS:
        raise UsageError(f"{len(counted)} rows time {key} products on {accelerator}; the tile loop needs {ENOUGH_ROWS}")
    cases, measured = [case for case, *_ in counted], np.array([time for _, time, _ in counted])
    entry = numbered(levels_of(catalogue, accelerator, cases[0].software), "matmul", key, cases[0].peak)
    stated = levels_of(catalogue, accelerator, cases[0].software).accelerator.efficiency.matmul
    start = dict(entry.numbers)
    if key in stated:
        start |= {name: one.value for name in TILE_LOOP if (one := getattr(stated[key], name)) is not None}
    start["cache_bandwidth"] = entry.chip.cache_bandwidth
    out = left_out(cases)
    sizes = entry.sizes(cases)
    kept = {name: column[~out] for name, column in sizes.items()}
    free = (*TILE_LOOP, "cache_bandwidth")
    numbers, _ = _search("matmul", start, free, kept, measured[~out], entry)
    error = np.log(_times("matmul", sizes, numbers, entry) / measured)
    return Fit(
        "matmul", key, "", {name: numbers[name] for name in free}, {}, error[~out], error[out], _valid("matmul", kept)
    )


def _times(family: str, sizes: Mapping[str, Column], numbers: Mapping[str, float], entry: Numbered) -> Column:
    bandwidth = numbers.get("cache_bandwidth", entry.chip.cache_bandwidth)
    return FORMS[family](sizes, numbers, replace(entry.chip, cache_bandwidth=bandwidth)).seconds


def _valid(family: str, sizes: Mapping[str, Column]) -> dict[str, tuple[float, float]]:
    return {name: (float(sizes[name].min()), float(sizes[name].max())) for name in RANGES[family]}
