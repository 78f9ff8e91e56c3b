"""Fit the shipped numbers of networks and libraries: ``python tools/fit_collectives.py FOLDER [--write]``.

FOLDER holds tables of collectives (``collectives/*.csv``) and kernels (``kernels/*.csv``). Every fit leaves some
configurations out. Printed is one line per network and library, with the errors on the rows that were fitted, on those
that were left out, and on other hosts. ``--write`` puts the numbers into the interconnects of this checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from perfmodel.machine.machine import NetworkTier
from perfmodel.provenance import Sourced
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.hardware import InterconnectSpec
from perfmodel.study.calibration.collectives import (
    FLOOR,
    HOPS,
    LATENCY,
    Calibration,
    Residuals,
    family_of,
    fit_collectives,
    with_numbers,
)
from perfmodel.study.collective_model import LARGE, Networks, predicted_times
from perfmodel.study.collective_rows import VOCABULARY, CollectiveRow, read_row
from perfmodel.study.validation.tables import IncompleteRow, InfeasibleRow, UnsupportedRow, read_table

INTERCONNECTS = Path(__file__).parents[1] / "hardware_specs" / "interconnects"
#: Clusters whose rows give the numbers of an interconnect; rows of all others are predictions with them.
FITTED = (
    "dgx-a100", "dgx-h100", "dgx-h200", "dgx-b200", "dgx-b300", "gb300-nvl72-rack", "gb200-nvl72-rack", "perlmutter",
    "dgx-1v", "l40s-pcie4-server", "rtx-pro-6000-pcie5-server", "v100-pcie3-server", "gcp-a3-mega", "aws-p6-b200",
    "mi300x-roce-400gbe",
)  # fmt: skip
#: Sources that a fit uses where there are several; rows of all others are predictions of another host.
SOURCES = {"aiconfigurator", "NERSC"}
#: Configurations that no fit sees, where the operation was measured with other ranks or nodes too.
LEFT_OUT_IN_A_NODE = {("all-reduce", 4), ("all-gather", 8), ("all-to-all", 4), ("reduce-scatter", 4)}
LEFT_OUT_ON_A_CUBE_MESH = {3, 5, 6, 7}
LEFT_OUT_NODES = {8, 32, 128}
KERNEL_TABLES = ("nccl_", "custom_allreduce_")
#: Where rows tell little: a profiler adds the wait for the last rank; the links of GB200 were measured without
#: all-reduce and all-gather and share all numbers but the latency with those of GB300.
FAMILIES = {
    "dgx-a100:pytorch-profile": FLOOR, "dgx-h100:pytorch-profile": FLOOR, "gb200-nvl72-rack:": LATENCY,
    "gcp-a3-mega:": HOPS, "aws-p6-b200:": HOPS, "mi300x-roce-400gbe:rccl": HOPS,
}  # fmt: skip
#: Clusters whose host (or whose only log) decides: predictions elsewhere are transferred.
ONE_HOST = {
    "dgx-1v", "l40s-pcie4-server", "rtx-pro-6000-pcie5-server", "v100-pcie3-server", "gcp-a3-mega", "aws-p6-b200",
    "mi300x-roce-400gbe",
}  # fmt: skip
#: Curves of one configuration: every second size is left out.
ONE_CURVE = {"gcp-a3-mega", "aws-p6-b200", "mi300x-roce-400gbe"}
_UNITS = {"latency": (1e6, "us"), "growth": (1e6, "us"), "time": (1e6, "us"), "floor": (1e6, "us"),
          "size": (1e-3, "kB"), "limit": (2.0**-20, "MiB")}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """A row, and whether fits may use it."""

    row: CollectiveRow
    own: bool


@dataclass(frozen=True)
class Fit:
    """Numbers of one network and library, and the errors with them."""

    cluster: str
    library: str
    made: Calibration
    residuals: tuple[Residuals, Residuals]
    errors: list[str]


def read_folder(folder: Path, catalogue: Catalogue) -> Iterator[Measured]:
    """Every readable row of the tables; a measurement that two tables hold counts once."""
    vocabulary = catalogue.load("vocabulary", VOCABULARY)
    seen: set[tuple[object, ...]] = set()
    files = sorted((folder / "collectives").glob("*.csv"))
    files += [path for start in KERNEL_TABLES for path in sorted((folder / "kernels").glob(f"{start}*.csv"))]
    for path in files:
        for raw in read_table(path, ()):
            try:
                row = read_row(raw, vocabulary)
            except (IncompleteRow, InfeasibleRow, UnsupportedRow):
                continue
            key = (row.system.cluster, row.library, row.configuration, row.size, row.reducible, _digits(row.measured))
            if row.measured is None or key in seen:
                continue
            seen.add(key)
            source = raw.get("src_group", "aiconfigurator" if path.parent.name == "kernels" else "")
            alone = row.system.cluster in ONE_HOST
            yield Measured(row, (source in SOURCES or alone) and not is_fault(row))


def is_fault(row: CollectiveRow) -> bool:
    """Rows that measured something else: a stack's fault, or the first calls of a benchmark.

    Pairs of GB200 reach a third of the links in some versions of the engines and all of them in others.
    """
    if row.system.cluster == "aws-p6-b200" and row.size < 1e5:
        return True
    beyond_kernels = row.size > 2.0**23 and row.ranks == 2 and row.library.startswith(("vllm", "sglang"))
    return row.system.cluster == "gb200-nvl72-rack" and beyond_kernels and "0.5.14" not in row.library


def _digits(time: float | None) -> str:
    """A time as far as the coarsest of the tables prints it."""
    return f"{(time or 0.0) * 1e6:.2f}"


def is_left_out(row: CollectiveRow) -> bool:
    """The configuration is not fitted."""
    if row.nodes > 1:
        return row.nodes in LEFT_OUT_NODES
    if row.system.cluster == "dgx-1v":
        return row.ranks in LEFT_OUT_ON_A_CUBE_MESH
    return (row.operation, row.ranks) in LEFT_OUT_IN_A_NODE


def split(rows: Sequence[CollectiveRow]) -> tuple[list[CollectiveRow], list[CollectiveRow]]:
    """Rows to fit and rows left out; nothing is left out of an operation with one number of ranks."""
    if rows and rows[0].system.cluster in ONE_CURVE:
        ordered = sorted(rows, key=lambda row: row.size)
        return ordered[::2], ordered[1::2]
    several = {
        operation
        for operation in {row.operation for row in rows}
        if len({row.configuration for row in rows if row.operation == operation}) > 1
    }
    left_out = [is_left_out(row) and row.operation in several for row in rows]
    return (
        [row for row, out in zip(rows, left_out, strict=True) if not out],
        [row for row, out in zip(rows, left_out, strict=True) if out],
    )


def fit_cluster(cluster: str, rows: Mapping[str, Sequence[Measured]], networks: Networks) -> Iterator[Fit]:
    """Fit a cluster's network: its usual library first, then engines, then calls outside of a graph."""
    known: dict[str, Mapping[str, float]] = {}
    for library in sorted(rows, key=lambda name: (name != "", name.endswith("eager"), name)):
        own = [one.row for one in rows[library] if one.own]
        other = [one.row for one in rows[library] if not one.own]
        fitted, left_out = split(own or other)
        # A tier keeps what was fitted before: an engine falls back on the library, eager calls on graph calls.
        tiers = _with(networks.of(cluster, library).tiers, known.get("", {}), fitted)
        tiers = _with(tiers, known.get(library.removesuffix("-eager"), {}) if library else {}, fitted)
        family = FAMILIES.get(f"{cluster}:{library}") or family_of(fitted, tiers)
        start = networks.of(cluster, library, fitted=False).tiers
        made = _rounded(fit_collectives(fitted, tiers, start, family))
        known[library] = made.numbers
        tiers = _with(tiers, made.numbers, fitted)
        parts = (fitted, left_out, other if own else [])
        # Other hosts are no residuals of these numbers: one source with many rows would hide the spread of the rest.
        spread = [*fitted, *left_out]
        every, large = _ratios(spread, tiers), np.array([row.size >= LARGE for row in spread])
        residuals = (Residuals.of(every[large]), Residuals.of(every[~large]))
        yield Fit(cluster, library, made, residuals, [_errors(part, tiers) for part in parts])


