"""Placements: conservation of sizes, and the collectives of Megatron-LM from first principles."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.errors import UnsupportedOperator
from perfmodel.parallel.placement import (
    CollectiveUse,
    Partial,
    Shard,
    has_tensor_axis,
    infer_collectives,
    local_size,
    local_tokens,
    output_placement,
    register_parallel_rule,
)
from perfmodel.provenance import Traced
from perfmodel.workload.operators import Matmul, Operator, OperatorGraph, Storage, extent

VARIANTS = {
    "sequence_parallel": ("always", "sequence_parallel"),
    "tensor_parallel_only": ("always", "tensor_parallel_only"),
}


def counts(graph: OperatorGraph, block: str, variant: str, group: str = "tp") -> Counter[tuple[str, str]]:
    uses = [use for use in infer_collectives(graph) if use.block == block and use.group == group]
    chosen = [use for use in uses if use.applies in VARIANTS[variant]]
    return Counter(
        (use.phase, use.operation + (" again" if use.regather else "")) for use in chosen for _ in range(int(use.count))
    )


def wire_bytes(uses: list[CollectiveUse], graph: OperatorGraph, tp: int, tokens: int) -> float:
    """Bytes that a rank sends: ring all-reduce 2 (n-1)/n, the others (n-1)/n of the full buffer."""
    laps = {"all-reduce": 2, "all-gather": 1, "reduce-scatter": 1}
    return sum(
        use.count
        * laps[use.operation]
        * (tp - 1)
        / tp
        * tokens
        * float(local_size(use.features, graph.axes, {"tp": tp}))
        for use in uses
    )


def test_dense_block_without_sequence_parallelism_has_two_all_reduces_each_way(dense):
    assert counts(dense, "block", "tensor_parallel_only") == {
        ("forward", "all-reduce"): 2,
        ("backward", "all-reduce"): 2,
    }


def test_dense_block_with_sequence_parallelism_follows_korthikanti(dense):
    assert counts(dense, "block", "sequence_parallel") == {
        ("forward", "all-gather"): 2,
        ("forward", "reduce-scatter"): 2,
        ("backward", "all-gather"): 2,
        ("backward", "reduce-scatter"): 2,
        ("backward", "all-gather again"): 2,
    }


def test_sequence_parallelism_moves_the_bytes_of_tensor_parallelism_but_for_the_second_gather(dense):
    uses = [use for use in infer_collectives(dense) if use.group == "tp" and use.block == "block"]
    plain = [use for use in uses if use.applies == "tensor_parallel_only"]
    sharded = [use for use in uses if use.applies == "sequence_parallel" and not use.regather]
    assert wire_bytes(plain, dense, 8, 8192) == pytest.approx(wire_bytes(sharded, dense, 8, 8192))
    # Four all-reduces of tokens x hidden elements.
    assert wire_bytes(plain, dense, 8, 8192) == pytest.approx(4 * 2 * 7 / 8 * 8192 * 4096)


def test_one_rank_sends_nothing(dense):
    assert wire_bytes([use for use in infer_collectives(dense) if use.group == "tp"], dense, 1, 8192) == 0.0


def test_parallel_block_gathers_its_input_once_and_reduces_its_sum_once(parallel):
    assert counts(parallel, "block", "tensor_parallel_only") == {
        ("forward", "all-reduce"): 1,
        ("backward", "all-reduce"): 1,
    }
    assert counts(parallel, "block", "sequence_parallel") == {
        ("forward", "all-gather"): 1,
        ("forward", "reduce-scatter"): 1,
        ("backward", "all-gather"): 1,
        ("backward", "reduce-scatter"): 1,
        ("backward", "all-gather again"): 1,
    }


def test_vocabulary_sharded_embedding_and_loss(dense):
    assert counts(dense, "embedding", "tensor_parallel_only") == {("forward", "all-reduce"): 1}
    assert counts(dense, "embedding", "sequence_parallel") == {
        ("forward", "reduce-scatter"): 1,
        ("backward", "all-gather"): 1,
    }
    assert counts(dense, "head", "tensor_parallel_only") == {
        ("forward", "all-reduce"): 3,
        ("backward", "all-reduce"): 1,
    }
    loss = [use for use in infer_collectives(dense) if use.operator == "loss"]
    assert [(use.storage, use.count, local_size(use.features, dense.axes, {"tp": 8})) for use in loss] == [
        (Storage.FLOAT32, 3.0, 1.0)
    ]


def test_collectives_belong_to_the_operators_that_wait_for_them(dense):
    uses = [use for use in infer_collectives(dense) if use.block == "block" and use.applies == "sequence_parallel"]
    gathered = {use.operator for use in uses if use.phase == "forward" and use.operation == "all-gather"}
    reduced = {use.operator for use in uses if use.phase == "forward" and use.operation == "reduce-scatter"}
    assert (gathered, reduced) == ({"qkv", "up"}, {"output", "down"})
    assert {use.features for use in uses} == {extent("hidden")}
    assert len({use.name + use.phase for use in uses}) == len(uses)


def context_uses(graph: OperatorGraph, kind: str) -> list[CollectiveUse]:
    return [use for use in infer_collectives(graph) if use.group == "cp" and use.context == kind]


def test_a_ring_moves_the_same_bytes_as_the_gathers(dense):
    # Gathered buffer S: (cp - 1)/cp S per collective. In a ring blocks of S/cp travel cp - 1 times.
    cp, tokens = 4, 8192
    whole = tokens * float(local_size(extent("kv_heads", "head_dim", times=2), dense.axes, {"tp": 8}))
    for phase, gathers in (("forward", 1), ("backward", 2)):
        gathered = [use for use in context_uses(dense, "all-gather") if use.phase == phase]
        sent = [use for use in context_uses(dense, "ring") if use.phase == phase]
        assert len(gathered) == gathers
        ring = sum(use.count * (cp - 1) * tokens / cp * local_size(use.features, dense.axes, {"tp": 8}) for use in sent)
        assert ring == pytest.approx(gathers * (cp - 1) / cp * whole, rel=1e-12)


def test_an_exchange_moves_queries_keys_values_and_context_once_each_way(dense):
    uses = context_uses(dense, "all-to-all")
    for phase in ("forward", "backward"):
        moved = sum(local_size(use.features, dense.axes, {}) for use in uses if use.phase == phase)
        assert moved == (32 + 2 * 8 + 32) * 128
    assert {use.operation for use in uses} == {"all-to-all"}


def test_context_parallelism_moves_keys_and_values_of_the_whole_sequence(dense):
    uses = context_uses(dense, "all-gather")
    assert Counter((use.phase, use.operation) for use in uses) == {
        ("forward", "all-gather"): 1,
        ("backward", "all-gather"): 1,
        ("backward", "reduce-scatter"): 1,
    }
    assert {use.tokens for use in uses} == {"sequence"}
    # Grouped-query attention: 8 key and 8 value heads of 128, on 8 tensor-parallel ranks one of each.
    assert {float(local_size(use.features, dense.axes, {"tp": 8})) for use in uses} == {2 * 128.0}


def test_unfused_attention_moves_the_same_bytes_as_the_fused_kernel(dense, unfused):
    def moved(graph: OperatorGraph) -> Counter[tuple[str, str, str, str]]:
        total: Counter[tuple[str, str, str, str]] = Counter()
        for use in infer_collectives(graph):
            key = (use.group, use.phase, use.operation, use.applies)  # the kinds of context parallelism differ in these
            total[key] += int(use.count * local_size(use.features, graph.axes, {"tp": 4}))
        return total

    assert moved(unfused) == moved(dense)


def test_matmul_sharded_on_both_sides_is_refused():
    operator = Matmul(name="odd", inputs=("x",), output="odd", contraction=extent("ffn"), columns=extent("vocabulary"))
    with pytest.raises(UnsupportedOperator, match=r"'odd'.*ffn.*vocabulary"):
        output_placement(operator)


def test_placements_of_matmuls():
    column = Matmul(name="up", inputs=("x",), output="up", contraction=extent("hidden"), columns=extent("ffn"))
    row = Matmul(name="down", inputs=("x",), output="down", contraction=extent("ffn"), columns=extent("hidden"))
    router = Matmul(
        name="router", inputs=("x",), output="router", contraction=extent("hidden"), columns=extent("experts")
    )
    assert [output_placement(one) for one in (column, row, router)] == [Shard("ffn"), Partial(), None]


def test_rules_of_new_operators_are_registered_not_edited_in(dense):
    class Halo(Operator):
        pass

    @register_parallel_rule(Halo)
    def exchange(block, operator):
        return (
            CollectiveUse(block.name, operator.name, "edge", "forward", "all-to-all", "cp", "always", extent("hidden")),
        )

    block = dense.blocks[0]
    halo = Halo(name="halo", inputs=("input",), output="halo")
    extended = OperatorGraph(
        "x",
        dense.axes,
        dense.prologue,
        (type(block)("block", (*block.operators, halo), block.tensors),),
        dense.epilogue,
    )
    added = set(infer_collectives(extended)) - set(infer_collectives(dense))
    assert {use.operation for use in added} == {"all-to-all"}


sizes = st.integers(1, 64)


@given(sizes, sizes, sizes, sizes, st.integers(1, 200000), st.integers(1, 96))
def test_local_times_ranks_is_at_least_global(heads, kv_heads, head_dim, ffn, vocabulary, tp):
    axes = {
        "hidden": 7,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "ffn": ffn,
        "vocabulary": vocabulary,
    }
    graph_extents = [
        extent("heads", "head_dim") + extent("kv_heads", "head_dim", times=2),
        extent("ffn"),
        extent("vocabulary"),
    ]
    for features in graph_extents:
        whole = sum(np.prod([axes[axis] for axis in product]) for product in features)
        local = float(local_size(features, axes, {"tp": float(tp)}))
        assert local * tp >= whole * (1 - 1e-12)
        assert local <= whole
    assert local_size(extent("hidden"), axes, {"tp": tp}) == 7


def test_local_sizes_of_llama():
    axes = {"heads": 128, "kv_heads": 8, "head_dim": 128, "ffn": 53248, "vocabulary": 128256}
    tp = np.array([1.0, 8.0, 16.0])
    assert local_size(extent("heads", "head_dim"), axes, {"tp": tp}).tolist() == [16384, 2048, 1024]
    assert local_size(extent("kv_heads", "head_dim"), axes, {"tp": tp}).tolist() == [1024, 128, 128]  # copied beyond 8
    assert local_size(extent("vocabulary"), axes, {"tp": 100.0}) == 1283  # padded rows
    assert has_tensor_axis(extent("kv_heads", "head_dim"))
    assert not has_tensor_axis(extent("hidden"))


def test_local_sizes_are_traced():
    tp = Traced.leaf(np.array([8.0]), "plan.tp")
    axes = {"kv_heads": Traced.leaf(8.0, "model.kv_heads"), "head_dim": 128, "vocabulary": 1000}
    features = extent("kv_heads", "head_dim") + extent("vocabulary")
    traced = local_size(features, axes, {"tp": tp})
    assert traced.value[0] == 128 + 125
    assert {"plan.tp", "model.kv_heads"} <= {one.node.label for one in traced.walk()}
    assert local_tokens(2.0, 8192.0, Traced.leaf(4.0, "plan.cp")).value == 4096


@given(st.integers(1, 8), st.integers(1, 4096), st.integers(1, 16))
def test_context_parallel_ranks_hold_the_tokens(micro_batch, sequence, cp):
    assert local_tokens(micro_batch, sequence, cp) * cp == pytest.approx(micro_batch * sequence)
