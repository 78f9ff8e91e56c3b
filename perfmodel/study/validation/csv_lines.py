"""The lines of a validation as CSV (interface page, section 4)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from perfmodel.study.validation.lines import Line

COLUMNS = (
    "row", "id", "quantity", "measured", "predicted", "unit", "relative_error", "p10", "p90", "basis", "status",
    "assumed", "reason",
)  # fmt: skip


def csv_lines(lines: Sequence[Line]) -> str:
    """One line per (row, quantity); the other columns of the input follow, as they were."""
    extra = [name for name in dict.fromkeys(name for line in lines for name in line.columns) if name not in COLUMNS]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*COLUMNS, *extra])
    for line in lines:
        writer.writerow([*_cells(line), *(line.columns.get(name, "") for name in extra)])
    return buffer.getvalue()


def _cells(line: Line) -> list[object]:
    one = line.prediction
    numbers = (one.value, line.relative_error, one.p10, one.p90)
    predicted, error, low, high = ("" if value is None else repr(float(value)) for value in numbers)
    return [
        line.row, line.id, line.quantity, repr(line.measured), predicted, line.unit, error, low, high, one.basis or "",
        one.status.value, "; ".join(one.assumed), one.reason,
    ]  # fmt: skip
