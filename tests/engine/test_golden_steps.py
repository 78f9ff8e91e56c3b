"""Training steps that this project measured itself on one H100: composed from kernels, no step time was fitted."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Any

import pytest

from perfmodel.engine.result import Result
from perfmodel.engine.session import load

TABLE = Path(__file__).resolve().parents[1] / "golden" / "h100_steps.csv"
with TABLE.open(encoding="utf-8") as _file:
    ROWS = {row["name"]: row for row in csv.DictReader(_file)}


def question(row: dict[str, str], software: str) -> dict[str, Any]:
    size = {name: int(row[name]) for name in row if row[name].isdigit()}
    return {
        "kind": "scenario",
        "name": row["name"],
        "model": {
            "kind": "model",
            "name": row["name"],
            **{name: size[name] for name in ("layers", "hidden", "vocabulary")},
            "attention": {name: size[name] for name in ("heads", "kv_heads", "head_dim")},
            "mlp": {"hidden": size["ffn_hidden"], "gated": True, "activation": "silu"},
            "norm": {"kind": "rmsnorm", "per_layer": 2},
            "embedding": {"tied": False, "positions": "rotary"},
        },
        "cluster": {"name": "dgx-h100", "devices": 1},
        "software": software,
        "numerics": "bf16-pure",
        "workload": {
            "kind": "training",
            "sequence_length": size["sequence_length"],
            "global_batch": size["micro_batch"],
        },
        "strategy": {"micro_batch": size["micro_batch"]},
    }


@functools.cache
def answer(name: str, software: str = "pytorch-compile") -> Result:
    return load(question(ROWS[name], software)).run()


@pytest.mark.parametrize("name", ROWS)
def test_a_compiled_step_is_the_sum_of_its_kernels(name: str) -> None:
    # Matmul, attention and memory-bound kernels were timed one by one; around them everything is at its ideal.
    measured = float(ROWS[name]["compiled_step_ms"]) * 1e-3
    assert answer(name).time["step_s"] == pytest.approx(measured, rel=0.03)


@pytest.mark.parametrize("name", ROWS)
def test_the_built_model_has_the_parameters_of_the_graph(name: str) -> None:
    graph = load(question(ROWS[name], "pytorch-compile")).question.problem.graph
    assert graph.parameter_count() == int(ROWS[name]["parameters"])


@pytest.mark.parametrize("name", ROWS)
def test_the_device_draws_what_its_energies_say(name: str) -> None:
    result = answer(name)
    parts = result.energy["breakdown"]
    device = sum(parts[key] for key in ("idle_j", "compute_j", "vector_j", "memory_j")) / result.time["step_s"]
    assert device == pytest.approx(float(ROWS[name]["compiled_power_w"]), rel=0.12)


def test_the_blind_prediction_missed_in_one_direction() -> None:
    # Written down before the measurement with the stack of 2024; it stays in the table as it was.
    errors = [float(row["blind_step_ms"]) / float(row["compiled_step_ms"]) - 1.0 for row in ROWS.values()]
    assert min(errors) > 0.2
    assert max(errors) < 0.35
