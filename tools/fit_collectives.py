"""Fit the shipped numbers of networks and libraries: ``python tools/fit_collectives.py FOLDER [PATTERN]``.

FOLDER holds tables of collectives (``collectives/*.csv``) and kernels (``kernels/*.csv``). Every fit leaves some
configurations out; what is printed per network and library: the numbers as they stand in a spec, and the errors on the
rows that were fitted and on those that were left out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from perfmodel.errors import PerfmodelError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.calibration.collectives import Calibration, Residuals, fit_collectives, with_numbers
from perfmodel.study.collective_model import LARGE, Networks, predicted_times
from perfmodel.study.collective_rows import VOCABULARY, CollectiveRow, read_row
from perfmodel.study.validation.tables import IncompleteRow, InfeasibleRow, UnsupportedRow, read_table

#: Configurations that no fit sees, where the operation was measured with other ranks or nodes too.
LEFT_OUT_IN_A_NODE = {("all-reduce", 4), ("all-gather", 8), ("all-to-all", 4), ("reduce-scatter", 4)}
LEFT_OUT_NODES = {8, 32, 128}
#: Sources that a fit uses; rows of all others are predictions of another host.
SOURCES = {"aiconfigurator", "NERSC"}
#: Clusters whose rows come from one public log only: they are fitted all the same, as far as few rows go.
SINGLE_SOURCE = {"dgx-1v"}
KERNEL_TABLES = ("nccl_", "custom_allreduce_")


@dataclass(frozen=True)
class Measured:
    """A row, and whether fits may use it."""

    row: CollectiveRow
    fitted: bool


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
            yield Measured(row, source in SOURCES or row.system.cluster in SINGLE_SOURCE)


def _digits(time: float | None) -> str:
    """A time as far as the coarsest of the tables prints it."""
    return f"{(time or 0.0) * 1e6:.2f}"


def is_left_out(row: CollectiveRow) -> bool:
    """The configuration is not fitted."""
    if row.nodes > 1:
        return row.nodes in LEFT_OUT_NODES
    return (row.operation, row.ranks) in LEFT_OUT_IN_A_NODE


def split(rows: Sequence[CollectiveRow]) -> tuple[list[CollectiveRow], list[CollectiveRow]]:
    """Rows to fit and rows left out; nothing is left out of an operation with one number of ranks."""
    several = {
        operation
        for operation in {row.operation for row in rows}
        if len({row.configuration for row in rows if row.operation == operation}) > 1
    }
    left_out = [row for row in rows if is_left_out(row) and row.operation in several]
    return [row for row in rows if row not in left_out], left_out


def errors(rows: Sequence[CollectiveRow], networks: Networks, cluster: str, library: str, made: Calibration) -> str:
    """Median errors of large and small buffers with fitted numbers."""
    tiers = list(networks.of(cluster, library).tiers)
    level = len(tiers) - 1 if any(nodes > 1 for _, _, nodes in made.configurations) else 0
    tiers[level] = with_numbers(tiers[level], made.numbers)
    if not rows:
        return "-"
    ratio = np.array([row.measured for row in rows]) / predicted_times(rows, tiers)
    large = np.array([row.size >= LARGE for row in rows])
    parts = (Residuals.of(ratio[large]), Residuals.of(ratio[~large]))
    return " / ".join("-" if one.median_error is None else f"{100 * one.median_error:.1f} ({one.rows})" for one in parts)


def main(arguments: Sequence[str]) -> int:
    """Fit and print."""
    if not arguments or len(arguments) > 2:
        print("usage: python tools/fit_collectives.py FOLDER [PATTERN of cluster:library]", file=sys.stderr)
        return 2
    catalogue, pattern = Catalogue(), arguments[1] if len(arguments) == 2 else "*"
    networks, groups = Networks(catalogue), dict[tuple[str, str], list[Measured]]()
    for one in read_folder(Path(arguments[0]), catalogue):
        groups.setdefault((one.row.system.cluster, one.row.library), []).append(one)
    for (cluster, library), rows in sorted(groups.items()):
        if not fnmatchcase(f"{cluster}:{library}", pattern):
            continue
        try:
            report(cluster, library, rows, networks)
        except PerfmodelError as error:
            print(f"{cluster}:{library}: {error}")
    return 0


def report(cluster: str, library: str, rows: Sequence[Measured], networks: Networks) -> None:
    """Fit one network and library, and print numbers and errors."""
    fitted, left_out = split([one.row for one in rows if one.fitted])
    other = [one.row for one in rows if not one.fitted]
    fitted, left_out = fitted or other, left_out
    made = fit_collectives(fitted, networks.of(cluster, library).tiers)
    numbers = ", ".join(f"{name}: {value:.4g}" for name, value in made.numbers.items())
    print(f"{cluster}:{library or 'usual'} {made.family}, {len(fitted)} rows\n  {numbers}")
    for what, part in (("fitted", fitted), ("left out", left_out), ("other hosts", other)):
        print(f"  {what}: {errors(part, networks, cluster, library, made)}")
    print(f"  large p10 {made.large.p10} p90 {made.large.p90}; small p10 {made.small.p10} p90 {made.small.p90}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
