"""Sections per plan from sections per shard key: what a search gathers instead of costing again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perfmodel.engine.lazy import lazy
from perfmodel.engine.section_costs import POLICY_FIELDS, KeyCosts, SectionCosts, Sections
from perfmodel.units import Numeric


def gather(costs: KeyCosts, take: np.ndarray, policy: np.ndarray) -> Sections:
    """Sections per plan from sections per shard key.

    Parameters
    ----------
    costs
        Per key; columns of length K (or numbers).
    take, policy
        Shape (n,): the key and the index of the recompute policy of each plan. Where there are several hardware
        points, the first dimension of ``take`` is theirs.
    """
    first = costs.sections[0]

    def pick(section: str) -> SectionCosts:
        shared = all(getattr(one, section) is getattr(first, section) for one in costs.sections)

        def field(name: str) -> Numeric:
            if name in POLICY_FIELDS and not shared:
                table = _table([getattr(getattr(one, section), name) for one in costs.sections], costs)
                return table[policy, _rows(table.shape[1], costs, take)]
            column = getattr(getattr(first, section), name)
            width = getattr(column, "size", 1)
            return column[_rows(width, costs, take)] if width > 1 else column

        return lazy(SectionCosts, field)

    leading = None if first.leading is None else pick("leading")
    return Sections(pick("embedding"), pick("layer"), pick("head"), leading)


def _rows(width: int, costs: KeyCosts, take: np.ndarray) -> Any:
    """Where to look in columns of a width: what is the same on all points is with the keys of the first."""
    if width == 1:
        return 0
    return take[:1] if costs.points > 1 and width == costs.keys else take


def _table(rows: Sequence[Any], costs: KeyCosts) -> np.ndarray:
    """Columns of one width, one per policy."""
    width = max(np.size(row) for row in rows)
    table = np.empty((len(rows), width))
    for position, row in enumerate(rows):
        table[position] = np.tile(row, costs.points) if 1 < np.size(row) < width else row
    return table
