"""The Python interface: the same answers as the command line."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

import perfmodel as pm

SCENARIO = "llama3.1-8b-128-h100"


def test_run_gives_what_the_command_gives(run: Callable) -> None:
    told = json.loads(run("run", SCENARIO, "--format", "json").out)
    assert json.loads(pm.load(SCENARIO).run().to_json()) == told


def test_replace_is_set(run: Callable) -> None:
    told = json.loads(run("run", SCENARIO, "--set", "strategy.tp=4", "--format", "json").out)
    scenario = pm.load(SCENARIO).replace(**{"strategy.tp": 4})
    assert scenario.run().time["step_s"] == told["time"]["step_s"]
    assert scenario.run().scenario["sha256"] == told["scenario"]["sha256"]


def test_many_plans_are_the_plans_one_by_one() -> None:
    scenario = pm.load(SCENARIO)
    sizes = np.array([1, 2, 4, 8])
    table = pm.evaluate(scenario, scenario.plans(tp=sizes))
    for row, size in enumerate(sizes):
        result = scenario.replace(**{"strategy.tp": int(size)}).run()
        assert table["time.step_s"][row] == pytest.approx(result.time["step_s"], rel=1e-12)
        assert table["memory.peak_bytes"][row] == pytest.approx(result.memory["peak_bytes"], rel=1e-12)
        assert bool(table["feasible"][row]) == result.feasible


def test_a_frame_has_one_row_per_operator_and_phase() -> None:
    result = pm.load(SCENARIO).run()
    frame = result.to_frame()
    assert len(frame) == len(result.operators)
    assert not frame.duplicated(["name", "phase"]).any()
