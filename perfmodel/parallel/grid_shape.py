"""What a grid of the tensor group asks of a plan: its shape, its panels, and the model. Each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from perfmodel.parallel.plan import Counts, Plan

Mask: TypeAlias = NDArray[np.bool_]
#: Name of the rule, where plans break it, and the sentence for one row.
Rule: TypeAlias = tuple[str, Mask, Callable[[int], str]]


def grid_shape_rules(
    plan: Plan, *, hidden: int, ffn: int, sequence_length: int, obstacles: tuple[str, ...]
) -> Iterator[Rule]:
    """The rules of plans with a grid; none where no plan has one.

    Parameters
    ----------
    hidden, ffn
        Widths of the model that products contract; 0 where it has no such axis.
    sequence_length
        Tokens per sequence.
    obstacles
        Operators of the layers that have no rule on a grid.
    """
    grid = (plan.tp_blocks > 0) | (plan.tp_rows > 1)
    if not np.any(grid):
        return
    yield from _shape(plan, grid)
    yield from _panels(plan, grid, ((hidden, "hidden features"), (ffn, "feed-forward columns")))
    rows, columns = plan.tp_rows, plan.tp_columns
    yield (
        "columns divide hidden",
        grid & _uneven(hidden, columns),
        lambda row: f"the {columns[row]} columns of the grid do not divide the {hidden} hidden features",
    )
    yield (
        "rows divide sequence",
        grid & _uneven(sequence_length, rows),
        lambda row: f"tp_grid.rows = {rows[row]} does not divide the {sequence_length} tokens of a sequence",
    )
    yield (
        "grid needs rules",
        grid & bool(obstacles),
        lambda _: f"tp_grid: {', '.join(obstacles)} has no rule on a grid of the tensor group; leave tp_grid out",
    )


def _shape(plan: Plan, grid: Mask) -> Iterator[Rule]:
    rows = plan.tp_rows
    yield (
        "grid of tp",
        grid & _uneven(plan.tp, rows),
        lambda row: f"tp_grid.rows = {rows[row]} does not divide tp = {plan.tp[row]}: rows * columns must be tp",
    )
    yield (
        "grid without cp",
        grid & (plan.cp > 1),
        lambda row: (
            f"the rows of a grid share the tokens already; use cp = 1 and more rows instead of cp = {plan.cp[row]}"
        ),
    )


def _panels(plan: Plan, grid: Mask, contracted: tuple[tuple[int, str], ...]) -> Iterator[Rule]:
    rows, columns, blocks = plan.tp_rows, plan.tp_columns, plan.tp_blocks
    yield (
        "grid needs blocks",
        grid & (blocks < 1),
        lambda row: f"a grid of {rows[row]} rows needs tp_grid.blocks of at least 1, not {blocks[row]}",
    )
    yield (
        "blocks of the grid",
        grid & (blocks > 0) & (_uneven(blocks, rows) | _uneven(blocks, columns)),
        lambda row: (
            f"tp_grid.blocks = {blocks[row]} is not a multiple of both the {rows[row]} rows and the {columns[row]} "
            "columns of the grid: a panel would lie on two ranks"
        ),
    )
    for size, what in contracted:
        yield (
            f"blocks divide {what}",
            grid & _uneven(size, blocks),
            lambda row, size=size, what=what: f"tp_grid.blocks = {blocks[row]} does not divide the {size} {what}",
        )


def _uneven(number: Counts | int, divisor: Counts) -> Mask:
    return np.not_equal(np.mod(number, np.maximum(divisor, 1)), 0)
