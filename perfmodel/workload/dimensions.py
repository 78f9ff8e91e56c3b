"""What a graph says about model FLOP: its matmul weights per token and the dimensions of its attention layers.

Only counting; the formulas are in ``perfmodel.equations`` and the engine puts both together.
"""

from __future__ import annotations

from dataclasses import dataclass

from perfmodel.workload.operators import (
    VISITS,
    Attention,
    AttentionMatmul,
    Block,
    GroupedMatmul,
    KeyIndexer,
    Matmul,
    Operator,
    OperatorGraph,
)


@dataclass(frozen=True)
class AttentionDimensions:
    """One kind of attention layer.

    Attributes
    ----------
    count
        Layers of this kind.
    heads, kv_heads, query_dim, value_dim
        Sizes.
    causal
        What the model attends, whatever the kernel computes.
    window
        Attended tokens of a sliding window, or None.
    mean_attended
        Mean attended keys per query of a document mask, or None.
    """

    count: int
    heads: int
    kv_heads: int
    query_dim: int
    value_dim: int
    causal: bool
    window: int | None
    mean_attended: float | None = None


def matmul_parameters(graph: OperatorGraph) -> int:
    """Weights that every token is multiplied with: linear layers and LM head, tied or not.

    Of routed experts those that one token visits. Without the input embedding (a look-up), biases and norms: the
    ``N`` of ``6 N`` FLOP per trained token.
    """
    return sum(
        block.count * _multiplied(graph, operator) for block in graph.all_blocks() for operator in block.operators
    )


def _multiplied(graph: OperatorGraph, operator: Operator) -> int:
    if isinstance(operator, Matmul):
        return graph.size(operator.contraction) * graph.size(operator.columns)
    if isinstance(operator, GroupedMatmul):
        return graph.axes[VISITS] * graph.size(operator.contraction) * graph.size(operator.columns)
    return 0


def attention_dimensions(graph: OperatorGraph) -> tuple[AttentionDimensions, ...]:
    """The attention layers of a graph, one entry per kind; the same for fused and unfused kernels.

    The indexer of sparse attention is not a layer of its own.
    """
    found: list[AttentionDimensions] = []
    for block in graph.all_blocks():
        scores: AttentionMatmul | None = None
        for operator in block.operators:
            if isinstance(operator, Attention) and not isinstance(operator, KeyIndexer):
                found.append(_dimensions(graph, block, operator, operator.query_dim, operator.value_dim))
            elif isinstance(operator, AttentionMatmul) and operator.makes_scores:
                scores = operator
            elif isinstance(operator, AttentionMatmul) and scores is not None:
                found.append(_dimensions(graph, block, scores, scores.inner_dim, operator.inner_dim))
    return tuple(found)


def _dimensions(
    graph: OperatorGraph, block: Block, operator: Attention | AttentionMatmul, query_dim: str, value_dim: str
) -> AttentionDimensions:
    fused = isinstance(operator, Attention)
    return AttentionDimensions(
        count=block.count,
        heads=graph.axes[operator.heads],
        kv_heads=graph.axes[operator.kv_heads],
        query_dim=graph.axes[query_dim],
        value_dim=graph.axes[value_dim],
        causal=operator.causal if fused else operator.causal_mask,
        window=operator.window,
        mean_attended=operator.mean_attended if fused else None,
    )
