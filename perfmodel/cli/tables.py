"""Plain columns for listings."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence


def render_rows(rows: Sequence[Mapping[str, object]], output_format: str, width: int) -> str:
    """Rows with the same keys as aligned columns, JSON or CSV.

    Parameters
    ----------
    rows
        The keys of the first row are the header.
    output_format
        ``table``, ``json`` or ``csv``.
    width
        Columns of the terminal; the last column of a table is shortened to fit.
    """
    if output_format == "json":
        return json.dumps([dict(row) for row in rows], indent=2, ensure_ascii=False)
    if not rows:
        return ""
    header = list(rows[0])
    cells = [[_cell(row[name]) for name in header] for row in rows]
    if output_format == "csv":
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([header, *cells])
        return buffer.getvalue()
    return _align([header, *cells], width)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def _align(lines: Sequence[Sequence[str]], width: int) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    aligned = ("  ".join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip() for line in lines)
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in aligned)


def leaves(tree: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every value of nested mappings and lists by its dotted key (list items by their position)."""
    if isinstance(tree, Mapping):
        parts: Iterator[tuple[object, object]] = iter(tree.items())
    elif isinstance(tree, (list, tuple)):
        parts = iter(enumerate(tree))
    else:
        yield prefix, tree
        return
    for name, one in parts:
        yield from leaves(one, f"{prefix}.{name}" if prefix else str(name))


def render_columns(trees: Sequence[object]) -> str:
    """Trees side by side as CSV: one line for each dotted key, one column for each tree."""
    found = [dict(leaves(tree)) for tree in trees]
    keys = dict.fromkeys(key for one in found for key in one)
    names = [f"scenario {position}" for position in range(1, len(found) + 1)]
    return render_rows(
        [{"key": key, **{n: one.get(key) for n, one in zip(names, found, strict=True)}} for key in keys], "csv", 0
    )