def _with(
    tiers: Sequence[NetworkTier], numbers: Mapping[str, float], rows: Sequence[CollectiveRow]
) -> tuple[NetworkTier, ...]:
    """Tiers with fitted numbers on the outermost one that the rows cross."""
    level = len(tiers) - 1 if any(row.nodes > 1 for row in rows) else 0
    return (*tiers[:level], with_numbers(tiers[level], numbers), *tiers[level + 1 :])


def _rounded(made: Calibration) -> Calibration:
    """Three digits, as a spec states them."""
    return replace(made, numbers={name: float(f"{value:.3g}") for name, value in made.numbers.items()})


def _ratios(rows: Sequence[CollectiveRow], tiers: Sequence[NetworkTier]) -> np.ndarray:
    """Measured over predicted."""
    return np.array([row.measured for row in rows]) / predicted_times(rows, tiers)


def _errors(rows: Sequence[CollectiveRow], tiers: Sequence[NetworkTier]) -> str:
    """Median errors of large and small buffers, with the number of rows."""
    if not rows:
        return "-"
    ratio, large = _ratios(rows, tiers), np.array([row.size >= LARGE for row in rows])
    parts = (Residuals.of(ratio[large]), Residuals.of(ratio[~large]))
    return " / ".join(
        "-" if one.median_error is None else f"{100 * one.median_error:.1f} ({one.rows})" for one in parts
    )


# -- writing ---------------------------------------------------------------------------------------------


