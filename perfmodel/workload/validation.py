"""Structural checks of operator graphs, for builders and transforms (built in or a user's own)."""

from __future__ import annotations

from collections.abc import Iterator

from perfmodel.errors import SpecError
from perfmodel.workload.operators import (
    KEYS,
    Attention,
    AttentionMatmul,
    Block,
    Combine,
    CrossEntropy,
    Dispatch,
    Elementwise,
    Embedding,
    Extent,
    GroupedMatmul,
    Matmul,
    Operator,
    OperatorGraph,
    Scan,
)


def validate_graph(graph: OperatorGraph) -> None:
    """Check names, tensors, axes and ties of every block.

    Raises
    ------
    SpecError
        The first problem: a name used twice, an input that nothing made before it is read (which also
        excludes cycles), a saved or produced tensor that is not declared, an unknown axis, a tie to nothing.
    """
    problem = next(_problems(graph), None)
    if problem is not None:
        raise SpecError(f"{graph.name}: malformed operator graph: {problem}")


def _problems(graph: OperatorGraph) -> Iterator[str]:
    yield from _repeated(f"block {block.name}" for block in graph.all_blocks())
    weights = {weight.name for block in graph.all_blocks() for one in block.operators for weight in one.weights}
    for block in graph.all_blocks():
        if not block.operators and block in graph.blocks:  # a model of layers only has empty ends
            yield f"{block.name} has no operators"
        yield from _block_problems(block)
        for operator in block.operators:
            yield from _axis_problems(graph, block, operator)
            for weight in operator.weights:
                if weight.tied_to is not None and weight.tied_to not in weights:
                    yield f"{weight.name} is tied to {weight.tied_to}, which does not exist"


def _repeated(names: Iterator[str]) -> Iterator[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            yield f"{name} appears twice"
        seen.add(name)


def _block_problems(block: Block) -> Iterator[str]:
    yield from _repeated(f"operator {operator.name} of {block.name}" for operator in block.operators)
    if block.count < 1:
        yield f"{block.name} repeats {block.count} times"
    available = set(block.inputs)
    for operator in block.operators:
        for name in operator.inputs:
            tensor = block.tensors.get(name)
            origin = name if tensor is None or tensor.part_of is None else tensor.part_of
            if origin not in available:
                yield f"{block.name}: {operator.name} reads {name}, which no earlier operator makes"
        yield from (
            f"{block.name}: {operator.name} names the tensor {name}, which is not declared"
            for name in (*operator.inputs, operator.output, *operator.saves)
            if name not in block.tensors
        )
        per_score = operator.output in block.tensors and block.tensors[operator.output].per_score
        if isinstance(operator, Elementwise) and operator.per_score != per_score:
            yield f"{block.name}: {operator.name} and its output disagree about per_score"
        available.add(operator.output)


def _extents(block: Block, operator: Operator) -> Iterator[Extent]:
    for weight in operator.weights:
        yield weight.rows
        yield weight.columns
    yield from (block.tensors[name].features for name in (*operator.inputs, operator.output) if name in block.tensors)
    if operator.sequence is not None:
        yield ((operator.sequence,),)
    if isinstance(operator, (Matmul, GroupedMatmul)):
        yield operator.contraction
        yield operator.columns
    if isinstance(operator, (Elementwise, Dispatch, Combine)):
        yield operator.features
    if isinstance(operator, Attention):
        yield ((operator.heads, operator.kv_heads, operator.query_dim, operator.value_dim),)
    if isinstance(operator, (Attention, AttentionMatmul)) and operator.keys is not None:
        yield ((operator.keys,),)
    if isinstance(operator, Scan):
        yield ((operator.heads, operator.groups, operator.head_dim, operator.state),)
    if isinstance(operator, AttentionMatmul):
        yield ((operator.heads, operator.kv_heads, operator.contraction, operator.columns),)
    if isinstance(operator, Embedding):
        yield ((operator.vocabulary, operator.hidden),)
    if isinstance(operator, CrossEntropy):
        yield ((operator.vocabulary,),)


def _axis_problems(graph: OperatorGraph, block: Block, operator: Operator) -> Iterator[str]:
    known = {*graph.axes, KEYS} if isinstance(operator, AttentionMatmul) else set(graph.axes)
    used = {axis for features in _extents(block, operator) for product in features for axis in product}
    for axis in sorted(used - known):
        yield f"{block.name}: {operator.name} uses the axis {axis}, which has no size"
