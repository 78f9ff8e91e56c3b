"""Sections per plan from sections per shard key: what a search gathers instead of costing again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perfmodel.engine.lazy import lazy
from perfmodel.engine.sections import POLICY_FIELDS, KeyCosts, SectionCosts, Sections
from perfmodel.units import Numeric


def gather(costs: KeyCosts, take: np.ndarray, policy: np.ndarray) -> Sections:
    """Sections per plan from sections per shard key.

    Parameters
    ----------
    costs
        Per key; columns of length K (or numbers).
    take, policy
        Shape (n,): the key and the index of the recompute policy of each plan.
    """
    first = costs.sections[0]

    def pick(section: str) -> SectionCosts:
        shared = all(getattr(one, section) is getattr(first, section) for one in costs.sections)

        def field(name: str) -> Numeric:
            if name in POLICY_FIELDS and not shared:
                table = _table([getattr(getattr(one, section), name) for one in costs.sections])
                return table[policy, take] if table.shape[1] > 1 else table[policy, 0]
            column = getattr(getattr(first, section), name)
            return column[take] if getattr(column, "size", 1) > 1 else column

        return lazy(SectionCosts, field)

    leading = None if first.leading is None else pick("leading")
    return Sections(pick("embedding"), pick("layer"), pick("head"), leading)


def _table(rows: Sequence[Any]) -> np.ndarray:
    width = max(np.size(row) for row in rows)
    table = np.empty((len(rows), width))
    for position, row in enumerate(rows):
        table[position] = row
    return table
