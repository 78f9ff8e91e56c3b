"""Low-rank adapters: what is frozen costs nothing, what is added is counted, published runs are met."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perfmodel.engine.result import Result
from perfmodel.engine.session import LoadedScenario
from perfmodel.errors import SpecError

Ask = Callable[..., LoadedScenario]
Run = Callable[..., Result]

# Llama 3.1 8B (arXiv 2407.21783, table 3).
LAYERS, HIDDEN, HEADS, KV_HEADS, DIM, FFN, VOCABULARY = 32, 4096, 32, 8, 128, 14336, 128256
PARAMETERS = 8_030_261_248
QKV = (HEADS + 2 * KV_HEADS) * DIM
LINEAR = LAYERS * (HIDDEN * QKV + HEADS * DIM * HIDDEN + 3 * HIDDEN * FFN)
RANK, SEQUENCE = 16, 8192
ADAPTERS = LAYERS * RANK * (HIDDEN + QKV + HEADS * DIM + HIDDEN)


def lora(**changes: Any) -> dict[str, Any]:
    """A fine-tuning of attention projections."""
    adapters = {"rank": RANK, "targets": ["attention.query_key_value", "attention.output"]} | changes
    return {
        "kind": "fine-tuning", "method": "lora", "lora": adapters, "sequence_length": SEQUENCE, "global_batch": 128,
    }  # fmt: skip


FULL = {"kind": "fine-tuning", "method": "full", "sequence_length": SEQUENCE, "global_batch": 128}


def test_adapters_are_the_only_new_parameters(ask: Ask) -> None:
    graph = ask("llama-8b", workload=lora()).question.problem.graph
    assert graph.parameter_count() == PARAMETERS + ADAPTERS
    trained = sum(
        block.count * graph.weight_count(weight)
        for block in graph.all_blocks()
        for operator in block.operators
        for weight in operator.weights
        if not weight.frozen
    )
    assert trained == ADAPTERS


def test_only_adapters_have_gradients_and_moments(run: Run) -> None:
    memory = run("llama-8b", workload=lora(), strategy__zero=0).memory["breakdown"]
    assert memory["weights_bytes"] == pytest.approx(2 * (PARAMETERS + ADAPTERS), rel=1e-12)
    assert memory["gradients_bytes"] == pytest.approx(4 * ADAPTERS, rel=1e-12)
    assert memory["optimizer_bytes"] == pytest.approx(12 * ADAPTERS, rel=1e-12)


@pytest.mark.parametrize("zero", [0, 1, 2])
def test_only_gradients_of_adapters_travel(run: Run, zero: int) -> None:
    rows = [row for row in run("llama-8b", workload=lora(), strategy__zero=zero).communication if row.group == "data"]
    sizes = {row.operation: row.bytes_per_operation for row in rows}
    if zero == 0:
        assert sizes == {"all-reduce": pytest.approx(4 * ADAPTERS)}
    else:
        assert sizes == {"reduce-scatter": pytest.approx(4 * ADAPTERS), "all-gather": pytest.approx(2 * ADAPTERS)}


def test_sharded_parameters_are_gathered_whole_and_scattered_as_adapters(run: Run) -> None:
    rows = run("llama-8b", workload=lora(), strategy__zero=3).communication
    sizes = {row.operation: row.bytes_per_operation for row in rows if row.group == "data"}
    assert sizes["all-gather"] == pytest.approx(2 * (PARAMETERS + ADAPTERS), rel=1e-12)
    assert sizes["reduce-scatter"] == pytest.approx(4 * ADAPTERS, rel=1e-12)


def test_model_flop_are_four_per_frozen_weight(run: Run) -> None:
    # Forward and data gradient: 2 + 2 FLOP per weight; attention and adapters train: 3 passes.
    found = run("llama-8b", workload=lora()).metrics["model_flop_per_token"]
    attention = 3 * LAYERS * 4 * HEADS * DIM * (SEQUENCE + 1) / 2
    assert found == pytest.approx(4 * (LINEAR + HIDDEN * VOCABULARY) + 6 * ADAPTERS + attention, rel=1e-12)


def test_a_frozen_layer_has_one_backward_product(run: Run) -> None:
    rows = {row.name: row.flop for row in run("llama-8b", workload=lora()).operators}
    assert rows["block.mlp.up:backward"] == rows["block.mlp.up:forward"]
    down = "block.attention.output.adapter_down"
    assert rows[f"{down}:backward"] == 2 * rows[f"{down}:forward"]
    assert "embedding.tokens:backward" not in rows


def test_frozen_layers_keep_no_inputs(run: Run) -> None:
    # Two norm inputs, the input of each adapter and of its second product; queries, keys, values, context and
    # statistics; gate and up. The context is kept by attention already.
    memory = run("llama-8b", workload=lora()).memory["breakdown"]["activations_bytes"]
    attention = 2 * (HEADS + QKV / DIM) * DIM + 4 * HEADS
    per_token = 2 * 2 * HIDDEN + 2 * HIDDEN + 2 * 2 * RANK + attention + 2 * 2 * FFN
    ends = 2 * HIDDEN  # input of the last norm
    assert memory == pytest.approx(SEQUENCE * (LAYERS * per_token + ends), rel=1e-9)


def test_no_input_is_gathered_again_for_a_weight_gradient_that_is_not(ask: Ask) -> None:
    shape = {"strategy__tp": 4, "strategy__sequence_parallel": True}
    uses = ask("llama-8b", workload=lora(), **shape).question.problem.collectives
    assert {use.operator for use in uses if use.regather} == {"attention.query_key_value.adapter_up"}
    assert "mlp.up" in {use.operator for use in ask("llama-8b", **shape).question.problem.collectives if use.regather}


def test_full_fine_tuning_is_training(run: Run) -> None:
    assert run("llama-8b", workload=FULL).time["step_s"] == run("llama-8b").time["step_s"]


def test_adapters_cost_less_than_all_weights_and_more_with_rank_and_targets(run: Run) -> None:
    steps = [
        run("llama-8b", workload=workload).time["step_s"]
        for workload in (
            lora(rank=8, targets=["attention.output"]),
            lora(rank=8),
            lora(rank=256),
            lora(rank=256, targets=["*"]),
        )
    ]
    assert steps == sorted(steps)
    assert len(set(steps)) == len(steps)
    full = run("llama-8b", workload=FULL)
    assert steps[1] < full.time["step_s"] * 0.85


def test_adapters_are_bound_by_memory_not_by_their_flop(run: Run) -> None:
    rows = {row.name: row for row in run("llama-8b", workload=lora()).operators}
    up = rows["block.attention.query_key_value.adapter_up:forward"]
    base = rows["block.attention.query_key_value:forward"]
    assert up.flop / base.flop < 0.005
    assert up.time_s / base.time_s > 0.05
    assert up.memory_s > up.compute_s


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        (lora(targets=["attention.qkv"]), r"'attention\.qkv' is no linear layer of llama-3\.1-8b; linear layers: .*"),
        ({key: value for key, value in lora().items() if key != "lora"}, "method lora needs its adapters; write `lora"),
        (lora() | {"method": "full"}, "lora belongs to method: lora"),
        (lora() | {"kind": "training"}, "method belongs to kind fine-tuning, not training"),
        (lora(targets=[]), "targets"),
        (lora(rank=0), "rank"),
    ],
)
def test_mistakes(run: Run, workload: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        run("llama-8b", workload=workload)


# -- published runs -----------------------------------------------------------------------------------------
#: MLPerf Training v5.0, Llama 2 70B with adapters of rank 16 on the attention projections, 8192 tokens
#: (results of mlcommons/training_results_v5.0): cluster, devices, global batch, cp, tp, step time [s], peak [GB].
RUNS = {
    "8 B200": ("hgx-b200-ib-ndr", 8, 8, 1, 1, 1.515, 168.8),
    "8 GB200": ("gb200-nvl72-ib-ndr", 8, 8, 1, 1, 1.486, 168.8),
    "32 GB200": ("gb200-nvl72-ib-ndr", 32, 8, 4, 1, 0.416, 99.6),
    "72 GB200": ("gb200-nvl72-ib-ndr", 72, 9, 8, 1, 0.230, 82.3),
    "8 H200": ("hgx-h200-ib-ndr", 8, 8, 2, 1, 3.15, None),
    "64 H100": ("hgx-h100-ib-ndr", 64, 8, 2, 4, 0.548, None),
}


@pytest.mark.parametrize("name", RUNS)
def test_benchmark_runs_are_met(run: Run, name: str) -> None:
    cluster, devices, batch, cp, tp, step, peak = RUNS[name]
    result = run(
        "llama-8b",
        model="llama-2-70b",
        software="nemo-mlperf",
        numerics="fp8-lora",
        cluster={"name": cluster, "devices": devices},
        workload=lora(dropout=True) | {"global_batch": batch},
        strategy={"cp": cp, "tp": tp, "sequence_parallel": tp > 1, "zero": 1},
    )
    assert result.time["step_s"] == pytest.approx(step, rel=0.12)
    if peak is not None:
        assert result.memory["peak_bytes"] == pytest.approx(peak * 1e9, rel=0.12)
