"""Activations kept for backward, against published closed forms."""

from __future__ import annotations

import pytest

from perfmodel.workload import build_graph
from perfmodel.workload.operators import Matmul, Storage

TENSOR_PARALLEL_AXES = {"heads", "kv_heads", "ffn", "vocabulary"}
BYTES = {Storage.ACTIVATION: 2, Storage.FLOAT32: 4, Storage.MASK: 1}
SEQUENCE, BATCH = 512, 3


def _saved_bytes(graph, block, *, only_matmul_inputs=2):
    """Bytes per block: (replicated over the tensor-parallel group, sharded linear, sharded per score)."""
    replicated = sharded = scores = 0
    for name, savers in block.saved().items():
        tensor = block.tensors[name]
        width = BYTES[tensor.storage]
        if all(isinstance(operator, Matmul) for operator in savers):
            width = only_matmul_inputs
        size = graph.size(tensor.features) * SEQUENCE * BATCH * width
        if tensor.per_score:
            scores += size * SEQUENCE
        elif TENSOR_PARALLEL_AXES & {axis for product in tensor.features for axis in product}:
            sharded += size
        else:
            replicated += size
    return replicated, sharded, scores


@pytest.mark.parametrize(("hidden", "heads"), [(1024, 16), (6144, 64), (12288, 96)])
def test_unfused_gpt_block_is_that_of_korthikanti_2022(gpt, hidden, heads):
    """arXiv:2205.05198 Eq. 1 and section 4.2: sbh(10 + 24/t + 5as/(ht)), of which sbh(34 + 5as/h) on one device."""
    attention = {"heads": heads, "kv_heads": heads, "head_dim": hidden // heads, "bias": "all"}
    mlp = {"hidden": 4 * hidden, "gated": False, "activation": "gelu", "bias": True}
    graph = build_graph(gpt(hidden=hidden, attention=attention, mlp=mlp), attention_kernel="unfused")
    replicated, sharded, scores = _saved_bytes(graph, graph.block("block"))
    sbh = SEQUENCE * BATCH * hidden
    assert replicated == 10 * sbh
    assert sharded == 24 * sbh
    assert scores == 5 * heads * SEQUENCE**2 * BATCH
    assert replicated + sharded + scores == pytest.approx(sbh * (34 + 5 * heads * SEQUENCE / hidden), rel=1e-12)


def test_recomputing_the_score_kernels_leaves_34_sbh(gpt):
    """Selective recomputation of Korthikanti 2022: every per-score tensor is saved by an attention operator."""
    block = build_graph(gpt(), attention_kernel="unfused").block("block")
    savers = {
        operator.name
        for name, operators in block.saved().items()
        if block.tensors[name].per_score
        for operator in operators
    }
    assert savers == {"attention.softmax", "attention.softmax_dropout", "attention.context"}


@pytest.mark.parametrize("linear_input_bytes", [2, 1])
@pytest.mark.parametrize("gated", [True, False])
def test_modern_block_matches_the_closed_form(llama, linear_input_bytes, gated):
    """4h + 2xh + 2(2a + 2k)D + 2(1 + g)f + xf bytes per token, x the width of a linear input; plus statistics."""
    graph = build_graph(llama(mlp={"hidden": 2816, "gated": gated}))
    replicated, sharded, scores = _saved_bytes(graph, graph.block("block"), only_matmul_inputs=linear_input_bytes)
    hidden, heads, kv_heads, head_dim, ffn = 1024, 16, 4, 128, 2816
    tokens = SEQUENCE * BATCH
    assert replicated == tokens * (4 * hidden + 2 * linear_input_bytes * hidden)
    statistics = 4 * heads
    attention = 2 * (2 * heads + 2 * kv_heads) * head_dim
    mlp = 2 * (1 + gated) * ffn + linear_input_bytes * ffn
    assert sharded == tokens * (attention + statistics + mlp)
    assert scores == 0


def test_flash_attention_keeps_nothing_that_grows_with_the_square(gpt):
    block = build_graph(gpt(), attention_kernel="flash").block("block")
    assert not any(tensor.per_score for tensor in block.tensors.values())
    unfused = build_graph(gpt(), attention_kernel="unfused").block("block")
    assert any(unfused.tensors[name].per_score for name in unfused.saved())


def test_query_key_norm_keeps_its_input(llama):
    attention = {"heads": 16, "kv_heads": 4, "head_dim": 128}
    plain = build_graph(llama())
    normed = build_graph(llama(attention=attention | {"query_key_norm": "head"}))
    extra = sum(_saved_bytes(normed, normed.block("block"))) - sum(_saved_bytes(plain, plain.block("block")))
    assert extra == SEQUENCE * BATCH * 2 * (16 + 4) * 128


def test_a_slice_is_never_kept_beside_the_tensor_that_it_is_part_of(gpt, llama):
    qk = {"attention": {"heads": 16, "kv_heads": 4, "head_dim": 128, "query_key_norm": "full"}}
    for model in (gpt(), llama(), llama(**qk)):
        for kernel in ("flash", "unfused"):
            for block in build_graph(model, attention_kernel=kernel).all_blocks():
                saved = block.saved()
                assert not any(block.tensors[name].part_of in saved for name in saved)
