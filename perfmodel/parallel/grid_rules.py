"""Collectives of two-dimensional tensor parallelism: the ranks of the tensor group as a grid of rows and columns.

Activations are cut into parts of the tokens (rows) and of the features (columns), weights into parts of both sides.
Products are made by SUMMA (van de Geijn and Watts 1997, Concurrency: Practice and Experience 9(4), 255-274): panels of
the activations are broadcast along rows, panels of the weight along columns. Attention has whole heads in a
column and a part of the queries in a row, and gathers keys and values over the rows (Subramanian et al. 2024,
arXiv 2410.00273, section 3).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

from perfmodel.parallel.collective_rules import CollectiveUse, collective_use
from perfmodel.parallel.placement import has_tensor_axis, output_placement
from perfmodel.workload.operators import (
    Attention,
    AttentionMatmul,
    Block,
    Elementwise,
    ElementwiseKind,
    Embedding,
    Extent,
    Matmul,
    Operator,
    OperatorGraph,
    Storage,
    extent,
)

#: Operations on the panels of a product.
BROADCAST, REDUCE = "broadcast", "reduce"
PANELS = (BROADCAST, REDUCE)
#: Sums over the features of a token that a norm needs from all columns: of the elements and of their squares.
_STATISTICS: Extent = ((), ())


def grid_collectives(graph: OperatorGraph) -> tuple[CollectiveUse, ...]:
    """The collectives of one micro-batch on a grid, block by block in operator order."""
    return tuple(
        use for block in graph.all_blocks() for operator in block.operators for use in _operator_uses(block, operator)
    )


def grid_obstacles(graph: OperatorGraph) -> tuple[str, ...]:
    """Names of the operators of the layers that have no rule on a grid."""
    found = (one.name for block in graph.blocks for one in block.operators if not _has_rule(one))
    return tuple(dict.fromkeys(found))


def is_on_grid(operator: Operator) -> bool:
    """The operator is a product by SUMMA: tensor parallelism shards one side of its weight."""
    return isinstance(operator, Matmul) and (has_tensor_axis(operator.columns) or has_tensor_axis(operator.contraction))


def _has_rule(operator: Operator) -> bool:
    return is_on_grid(operator) or isinstance(operator, (Attention, AttentionMatmul, Elementwise))


def _operator_uses(block: Block, operator: Operator) -> Iterator[CollectiveUse]:
    match operator:
        case Matmul() if is_on_grid(operator):
            yield from _panels(block, operator)
        case Attention():
            keys = ((operator.kv_heads, operator.query_dim), (operator.kv_heads, operator.value_dim))
            yield from _gathered_keys(block, operator, "keys and values", keys)
        case AttentionMatmul():
            what = "keys" if operator.makes_scores else "values"
            yield from _gathered_keys(block, operator, what, extent(operator.kv_heads, operator.inner_dim))
        case Elementwise() if operator.kind == ElementwiseKind.NORM and not has_tensor_axis(operator.features):
            yield from _statistics(block, operator)
        case Embedding() if output_placement(operator) is not None:
            yield from _summed_rows(block, operator)
        case _:
            pass


def _panels(block: Block, operator: Matmul) -> Iterator[CollectiveUse]:
    """Both operands are broadcast; backward broadcasts each again, and sums the gradient of each.

    A panel of the data gradient is summed along a row, one of the weight gradient along a column.
    """
    make = functools.partial(collective_use, block, operator, applies="grid")
    activations = functools.partial(
        make, f"{operator.name} input", group="columns", features=operator.contraction, tokens="row"
    )
    weight = functools.partial(
        make, f"{operator.name} weight", group="rows", features=_product(operator.contraction, operator.columns),
        storage=Storage.WEIGHT, tokens="none",
    )  # fmt: skip
    yield activations(phase="forward", operation=BROADCAST)
    yield weight(phase="forward", operation=BROADCAST)
    yield weight(phase="backward", operation=BROADCAST)
    yield activations(phase="backward", operation=REDUCE)
    yield activations(phase="backward", operation=BROADCAST)
    yield weight(phase="backward", operation=REDUCE)


def _product(first: Extent, second: Extent) -> Extent:
    """Extent of a matrix with these sides."""
    return tuple((*one, *other) for one in first for other in second)


def _gathered_keys(
    block: Block, operator: Attention | AttentionMatmul, what: str, features: Extent
) -> Iterator[CollectiveUse]:
    """As context parallelism by gathering: queries stay in their row."""
    make = functools.partial(
        collective_use, block, operator, f"{operator.name} {what}", group="rows", applies="grid", features=features,
        tokens="sequence", sequence=operator.keys or operator.sequence,
    )  # fmt: skip
    yield make(phase="forward", operation="all-gather")
    yield make(phase="backward", operation="all-gather")
    yield make(phase="backward", operation="reduce-scatter")


def _statistics(block: Block, operator: Operator) -> Iterator[CollectiveUse]:
    """Features of a token lie in all columns: two sums per token, forward and backward."""
    make = functools.partial(
        collective_use, block, operator, f"{operator.name} statistics", operation="all-reduce", group="columns",
        applies="grid", features=_STATISTICS, tokens="row", storage=Storage.FLOAT32,
    )  # fmt: skip
    yield make(phase="forward")
    yield make(phase="backward")


def _summed_rows(block: Block, operator: Operator) -> Iterator[CollectiveUse]:
    """Rows of a table that is cut by vocabulary are summed and spread over all ranks."""
    make = functools.partial(
        collective_use, block, operator, operator.output, group="tp", applies="grid",
        features=block.tensors[operator.output].features,
    )  # fmt: skip
    yield make(phase="forward", operation="reduce-scatter")
    yield make(phase="backward", operation="all-gather")
