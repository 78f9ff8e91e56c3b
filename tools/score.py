"""Score the predictions against a folder of measurements: ``python tools/score.py FOLDER``.

FOLDER holds tables as ``perfmodel validate`` takes them (``training/*.csv``, ``collectives/*.csv``, ``kernels/*.csv``).
Printed is what was predicted, on how many rows, and how far off. Tables that no predictor reads are named on the
standard error stream.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from perfmodel.errors import PerfmodelError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.validation.kinds import KINDS, known_kind, validate
from perfmodel.study.validation.lines import Line
from perfmodel.study.validation.scoring import Score, score

#: Columns that tell groups of a table apart: source and role of runs, operation, device, framework and data types.
GROUPS = (
    "source_key", "role", "op", "op_name", "gpu", "device", "framework", "library",
    "gemm_dtype", "attn_dtype", "mla_dtype", "moe_dtype", "kv_cache_dtype", "nccl_dtype",
)  # fmt: skip
#: Rows that are not scored: older releases of a configuration, incomplete layouts, times faster than the device.
ONLY = {"canonical": "1", "core_set": "1", "physical_ok": "1"}


def scores(kind: str, path: Path, catalogue: Catalogue) -> Iterator[tuple[str, Score]]:
    """Name and score of every group of a table."""
    groups: dict[str, list[Line]] = {}
    for line in validate(kind, path, catalogue):
        if line.quantity == known_kind(kind).main and all(_says(line, name, value) for name, value in ONLY.items()):
            groups.setdefault(_group(line), []).append(line)
    for name, lines in sorted(groups.items()):
        yield name, score(lines)


def _says(line: Line, column: str, value: str) -> bool:
    return line.columns.get(column, value).removesuffix(".0") == value


def _group(line: Line) -> str:
    parts = (line.columns.get(name, "") for name in GROUPS)
    return " ".join(dict.fromkeys(part for part in parts if part))


def print_scores(title: str, found: Sequence[tuple[str, Score]]) -> int:
    """Print the groups of one table that have predictions, and return their number."""
    shown = [(name, one) for name, one in found if one.ok]
    for name, one in shown:
        numbers = (one.mape, one.median_ape, one.p90_ape, one.bias)
        told = " ".join(f"{100 * (value or 0.0):8.1f}" for value in numbers)
        print(f"{title:<34} {name:<70} {one.ok:6d} {told}")
    return len(shown)


def main(folder: Path) -> int:
    """Score every table of the folder; exit code 2 when there is none."""
    catalogue, count = Catalogue(()), 0
    print(f"{'table':<34} {'group':<70} {'rows':>6} {'mean %':>8} {'median %':>8} {'p90 %':>8} {'bias %':>8}")
    for kind in KINDS:
        for path in sorted((folder / kind).glob("*.csv")):
            try:
                count += print_scores(f"{kind} {path.stem}", list(scores(kind, path, catalogue)))
            except PerfmodelError as error:
                print(f"{path.name}: {error}", file=sys.stderr)
    if not count:
        print(f"{folder}: no table of measurements", file=sys.stderr)
    return 0 if count else 2


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])) if len(sys.argv) == 2 else "usage: score.py FOLDER")
