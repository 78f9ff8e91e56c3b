"""A plan that cannot be is answered with reasons that name the numbers; an impossible question is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perfmodel.engine.result import Result
from perfmodel.engine.session import LoadedScenario
from perfmodel.errors import PerfmodelError, SpecError, UnsupportedOperator

Run = Callable[..., Result]
Ask = Callable[..., LoadedScenario]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy__tp": 3, "cluster__devices": 48, "workload__global_batch": 64}, ["3", "32 attention heads"]),
        ({"strategy__pp": 3, "cluster__devices": 48, "workload__global_batch": 64}, ["pp = 3", "32 layers"]),
        ({"cluster__devices": 16384, "workload__global_batch": 16384}, ["16384", "8192"]),
        ({"workload__global_batch": 100}, ["64", "100"]),
        (
            {"strategy__cp": 32, "workload__sequence_length": 1000, "workload__global_batch": 2},
            ["1000 tokens", "64 slices"],
        ),
        ({"strategy__pipeline": {"virtual_stages": 2}}, ["virtual_stages = 2", "pp > 1"]),
        (
            {"strategy__pp": 8, "strategy__pipeline": {"virtual_stages": 2}, "workload__global_batch": 32},
            ["multiple of pp = 8", "4"],
        ),
    ],
)
def test_a_broken_rule_is_a_reason_with_its_numbers(run: Run, changes: dict[str, Any], words: list[str]) -> None:
    result = run("llama-8b", **changes)
    assert not result.feasible
    assert any(all(word in reason for word in words) for reason in result.reasons), result.reasons


def test_too_little_memory_is_a_reason_with_its_largest_parts(run: Run) -> None:
    result = run("llama-8b", model="llama-3.1-70b", strategy__zero=0)
    assert not result.feasible
    reason = next(one for one in result.reasons if one.startswith("memory"))
    assert "stage 0" in reason
    assert "optimizer" in reason
    assert result.memory["peak_bytes"] > result.memory["capacity_bytes"]
    assert result.time["step_s"] > 0.0  # it is still answered: how long would it take


def test_memory_that_fits_is_no_reason(run: Run) -> None:
    tight = run("llama-8b")
    assert tight.feasible == (tight.memory["peak_bytes"] <= tight.memory["capacity_bytes"])
    small = run("llama-8b", accelerator__memory__capacity="16 GB")
    assert not small.feasible
    assert [reason.split(":")[0] for reason in small.reasons] == ["memory"]


def test_a_power_cap_below_the_draw_is_a_reason(run: Run) -> None:
    free = run("llama-405b")
    capped = run("llama-405b", site__power_cap="1 MW")
    assert free.energy["average_power_w"] > 1e6
    assert any(reason.startswith("power") for reason in capped.reasons)


def test_reasons_of_several_rules_are_all_given(run: Run) -> None:
    result = run("llama-8b", strategy__tp=3, strategy__pp=5, cluster__devices=60, workload__global_batch=64)
    assert any("attention heads" in reason for reason in result.reasons)
    assert any("layers" in reason for reason in result.reasons)


FOREIGN: dict[str, Any] = {
    "name": "foreign", "family": "oracle", "layers": 2, "hidden": 64, "vocabulary": 128,
    "norm": {"kind": "rmsnorm"}, "embedding": {"tied": True, "positions": "none"},
}  # fmt: skip


def test_a_model_without_equations_says_what_is_missing(ask: Ask) -> None:
    with pytest.raises(UnsupportedOperator) as error:
        ask("llama-8b", model=FOREIGN).run()
    assert "foreign" in str(error.value)
    assert "'oracle'" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"strategy__recompute": "most"}, SpecError),
        ({"workload__kind": "serving"}, UnsupportedOperator),
        ({"transforms": [{"name": "no-such-transform"}]}, PerfmodelError),
        ({"strategy__dp": 7}, SpecError),
    ],
)
def test_a_question_that_cannot_be_asked_is_an_error(ask: Ask, changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        ask("llama-8b", **changes).run()
