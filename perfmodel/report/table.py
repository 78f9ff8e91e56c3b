"""A table before it is known whether it becomes text or HTML."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Table:
    """One table: the first column is text (left), the others are right-aligned unless named in ``left``.

    Attributes
    ----------
    bars
        For each row the fraction its bar shows, or None for a row without one; empty when no row has a bar.
    totals
        Number of rows at the end that are sums or limits, set apart by a rule.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: tuple[float | None, ...] = ()
    totals: int = 0
    left: tuple[int, ...] = (0,)
    notes: tuple[str, ...] = ()
