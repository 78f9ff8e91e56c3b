"""Expert layers: parameters, work per token, activations kept."""

from __future__ import annotations

import pytest

from perfmodel.workload import build_graph, matmul_parameters
from perfmodel.workload.operators import Combine, Dispatch, GroupedMatmul, Storage

MOE = {"experts": 16, "experts_per_token": 4, "expert_hidden": 704}
HIDDEN, WIDTH = 1024, 704
BYTES = {Storage.ACTIVATION: 2, Storage.FLOAT32: 4, Storage.MASK: 1}


def _kept(graph, block, prefix):
    """Bytes per token of the kept tensors of a prefix."""
    return sum(
        graph.size(block.tensors[name].features) * BYTES[block.tensors[name].storage]
        for name in block.saved()
        if name.startswith(prefix)
    )


def test_parameters_and_work_of_an_expert_layer(llama):
    """All experts are stored, the chosen ones are multiplied with; the router multiplies always."""
    dense, routed = build_graph(llama()), build_graph(llama(moe=MOE))
    mlp = 3 * HIDDEN * 2816
    expert, router = 3 * HIDDEN * WIDTH, HIDDEN * 16
    assert routed.parameter_count() - dense.parameter_count() == 4 * (16 * expert + router - mlp)
    assert matmul_parameters(routed) - matmul_parameters(dense) == 4 * (4 * expert + router - mlp)


def test_one_expert_that_all_visit_is_the_dense_mlp(llama):
    one = llama(moe={"experts": 1, "experts_per_token": 1, "expert_hidden": 2816})
    dense, routed = build_graph(llama()), build_graph(one)
    assert routed.parameter_count() - dense.parameter_count() == 4 * HIDDEN  # the router
    assert matmul_parameters(routed) - matmul_parameters(dense) == 4 * HIDDEN


@pytest.mark.parametrize(
    ("change", "extra"),
    [
        ({"router_bias": True}, 16),
        ({"expert_bias": True}, 16 * (2 * WIDTH + HIDDEN)),
        ({"shared_experts": 2, "shared_hidden": 2 * WIDTH}, 3 * HIDDEN * 2 * WIDTH),
        ({"shared_experts": 1, "shared_hidden": WIDTH, "shared_gate": True}, 3 * HIDDEN * WIDTH + HIDDEN),
    ],
)
def test_options_add_their_parameters(llama, change, extra):
    plain, changed = (build_graph(llama(moe=moe)) for moe in (MOE, MOE | change))
    changed.validate()
    assert changed.parameter_count() - plain.parameter_count() == 4 * extra


def test_activations_kept_by_an_expert_layer(llama):
    """Per token topk (4 h + 6 f) + 6 f_shared + 8 E bytes: copies, expert outputs, MLPs, 32-bit router.

    The shared part is that of an MLP; ``h`` twice per visit: what the expert reads and what it made.
    """
    graph = build_graph(llama(moe=MOE | {"shared_experts": 1, "shared_hidden": 1408}))
    kept = _kept(graph, graph.block("block"), "moe.") - 2 * HIDDEN  # the norm's output feeds the router
    assert kept == 4 * (4 * HIDDEN + 6 * WIDTH) + 6 * 1408 + 8 * 16


def test_the_routed_region_is_between_dispatch_and_combine(llama):
    block = build_graph(llama(moe=MOE)).block("block")
    kinds = [type(operator) for operator in block.operators]
    first, last = kinds.index(Dispatch), kinds.index(Combine)
    for operator in block.operators[first:last]:
        features = block.tensors[operator.output].features
        assert all(product[0] == "visits" for product in features)
    assert kinds.count(GroupedMatmul) == 2
    experts = {one.name for one in block.operators for weight in one.weights if "experts" in str(weight.rows)}
    assert experts == {"moe.up", "moe.down"}
    assert block.tensors[block.operators[last].output].features == (("hidden",),)


DEEPSEEK_V3 = {
    "layers": 61, "hidden": 7168, "vocabulary": 129280,
    "attention": {"heads": 128, "kv_heads": 128, "head_dim": 192}, "mlp": {"hidden": 18432, "gated": True},
    "mla": {"query_rank": 1536, "key_value_rank": 512, "nope_dim": 128, "rope_dim": 64, "value_dim": 128},
    "moe": {"experts": 256, "experts_per_token": 8, "expert_hidden": 2048, "shared_experts": 1, "shared_hidden": 2048,
            "dense_layers": 3, "router_bias": True, "prediction_layers": 1},
}  # fmt: skip


def test_prediction_layers_are_a_switch(llama):
    """DeepSeek-V3, README of the weights: 11.5 billion parameters of its own, embedding and head shared."""
    off, on = (build_graph(llama(**DEEPSEEK_V3, train_prediction_layers=switch)) for switch in (False, True))
    on.validate()
    own = on.parameter_count() - off.parameter_count()
    assert own == pytest.approx(11.5e9, rel=0.01)
    assert on.layers == off.layers == 61
    extra = matmul_parameters(on) - matmul_parameters(off)
    active = 8 * 3 * 7168 * 2048  # experts that a token visits
    assert extra == pytest.approx(active + 129280 * 7168 + 2 * 7168**2 + 44e6 + 187e6, rel=0.01)
    names = [one.name for one in on.epilogue.operators]
    assert names[:3] == ["head.norm", "head.logits", "head.loss"]
    assert names[-2:] == ["prediction.logits", "prediction.loss"]
    assert "prediction.moe.up" in names


def test_latent_attention_keeps_what_the_closed_form_says(llama):
    """Bytes per token: heads 4 a (d_qk + d_v), both latents before and after their norms, 32-bit statistics."""
    graph = build_graph(llama(**DEEPSEEK_V3))
    stream = 2 * 2 * 7168  # output of the norm before, and the residual stream after
    heads, latents, statistics = 4 * 128 * (192 + 128), 2 * 2 * (1536 + 512), 4 * 128
    assert _kept(graph, graph.block("block.dense"), "attention.") == stream + heads + latents + statistics


def test_sparse_attention_limits_the_keys_and_adds_an_indexer(llama):
    """GLM-5 and DeepSeek-V3.2: r_q n_I d_I + h d_I + 2 d_I + h n_I parameters per layer."""
    sparse = {"indexer_heads": 64, "indexer_dim": 128, "top_k": 2048}
    plain, indexed = (build_graph(llama(**DEEPSEEK_V3, sparse_attention=one)) for one in (None, sparse))
    indexed.validate()
    extra = 1536 * 64 * 128 + 7168 * 128 + 2 * 128 + 7168 * 64
    assert indexed.parameter_count() - plain.parameter_count() == 61 * extra
    core = next(one for one in indexed.blocks[0].operators if one.name == "attention.core")
    assert core.window == 2048