def quantity(name: str, value: float) -> str:
    """A number of a spec as text."""
    for ending, (factor, unit) in _UNITS.items():
        if name.endswith(ending):
            return f"{value * factor:.3g} {unit}"
    return f"{value:.3g}"


def numbers_text(numbers: Mapping[str, float]) -> str:
    """Numbers as the inside of a flow mapping."""
    return ", ".join(f"{name}: {quantity(name, value)}" for name, value in numbers.items())


def residuals_text(residuals: tuple[Residuals, Residuals]) -> str:
    """Residuals as a flow mapping; a class without rows takes those of the other."""
    large, small = residuals
    large, small = (large if large.rows else small), (small if small.rows else large)
    pairs = {"large_p10": large.p10, "large_p90": large.p90, "small_p10": small.p10, "small_p90": small.p90}
    return "residuals: {" + ", ".join(f"{name}: {value:.3g}" for name, value in pairs.items()) + "}"


def write(path: Path, fits: Sequence[Fit], kept_numbers: Mapping[str, str]) -> None:
    """Replace the efficiency and the libraries of an interconnect's file."""
    basis = "derived" if fits[0].cluster in ONE_HOST else "measured"
    kept, skipping = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith((" ", "#")):
            skipping = line.startswith(("efficiency:", "libraries:"))
        if not skipping:
            kept.append(line)
    usual = next(one for one in fits if not one.library)
    kept += ["efficiency:", f"  provenance: {{source: perfmodel-collective-fit, basis: {basis}}}"]
    kept += [f"  {name}: {quantity(name, value)}" for name, value in usual.made.numbers.items()]
    kept += [f"  {name}: {text}" for name, text in kept_numbers.items() if name not in usual.made.numbers]
    kept.append(f"  {residuals_text(usual.residuals)}")
    libraries = [one for one in fits if one.library]
    if libraries:
        kept.append("libraries:")
    for one in libraries:
        base = one.library.removesuffix("-eager")
        based = f"based_on: {base}, " if base != one.library else ""
        kept += [
            f"  {one.library}:",
            f"    provenance: {{source: perfmodel-collective-fit, basis: {basis}}}",
            *([f"    {based.rstrip(', ')}"] if based else []),
            *(f"    {name}: {quantity(name, value)}" for name, value in one.made.numbers.items()),
            f"    {residuals_text(one.residuals)}",
        ]
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")


def not_fitted(link: InterconnectSpec) -> dict[str, str]:
    """Numbers that the file states now, as text: those that a fit does not move stay."""
    stated = {name: getattr(link.efficiency, name) for name in type(link.efficiency).model_fields}
    return {name: sourced_text(name, number) for name, number in stated.items() if isinstance(number, Sourced)}


def sourced_text(name: str, number: Sourced) -> str:
    """A number with its source as a flow mapping."""
    ends = {end: getattr(number, end) for end in ("low", "high") if getattr(number, end) is not None}
    parts = {"value": quantity(name, float(number.value)), "source": number.source, "basis": str(number.basis)}
    parts |= {end: quantity(name, value) for end, value in ends.items()}
    parts |= {"note": number.note} if number.note else {}
    return "{" + ", ".join(f"{key}: {text}" for key, text in parts.items()) + "}"


def main(arguments: Sequence[str]) -> int:
    """Fit, print, and write when asked to."""
    if not arguments or (len(arguments) == 2 and arguments[1] != "--write") or len(arguments) > 2:
        print("usage: python tools/fit_collectives.py FOLDER [--write]", file=sys.stderr)
        return 2
    catalogue = Catalogue()
    networks = Networks(catalogue)
    groups: dict[str, dict[str, list[Measured]]] = {}
    for one in read_folder(Path(arguments[0]), catalogue):
        groups.setdefault(one.row.system.cluster, {}).setdefault(one.row.library, []).append(one)
    print(f"{'network':<46} {'fitted':<24} {'left out':<24} {'other hosts':<20} numbers")
    for cluster in FITTED:
        rows = groups.get(cluster, {})
        if cluster == "perlmutter" or cluster in ONE_CURVE:
            rows = {library: [one for one in every if one.row.nodes > 1] for library, every in rows.items()}
        fits = list(fit_cluster(cluster, rows, networks))
        for one in fits:
            columns = f"{one.errors[0]:<24} {one.errors[1]:<24} {one.errors[2]:<20}"
            print(f"{cluster + ':' + (one.library or 'usual'):<46} {columns} {numbers_text(one.made.numbers)}")
        if len(arguments) == 2 and not fits[0].library:
            links = networks.links(cluster)
            link = links[-1] if any(nodes > 1 for _, _, nodes in fits[0].made.configurations) else links[0]
            path = INTERCONNECTS / f"{link.name}.yaml"
            write(path, fits, {} if "extends:" in path.read_text(encoding="utf-8") else not_fitted(link))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
