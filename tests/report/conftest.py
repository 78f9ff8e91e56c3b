"""A result made by hand: a step of a 405-billion-parameter decoder on 8192 devices, 12 s. Sums hold exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from perfmodel.engine.result import (
    CauseRow,
    CommunicationRow,
    OperatorRow,
    PublishedRow,
    Result,
    ResultWarning,
    StageRow,
)
from perfmodel.provenance import Basis, Sourced

GIB = 2.0**30
STEP = 12.0
TOKENS = 2048 * 8192
DEVICES = 8192

BREAKDOWN = {
    "forward_s": 3.05,
    "backward_s": 6.02,
    "recompute_s": 0.0,
    "tensor_communication_s": 1.12,
    "context_communication_s": 0.0,
    "expert_communication_s": 0.0,
    "pipeline_communication_s": 0.11,
    "data_communication_s": 0.22,
    "pipeline_bubble_s": 1.05,
    "optimizer_s": 0.06,
    "overhead_s": 0.37,
}
MEMORY = {
    "weights_bytes": 5.94 * GIB,
    "gradients_bytes": 11.9 * GIB,
    "optimizer_bytes": 0.56 * GIB,
    "activations_bytes": 46.2 * GIB,
    "logits_bytes": 0.5 * GIB,
    "communication_buffers_bytes": 1.5 * GIB,
    "workspace_bytes": 0.75 * GIB,
    "kv_cache_bytes": 0.0,
}
ENERGY = {
    "compute_j": 25.1e6,
    "memory_j": 9.4e6,
    "network_j": 1.6e6,
    "static_j": 12.3e6,
    "host_j": 29.5e6,
    "cooling_j": 6.2e6,
}

#: name, count, forward flop, traffic, time, bound
_FORWARD = [
    ("attention.qkv", 126, 6.18e11 / 1.4, 0.34e9, 0.68e-3, "compute"),
    ("attention.core", 126, 2.75e11, 0.13e9, 0.66e-3, "compute"),
    ("attention.output", 126, 5.5e11, 0.37e9, 0.78e-3, "compute"),
    ("attention.rotary", 126, 1.1e8, 0.09e9, 0.052e-3, "memory"),
    ("mlp.gate_up", 126, 3.57e12, 0.71e9, 4.52e-3, "compute"),
    ("mlp.activation", 126, 2.2e8, 0.33e9, 0.16e-3, "memory"),
    ("mlp.down", 126, 1.79e12, 0.48e9, 2.31e-3, "compute"),
    ("norm.attention", 126, 1.3e8, 0.067e9, 0.041e-3, "memory"),
    ("norm.mlp", 126, 1.3e8, 0.067e9, 0.041e-3, "memory"),
    ("embedding", 1, 0.0, 0.067e9, 0.05e-3, "memory"),
    ("head.logits", 1, 4.3e12, 0.79e9, 5.4e-3, "compute"),
    ("head.loss", 1, 1.3e9, 0.53e9, 0.33e-3, "memory"),
]


def _operators() -> tuple[OperatorRow, ...]:
    rows = []
    for name, count, flop, traffic, time, bound in _FORWARD:
        for phase, factor in (("forward", 1.0), ("backward", 2.0)):
            rows.append(
                OperatorRow(
                    f"{name}:{phase}",
                    phase,
                    "train",
                    count,
                    flop * factor,
                    traffic * factor,
                    0.0,
                    time * factor,
                    flop * factor * 0.75e-12 + 50 * time,
                    bound,
                    "bf16" if bound == "compute" else "fp32",
                    time * factor if bound == "compute" else 0.0,
                    traffic * factor / 3.0e12,
                    3e-6,
                )
            )
    rows.append(
        OperatorRow(
            "optimizer.update", "optimizer", "train", 1, 2e9, 0.15e12, 0.0, 0.06, 9.0, "memory", "fp32", 0.0, 0.06, 3e-6
        )
    )
    return tuple(rows)


def _communication() -> tuple[CommunicationRow, ...]:
    return (
        CommunicationRow("tensor", "all-gather", "block inputs", 8, ("node",), "node", 1024, 268e6, 0.70, 0.56, 0.14),
        CommunicationRow(
            "tensor", "reduce-scatter", "block outputs", 8, ("node",), "node", 1024, 268e6, 0.70, 0.56, 0.14
        ),
        CommunicationRow("pipeline", "send", "activations", 2, ("node", "pod"), "pod", 512, 33.5e6, 0.36, 0.11, 0.25),
        CommunicationRow(
            "data", "reduce-scatter", "gradients", 64, ("node", "pod", "fabric"), "fabric", 8, 1.6e9, 0.9, 0.14, 0.76
        ),
        CommunicationRow(
            "data", "all-gather", "weights", 64, ("node", "pod", "fabric"), "fabric", 8, 0.8e9, 0.45, 0.08, 0.37
        ),
    )


def _stages() -> tuple[StageRow, ...]:
    middle = dict(MEMORY) | {"logits_bytes": 0.0, "activations_bytes": 43.0 * GIB}
    last = dict(MEMORY) | {"activations_bytes": 38.0 * GIB, "logits_bytes": 4.0 * GIB}
    return (
        StageRow("first", 0, 7, True, False, 0.090, 0.181, 30, MEMORY),
        StageRow("middle", 7, 8, False, False, 0.101, 0.204, 23, middle),
        StageRow("last", 15, 7, False, True, 0.096, 0.193, 16, last),
    )


def _waterfall() -> tuple[CauseRow, ...]:
    return (
        CauseRow("pure roofline", 6.31, "compute"),
        CauseRow("kernel efficiency", 2.76, "efficiency"),
        CauseRow("exposed communication", 1.45, "communication"),
        CauseRow("pipeline bubble", 1.05, "bubble"),
        CauseRow("optimizer", 0.06, "optimizer"),
        CauseRow("overheads", 0.37, "overhead"),
    )


def _inputs() -> tuple[Sourced, ...]:
    return (
        Sourced(989.4e12, "FLOP/s", "nvidia-h100-datasheet", Basis.VENDOR, "accelerator.compute.matrix.bf16.peak"),
        Sourced(3.35e12, "B/s", "nvidia-h100-datasheet", Basis.VENDOR, "accelerator.memory.bandwidth"),
        Sourced(0.81, "1", "kernel-fit", Basis.MEASURED, "efficiency.matmul.bf16.plateau"),
        Sourced(50e9, "B/s", "cluster-paper", Basis.PAPER, "cluster.tiers.pod.bandwidth"),
        Sourced(300.0, "J/s", "perfmodel-class", Basis.ASSUMED, "cluster.power.host"),
        Sourced(126.0, "1", "model-config", Basis.PAPER, "model.layers"),
    )


WARNINGS = (
    ResultWarning("assumed-number", "info", "cluster.power.host", "no figure published; the class value is used", 0.0),
    ResultWarning("assumed-number", "warning", "software.behaviour.tensor_exposed", "taken from the class", 0.021),
    ResultWarning("extrapolation", "warning", "devices", "8192 devices; the step terms were fitted up to 4096"),
    ResultWarning("unused-feature", "info", "accelerator.compute.matrix.fp8", "the machine has FP8; the plan does not"),
)


def make_result(**changes: Any) -> Result:
    """The hand-made result, with fields replaced."""
    energy, run_steps = sum(ENERGY.values()), 15.6e12 / TOKENS
    step_usd = DEVICES * 2.1 / 0.9 * STEP / 3600
    plan = {
        "role": "train",
        "pool": "default",
        "devices": DEVICES,
        "tp": 8,
        "cp": 1,
        "pp": 16,
        "dp": 64,
        "ep": 1,
        "etp": 1,
        "micro_batch": 1,
        "zero": 2,
        "recompute": "none",
        "schedule": "interleaved-1f1b",
    }
    result = Result(
        scenario={"name": "llama3.1-405b pre-training on 8192 H100", "sha256": "9f" * 32},
        question="evaluate",
        workload="training",
        feasible=True,
        reasons=(),
        plans=(plan,),
        time={
            "step_s": STEP,
            "breakdown": BREAKDOWN,
            "overlapped": {
                "tensor_communication_s": 0.28,
                "pipeline_communication_s": 0.25,
                "data_communication_s": 1.13,
            },
        },
        memory={
            "peak_bytes": sum(MEMORY.values()),
            "peak_rank": "stage 0",
            "capacity_bytes": 78.0 * GIB,
            "breakdown": MEMORY,
        },
        energy={
            "per_step_j": energy,
            "per_token_j": energy / TOKENS,
            "average_power_w": energy / STEP,
            "peak_power_w": 8.1e6,
            "breakdown": ENERGY,
        },
        money={"per_step_usd": step_usd, "per_million_tokens_usd": step_usd / TOKENS * 1e6},
        carbon={"per_step_kg": energy / 3.6e6 * 0.35},
        run={
            "tokens": 15.6e12,
            "days": STEP * run_steps / 86400,
            "goodput": 0.93,
            "energy_kwh": energy * run_steps / 3.6e6,
            "usd": step_usd * run_steps,
            "kg_co2e": energy / 3.6e6 * 0.35 * run_steps,
        },
        metrics={
            "tokens_per_s": TOKENS / STEP,
            "tokens_per_s_per_device": TOKENS / STEP / DEVICES,
            "mfu": 0.4426,
            "hfu": 0.4426,
            "mfu_variants": {"bf16_peak": 0.4426, "full_attention": 0.4712},
            "model_flop_per_token": 2.567e12,
        },
        uncertainty={
            "time.step_s": {"p10": 11.2, "p50": 12.0, "p90": 12.9, "basis": "calibrated"},
            "metrics.mfu": {"p10": 0.412, "p50": 0.4426, "p90": 0.474, "basis": "calibrated"},
            "memory.peak_bytes": {"p10": 64 * GIB, "p50": 67.35 * GIB, "p90": 71 * GIB, "basis": "transferred"},
            "energy.average_power_w": {"p10": 6.3e6, "p50": 7.0e6, "p90": 7.8e6, "basis": "assumed"},
        },
        operators=_operators(),
        communication=_communication(),
        stages=_stages(),
        waterfall=_waterfall(),
        published=(
            PublishedRow("metrics.mfu", 0.43, 0.4426, "llama3-paper", "Table 4"),
            PublishedRow("time.step_s", 11.6, STEP, "scenario", "measured by the user"),
        ),
        inputs=_inputs(),
        roofs={"peaks": {"bf16": 989.4e12, "fp32": 66.9e12}, "bandwidths": {"HBM3": 3.35e12, "cache": 5.5e12}},
        schedule={
            "pp": 16,
            "virtual_stages": 8,
            "num_microbatches": 32,
            "forward_s": [0.090] + [0.101] * 14 + [0.096],
            "backward_s": [0.181] + [0.204] * 14 + [0.193],
            "transfer_s": 0.0007,
        },
        describe=(
            "Llama 3.1 405B (126 layers, 405.9 B parameters), pre-training, BF16 mixed precision",
            "8192 of 24576 H100 SXM5 80 GB, 8 per node, RoCE 400 Gb/s, Megatron Core",
            "2048 sequences of 8192 tokens per step, 15.6 T tokens",
            "tp 8, cp 1, pp 16 (interleaved, 8 chunks), dp 64, ZeRO 2, no recomputation",
        ),
        warner=lambda: WARNINGS,
        version="0.1.0",
        sources_titles={
            "nvidia-h100-datasheet": "NVIDIA H100 Tensor Core GPU datasheet",
            "llama3-paper": "The Llama 3 Herd of Models",
        },
    )
    return replace(result, **changes) if changes else result


def make_infeasible() -> Result:
    """Memory that does not fit: the figures are known, the plan cannot be."""
    memory = {key: value * (2.0 if key == "activations_bytes" else 1.0) for key, value in MEMORY.items()}
    peak = sum(memory.values())
    return make_result(
        feasible=False,
        reasons=("memory: 113.6 GiB needed on stage 0, 78.0 GiB usable",),
        memory={"peak_bytes": peak, "peak_rank": "stage 0", "capacity_bytes": 78.0 * GIB, "breakdown": memory},
    )


def make_impossible() -> Result:
    """A plan that breaks an integer rule: no figure exists."""
    nothing: dict[str, Any] = {
        "time": {"step_s": None, "breakdown": {}, "overlapped": {}},
        "memory": {"peak_bytes": None, "peak_rank": None, "capacity_bytes": None, "breakdown": {}},
        "energy": {
            "per_step_j": None,
            "per_token_j": None,
            "average_power_w": None,
            "peak_power_w": None,
            "breakdown": {},
        },
        "money": {"per_step_usd": None, "per_million_tokens_usd": None},
        "carbon": {"per_step_kg": None},
        "run": {"tokens": None, "days": None, "goodput": None, "energy_kwh": None, "usd": None, "kg_co2e": None},
        "metrics": {
            "tokens_per_s": None,
            "tokens_per_s_per_device": None,
            "mfu": None,
            "hfu": None,
            "mfu_variants": {},
            "model_flop_per_token": None,
        },
        "uncertainty": {},
        "operators": (),
        "communication": (),
        "stages": (),
        "waterfall": (),
        "published": (),
        "schedule": {},
        "roofs": {},
    }
    return make_result(feasible=False, reasons=("tp = 7 does not divide the 128 attention heads",), **nothing)


@pytest.fixture(name="make_result")
def make_result_fixture() -> Callable[..., Result]:
    return make_result


@pytest.fixture(scope="session")
def drawn() -> Any:
    """The figures of the hand-made result, drawn once."""
    from perfmodel.report import figures

    return figures(make_result())


@pytest.fixture(scope="session")
def page() -> str:
    """The report of the hand-made result, rendered once."""
    from perfmodel.report.page import render_page

    return render_page(make_result())


@pytest.fixture
def result() -> Result:
    return make_result()


@pytest.fixture
def infeasible() -> Result:
    return make_infeasible()


@pytest.fixture
def impossible() -> Result:
    return make_impossible()
