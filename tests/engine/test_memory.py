"""Memory against the formulas of the papers that introduced the techniques."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from perfmodel.engine.composition import plan_numbers, sizes_of
from perfmodel.engine.result import Result
from perfmodel.engine.saved import saved_bytes
from perfmodel.engine.session import load
from perfmodel.parallel.plan import Plan

Run = Callable[..., Result]
PARAMETERS, DEVICES = 8_030_261_248, 64


def state(result: Result) -> float:
    breakdown = result.memory["breakdown"]
    return breakdown["weights_bytes"] + breakdown["gradients_bytes"] + breakdown["optimizer_bytes"]


@pytest.mark.parametrize(
    ("zero", "expected"),
    [
        (0, 16 * PARAMETERS),
        (1, 4 * PARAMETERS + 12 * PARAMETERS / DEVICES),
        (2, 2 * PARAMETERS + 14 * PARAMETERS / DEVICES),
        (3, 16 * PARAMETERS / DEVICES),
    ],
)
def test_state_follows_the_zero_paper(run: Run, zero: int, expected: float) -> None:
    # Rajbhandari et al. 2020 (arXiv 1910.02054), figure 1: 2 + 2 + K bytes with K = 12 for mixed-precision Adam.
    result = run("llama-8b", strategy__zero=zero, numerics="fp16-mixed")
    assert state(result) == pytest.approx(expected, rel=1e-12)


def test_hybrid_sharding_keeps_a_full_state_in_every_replica(run: Run) -> None:
    # Zhao et al. 2023 (arXiv 2304.11277), section 3.2.2: with a sharding factor F a device keeps 1 / F of the state.
    result = run("llama-8b", strategy__zero=3, strategy__dp_shard=8, strategy__dp_replicate=8, numerics="fp16-mixed")
    assert state(result) == pytest.approx(16 * PARAMETERS / 8, rel=1e-12)


def test_context_parallel_ranks_share_the_optimizer_state(run: Run) -> None:
    split = run("llama-8b", strategy__cp=4, strategy__zero=1, numerics="fp16-mixed")
    assert state(split) == pytest.approx(4 * PARAMETERS + 12 * PARAMETERS / DEVICES, rel=1e-12)


def activations_of_a_layer(run: Run, **changes: object) -> float:
    """What one more layer keeps on the device of a single stage with one micro-batch in flight."""
    shape = {
        "strategy__pp": 1,
        "strategy__pipeline": {"virtual_stages": 1},
        "strategy__micro_batch": 2,
        "cluster__devices": 8,
    } | changes
    memory = [
        run("megatron-175b", model__layers=layers, **shape).stages[0].memory["activations_bytes"] for layers in (48, 49)
    ]
    return memory[1] - memory[0]


S, B, H, A, T = 2048, 2, 12288, 96, 8
SBH = S * B * H


@pytest.mark.parametrize(
    ("tp", "sequence_parallel", "policy", "expected"),
    [
        (1, False, "none", SBH * (34 + 5 * A * S / H)),
        (T, False, "none", SBH * (10 + 24 / T + 5 * A * S / (H * T))),
        (T, True, "none", SBH / T * (34 + 5 * A * S / H)),
        (T, False, "selective", SBH * (10 + 24 / T)),
        (T, True, "selective", SBH / T * 34),
        (T, False, "full", SBH * 2),
    ],
)
def test_activations_follow_table_2_of_korthikanti(
    run: Run, tp: int, sequence_parallel: bool, policy: str, expected: float
) -> None:
    # Korthikanti et al. 2022 (arXiv 2205.05198), equations 1 to 4 and table 2, with every recomputation policy.
    found = activations_of_a_layer(
        run, strategy__tp=tp, strategy__sequence_parallel=sequence_parallel, strategy__recompute=policy
    )
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("virtual_stages", "expected"), [(1, 8.0), (3, 8 * (1 + 7 / (8 * 3)))])
def test_activations_in_flight_on_the_first_stage(run: Run, virtual_stages: int, expected: float) -> None:
    # Korthikanti et al. 2022, section 4.2.3: p micro-batches, and with interleaving p (1 + (p - 1) / (p v)).
    result = run("megatron-175b", strategy__pipeline={"virtual_stages": virtual_stages})
    assert result.stages[0].in_flight == pytest.approx(expected, rel=1e-12)


def test_interleaving_costs_activation_memory(run: Run) -> None:
    plain, interleaved = (
        run("megatron-175b", strategy__pipeline={"virtual_stages": count}).stages[0].memory["activations_bytes"]
        for count in (1, 3)
    )
    assert interleaved / plain == pytest.approx(1 + 7 / (8 * 3), rel=0.02)


def test_later_stages_keep_fewer_micro_batches(run: Run) -> None:
    stages = run("megatron-175b").stages
    assert stages[0].in_flight > stages[1].in_flight > stages[2].in_flight >= 1.0


def test_fewer_micro_batches_than_stages_are_all_that_is_kept(run: Run) -> None:
    result = run("megatron-175b", strategy__pipeline={"virtual_stages": 1}, workload__global_batch=8)
    assert result.stages[0].in_flight == 4.0


def test_sequence_parallelism_shrinks_activations(run: Run) -> None:
    off, on = (run("megatron-175b", strategy__sequence_parallel=switch) for switch in (False, True))
    assert on.memory["breakdown"]["activations_bytes"] < off.memory["breakdown"]["activations_bytes"]


def test_logits_are_on_the_last_stage_only(run: Run) -> None:
    first, middle, last = run("megatron-175b").stages
    assert first.memory["logits_bytes"] == middle.memory["logits_bytes"] == 0.0
    assert last.memory["logits_bytes"] >= 4 * S * 51200 / 8


# -- modules that are recomputed alone discard their output ---------------------------------------------------
#: A layer of DeepSeek-V3 (arXiv 2412.19437, section 4.2): hidden width, heads, their query and value widths, the rotary
#: part of a key (shared by all heads), columns of an expert, experts that a token visits.
HIDDEN, HEADS, QUERY, VALUE, ROTARY, COLUMNS, VISITS = 7168, 128, 192, 128, 64, 2048, 8
LATENT = {"model": "deepseek-v3", "cluster": {"name": "deepseek-h800", "devices": 2048}, "numerics": "bf16-mixed",
          "software": "megatron-core", "strategy": {"ep": 64},
          "workload": {"kind": "training", "sequence_length": 4096, "global_batch": 2048}}  # fmt: skip


def kept_per_token(policy: str) -> float:
    """Bytes of one token in one layer with experts."""
    problem = load({**LATENT, "kind": "scenario", "name": "latent"}).question.problem
    (block,) = [one for one in problem.graph.blocks if one.name == "block.experts"]
    numbers = plan_numbers(Plan.from_columns({"ep": 64, "dp_shard": 2048}))
    kept = saved_bytes(problem, sizes_of(problem, numbers), ((block, 1.0),), problem.policies[policy])
    return float(np.ravel(kept)[0]) / 4096


def test_a_module_that_is_recomputed_alone_keeps_its_input_and_not_its_output() -> None:
    none = kept_per_token("none")
    # Queries, keys and values of all heads, two bytes each. The latents that make them are kept already, but for the
    # rotary part of the key.
    dropped = HEADS * (QUERY + QUERY + VALUE)
    assert none - kept_per_token("mla_up_proj") == pytest.approx(2 * (dropped - ROTARY), rel=1e-12)
    # The inputs of the attention and of the experts' block.
    assert none - kept_per_token("layernorm") == pytest.approx(2 * (HIDDEN + HIDDEN))
    # What the gated activation of every visited expert makes.
    assert none - kept_per_token("moe_act") == pytest.approx(2 * VISITS * COLUMNS)


def test_a_region_that_is_recomputed_keeps_its_output_for_what_follows() -> None:
    # The output of the attention core is the input of a linear layer: of its own only the statistics are dropped,
    # with queries, keys and values kept as the input of the region.
    none, region = kept_per_token("none"), kept_per_token("core_attn")
    assert none - region < 2 * HEADS * VALUE
