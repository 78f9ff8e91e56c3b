"""Calibration of kernels: the numbers of a stack on an accelerator from a table of measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

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
    SIXTEEN_BIT,
    TILE_LOOP,
    TYPICAL,
    WORTH_A_CHOICE,
    variants,
)
from perfmodel.study.calibration.kernel_fit import TURNS, Fit, left_out, rounded
from perfmodel.study.calibration.memory_bound import fit_memory_bound
from perfmodel.study.calibration.search import minimise, smoothed_error
from perfmodel.study.kernel_numbers import Numbered, grouped, levels_of, numbered, power_of, watts
from perfmodel.study.kernel_tables import Case, layer_cases, reader_of
from perfmodel.study.progress import Progress, tracked, unseen
from perfmodel.study.validation.lines import Row
from perfmodel.study.validation.tables import IncompleteRow, InfeasibleRow, UnsupportedRow, number

#: With fewer rows only the plateau (or bandwidth) and the floor move.
ENOUGH_ROWS = 24
#: Fewer rows than this say nothing.
FEWEST_ROWS = 3
MILLISECOND = 1e-3


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


def calibrate(
    rows: Sequence[Row], accelerator: str, software: str, catalogue: Catalogue, progress: Progress = unseen
) -> Calibration:
    """Fit the numbers of a stack on an accelerator to a table of kernels.

    Minimises the mean smoothed absolute logarithmic error. Configurations (n and k of a product, heads of attention,
    widths of experts) are put in order and three of ten are left out: their errors are reported, all rows give the
    interval. The tile loop of a 16-bit type belongs to the accelerator: a stack moves its plateau and floor only, and
    leaves out what :func:`calibrate_accelerator` leaves out of the same table.

    Parameters
    ----------
    rows
        Table of measurements; rows of other devices and stacks, and those marked ``physical_ok = 0``, are skipped.
    accelerator, software
        Names in the catalogue.
    catalogue
        Start values, and what the accelerator and its class state.
    progress
        Told about every family and key that was fitted.

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
    shared = _shared_products(rows, accelerator)
    fits: list[Fit] = []
    memory_bound: dict[str, tuple[Numbered, list[Case], Column]] = {}
    groups = sorted(grouped(enumerate(case for case, _ in cases)).items())
    for (_, _, family, key, peak), group in tracked(groups, "kinds of kernels fitted", progress):
        measured = np.array([cases[position][1] for position, _ in group])
        if measured.size < FEWEST_ROWS:
            skipped[f"{family} {key}: fewer than {FEWEST_ROWS} rows"] = measured.size
            continue
        try:
            entry = numbered(levels, family, key, peak)
        except PerfmodelError as error:
            skipped[str(error)] = measured.size
            continue
        if family == "elementwise":
            memory_bound[key] = entry, [case for _, case in group], measured
            continue
        own = [case for _, case in group]
        out = left_out(own, shared.get(key, own) if family == "matmul" else own)
        fit = _fit(family, key, software, entry, own, measured, out)
        drawn = np.array([found[position][2] for position, _ in group])
        fits.append(replace(fit, power=_power(fit, levels, peak, entry, [case for _, case in group], drawn)))
    fits += fit_memory_bound(memory_bound, software)
    if not fits:
        told = "; ".join(f"{count} rows: {why}" for why, count in skipped.items()) or "it has no rows"
        raise UsageError(f"no row of the table calibrates {software} on {accelerator} ({told})")
    return Calibration(accelerator, software, tuple(fits), skipped)


#: A case, its measured time [s], and its measured power [W], which is NaN where the table has none.
Measured: TypeAlias = tuple[Case, float, float]


def _cases(rows: Sequence[Row], skipped: dict[str, int], wanted: Callable[[Case], bool]) -> Iterator[Measured]:
    for row in rows:
        for reader, column in _readers(row):
            try:
                yield _case(row, reader, column, wanted)
            except (IncompleteRow, InfeasibleRow, UnsupportedRow) as error:
                skipped[str(error)] = skipped.get(str(error), 0) + 1


