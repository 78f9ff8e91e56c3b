"""What must be conserved, and limits whose answer is known without the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perfmodel.engine.result import OperatorRow, Result
from perfmodel.engine.session import LoadedScenario
from perfmodel.parallel.schedule import replay

Ask = Callable[..., LoadedScenario]
Run = Callable[..., Result]

ALONE = {"cluster__devices": 1, "workload__global_batch": 4}
COMMUNICATION = (
    "tensor_communication_s",
    "context_communication_s",
    "expert_communication_s",
    "pipeline_communication_s",
    "data_communication_s",
)

# Llama 3.1 8B by hand (its config file).
H, LAYERS, HEADS, KV, D, FFN, VOCABULARY, S = 4096, 32, 32, 8, 128, 14336, 128256, 8192
LAYER_WEIGHTS = H * (HEADS + 2 * KV) * D + HEADS * D * H + 3 * H * FFN
PARAMETERS = 8_030_261_248


def matrix_rows(result: Result, phase: str, prefix: str = "") -> list[OperatorRow]:
    return [
        row
        for row in result.operators
        if row.phase == phase and row.name.startswith(prefix) and row.data_type != "vector"
    ]


# -- one device ------------------------------------------------------------------------------------------
def test_one_device_does_not_communicate(run: Run) -> None:
    result = run("llama-8b", **ALONE)
    assert result.plans[0]["devices"] == 1
    assert len(result.communication) == 0
    assert all(result.time["breakdown"][key] == 0.0 for key in COMMUNICATION)
    assert all(value == 0.0 for value in result.time["overlapped"].values())
    assert all(row.communication_bytes == 0.0 for row in result.operators)
    assert result.energy["breakdown"]["links_j"] == 0.0
    assert result.memory["breakdown"]["communication_buffers_bytes"] == 0.0


def test_one_stage_has_no_bubble(run: Run) -> None:
    assert run("llama-8b", **ALONE).time["breakdown"]["pipeline_bubble_s"] == 0.0
    assert run("llama-8b", strategy__pp=2, workload__global_batch=256).time["breakdown"]["pipeline_bubble_s"] > 0.0


# -- sums over operators ---------------------------------------------------------------------------------
@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_operators_times_micro_batches_are_the_pass(ask: Ask, phase: str) -> None:
    scenario = ask("llama-8b", strategy__micro_batch=1, workload__global_batch=256)
    result, step = scenario.run(), scenario.question.problem.machine.step
    passes = {"forward": 1.0, "backward": 2.0}[phase]
    kernels = sum(row.count * row.time_s for row in result.operators if row.phase == phase)
    expected = result.plans[0]["num_microbatches"] * (kernels + passes * LAYERS * step.block_overhead)
    assert result.plans[0]["num_microbatches"] == 4
    assert result.time["breakdown"][f"{phase}_s"] == pytest.approx(expected, rel=1e-12)


def test_twice_the_micro_batches_take_twice_the_pass(run: Run) -> None:
    once = run("llama-405b").time["breakdown"]
    twice = run("llama-405b", workload__global_batch=4096).time["breakdown"]
    for key in ("forward_s", "backward_s", "tensor_communication_s", "pipeline_communication_s"):
        assert twice[key] == pytest.approx(2.0 * once[key], rel=1e-12)
    for key in ("pipeline_bubble_s", "optimizer_s"):
        assert twice[key] == pytest.approx(once[key], rel=1e-12)


# -- FLOP ------------------------------------------------------------------------------------------------
def test_model_flop_of_llama_by_hand(run: Run) -> None:
    # 6 FLOP per weight and token (two forward, four backward); attention: scores and context, two FLOP each per
    # pair and channel, half of the pairs (s + 1 of 2 s), three passes.
    weights = LAYERS * LAYER_WEIGHTS + H * VOCABULARY
    attention = 3 * LAYERS * 2 * 2 * HEADS * D * (S + 1) / 2
    assert run("llama-8b").metrics["model_flop_per_token"] == pytest.approx(6 * weights + attention, rel=1e-12)


def test_model_flop_of_gpt_by_the_formula_of_megatron(run: Run) -> None:
    # Narayanan et al. 2021, section 5.1: 96 B s l h^2 (1 + s / 6 h + V / 16 l h) with recomputation counts four forward
    # passes of the layers and three of the head; without it 72 B s l h^2 (1 + s / 6 h + V / 12 l h), all pairs.
    h, layers, s, vocabulary = 12288, 96, 2048, 51200
    result = run("megatron-175b")
    per_token = 72 * layers * h**2 * (1 + s / (6 * h) + vocabulary / (12 * layers * h))
    ratio = result.metrics["mfu_variants"]["full_attention"] / result.metrics["mfu"]
    assert ratio * result.metrics["model_flop_per_token"] == pytest.approx(per_token, rel=1e-12)


def test_forward_matmuls_of_one_device_are_a_third_of_the_model_flop(run: Run) -> None:
    result = run("llama-8b", **ALONE)
    forward = sum(row.count * row.flop for row in matrix_rows(result, "forward"))
    vector = sum(
        row.count * row.flop for row in result.operators if row.phase == "forward" and row.data_type == "vector"
    )
    assert forward == pytest.approx(result.metrics["model_flop_per_token"] * S / 3, rel=1e-12)
    assert 0.0 < vector < 0.01 * forward


def test_utilisation_is_model_flop_over_peak(run: Run) -> None:
    result = run("llama-405b")
    tokens = 2048 * 8192
    work = result.metrics["model_flop_per_token"] * tokens / (8192 * 989.4e12)
    assert result.metrics["mfu"] == pytest.approx(work / result.time["step_s"], rel=1e-12)
    assert result.metrics["tokens_per_s"] == pytest.approx(tokens / result.time["step_s"], rel=1e-12)
    assert result.metrics["mfu_variants"]["bf16_peak"] == pytest.approx(result.metrics["mfu"], rel=1e-12)


# -- recomputation ---------------------------------------------------------------------------------------
def test_full_recomputation_repeats_the_forward_pass_of_the_layers(run: Run) -> None:
    result = run("llama-8b", strategy__recompute="full")
    forward = {row.name.removesuffix(":forward"): row for row in result.operators if row.phase == "forward"}
    again = {row.name.removesuffix(":recompute"): row for row in result.operators if row.phase == "recompute"}
    assert set(again) == {name for name in forward if name.startswith("block.")}
    for name, row in again.items():
        assert (row.count, row.flop, row.time_s) == (forward[name].count, forward[name].flop, forward[name].time_s)


@pytest.mark.parametrize(("tp", "cp"), [(1, 1), (8, 1), (2, 2)])
@pytest.mark.parametrize("recompute", ["none", "full"])
def test_hardware_utilisation_counts_everything_executed(run: Run, tp: int, cp: int, recompute: str) -> None:
    result = run("llama-8b", strategy__recompute=recompute, strategy__tp=tp, strategy__cp=cp)
    # Forward and two transposed matmuls, attention forward and 2.5 times that backward (the scores again);
    # full recomputation repeats the forward pass of the layers, not of the head.
    head = 2 * H * VOCABULARY
    forward = result.metrics["model_flop_per_token"] / 3
    attention = sum(row.count * row.flop for row in result.operators if row.name == "block.attention.core:forward")
    attention *= tp * cp / (result.plans[0]["micro_batch"] * S)
    executed = 3 * forward + 0.5 * attention + (forward - head if recompute == "full" else 0.0)
    assert result.metrics["hfu"] / result.metrics["mfu"] == pytest.approx(executed / (3 * forward), rel=1e-9)


def test_half_of_the_layers_take_half_of_the_recomputation(run: Run) -> None:
    full = run("llama-8b", strategy__recompute="full")
    half = run("llama-8b", strategy__recompute={"policy": "full", "fraction": 0.5})
    part, whole = (result.time["breakdown"]["recompute_s"] for result in (half, full))
    assert part == pytest.approx(0.5 * whole, rel=1e-12)
    assert half.memory["breakdown"]["activations_bytes"] > full.memory["breakdown"]["activations_bytes"]


def test_recomputation_trades_memory_for_time(run: Run) -> None:
    none, selective, full = (
        run("megatron-175b", strategy__recompute=policy) for policy in ("none", "selective", "full")
    )
    assert none.time["step_s"] < selective.time["step_s"] < full.time["step_s"]
    activations = [result.memory["breakdown"]["activations_bytes"] for result in (none, selective, full)]
    assert activations[0] > activations[1] > activations[2]


# -- sharding --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tp", [2, 4, 8, 16])
@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_sharded_work_is_never_less_work(run: Run, tp: int, phase: str) -> None:
    whole, part = run("llama-8b"), run("llama-8b", strategy__tp=tp, strategy__sequence_parallel=True)
    alone = {row.name: row for row in whole.operators if row.phase == phase}
    for row in part.operators:
        if row.phase == phase:
            assert tp * row.flop >= alone[row.name].flop * (1.0 - 1e-12), row.name
            assert tp * row.traffic_bytes >= alone[row.name].traffic_bytes * (1.0 - 1e-12), row.name
            # Small memory-bound kernels may become faster: what they read is still in the cache.
            if row.data_type != "vector":
                assert tp * row.time_s > alone[row.name].time_s, row.name


def test_tensor_parallel_matmuls_share_all_of_the_work(run: Run) -> None:
    # Up to the number of key-value heads nothing is computed twice; beyond it key-value heads are copied.
    def flop(tp: int) -> float:
        result = run("llama-8b", strategy__tp=tp)
        return tp * sum(row.count * row.flop for row in matrix_rows(result, "forward"))

    assert flop(8) == pytest.approx(flop(1), rel=1e-12)
    copied = 2 * S * LAYERS * H * 2 * KV * D  # forward FLOP of one more copy of the key and value projections
    assert flop(16) - flop(1) == pytest.approx(copied, rel=1e-9)


def test_context_parallelism_shares_tokens_and_pairs(run: Run) -> None:
    whole, part = run("llama-8b"), run("llama-8b", strategy__cp=4)
    work = [sum(row.count * row.flop for row in matrix_rows(result, "forward")) for result in (whole, part)]
    assert 4 * work[1] == pytest.approx(work[0], rel=1e-12)


# -- the bubble ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("virtual_stages", [1, 2, 4])
def test_bubble_of_equal_stages(run: Run, virtual_stages: int) -> None:
    # Narayanan et al. 2021, section 2.2: (p - 1) / (v m) of the time without bubble. A small vocabulary makes the
    # ends of the pipeline light; a model of 128 layers on 16 stages.
    result = run(
        "megatron-175b",
        model__vocabulary=512,
        model__layers=128,
        cluster__devices=128,
        strategy__pp=16,
        workload__global_batch=64,
        strategy__pipeline={"virtual_stages": virtual_stages},
        software__behaviour__fixed_overhead="0 s",
        software__behaviour__jitter_per_doubling=0,
    )
    breakdown = result.time["breakdown"]
    working = sum(breakdown.values()) - sum(
        breakdown[key] for key in ("pipeline_bubble_s", "optimizer_s", "data_communication_s", "overhead_s")
    )
    # The first stage also has the embedding; what makes it slower it does where the others wait.
    published = 15 / (virtual_stages * 64)
    assert 0.93 * published <= breakdown["pipeline_bubble_s"] / working <= 1.001 * published


#: Relative error of the time of the micro-batches, against the replay of the schedule that the result states.
SCHEDULES = {
    "gpipe": 1e-9, "1f1b": 1e-9, "interleaved-1f1b": 1e-9, "zb-h1": 0.002, "zb-v": 1e-9, "dualpipe": 1e-9,
}  # fmt: skip


@pytest.mark.parametrize("ends_as_layers", [False, True])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_bubble_is_that_of_the_replay(run: Run, schedule: str, ends_as_layers: bool) -> None:
    # 126 layers on 14 stages, or 128 units on 16; embedding and head make the ends uneven.
    chunks = {"interleaved-1f1b": 4, "zb-v": 2}.get(schedule, 1)
    result = run(
        "llama-405b",
        strategy__pp=16 if ends_as_layers else 14,
        cluster__devices=8192 if ends_as_layers else 7168,
        workload__global_batch=2048 if ends_as_layers else 1792,
        strategy__pipeline={
            "schedule": schedule,
            "virtual_stages": chunks,
            "embedding_and_head_as_layers": ends_as_layers,
        },
    )
    stated = result.schedule
    timeline = replay(
        stated["forward_s"],
        stated["backward_s"],
        stated["num_microbatches"],
        stated["virtual_stages"],
        schedule=stated["name"],
        weight_gradient_s=stated["weight_gradient_s"],
    )
    slowest = max(f + b for f, b in zip(stated["forward_s"], stated["backward_s"], strict=True))
    predicted = stated["num_microbatches"] * slowest + result.time["breakdown"]["pipeline_bubble_s"]
    assert predicted == pytest.approx(timeline.makespan, rel=SCHEDULES[schedule])
    assert sum(result.time["breakdown"].values()) == pytest.approx(result.time["step_s"], rel=1e-9)


# -- the roofline limit ----------------------------------------------------------------------------------
def test_an_ideal_device_reaches_its_peak_on_a_large_model(run: Run) -> None:
    # What is left are the memory-bound operators, one optimizer step per 64 sequences, and the half pass that fused
    # attention repeats in its backward kernel.
    alone: dict[str, Any] = {
        "cluster__devices": 1,
        "workload__global_batch": 64,
        "software": "ideal",
        "model": "llama-3.1-405b",
        "strategy__zero": 0,
    }
    mfu = run("llama-8b", **alone).metrics["mfu"]
    assert 0.95 < mfu < 1.0


def test_a_real_stack_is_below_the_roofline(run: Run) -> None:
    for name in ("llama-8b", "llama-405b", "megatron-175b"):
        assert run(name).time["step_s"] > run(name, software="ideal").time["step_s"]


@pytest.mark.parametrize("strategy", [{"tp": 8, "sequence_parallel": True}, {"tp": 8}, {"cp": 8}], ids=str)
def test_a_forward_pass_has_the_communication_of_a_forward_pass(run: Run, strategy: dict[str, Any]) -> None:
    changes: dict[str, Any] = {"cluster__devices": 8, "strategy": strategy}
    training = run("llama-8b", **changes, workload={"kind": "training", "sequence_length": 8192, "global_batch": 8})
    forward = run("llama-8b", **changes, workload={"kind": "forward", "sequence_length": 8192, "batch": 8})
    model = [row for row in forward.communication if row.group in {"tensor", "context"}]
    assert model
    operations = {row.operation: row.count for row in model}
    if strategy == {"tp": 8, "sequence_parallel": True}:
        # Two of each per layer; one all-gather before the head, and the embedding leaves by a reduce-scatter.
        assert operations == {"all-gather": 8 * (2 * 32 + 1), "reduce-scatter": 8 * (2 * 32 + 1)}
    if strategy == {"cp": 8}:
        assert set(operations) == {"all-gather"}  # keys and values; their gradients would be scattered
    assert not any("loss" in row.name for row in forward.operators)
    whole = sum(row.time_s for row in training.communication if row.group in {"tensor", "context"})
    assert sum(row.time_s for row in model) < 0.6 * whole
    assert forward.energy["per_step_j"] < 0.5 * training.energy["per_step_j"]


def test_a_forward_pass_gathers_sharded_parameters_once_per_micro_batch(ask: Ask) -> None:
    question = ask(
        "llama-8b",
        cluster__devices=8,
        strategy={"zero": 3},
        workload={"kind": "forward", "sequence_length": 8192, "batch": 64},
    )
    forward = question.run()
    (gather,) = forward.communication
    assert (gather.group, gather.operation, gather.count) == ("data", "all-gather", 8)
    assert gather.bytes_per_operation == 2 * 8_030_261_248
    assert gather.exposed_s == pytest.approx(forward.time["breakdown"]["data_communication_s"], rel=1e-12)
    # Seven eighths of the weights leave each of the eight devices in every micro-batch.
    sent = 8 * 8 * 7 / 8 * gather.bytes_per_operation
    per_byte = question.question.problem.machine.tiers[0].energy_per_byte
    assert forward.energy["breakdown"]["links_j"] == pytest.approx(sent * per_byte, rel=1e-12)


@pytest.mark.parametrize("kind", ["tensor", "pipeline", "data"])
def test_an_overlap_that_is_switched_off_exposes_all_communication_of_its_kind(run: Run, kind: str) -> None:
    hidden, exposed = (run("llama-405b", **{f"strategy__overlap__{kind}": on}) for on in (True, False))
    key = f"{kind}_communication_s"
    whole = hidden.time["breakdown"][key] + hidden.time["overlapped"][key]
    assert exposed.time["breakdown"][key] == pytest.approx(whole, rel=1e-9)
    assert exposed.time["overlapped"][key] == pytest.approx(0.0, abs=1e-9 * whole)
    assert exposed.time["step_s"] >= hidden.time["step_s"]
    assert exposed.plans[0][f"{kind}_overlap"] is False
