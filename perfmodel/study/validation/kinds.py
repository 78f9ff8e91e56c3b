"""The kinds of tables that can be validated, and the function that predicts the rows of each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from perfmodel.errors import UsageError, nearest
from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.progress import Progress, unseen
from perfmodel.study.validation.lines import Line, Row
from perfmodel.study.validation.tables import matching, read_table

#: Predicts rows: (positions and rows, catalogue, progress) -> lines, in order of the rows.
Predictor: TypeAlias = Callable[[Sequence[tuple[int, Row]], Catalogue, Progress], list[Line]]


@dataclass(frozen=True)
class Kind:
    """A kind of table.

    Attributes
    ----------
    module
        Where its function ``predict_rows`` is; imported when asked for.
    needed
        Columns without which the file is not such a table.
    main
        Main quantity, whose lines make the top-level scores; None: all lines.
    shipped
        Table of the package (a path below it) that is scored without a file.
    """

    module: str
    needed: tuple[str, ...]
    main: str | None = None
    shipped: str | None = None


KINDS: dict[str, Kind] = {
    "training": Kind(
        "perfmodel.study.validation.training",
        ("model", "gpu", "n_gpus", "seq_len"),
        "iter_time_s",
        "catalog/measurements/training-runs.csv",
    ),
    "collectives": Kind(
        "perfmodel.study.validation.collectives",
        (
            "op|op_name|collective",
            "n_gpus|num_gpus|num_workers",
            "bytes|size_bytes|size",
            "gpu|device|node",
        ),
        "time_us",
    ),
    "kernels": Kind("perfmodel.study.validation.kernels", (), "latency_ms"),
}


def known_kind(name: str) -> Kind:
    """The kind of that name.

    Raises
    ------
    UsageError
        There is none; the message lists what there is.
    """
    if name not in KINDS:
        raise UsageError(f"no kind of validation {name!r}; there are {', '.join(KINDS)}{nearest(name, KINDS)}")
    return KINDS[name]


def validate(
    name: str, path: Path | None, catalogue: Catalogue, where: Sequence[str] = (), progress: Progress = unseen
) -> list[Line]:
    """Predict the rows of a table.

    Parameters
    ----------
    name
        A key of :data:`KINDS`.
    path
        The table; None for the shipped one.
    catalogue
        Where specs are looked up.
    where
        ``column=value`` conditions on rows.
    progress
        Told about every row.

    Raises
    ------
    UsageError
        Unknown kind, unreadable table, or no table ships for the kind.
    """
    kind = known_kind(name)
    rows = read_table(path or shipped_table(name, kind), kind.needed)
    chosen = matching(rows, where)
    if not chosen:
        raise UsageError(f"no row of the table meets {' and '.join(where) or 'anything'}: it has {len(rows)} rows")
    predict: Predictor = importlib.import_module(kind.module).predict_rows
    return predict(chosen, catalogue, progress)


def shipped_table(name: str, kind: Kind) -> Path:
    """Path of the table that ships with the package."""
    if kind.shipped is None:
        raise UsageError(f"no table ships for {name!r}; name a CSV file: perfmodel validate {name} FILE.csv")
    return Path(__file__).parents[2] / kind.shipped
