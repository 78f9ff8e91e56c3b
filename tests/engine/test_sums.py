"""Breakdowns add up, the published object is complete, and it is JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perfmodel.engine.result import Result
from perfmodel.engine.session import load

SCENARIOS = sorted(
    path.stem for path in (Path(__file__).resolve().parents[2] / "scenarios" / "training").glob("*.yaml")
)
SUM = 1e-9

#: Keys of the interface page, section 3.
KEYS: dict[str, set[str]] = {
    "": {
        "schema",
        "version",
        "scenario",
        "question",
        "workload",
        "feasible",
        "reasons",
        "plans",
        "time",
        "memory",
        "energy",
        "money",
        "carbon",
        "run",
        "metrics",
        "uncertainty",
        "operators",
        "warnings",
        "sources",
    },
    "scenario": {"name", "sha256"},
    "time": {"step_s", "breakdown", "overlapped"},
    "time.breakdown": {
        "forward_s",
        "backward_s",
        "recompute_s",
        "tensor_communication_s",
        "context_communication_s",
        "expert_communication_s",
        "pipeline_communication_s",
        "data_communication_s",
        "pipeline_bubble_s",
        "optimizer_s",
        "overhead_s",
    },
    "memory": {"peak_bytes", "peak_rank", "capacity_bytes", "breakdown"},
    "memory.breakdown": {
        "weights_bytes",
        "gradients_bytes",
        "optimizer_bytes",
        "activations_bytes",
        "logits_bytes",
        "communication_buffers_bytes",
        "workspace_bytes",
        "kv_cache_bytes",
    },
    "energy": {"per_step_j", "per_token_j", "average_power_w", "peak_power_w", "breakdown"},
    "energy.breakdown": {"compute_j"},
    "money": {"per_step_usd", "per_million_tokens_usd"},
    "carbon": {"per_step_kg"},
    "run": {"tokens", "days", "goodput", "energy_kwh", "usd", "kg_co2e"},
    "metrics": {"tokens_per_s", "tokens_per_s_per_device", "mfu", "hfu", "mfu_variants", "model_flop_per_token"},
    "uncertainty": {"time.step_s", "metrics.mfu", "memory.peak_bytes", "energy.average_power_w"},
}
ENTRIES: dict[str, set[str]] = {
    "plans": {
        "role",
        "pool",
        "devices",
        "tp",
        "cp",
        "pp",
        "dp",
        "ep",
        "etp",
        "micro_batch",
        "zero",
        "recompute",
        "schedule",
    },
    "operators": {
        "name",
        "phase",
        "role",
        "count",
        "flop",
        "traffic_bytes",
        "communication_bytes",
        "time_s",
        "energy_j",
        "bound",
    },
    "warnings": {"code", "severity", "path", "message", "effect"},
    "sources": {"key", "basis", "used_for"},
}
BASES = {"vendor", "measured", "paper", "derived", "recalled", "assumed", "user", "quoted"}


@pytest.fixture(scope="module", params=SCENARIOS)
def result(request: pytest.FixtureRequest) -> Result:
    return load(request.param).run()


@pytest.fixture(scope="module")
def published(result: Result) -> dict[str, Any]:
    return json.loads(result.to_json())


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        for one in value.values():
            yield from numbers(one)
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield value


def test_time_adds_up(result: Result) -> None:
    assert sum(result.time["breakdown"].values()) == pytest.approx(result.time["step_s"], rel=SUM)
    assert min(result.time["breakdown"].values()) >= 0.0
    assert min(result.time["overlapped"].values()) >= 0.0


def test_memory_adds_up(result: Result) -> None:
    assert sum(result.memory["breakdown"].values()) == pytest.approx(result.memory["peak_bytes"], rel=SUM)
    assert min(result.memory["breakdown"].values()) >= 0.0


def test_the_peak_is_that_of_the_named_stage(result: Result) -> None:
    totals = {f"stage {stage.position}": sum(stage.memory.values()) for stage in result.stages}
    assert totals[result.memory["peak_rank"]] == pytest.approx(result.memory["peak_bytes"], rel=SUM)
    assert max(totals.values()) == pytest.approx(result.memory["peak_bytes"], rel=SUM)


def test_energy_adds_up(result: Result) -> None:
    assert sum(result.energy["breakdown"].values()) == pytest.approx(result.energy["per_step_j"], rel=SUM)
    assert min(result.energy["breakdown"].values()) >= 0.0
    assert result.energy["per_step_j"] == pytest.approx(
        result.energy["average_power_w"] * result.time["step_s"], rel=SUM
    )


def test_the_job_never_draws_more_than_its_rated_power(result: Result) -> None:
    assert result.energy["average_power_w"] <= result.energy["peak_power_w"] * (1.0 + SUM)


def test_the_waterfall_ends_at_the_step(result: Result) -> None:
    assert sum(bar.seconds for bar in result.waterfall) == pytest.approx(result.time["step_s"], rel=SUM)
    assert min(bar.seconds for bar in result.waterfall) >= -SUM * result.time["step_s"]


def test_communication_rows_are_the_exposed_and_overlapped_times(result: Result) -> None:
    groups = {
        "tensor": "tensor_communication_s",
        "context": "context_communication_s",
        "pipeline": "pipeline_communication_s",
        "data": "data_communication_s",
    }
    for group, key in groups.items():
        rows = [row for row in result.communication if row.group == group]
        assert sum(row.exposed_s for row in rows) == pytest.approx(result.time["breakdown"][key], rel=1e-9, abs=1e-15)
        assert sum(row.overlapped_s for row in rows) == pytest.approx(
            result.time["overlapped"][key], rel=1e-9, abs=1e-15
        )


@pytest.mark.parametrize("path", sorted(KEYS))
def test_every_key_of_the_interface_exists(published: dict[str, Any], path: str) -> None:
    branch = published
    for part in path.split(".") if path else ():
        branch = branch[part]
    assert KEYS[path] <= set(branch)


@pytest.mark.parametrize("part", sorted(ENTRIES))
def test_every_key_of_every_entry_exists(published: dict[str, Any], part: str) -> None:
    assert published[part]
    for entry in published[part]:
        assert ENTRIES[part] <= set(entry)


def test_every_number_is_finite(published: dict[str, Any]) -> None:
    found = list(numbers(published))
    assert len(found) > 300
    assert all(map(math.isfinite, found))


def test_every_source_has_a_basis_and_numbers(published: dict[str, Any]) -> None:
    assert published["schema"] == "perfmodel.result/1"
    for entry in published["sources"]:
        assert entry["basis"] in BASES
        assert entry["used_for"]


def test_intervals_hold_their_headline(result: Result) -> None:
    plain = result.to_dict()
    for key, interval in result.uncertainty.items():
        value: Any = plain
        for part in key.split("."):
            value = value[part]
        assert interval["p10"] < interval["p50"] < interval["p90"]
        assert interval["p50"] == pytest.approx(value, rel=SUM)
        assert interval["basis"] in {"calibrated", "transferred", "assumed"}


def test_names_of_operators_are_path_and_phase(result: Result) -> None:
    names = [row.name for row in result.operators]
    assert len(set(names)) == len(names)
    assert all(row.name.endswith(f":{row.phase}") for row in result.operators)
