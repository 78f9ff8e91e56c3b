"""Tables of measurements: reading, filtering, and parsing of what their columns say."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from perfmodel.errors import UsageError, nearest
from perfmodel.study.validation.lines import Row


class RowProblem(Exception):
    """A row has no prediction; the message says why."""


class IncompleteRow(RowProblem):
    """A needed column is blank and has no declared default."""


class UnsupportedRow(RowProblem):
    """The row describes something that is not modelled."""


class InfeasibleRow(RowProblem):
    """The row violates an integer rule."""


def read_table(path: Path, needed: Sequence[str]) -> list[Row]:
    """Rows of a CSV file by column name.

    Parameters
    ----------
    path
        UTF-8 file with a header.
    needed
        Columns without which no row can be predicted; ``a|b`` stands for either.

    Raises
    ------
    UsageError
        The file cannot be read, is empty or lacks a needed column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows: list[Row] = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
            names = list(reader.fieldnames or ())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: is not a CSV file in UTF-8 ({error})") from error
    missing = [name for name in needed if not set(name.split("|")) & set(names)]
    if missing:
        listed, every = (", ".join(one.replace("|", " or ") for one in columns) for columns in (missing, needed))
        raise UsageError(
            f"{path}: has no column {listed}; a table of this kind needs {every}; "
            f"found: {', '.join(names[:12]) or 'no header'}"
        )
    return rows


def matching(rows: Sequence[Row], conditions: Sequence[str]) -> list[tuple[int, Row]]:
    """Rows that meet all ``column=value`` conditions, with their 0-based positions in the file.

    Numbers compare as numbers (``core_set=1`` matches ``1.0``).
    """
    wanted = [_condition(text, rows) for text in conditions]
    return [
        (position, row)
        for position, row in enumerate(rows)
        if all(_same(row.get(name, ""), want) for name, want in wanted)
    ]


def _condition(text: str, rows: Sequence[Row]) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"--where {text!r}: expected column=value")
    known = rows[0].keys() if rows else ()
    if rows and name.strip() not in known:
        raise UsageError(f"--where {text!r}: the table has no column {name.strip()!r}{nearest(name.strip(), known)}")
    return name.strip(), value.strip()


def _same(found: str, wanted: str) -> bool:
    if found == wanted:
        return True
    try:
        return float(found) == float(wanted)
    except ValueError:
        return False


def number(row: Row, column: str) -> float | None:
    """A number of a row; None where the column is blank or absent.

    Raises
    ------
    IncompleteRow
        The column holds something that is not a finite number.
    """
    text = row.get(column, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError as error:
        raise IncompleteRow(f"{column} is {text!r}, not a number") from error
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 (the test for NaN)
        raise IncompleteRow(f"{column} is {text!r}, not a finite number")
    return value


def whole(row: Row, column: str, default: int | None = None) -> int | None:
    """A count of a row (written as ``8`` or ``8.0``); ``default`` where it is blank."""
    value = number(row, column)
    if value is None:
        return default
    if value != int(value):
        raise IncompleteRow(f"{column} is {value:g}, not a whole number")
    return int(value)


def needed(row: Row, column: str) -> int:
    """A count that a row must have."""
    value = whole(row, column)
    if value is None:
        raise IncompleteRow(f"{column} is blank and has no default")
    return value
