"""Layers as pairs of a mixer and a feed-forward network: every declaration composes, in blocks with counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.errors import SpecError, UnsupportedOperator
from perfmodel.specs.model import ModelSpec
from perfmodel.workload import build_graph
from perfmodel.workload.builders.layers import layer_kinds
from perfmodel.workload.operators import Attention, GroupedMatmul, Scan

MOE = {"experts": 8, "experts_per_token": 2, "expert_hidden": 512}
MAMBA2 = {"kind": "mamba2", "state": 64, "heads": 32, "head_dim": 64, "groups": 4, "convolution": 4}
ATTENTION = {"heads": 16, "kv_heads": 4, "head_dim": 128}
BASE = {
    "name": "any", "hidden": 1024, "vocabulary": 32000, "mlp": {"hidden": 2816, "gated": True},
    "norm": {"kind": "rmsnorm"}, "embedding": {"tied": False},
}  # fmt: skip


def _counts(graph):
    return {block.name: block.count for block in graph.blocks}


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"moe": MOE}, {"block": 12}),
        ({"moe": MOE | {"dense_layers": 3}}, {"block.dense": 3, "block.experts": 9}),
        ({"moe": MOE | {"interval": 2, "offset": 1}}, {"block.dense": 6, "block.experts": 6}),
        # Chunks on three of four layers, experts on every second: three kinds of the four that could be.
        (
            {
                "attention": ATTENTION | {"window": 64, "window_pattern": ["sliding"] * 3 + ["full"]},
                "moe": MOE | {"interval": 2, "offset": 1},
            },
            {"block.sliding.dense": 6, "block.sliding.experts": 3, "block.full.experts": 3},
        ),
        # Jamba: one attention layer in eight, experts in every second layer.
        (
            {"layers": 16, "layer_pattern": "MMMM*MMM", "ssm": MAMBA2, "moe": MOE | {"interval": 2, "offset": 1}},
            {"block.mamba.dense": 6, "block.mamba.experts": 8, "block.attention.dense": 2},
        ),
        # Nemotron-H: a layer is a mixer or a network.
        (
            {"layer_pattern": "M-M*-E", "ssm": MAMBA2, "moe": MOE, "norm": {"kind": "rmsnorm", "per_layer": 1}},
            {"block.mamba": 4, "block.dense": 4, "block.attention": 2, "block.experts": 2},
        ),
        ({"layer_pattern": "M", "ssm": MAMBA2, "attention": None, "mlp": None}, {"block": 12}),
    ],
)
def test_kinds_of_layers_are_blocks_with_counts(llama, changes, counts):
    graph = build_graph(llama(**{"layers": 12} | changes))
    graph.validate()
    assert _counts(graph) == counts
    assert max(len(block.operators) for block in graph.blocks) < 30


@given(
    layers=st.integers(1, 24),
    pattern=st.text("*ML", min_size=1, max_size=8),
    window=st.lists(st.sampled_from(["sliding", "full"]), min_size=1, max_size=4),
    dense=st.integers(0, 4),
    interval=st.integers(1, 3),
)
def test_any_combination_has_the_parameters_of_its_layers_one_by_one(layers, pattern, window, dense, interval):
    """The blocks with their counts weigh what the layers weigh when each is a model of its own."""
    pattern = pattern.replace("L", "M")  # one kind of recurrent mixer per model
    attends, recurs = "*" in (pattern * layers)[:layers], "M" in (pattern * layers)[:layers]
    base = BASE | {
        "layers": layers, "layer_pattern": pattern, "ssm": MAMBA2 if recurs else None,
        "attention": ATTENTION | {"window": 32, "window_pattern": window} if attends else None,
        "moe": MOE | {"dense_layers": dense, "interval": interval},
    }  # fmt: skip
    try:
        graph = build_graph(ModelSpec.model_validate(base))
    except UnsupportedOperator as refused:
        assert "moe that no layer has" in str(refused)  # noqa: PT017 - the other outcome is the point of the test
        return
    graph.validate()
    kinds = layer_kinds(ModelSpec.model_validate(base))
    assert graph.layers == layers
    experts = sum(block.count for block in graph.blocks if _has(block, GroupedMatmul))
    assert experts == sum(1 for layer in range(layers) if layer >= dense and layer % interval == 0)
    assert sum(block.count for block in graph.blocks if _has(block, Scan)) == sum(k.mixer == "mamba" for k in kinds)
    ends = sum(
        graph.weight_count(weight)
        for block in (graph.prologue, graph.epilogue)
        for operator in block.operators
        for weight in operator.weights
    )
    single = {
        (recurrent, routed): _layer_parameters(recurrent=recurrent, routed=routed)
        for recurrent in (False, True)
        for routed in (False, True)
    }
    expected = sum(single[kind.mixer == "mamba", kind.feed_forward == "experts"] for kind in kinds)
    assert graph.parameter_count() - ends == expected


def _has(block, operator_type):
    return any(isinstance(operator, operator_type) for operator in block.operators)


def _layer_parameters(*, recurrent, routed):
    """One layer of each kind, counted by hand."""
    hidden, heads, kv_heads, head_dim, ffn = 1024, 16, 4, 128, 2816
    attention = hidden * (2 * heads + 2 * kv_heads) * head_dim
    inner, groups, state, mixer_heads = 32 * 64, 4, 64, 32
    mixed = inner + 2 * groups * state
    mamba = hidden * (2 * inner + 2 * groups * state + mixer_heads) + mixed * 5 + 3 * mixer_heads + inner * (1 + hidden)
    network = 8 * hidden + 8 * 3 * hidden * 512 if routed else 3 * hidden * ffn
    return (mamba if recurrent else attention) + network + 2 * hidden


def test_the_dense_decoder_keeps_its_names_beside_other_kinds(llama):
    dense, mixed = (build_graph(llama(moe=moe)) for moe in (None, MOE | {"dense_layers": 1}))
    names = [[one.name for one in graph.blocks[0].operators] for graph in (dense, mixed)]
    assert names[0] == names[1]
    assert [one.name for one in mixed.blocks[1].operators[6:]] == [
        "moe.norm", "moe.router", "moe.routing", "moe.dispatch", "moe.up", "moe.activation", "moe.down", "moe.combine",
        "moe.residual",
    ]  # fmt: skip


def test_heads_that_differ_between_windowed_and_full_layers(llama):
    """Gemma 4: full layers have fewer and wider key-value heads."""
    spec = ATTENTION | {"window": 64, "window_pattern": ["sliding", "full"], "full_kv_heads": 2, "full_head_dim": 256}
    graph = build_graph(llama(attention=spec))
    sizes = {}
    for block in graph.blocks:
        core = next(one for one in block.operators if isinstance(one, Attention))
        sizes[block.name] = (graph.axes[core.kv_heads], graph.axes[core.query_dim], graph.axes[core.value_dim])
    assert sizes == {"block.sliding": (4, 128, 128), "block.full": (2, 256, 256)}


def test_sinks_are_one_number_per_head(llama):
    for kernel in ("flash", "unfused"):
        plain, sunk = (
            build_graph(llama(attention=ATTENTION | {"sinks": sinks}), attention_kernel=kernel)
            for sinks in (False, True)
        )
        assert sunk.parameter_count() - plain.parameter_count() == 4 * 16


def test_an_output_gate_is_as_wide_as_the_context(llama):
    plain, gated = (build_graph(llama(attention=ATTENTION | {"output_gate": gate})) for gate in (False, True))
    assert gated.parameter_count() - plain.parameter_count() == 4 * 1024 * 16 * 128
    gated.validate()
    names = [one.name for one in gated.blocks[0].operators]
    assert names.index("attention.gate") == names.index("attention.core") + 1 == names.index("attention.output") - 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"encoder": {"kind": "only", "layers": 4}}, "encoder"),
        ({"attention": None}, "no attention"),
        ({"moe": MOE | {"dense_layers": 4}}, "moe that no layer has"),
        ({"layer_pattern": "*E", "moe": None}, "no moe"),
        ({"ssm": MAMBA2}, "ssm that no layer"),
        ({"ssm": MAMBA2, "layer_pattern": "M"}, "attention that no layer"),
        ({"layer_pattern": "M*"}, "no ssm"),
        (
            {"ssm": MAMBA2, "layer_pattern": "L*"},
            "ssm.kind mamba2 where .* asks for gated_delta",
        ),
        ({"sparse_attention": {"indexer_heads": 4, "indexer_dim": 64, "top_k": 128}}, "sparse_attention without mla"),
    ],
)
def test_contradictions_are_refused_by_name(llama, change, words):
    """Ignoring a declaration would silently give the time of another model."""
    with pytest.raises(UnsupportedOperator, match=rf"small-llama.*({words})"):
        build_graph(llama(**change))


def test_a_layer_may_be_attention_alone(llama):
    whole, alone = (build_graph(llama(**change)) for change in ({}, {"mlp": None}))
    assert whole.parameter_count() - alone.parameter_count() == 4 * (3 * 1024 * 2816 + 1024)
    assert alone.blocks[0].operators[-1].name == "attention.residual"


def test_a_mixer_names_the_field_that_it_lacks(llama):
    with pytest.raises(SpecError, match=r"small-llama: ssm.heads is missing; a mamba2 mixer needs it"):
        build_graph(llama(layer_pattern="M*", ssm={"kind": "mamba2", "state": 64, "head_dim": 64}))
