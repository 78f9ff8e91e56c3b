"""Lines for a terminal: wrapped text, tables with bars, colours."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from perfmodel.report.display import block_bar, clip, display_width, pad
from perfmodel.report.table import Table

_CODES = {"bold": "1", "red": "31", "yellow": "33", "blue": "34", "dim": "2"}
_LONGEST_BAR = 30
_SHORTEST_BAR = 6
#: Fewer columns than these are not laid out for.
NARROWEST = 40


class Style:
    """ANSI colours when they were asked for."""

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour

    def __call__(self, text: str, name: str) -> str:
        return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if self.colour and text else text


def wrap(text: str, width: int, first: str = "", later: str | None = None) -> list[str]:
    """Lines of at most ``width`` terminal columns; wide characters are counted as two."""
    later = " " * len(first) if later is None else later
    wide = display_width(text) > len(text)
    limit = width if not wide else max(width // 2, 8)
    return textwrap.wrap(text, limit, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def table_lines(table: Table, width: int, style: Style) -> Iterator[str]:
    """Lines of a table that fits: its title, its header, its rows with bars, its notes."""
    columns = _fit(table, width)
    lengths = [max(display_width(row[at]) for row in (table.headers, *table.rows)) for at in range(len(table.headers))]
    lengths = [min(length, limit) for length, limit in zip(lengths, columns, strict=True)]
    used = sum(lengths) + 2 * (len(lengths) - 1)
    bar = min(_LONGEST_BAR, width - used - 2) if table.bars else 0
    yield from (style(part, "bold") for part in wrap(table.title, width))
    yield style(_row(table.headers, lengths, table.left).rstrip(), "dim")
    for position, row in enumerate(table.rows):
        if table.totals and position == len(table.rows) - table.totals:
            yield style("-" * used, "dim")
        line = _row(row, lengths, table.left)
        fraction = table.bars[position] if table.bars else None
        bars = block_bar(fraction, bar) if bar >= _SHORTEST_BAR else ""
        yield line.rstrip() if not bars else f"{line}  {style(bars, 'blue')}"
    for note in table.notes:
        yield from (style(part, "dim") for part in wrap(note, width, "  "))


def _fit(table: Table, width: int) -> list[int]:
    """Largest width of each column: text columns shrink (the widest first) until the table fits."""
    natural = [max(display_width(row[at]) for row in (table.headers, *table.rows)) for at in range(len(table.headers))]
    available = width - 2 * (len(natural) - 1)
    while sum(natural) > available:
        candidates = table.left if any(natural[at] > 8 for at in table.left) else range(len(natural))
        widest = max(candidates, key=lambda at: natural[at])
        if natural[widest] <= 1:
            break
        natural[widest] -= 1
    return natural


def _row(cells: Sequence[str], lengths: Sequence[int], left: Sequence[int]) -> str:
    return "  ".join(
        pad(clip(cell, length), length, right=at not in left)
        for at, (cell, length) in enumerate(zip(cells, lengths, strict=True))
    )
