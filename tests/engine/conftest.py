"""Questions of the engine tests: small, written here, so that an edited scenario does not change what is tested."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from perfmodel.engine.result import Result
from perfmodel.engine.session import LoadedScenario, load

#: Questions by name. Tests change them by dotted path.
QUESTIONS: dict[str, dict[str, Any]] = {
    # Data parallelism only: nothing between a kernel and the step.
    "llama-8b": {
        "model": "llama-3.1-8b",
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64},
        "software": "megatron-core",
        "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128, "tokens": "1T"},
        "numerics": "bf16-mixed",
        "strategy": {"zero": 1},
    },
    # Every axis but cp: interleaved pipeline, fused attention, an oversubscribed fabric.
    "llama-405b": {
        "model": "llama-3.1-405b",
        "cluster": {"name": "meta-24k-h100-roce", "devices": 8192},
        "software": "meta-llama3",
        "numerics": "bf16-mixed",
        "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 2048, "tokens": "15.6T"},
        "strategy": {
            "tp": 8,
            "pp": 16,
            "sequence_parallel": True,
            "zero": 2,
            "order": ["tp", "cp", "pp", "dp"],
            "pipeline": {"virtual_stages": 8, "embedding_and_head_as_layers": True},
        },
    },
    # Unfused attention with recomputation, no sequence parallelism.
    "megatron-175b": {
        "model": "megatron-175b",
        "cluster": {"name": "selene", "devices": 128},
        "software": "megatron-lm-2022",
        "workload": {"kind": "training", "sequence_length": 2048, "global_batch": 128},
        "numerics": "fp16-mixed",
        "strategy": {"tp": 8, "pp": 8, "recompute": "selective", "pipeline": {"virtual_stages": 3}},
    },
    # Fp8 with half of the layers left in 16 bits, orthogonal updates, weights cast in every other micro-batch.
    "llama-8b-fp8": {
        "model": "llama-3.1-8b",
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64},
        "software": {"extends": "megatron-core", "name": "casting", "behaviour": {"recast_weights": 0.5}},
        "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128, "tokens": "1T"},
        "numerics": {
            "extends": "fp8-block",
            "name": "fp8 with Muon",
            "linear": {"wide_layers": 16},
            "optimizer": "muon",
            "state": {"moments": "4 B"},
        },
        "strategy": {"tp": 2, "pp": 2, "sequence_parallel": True, "zero": 1, "recompute": "selective"},
    },
    # Adapters beside frozen fp8 weights.
    "llama-8b-lora": {
        "model": "llama-3.1-8b",
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": 16},
        "software": "megatron-core",
        "workload": {
            "kind": "fine-tuning",
            "method": "lora",
            "lora": {"rank": 16, "targets": ["attention.query_key_value", "mlp.down"], "dropout": True},
            "sequence_length": 4096,
            "global_batch": 32,
        },
        "numerics": "fp8-lora",
        "strategy": {"tp": 2, "sequence_parallel": True, "zero": 1},
    },
    # State and weights in storage, half of the activations in the memory of the host.
    "llama-8b-offload": {
        "model": "llama-3.1-8b",
        "cluster": {
            "extends": "hgx-h100-ib-ndr",
            "name": "with hosts",
            "devices": 8,
            "host": {
                "memory": {"capacity": "200 GB", "bandwidth": "40 GB/s"},
                "nvme": {"capacity": "3 TB", "bandwidth": "5 GB/s"},
            },
        },
        "software": "megatron-core",
        "workload": {"kind": "training", "sequence_length": 4096, "global_batch": 16},
        "numerics": "bf16-mixed",
        "strategy": {"zero": 3, "offload": {"optimizer": "nvme", "parameters": "nvme", "activations": 0.5}},
    },
    # Sharded parameters and context parallelism.
    "llama-8b-sharded": {
        "model": "llama-3.1-8b",
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64},
        "software": "megatron-core",
        "workload": {"kind": "training", "sequence_length": 16384, "global_batch": 64},
        "numerics": "bf16-mixed",
        "strategy": {"tp": 2, "cp": 2, "sequence_parallel": True, "zero": 3, "recompute": "full"},
    },
    # A tensor group of two rows and four columns across two nodes, everything recomputed.
    "llama-8b-grid": {
        "model": "llama-3.1-8b",
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64},
        "software": "megatron-core",
        "workload": {"kind": "training", "sequence_length": 16384, "global_batch": 64},
        "numerics": "bf16-mixed",
        "strategy": {
            "tp": 16,
            "pp": 2,
            "tp_grid": {"rows": 4, "columns": 4, "blocks": 8, "neighbours": "column"},
            "zero": 1,
            "recompute": "full",
        },
    },
    # Layers without ends, floors inside the maximum, inputs kept as gathered, data parallelism layer by layer.
    "gpt-layers": {
        "model": {"extends": "gpt3-13b", "name": "layers", "layers_only": True},
        "cluster": {"name": "hgx-a100-ib-hdr", "devices": 64},
        "software": "hpc-study-2024",
        "workload": {"kind": "training", "sequence_length": 2048, "global_batch": 64, "tokens": "1T"},
        "numerics": "bf16-mixed",
        "strategy": {"tp": 4, "cp": 2, "pp": 4, "sequence_parallel": True, "zero": 1},
    },
    # Experts over ranks and over columns, with a pipeline.
    "mixtral": {
        "model": "mixtral-8x7b",
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64},
        "software": "megatron-core",
        "workload": {"kind": "training", "sequence_length": 4096, "global_batch": 256},
        "numerics": "bf16-mixed",
        "strategy": {
            "tp": 2,
            "pp": 2,
            "ep": 4,
            "etp": 2,
            "sequence_parallel": True,
            "zero": 1,
            "recompute": "selective",
            "pipeline": {"virtual_stages": 2},
        },
    },
    # Experts across nodes, all parameters sharded, keys and values in a ring, skewed routing.
    "qwen3-30b-sharded": {
        "model": "qwen3-30b-a3b",
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64},
        "software": "megatron-core",
        "workload": {
            "kind": "training",
            "sequence_length": 8192,
            "global_batch": 64,
            "routing": {"balance": "skewed"},
        },
        "numerics": "bf16-mixed",
        "strategy": {"cp": 2, "ep": 16, "zero": 3, "recompute": "full", "context_parallel": "ring"},
    },
    # Recurrences, experts and attention in one model.
    "hybrid": {
        "model": "nemotron-3-nano-30b-a3b",
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64},
        "software": "megatron-core",
        "workload": {"kind": "training", "sequence_length": 4096, "global_batch": 128},
        "numerics": "bf16-mixed",
        "strategy": {"tp": 2, "ep": 8, "sequence_parallel": True, "zero": 1, "recompute": "selective"},
    },
    # An encoder with a length of its own, and cross attention.
    "audio": {
        "model": "whisper-large-v3",
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": 16},
        "software": "megatron-core",
        "workload": {"kind": "training", "sequence_length": 448, "global_batch": 128},
        "numerics": "bf16-mixed",
        "strategy": {"tp": 2, "pp": 2, "zero": 1, "micro_batch": 4},
    },
    # Latent and sparse attention, a delta rule: what else the builders make.
    "sparse": {
        "model": {"extends": "deepseek-v3.2", "name": "sparse", "train_prediction_layers": True},
        "cluster": {"name": "meta-24k-h100-roce", "devices": 2048},
        "software": "megatron-core",
        "workload": {"kind": "training", "sequence_length": 4096, "global_batch": 2048},
        "numerics": "bf16-mixed",
        "strategy": {"tp": 2, "ep": 64, "sequence_parallel": True, "zero": 1, "recompute": "full"},
    },
}


@functools.cache
def _loaded(name: str) -> LoadedScenario:
    return load(dict(QUESTIONS[name], kind="scenario", name=name) if name in QUESTIONS else name)


def _changes(changes: dict[str, Any]) -> dict[str, Any]:
    """Python names cannot hold dots: ``strategy__tp`` is ``strategy.tp``."""
    return {name.replace("__", "."): value for name, value in changes.items()}


def _ask(name: str, **changes: Any) -> LoadedScenario:
    base = _loaded(name)
    return base.replace(**_changes(changes)) if changes else base


@pytest.fixture(scope="session")
def ask() -> Callable[..., LoadedScenario]:
    """``ask("llama-8b", strategy__tp=4)``: a question of :data:`QUESTIONS` (or a shipped scenario), changed."""
    return _ask


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """``run("llama-8b", strategy__tp=4)``: its answer."""
    return lambda name, **changes: _ask(name, **changes).run()


@pytest.fixture(params=sorted(QUESTIONS))
def question(request: pytest.FixtureRequest) -> LoadedScenario:
    """Each question in turn."""
    return _loaded(request.param)
