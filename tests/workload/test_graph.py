"""Shape of the graphs: names, order, ties, windows, counts of model FLOP."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import pytest

from perfmodel.errors import SpecError
from perfmodel.specs.model import ModelSpec
from perfmodel.workload import attention_dimensions, build_graph, matmul_parameters
from perfmodel.workload.operators import AttentionMatmul, Matmul


def test_operator_names_are_the_documented_ones(llama, gpt):
    """Results, recompute policies and `explain` address operators by these names."""
    graph = build_graph(llama())
    assert [one.name for one in graph.prologue.operators] == ["embedding.tokens"]
    assert [one.name for one in graph.block("block").operators] == [
        "attention.norm", "attention.query_key_value", "attention.rotary", "attention.core", "attention.output",
        "attention.residual", "mlp.norm", "mlp.up", "mlp.activation", "mlp.down", "mlp.residual",
    ]  # fmt: skip
    assert [one.name for one in graph.epilogue.operators] == ["head.norm", "head.logits", "head.loss"]
    unfused = build_graph(gpt(), attention_kernel="unfused").block("block")
    assert [one.name for one in unfused.operators] == [
        "attention.norm", "attention.query_key_value", "attention.scores", "attention.softmax",
        "attention.softmax_dropout", "attention.context", "attention.output", "attention.dropout",
        "attention.residual", "mlp.norm", "mlp.up", "mlp.activation", "mlp.down", "mlp.dropout", "mlp.residual",
    ]  # fmt: skip


def test_the_digraph_is_acyclic_and_leads_from_the_first_to_the_last_operator(llama):
    for block in build_graph(llama()).all_blocks():
        graph = block.digraph()
        assert nx.is_directed_acyclic_graph(graph)
        last = block.operators[-1].name
        assert set(graph) == {last} | nx.ancestors(graph, last)
    attention = build_graph(llama()).digraph("block")
    assert set(attention.predecessors("attention.core")) == {"attention.rotary", "attention.query_key_value"}


def test_matmul_flop_is_that_of_narayanan_2021(gpt):
    """arXiv:2104.04473 Eq. 3 without recomputation: 72 l h^2 (1 + s/(6h) + V/(12 l h)) FLOP per token."""
    model = gpt(layers=40, hidden=5120, attention={"heads": 40, "kv_heads": 40, "head_dim": 128},
                mlp={"hidden": 20480, "gated": False})  # fmt: skip
    graph = build_graph(model)
    (layer,) = attention_dimensions(graph)
    sequence, hidden, layers, vocabulary = 2048, 5120, 40, 50304
    full_square = 3 * 2 * 2 * layer.count * sequence * layer.heads * layer.query_dim
    paper = 72 * layers * hidden**2 * (1 + sequence / (6 * hidden) + vocabulary / (12 * layers * hidden))
    assert 6 * matmul_parameters(graph) + full_square == pytest.approx(paper, rel=1e-12)


def test_a_tied_head_is_counted_once_and_multiplied_all_the_same(llama):
    tied = build_graph(llama(embedding={"tied": True}))
    untied = build_graph(llama(embedding={"tied": False}))
    assert untied.parameter_count() - tied.parameter_count() == 32000 * 1024
    assert matmul_parameters(untied) == matmul_parameters(tied)


def test_kernels_do_not_change_the_model(gpt, llama):
    for model in (gpt(), llama()):
        flash, unfused = (build_graph(model, attention_kernel=kernel) for kernel in ("flash", "unfused"))
        assert flash.parameter_count() == unfused.parameter_count()
        assert attention_dimensions(flash) == attention_dimensions(unfused)
        scores, context = (one for one in unfused.blocks[0].operators if isinstance(one, AttentionMatmul))
        assert scores.makes_scores
        assert not context.makes_scores
        assert (scores.inner_dim, context.inner_dim) == ("head_dim", "head_dim")


@pytest.mark.parametrize(
    ("layers", "pattern", "counts"),
    [
        (42, ["sliding", "full"], {"block.sliding": 21, "block.full": 21}),  # Gemma 2 9B
        (26, ["sliding"] * 5 + ["full"], {"block.sliding": 22, "block.full": 4}),  # Gemma 3 1B: the cut is sliding
        (32, None, {"block": 32}),  # Mistral 7B: every layer
        (8, ["full"], {"block": 8}),
    ],
)
def test_alternating_windows_are_block_types_with_counts(llama, layers, pattern, counts):
    attention = {"heads": 16, "kv_heads": 4, "head_dim": 128, "window": 4096, "window_pattern": pattern}
    graph = build_graph(llama(layers=layers, attention=attention))
    assert {block.name: block.count for block in graph.blocks} == counts
    assert graph.layers == layers
    windows = {block.name: dims.window for block, dims in zip(graph.blocks, attention_dimensions(graph), strict=True)}
    everywhere = pattern == ["full"]
    assert all((window is None) == (everywhere or "full" in name) for name, window in windows.items())


def test_gated_up_projection_is_one_matmul_of_twice_the_width(llama):
    graph = build_graph(llama())
    (up,) = (one for one in graph.blocks[0].operators if one.name == "mlp.up")
    assert isinstance(up, Matmul)
    assert graph.size(up.columns) == 2 * 2816


def test_value_heads_may_be_narrower(llama):
    attention = {"heads": 16, "kv_heads": 4, "head_dim": 192, "value_dim": 128}
    graph = build_graph(llama(attention=attention))
    matmuls = {one.name: one for one in graph.blocks[0].operators if isinstance(one, Matmul)}
    assert graph.size(matmuls["attention.query_key_value"].columns) == 16 * 192 + 4 * 192 + 4 * 128
    assert graph.size(matmuls["attention.output"].contraction) == 16 * 128
    graph.validate()


def test_relative_positions_add_one_square_matrix_per_layer(llama):
    attention = {"heads": 8, "kv_heads": 8, "head_dim": 128}
    plain = build_graph(llama(attention=attention, embedding={"tied": True, "positions": "none"}))
    relative = build_graph(llama(attention=attention, embedding={"tied": True, "positions": "relative"}))
    assert relative.parameter_count() - plain.parameter_count() == 4 * 1024**2
    assert relative.notes


def test_the_same_question_gives_the_same_graph(llama):
    assert build_graph(llama()) is build_graph(llama())
    assert build_graph(llama()) is not build_graph(llama(layers=5))


def _with_operators(graph, operators):
    return replace(graph, blocks=(replace(graph.blocks[0], operators=tuple(operators)),))


def test_validation_finds_malformed_graphs(llama):
    graph = build_graph(llama())
    operators = graph.blocks[0].operators
    broken = {
        "appears twice": (*operators, operators[-1]),
        "which no earlier operator makes": operators[1:],
        "uses the axis nowhere": (replace(operators[0], features=(("nowhere",),)), *operators[1:]),
        "is not declared": (replace(operators[0], saves=("something",)), *operators[1:]),
        "disagree about per_score": (replace(operators[0], per_score=True), *operators[1:]),
    }
    for message, changed in broken.items():
        with pytest.raises(SpecError, match=message):
            _with_operators(graph, changed).validate()
    backwards = tuple(reversed(operators))
    with pytest.raises(SpecError, match="which no earlier operator makes"):
        _with_operators(graph, backwards).validate()
    weight = replace(graph.epilogue.operators[1].weights[0], tied_to="nothing")
    head = replace(graph.epilogue.operators[1], weights=(weight,))
    epilogue = replace(graph.epilogue, operators=(graph.epilogue.operators[0], head, graph.epilogue.operators[2]))
    with pytest.raises(SpecError, match="is tied to nothing"):
        replace(graph, epilogue=epilogue).validate()


def test_impossible_dimensions_are_refused():
    sound = {
        "name": "x",
        "layers": 1,
        "hidden": 8,
        "vocabulary": 8,
        "norm": {"kind": "rmsnorm"},
        "embedding": {"tied": True},
    }
    mlp = {"hidden": 8, "gated": True}
    heads = {"heads": 6, "kv_heads": 2, "head_dim": 2}
    assert ModelSpec.model_validate(sound | {"attention": heads, "mlp": mlp})
    for change, message in (
        ({"attention": heads | {"kv_heads": 4}}, "must divide heads"),
        ({"attention": heads | {"window_pattern": ["full"]}}, "needs window"),
        ({"layers": 0}, "at least 1"),
        ({"embedding": {"tied": True, "positions": "learned"}}, "position_rows"),
        ({"attention": heads, "mlp": mlp, "norm": {"kind": "rmsnorm", "per_layer": 3}}, "per_layer is 3"),
        ({"moe": {"experts": 4, "experts_per_token": 5, "expert_hidden": 8}}, "experts_per_token"),
        ({"layer_pattern": "MX"}, "layer_pattern"),
        ({"headz": 3}, "headz"),
    ):
        with pytest.raises(ValueError, match=message):
            ModelSpec.model_validate(sound | change)