def _readers(row: Row) -> list[tuple[Callable[[Row], Case] | None, str]]:
    """Readers of a row, each with the column of its time [ms]."""
    layers = layer_cases(row)
    return [(reader, column) for column, reader in layers.items()] or [(reader_of(row), "latency_ms")]


def _case(row: Row, reader: Callable[[Row], Case] | None, column: str, wanted: Callable[[Case], bool]) -> Measured:
    measured = number(row, column)
    if reader is None:
        raise UnsupportedRow(f"op_name {row.get('op_name', '')!r} is no kernel that can be calibrated")
    if measured is None or measured <= 0.0:
        raise IncompleteRow(f"{column} is blank or not positive")
    if row.get("physical_ok", "1") not in {"", "1"}:
        raise UnsupportedRow("physical_ok = 0: faster than the device")
    case = reader(row)
    if not wanted(case):
        raise UnsupportedRow(f"times {case.software} on {case.accelerator}")
    return case, measured * MILLISECOND, number(row, "power_w") or float("nan")


def _shared_products(rows: Sequence[Row], accelerator: str) -> dict[str, list[Case]]:
    """Products of all stacks on an accelerator by 16-bit type: numbers are shared, and so is what is left out."""
    found: dict[str, list[Case]] = {key: [] for key in SIXTEEN_BIT}
    for case, *_ in _cases(rows, {}, lambda case: (case.accelerator, case.family) == (accelerator, "matmul")):
        if case.key in found:
            found[case.key].append(case)
    return found


