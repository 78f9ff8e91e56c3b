"""Elements that the memory-bound operators move, against counts per layer derived by hand."""

from __future__ import annotations

import pytest

from perfmodel.workload import build_graph
from perfmodel.workload.operators import Elementwise, ElementwiseKind


def _moved(graph, block, kinds):
    """Elements per token moved forward and backward by the operators of some kinds."""
    operators = [one for one in block.operators if isinstance(one, Elementwise) and one.kind in kinds]
    return tuple(sum(graph.size(one.features) * moved(one) for one in operators)
                 for moved in (lambda one: one.forward_elements, lambda one: one.backward_elements))  # fmt: skip


def test_norms_and_residuals_of_a_layer(llama):
    """Two norms read and write (4), two additions read two and write one (6); backward 2 x 3 + 2 x 3."""
    graph = build_graph(llama())
    forward, backward = _moved(graph, graph.block("block"), {ElementwiseKind.NORM, ElementwiseKind.RESIDUAL})
    assert (forward, backward) == (10 * 1024, 12 * 1024)


def test_rotation_touches_queries_and_keys_only(llama):
    graph = build_graph(llama())
    assert _moved(graph, graph.block("block"), {ElementwiseKind.ROTARY}) == (2 * 20 * 128, 3 * 20 * 128)


@pytest.mark.parametrize(("gated", "forward", "backward"), [(True, 3, 5), (False, 2, 3)])
def test_activation(llama, gated, forward, backward):
    graph = build_graph(llama(mlp={"hidden": 2816, "gated": gated}))
    moved = _moved(graph, graph.block("block"), {ElementwiseKind.ACTIVATION})
    assert moved == (forward * 2816, backward * 2816)


def test_a_parallel_block_has_one_addition_of_three(llama):
    graph = build_graph(llama(parallel_blocks=True, norm={"kind": "rmsnorm", "per_layer": 1}))
    block = graph.block("block")
    names = [operator.name for operator in block.operators]
    assert "attention.residual" not in names
    assert "mlp.norm" not in names
    (up,) = (one for one in block.operators if one.name == "mlp.up")
    assert up.inputs == ("attention.norm",)
    assert _moved(graph, block, {ElementwiseKind.RESIDUAL}) == (4 * 1024, 4 * 1024)


def test_unfused_scores_move_what_separate_kernels_move(gpt):
    """Bytes per score: softmax 2 + 2, dropout 2 + 2 + 1, and 2 + 2 by the matmuls on either side: 13."""
    graph = build_graph(gpt(), attention_kernel="unfused")
    per_score = [one for one in graph.block("block").operators if isinstance(one, Elementwise) and one.per_score]
    assert [one.kind for one in per_score] == [ElementwiseKind.SOFTMAX, ElementwiseKind.DROPOUT]
    assert 2 * sum(one.forward_elements for one in per_score) + 4 == 13
