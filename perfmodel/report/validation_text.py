"""The scores of a validation as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfmodel.study.validation.lines import Line

#: Misses that a table names; the CSV has all.
SHOWN_MISSES = 12
#: Names of groups that are longer are cut.
LONGEST_NAME = 36
_HEADER = ("", "rows", "ok", "MAPE", "median", "p90", "bias", "in 10 %", "in interval")


def render_validation(document: Mapping[str, Any], lines: Sequence[Line]) -> str:
    """Scores by group, the largest misses, and what was not predicted.

    Parameters
    ----------
    document
        As :func:`perfmodel.study.validation.scoring.summarise` makes it.
    lines
        The lines behind it.
    """
    parts = [
        f"Validation of {document['kind']}: predicted over measured",
        _aligned([_HEADER, ("all", *_cells(document)), *_groups(document["by"])]),
        _layouts(document.get("layouts")),
        _misses(lines),
        _refusals(document["not_ok"]),
    ]
    return "\n\n".join(part for part in parts if part)


def _groups(by: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name, groups in by.items():
        if groups:
            found.append((f"by {name}", *[""] * (len(_HEADER) - 1)))
            found += [(f"  {_short(value)}", *_cells(scores)) for value, scores in groups.items()]
    return found


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _cells(scores: Mapping[str, Any]) -> tuple[str, ...]:
    def percent(key: str, sign: str = "") -> str:
        value = scores[key]
        return "" if value is None else f"{100 * value:{sign}.1f} %"

    return (
        str(scores["rows"]), str(scores["ok"]), percent("mape"), percent("median_ape"), percent("p90_ape"),
        percent("bias", "+"), percent("within_10pct"), percent("coverage_80"),
    )  # fmt: skip


def _layouts(found: Mapping[str, Any] | None) -> str:
    if not found or not found["groups"]:
        return ""
    header = ("choice of layout", "device", "devices", "layouts", "regret", "rank correlation")
    rows = [
        (one["model"], one["gpu"], one["devices"], str(one["layouts"]), f"{100 * one['regret']:.1f} %",
         "" if one["spearman"] is None else f"{one['spearman']:.2f}")
        for one in found["groups"]
    ]  # fmt: skip
    return _aligned([header, *rows])


def _misses(lines: Sequence[Line]) -> str:
    good = sorted((line for line in lines if line.ok), key=lambda line: -abs(line.relative_error or 0.0))
    rows = [
        (f"row {line.row}", line.id or line.columns.get("op_name", ""), line.quantity, f"{line.measured:.4g}",
         f"{line.prediction.value:.4g}", line.unit, f"{100 * (line.relative_error or 0.0):+.1f} %")
        for line in good[:SHOWN_MISSES]
    ]  # fmt: skip
    if not rows:
        return ""
    header = ("largest misses", "", "quantity", "measured", "predicted", "unit", "error")
    return _aligned([header, *rows])


def _refusals(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    return "\n".join(["not predicted:", *(f"  {number} x {reason}" for reason, number in counts.items())])


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(size) if column == 0 else cell.rjust(size)
            for column, (cell, size) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
