"""Mixtures of experts on many devices: what is conserved, what travels, what a limit must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from perfmodel.engine.columns import evaluate_columns
from perfmodel.engine.result import CommunicationRow, OperatorRow, Result
from perfmodel.engine.session import LoadedScenario
from perfmodel.parallel.plan import Plan

Ask = Callable[..., LoadedScenario]
Run = Callable[..., Result]

# Mixtral 8x7B by hand (its config file).
H, LAYERS, FFN, EXPERTS, TOP_K, S, VOCABULARY = 4096, 32, 14336, 8, 2, 4096, 32000
ATTENTION = H * (32 + 2 * 8) * 128 + 32 * 128 * H
EXPERT = 3 * H * FFN
PARAMETERS = 46_702_792_704

#: Nothing but data parallelism and experts; a small job on one node.
PLAIN = {
    "cluster__devices": 8,
    "workload__global_batch": 8,
    "strategy": {"ep": 8, "zero": 0},
}


def row(result: Result, name: str) -> OperatorRow:
    (found,) = [one for one in result.operators if one.name == name]
    return found


def exchanges(result: Result) -> list[CommunicationRow]:
    return [one for one in result.communication if one.group == "expert"]


# -- conservation ------------------------------------------------------------------------------------------
LAYOUTS = [
    {"tp": 1, "ep": 8},
    {"tp": 1, "ep": 1},
    {"tp": 2, "ep": 4, "etp": 2},
    {"tp": 4, "ep": 2},
    {"tp": 8, "ep": 8},
    {"tp": 2, "cp": 2, "ep": 8, "etp": 2},
    {"tp": 1, "cp": 4, "ep": 4, "etp": 4},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_ranks_share_all_of_the_work_of_the_experts(run: Run, layout: dict[str, int]) -> None:
    strategy = layout | {"sequence_parallel": True}
    result = run("mixtral", strategy=strategy, cluster__devices=16, workload__global_batch=16)
    per_token = {"moe.up": 2 * H * 2 * FFN, "moe.down": 2 * FFN * H}
    for operator, work in per_token.items():
        for phase, passes in (("forward", 1), ("backward", 2)):
            one = row(result, f"block.{operator}:{phase}")
            executed = 16 * result.plans[0]["num_microbatches"] * one.flop
            assert executed == pytest.approx(passes * 16 * S * TOP_K * work, rel=1e-12), (operator, phase)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_weights_of_a_rank_are_its_share_of_dense_layers_and_of_experts(run: Run, layout: dict[str, int]) -> None:
    result = run("mixtral", strategy=layout, cluster__devices=16, workload__global_batch=16)
    tp, ranks = layout["tp"], layout["ep"] * layout.get("etp", 1)
    unsharded = LAYERS * (2 * H + H * EXPERTS) + H  # norms and routers
    dense = LAYERS * ATTENTION + 2 * VOCABULARY * H
    expected = 2.0 * (unsharded + dense / tp + LAYERS * EXPERTS * EXPERT / ranks)
    assert unsharded + dense + LAYERS * EXPERTS * EXPERT == PARAMETERS
    assert result.memory["breakdown"]["weights_bytes"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ep", [1, 2, 8])
def test_fully_sharded_parameters_lie_on_the_devices_once(run: Run, ep: int) -> None:
    # ZeRO 3 shards dense parameters over all ranks, and those of experts over the ranks that hold the same ones.
    result = run("mixtral", strategy={"ep": ep, "zero": 3}, cluster__devices=16, workload__global_batch=16)
    parts = result.memory["breakdown"]
    assert 16 * parts["weights_bytes"] == pytest.approx(2.0 * PARAMETERS, rel=1e-12)
    assert 16 * parts["gradients_bytes"] == pytest.approx(4.0 * PARAMETERS, rel=1e-12)
    assert 16 * parts["optimizer_bytes"] == pytest.approx(12.0 * PARAMETERS, rel=1e-12)


def test_replicas_of_hybrid_sharding_hold_everything_twice(run: Run) -> None:
    strategy = {"ep": 4, "zero": 3, "dp_replicate": 2}
    result = run("mixtral", strategy=strategy, cluster__devices=16, workload__global_batch=16)
    assert not any("dp_replicate" in reason for reason in result.reasons)
    assert 16 * result.memory["breakdown"]["weights_bytes"] == pytest.approx(2 * 2.0 * PARAMETERS, rel=1e-12)


def test_one_expert_is_a_dense_layer(run: Run) -> None:
    dense = run("llama-8b")
    single = run("llama-8b", model__moe={"experts": 1, "experts_per_token": 1, "expert_hidden": 14336})
    for operator in ("up", "activation", "down"):
        for phase in ("forward", "backward"):
            one, other = (row(dense, f"block.mlp.{operator}:{phase}"), row(single, f"block.moe.{operator}:{phase}"))
            assert (one.flop, one.traffic_bytes) == pytest.approx((other.flop, other.traffic_bytes), rel=1e-12)
            assert one.time_s == pytest.approx(other.time_s, rel=1e-12)
    router = 2.0 * 32 * 4096  # bytes: one column per layer
    grown = single.memory["breakdown"]["weights_bytes"] - dense.memory["breakdown"]["weights_bytes"]
    assert grown == pytest.approx(router, rel=1e-6)


# -- what travels --------------------------------------------------------------------------------------------
def test_experts_on_one_rank_do_not_communicate(run: Run) -> None:
    result = run("mixtral", strategy={"tp": 2, "sequence_parallel": True, "ep": 1})
    assert exchanges(result) == []
    assert result.time["breakdown"]["expert_communication_s"] == 0.0
    assert result.time["overlapped"]["expert_communication_s"] == 0.0


def test_copies_travel_twice_each_way(run: Run) -> None:
    result = run("mixtral", **PLAIN)
    (exchange,) = exchanges(result)
    assert (exchange.operation, exchange.ranks) == ("all-to-all", 8)
    assert exchange.bytes_per_operation == S * TOP_K * H * 2
    assert exchange.count == LAYERS * 4 * result.plans[0]["num_microbatches"]
    exposed = result.time["breakdown"]["expert_communication_s"]
    assert exposed == pytest.approx(0.8 * exchange.time_s, rel=1e-12)  # what the stack does not hide
    assert result.time["overlapped"]["expert_communication_s"] == pytest.approx(0.2 * exchange.time_s, rel=1e-12)


def test_recomputation_repeats_the_exchange_of_the_forward_pass(run: Run) -> None:
    once, again = run("mixtral", **PLAIN), run("mixtral", **PLAIN | {"strategy": {"ep": 8, "recompute": "full"}})
    assert exchanges(again)[0].count == pytest.approx(1.5 * exchanges(once)[0].count)


def test_ranks_that_share_an_expert_gather_their_rows(run: Run) -> None:
    result = run("mixtral", strategy={"tp": 2, "ep": 4, "etp": 2, "sequence_parallel": True})
    found = {one.operation: one for one in exchanges(result)}
    assert {name: one.ranks for name, one in found.items()} == {"all-to-all": 4, "all-gather": 2, "reduce-scatter": 2}
    sent = S // 2 * TOP_K * H * 2
    assert found["all-to-all"].bytes_per_operation == sent
    assert found["all-gather"].bytes_per_operation == 2 * sent


def test_without_sequence_parallelism_the_tensor_group_gathers_what_its_ranks_sent_apart(run: Run) -> None:
    layout = {"tp": 2, "ep": 4}
    found = {one.operation: one.count for one in run("mixtral", strategy=layout).communication if one.group == "tensor"}
    m = 256 / 32  # micro-batches of a replica
    # The combination forward and the dispatch backward; attention keeps its two all-reduces.
    assert found["all-gather"] == LAYERS * 2 * m
    assert "reduce-scatter" not in found
    with_sequence = run("mixtral", strategy=layout | {"sequence_parallel": True})
    assert "all-reduce" not in {
        one.operation for one in with_sequence.communication if one.group == "tensor" and one.bytes_per_operation > 1e6
    }


@pytest.mark.parametrize("path", ["accelerator__scale_up__bandwidth", "cluster__tiers__1__bandwidth"])
def test_faster_links_never_slow_the_exchange(run: Run, path: str) -> None:
    layout = {"strategy": {"ep": 16}, "model": "qwen3-30b-a3b", "workload__global_batch": 64}
    times = [
        run("mixtral", **layout, **{path: f"{bandwidth} GB/s"}).time["breakdown"]["expert_communication_s"]
        for bandwidth in (25, 50, 100, 400)
    ]
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]


def test_one_copy_per_node_is_no_slower_than_one_per_expert(run: Run) -> None:
    def exchange(ep: int, dispatcher: str, **model: Any) -> float:
        result = run("mixtral", model="deepseek-v3", cluster__devices=256, workload__global_batch=256,
                     strategy={"ep": ep}, software__expert_dispatcher=dispatcher, **model)  # fmt: skip
        return exchanges(result)[0].time_s

    assert exchange(8, "hierarchical") == pytest.approx(exchange(8, "flat"), rel=1e-12)  # one node: nothing to save
    flat, limited = exchange(64, "flat"), exchange(64, "hierarchical")
    free = exchange(64, "hierarchical", model__moe__groups_per_token=8)
    assert limited < free < flat
    # Eight visits in four reachable nodes of eight: 4 (1 - (3/4)^8) = 3.6 copies instead of 8; without the limit 5.25.
    assert limited / flat == pytest.approx(3.5995 / 8, rel=0.02)
    assert free / flat == pytest.approx(5.2511 / 8, rel=0.02)


def test_gradients_of_experts_are_reduced_over_their_own_replicas(run: Run) -> None:
    result = run("mixtral", **PLAIN | {"cluster__devices": 16, "workload__global_batch": 16})
    found = {one.name: one for one in result.communication if one.group == "data"}
    assert {name: one.ranks for name, one in found.items()} == {"data all-reduce": 16, "expert data all-reduce": 2}
    assert found["expert data all-reduce"].bytes_per_operation == pytest.approx(4.0 * LAYERS * EXPERT, rel=1e-12)


# -- routing -------------------------------------------------------------------------------------------------
def test_a_capacity_pads_the_rows_of_every_expert(run: Run) -> None:
    plain, padded = run("mixtral", **PLAIN), run("mixtral", **PLAIN, workload__routing={"capacity_factor": 1.25})
    for name in ("block.moe.up:forward", "block.moe.down:backward", "block.moe.activation:forward"):
        assert row(padded, name).flop == pytest.approx(1.25 * row(plain, name).flop, rel=1e-12)
    assert exchanges(padded)[0].bytes_per_operation == 1.25 * exchanges(plain)[0].bytes_per_operation
    assert padded.metrics["model_flop_per_token"] == plain.metrics["model_flop_per_token"]
    assert padded.metrics["hfu"] / padded.metrics["mfu"] > plain.metrics["hfu"] / plain.metrics["mfu"]


def test_the_busiest_rank_sets_the_pace_but_not_the_energy(run: Run) -> None:
    layout = PLAIN | {"strategy": {"tp": 2, "ep": 4, "etp": 2, "sequence_parallel": True}}
    plain, uneven = run("mixtral", **layout), run("mixtral", **layout, workload__routing={"imbalance": 1.5})
    assert row(uneven, "block.moe.up:forward").flop == pytest.approx(1.5 * row(plain, "block.moe.up:forward").flop)
    assert uneven.time["step_s"] > plain.time["step_s"]
    assert uneven.memory["breakdown"]["activations_bytes"] > plain.memory["breakdown"]["activations_bytes"]
    compute = [result.energy["breakdown"]["compute_j"] for result in (plain, uneven)]
    assert compute[1] == pytest.approx(compute[0], rel=1e-12)
    links = [result.energy["breakdown"]["links_j"] for result in (plain, uneven)]
    assert links[1] == pytest.approx(links[0], rel=1e-12)
    executed = [result.metrics["hfu"] * result.time["step_s"] for result in (plain, uneven)]
    assert executed[1] == pytest.approx(executed[0], rel=1e-12)


def test_few_random_tokens_read_few_experts(run: Run) -> None:
    small = {"model": "qwen3-30b-a3b", "strategy": {}, "workload__sequence_length": 16, "cluster__devices": 1,
             "workload__global_batch": 1}  # fmt: skip
    balanced, random = (
        row(run("mixtral", **small, workload__routing={"balance": balance}), "block.moe.up:forward").traffic_bytes
        for balance in ("balanced", "random")
    )
    # 16 tokens visit 8 of 128 experts each: all of them when balanced, 128 (1 - (127/128)^128) = 81.1 at random.
    expected = 128 * (1 - (127 / 128) ** 128) / 128
    assert random / balanced == pytest.approx(expected, rel=0.01)


# -- software ------------------------------------------------------------------------------------------------
def test_a_layer_with_experts_launches_longer(run: Run) -> None:
    none, some = (run("mixtral", **PLAIN, software__behaviour__expert_block_overhead=f"{us} us") for us in (0, 100))
    m = some.plans[0]["num_microbatches"]
    for phase, passes in (("forward", 1), ("backward", 2)):
        more = some.time["breakdown"][f"{phase}_s"] - none.time["breakdown"][f"{phase}_s"]
        assert more == pytest.approx(m * LAYERS * passes * 100e-6, rel=1e-9)


def test_grouped_kernels_may_be_slower_than_single_ones(run: Run) -> None:
    equal, slower = (run("mixtral", **PLAIN, software__behaviour__grouped_slowdown=one) for one in (1.0, 1.5))
    ratio = row(slower, "block.moe.up:forward").compute_s / row(equal, "block.moe.up:forward").compute_s
    assert ratio == pytest.approx(1.5, rel=0.01)
    assert row(slower, "block.attention.output:forward").time_s == row(equal, "block.attention.output:forward").time_s


# -- columns -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", [["tp", "cp", "dp", "pp"], ["tp", "cp", "pp", "dp"]])
def test_columns_of_expert_plans_equal_single_evaluations(ask: Ask, order: list[str]) -> None:
    random = np.random.default_rng(11)
    count = 120

    def pick(*values: int) -> np.ndarray:
        return random.choice(np.array(values), count)

    plans = Plan.from_columns(
        {
            "tp": pick(1, 2, 4), "cp": pick(1, 2), "pp": pick(1, 2, 4), "dp_shard": pick(1, 4, 8, 16),
            "dp_replicate": pick(1, 1, 2), "ep": pick(1, 2, 4, 8), "etp": pick(1, 2), "micro_batch": pick(1, 2),
            "num_microbatches": pick(1, 8), "sequence_parallel": pick(0, 1), "zero": pick(0, 1, 2, 3),
            "recompute": pick(0, 1),
        },
        recompute_policies=("none", "full"),
    )  # fmt: skip
    problem = ask("mixtral", strategy__order=order).question.problem
    together = evaluate_columns(problem, plans)
    assert len(set(together["time.breakdown.expert_communication_s"])) > 50
    for index in range(0, count, 3):
        alone = evaluate_columns(problem, plans.take(slice(index, index + 1)))
        for key, values in alone.items():
            assert values[0] == pytest.approx(together[key][index], rel=1e-12), key


# -- impossible plans ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        ({"ep": 3}, "ep = 3 does not divide the 8 experts; nearest divisors 2 and 4"),
        ({"ep": 16}, "ep = 16 does not divide the 8 experts"),
        ({"etp": 3}, "etp = 3 does not divide the 14336 columns of an expert"),
        ({"tp": 2, "ep": 8, "etp": 16}, "ep*etp = 8*16 = 128 does not divide tp*cp*dp = 64"),
        ({"ep": 8, "zero": 3, "dp_replicate": 16}, "ep*etp = 8 does not divide tp*cp*dp_shard = 4"),
    ],
)
def test_impossible_places_of_experts_say_why(run: Run, strategy: dict[str, int], sentence: str) -> None:
    result = run("mixtral", strategy=strategy)
    assert not result.feasible
    assert any(sentence in reason for reason in result.reasons), result.reasons


def test_a_dense_model_has_no_experts_to_spread(run: Run) -> None:
    result = run("llama-8b", strategy__ep=4)
    assert "ep = 4 and etp = 1, but the model has no experts" in result.reasons


def test_a_recipe_may_send_tokens_to_experts_in_fp8(run: Run) -> None:
    # DeepSeek-V3 report, section 3.3.3: the dispatch in fp8 with a scale per 128 values, the combination in bf16.
    both, narrow = (exchanges(run("mixtral", **PLAIN, numerics=name)) for name in ("fp8-block", "deepseek-v3-fp8"))
    (plain,) = both
    there, back = sorted(narrow, key=lambda one: one.bytes_per_operation)
    assert back.bytes_per_operation == plain.bytes_per_operation
    assert there.bytes_per_operation / back.bytes_per_operation == pytest.approx((1 + 4 / 128) / 2)
    assert there.count == back.count == plain.count / 2  # tokens out and gradients out; results and gradients back
    assert there.time_s < back.time_s
