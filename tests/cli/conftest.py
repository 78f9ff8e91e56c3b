"""Makes results with known numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perfmodel.engine.result import Result, ResultWarning


def make_result(**changes: Any) -> Result:
    """A result with round numbers; nothing in it was computed."""
    fields: dict[str, Any] = {
        "scenario": {"name": "made up", "sha256": "0" * 64}, "question": "evaluate", "workload": "training",
        "feasible": True, "reasons": (), "plans": ({"role": "train", "tp": 8},),
        "time": {"step_s": 4.0, "breakdown": {"forward_s": 1.0, "backward_s": 3.0}, "overlapped": {}},
        "memory": {"peak_bytes": 60e9, "peak_rank": "stage 0", "capacity_bytes": 80e9,
                   "breakdown": {"weights_bytes": 60e9}},
        "energy": {"per_step_j": 8.0, "per_token_j": 1.0, "average_power_w": 2.0, "peak_power_w": 3.0,
                   "breakdown": {"compute_j": 8.0}},
        "money": {"per_step_usd": None, "per_million_tokens_usd": None}, "carbon": {"per_step_kg": None},
        "run": {"tokens": 1e12, "days": 50.0}, "metrics": {"mfu": 0.4, "hfu": 0.45, "tokens_per_s": 1e6},
        "uncertainty": {}, "operators": (), "communication": (), "stages": (), "waterfall": (), "published": (),
        "inputs": (), "roofs": {}, "schedule": {}, "describe": (), "version": "0",
    }  # fmt: skip
    warnings = (
        ResultWarning("no-price", "warning", "pricing", "no price is known"),
        ResultWarning("note", "info", "", "for information"),
    )
    return Result(**({**fields, "warner": lambda: warnings} | changes))


@pytest.fixture
def answer_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Let every scenario have a made-up result, to test what the command does with it."""

    def install(**changes: Any) -> Result:
        result = make_result(**changes)
        monkeypatch.setattr("perfmodel.cli.question_commands._answer", lambda *_, **__: result)
        return result

    return install


@pytest.fixture
def made_up() -> Callable[..., Result]:
    """Make a result with chosen fields."""
    return make_result
