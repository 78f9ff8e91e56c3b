"""Layers that a low-bit recipe leaves in 16 bits."""

from __future__ import annotations

import functools
from dataclasses import replace

from perfmodel.errors import SpecError
from perfmodel.workload.operators import Block, GroupedMatmul, Matmul, Operator, OperatorGraph

#: Role of matmuls that stay in 16 bits under every recipe.
WIDE_ROLE = "head"


@functools.lru_cache(maxsize=256)
def keep_layers_wide(graph: OperatorGraph, layers: int) -> OperatorGraph:
    """The graph with the linear layers of ``layers`` layers in the role that low-bit recipes leave alone.

    Parameters
    ----------
    graph
        A model.
    layers
        Layers of the whole model. Which ones they are does not matter to the model: stages are taken to hold the
        same mix. Types of layers contribute in proportion to their counts, as far as whole numbers allow.

    Raises
    ------
    SpecError
        The model has fewer layers.
    """
    if layers > graph.layers:
        raise SpecError(
            f"numerics.linear.wide_layers = {layers}: {graph.name} has {graph.layers} layers; "
            f"allowed: 0 .. {graph.layers}"
        )
    if layers <= 0:
        return graph
    blocks: list[Block] = []
    for block, wide in zip(graph.blocks, _shares(graph, layers), strict=True):
        if wide < block.count:
            blocks.append(replace(block, count=block.count - wide))
        if wide:
            operators = tuple(_widened(operator) for operator in block.operators)
            blocks.append(replace(block, name=f"{block.name}.wide", operators=operators, count=wide))
    return replace(graph, blocks=tuple(blocks))


def _widened(operator: Operator) -> Operator:
    return replace(operator, precision=WIDE_ROLE) if isinstance(operator, (Matmul, GroupedMatmul)) else operator


def _shares(graph: OperatorGraph, layers: int) -> list[int]:
    """Whole numbers of layers per type that add up to ``layers``: the largest remainders are rounded up."""
    exact = [block.count * layers / graph.layers for block in graph.blocks]
    shares = [int(one) for one in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: shares[i] - exact[i])
    for position in by_remainder[: layers - sum(shares)]:
        shares[position] += 1
    return shares