def _fit(
    family: str, key: str, software: str, entry: Numbered, cases: Sequence[Case], measured: Column,
    out: NDArray[np.bool_],
) -> Fit:  # fmt: skip
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
    running = rounded(float(best[0]))
    ratio = np.exp(-error(np.array([running])))
    ape = np.abs(1.0 / ratio - 1.0)
    tenth, ninetieth = np.quantile(ratio, [0.1, 0.9])
    return {
        "running": f"{running:g} W", "low": rounded(tenth), "high": rounded(ninetieth),
        "mean": rounded(ape.mean()), "median": rounded(float(np.median(ape))),
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
    best = min((np.array([rounded(value) for value in one.tolist()]) for one in found), key=loss)
    return {**start, **dict(zip(free, best.tolist(), strict=True))}, loss(best)


def _starts(family: str, start: Mapping[str, float], free: Sequence[str]) -> list[Column]:
    """Where the search starts: the catalogue's numbers, with the serial terms as they are, smaller, and larger."""
    typical = TYPICAL.get(family, {})
    first = np.array([start.get(name, 0.0) or typical[name] for name in free])
    serial = np.array([name in SERIAL for name in free])
    return [first * np.where(serial, factor, 1.0) for factor in (1.0, 0.4, 2.5)]


def calibrate_accelerator(
    rows: Sequence[Row], accelerator: str, catalogue: Catalogue, key: str = "bf16", turn: int = 0
) -> Fit:
    """Fit the tile loop of an accelerator to products of all stacks together, the bandwidth of its cache included.

    The numbers describe kernels in a burst. Rows with a measured power were repeated until the power settled, which
    slows large products down: they stay out of this fit, and calibrate their stacks.

    Parameters
    ----------
    rows
        Table of measurements; only products of that type on that accelerator count.
    accelerator
        Name in the catalogue.
    catalogue
        Start values: those of the class of the accelerator.
    key
        16-bit type.
    turn
        Which three of ten configurations are left out, 0 to 9.

    Returns
    -------
    Fit
        Eight numbers; ``cache_bandwidth`` belongs to the memory of the accelerator, the others to its efficiency.

    Raises
    ------
    UsageError
        No row counts.
    """
    return _tile_loop(_products(rows, accelerator, catalogue, key), key, turn)


def unseen_errors(
    rows: Sequence[Row], accelerator: str, catalogue: Catalogue, key: str = "bf16"
) -> dict[str, list[Column]]:
    """Logarithmic errors of products that neither the accelerator nor their stack was fitted to.

    Everything is fitted ten times, and each time three others of ten configurations are left out: a single choice of
    them may be an easy or a hard one.

    Returns
    -------
    dict
        Software stack -> errors of the rows that were left out, one column for each of the ten times.
    """
    products = _products(rows, accelerator, catalogue, key)
    found: dict[str, list[Column]] = {}
    for turn in range(TURNS):
        numbers = dict(_tile_loop(products, key, turn).numbers)
        chip = replace(products.entry.chip, cache_bandwidth=numbers.pop("cache_bandwidth"))
        entry = replace(products.entry, numbers=products.entry.numbers | numbers, chip=chip)
        out = left_out(products.cases, products.among, turn)
        for software in sorted({case.software for case in products.cases}):
            own = np.flatnonzero([case.software == software for case in products.cases])
            cases = [products.cases[place] for place in own]
            fit = _fit("matmul", key, software, entry, cases, products.measured[own], out[own])
            found.setdefault(software, []).append(fit.left_out)
    return found


@dataclass(frozen=True)
class _Products:
    """Products of all stacks on an accelerator, their times [s], all that shares their split, and a start."""

    cases: list[Case]
    measured: Column
    among: list[Case]
    entry: Numbered


def _products(rows: Sequence[Row], accelerator: str, catalogue: Catalogue, key: str) -> _Products:
    def wanted(case: Case) -> bool:
        return (case.accelerator, case.family, case.key) == (accelerator, "matmul", key)

    every = list(_cases(rows, {}, wanted))
    counted = [one for one in every if not one[2] > 0.0]
    if len(counted) < ENOUGH_ROWS:
        raise UsageError(f"{len(counted)} rows time {key} products on {accelerator}; the tile loop needs {ENOUGH_ROWS}")
    first = counted[0][0]
    entry = numbered(_of_class(levels_of(catalogue, accelerator, first.software)), "matmul", key, first.peak)
    return _Products(
        [case for case, *_ in counted], np.array([time for _, time, _ in counted]), [case for case, *_ in every], entry
    )


def _tile_loop(products: _Products, key: str, turn: int) -> Fit:
    cases, measured, entry = products.cases, products.measured, products.entry
    start = entry.numbers | {"cache_bandwidth": entry.chip.cache_bandwidth}
    out = left_out(cases, products.among, turn)
    sizes = entry.sizes(cases)
    kept = {name: column[~out] for name, column in sizes.items()}
    free = (*TILE_LOOP, "cache_bandwidth")
    numbers, _ = _search("matmul", start, free, kept, measured[~out], entry)
    error = np.log(_times("matmul", sizes, numbers, entry) / measured)
    return Fit(
        "matmul", key, "", {name: numbers[name] for name in free}, {}, error[~out], error[out], _valid("matmul", kept)
    )


def _of_class(levels: Levels) -> Levels:
    """The levels without what the fit finds: it starts where the class stands, so a second run finds the same."""
    device = levels.accelerator
    cache = device.memory.cache
    bare = None if cache is None else cache.model_copy(update={"bandwidth": None})
    device = device.model_copy(
        update={
            "efficiency": device.efficiency.model_copy(update={"matmul": {}}),
            "memory": device.memory.model_copy(update={"cache": bare}),
        }
    )
    return replace(levels, accelerator=device, software=levels.software.model_copy(update={"efficiency": {}}))


def _times(family: str, sizes: Mapping[str, Column], numbers: Mapping[str, float], entry: Numbered) -> Column:
    bandwidth = numbers.get("cache_bandwidth", entry.chip.cache_bandwidth)
    return FORMS[family](sizes, numbers, replace(entry.chip, cache_bandwidth=bandwidth)).seconds


def _valid(family: str, sizes: Mapping[str, Column]) -> dict[str, tuple[float, float]]:
    return {name: (float(sizes[name].min()), float(sizes[name].max())) for name in RANGES[family]}
