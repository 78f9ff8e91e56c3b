"""Energy: what moves and computes costs what its specs say, over the whole allocation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from perfmodel.engine.clocks import clock_ratio
from perfmodel.engine.columns import evaluate_columns
from perfmodel.engine.result import Result
from perfmodel.engine.session import LoadedScenario
from perfmodel.equations.energy import capped_clock_ratio
from perfmodel.errors import SpecError

Ask = Callable[..., LoadedScenario]
Run = Callable[..., Result]


def parts(result: Result) -> dict[str, float]:
    """Dynamic energies relative to that of the matrix units: free of a power limit, which scales them all."""
    breakdown = result.energy["breakdown"]
    return {key: breakdown[key] / breakdown["compute_j"] for key in ("vector_j", "memory_j", "links_j")}


@pytest.mark.parametrize(("zero", "moved"), [(0, 4 + 4), (1, 4 + 2), (2, 2 * 4 + 2), (3, 2 * 4 + 2 * 2 * 2)])
def test_links_carry_what_data_parallelism_moves(run: Run, zero: int, moved: int) -> None:
    # Bytes per parameter of a rank, but for the factor (n - 1) / n, with two micro-batches: an all-reduce of 32-bit
    # gradients is a scatter and a gather; ZeRO 1 gathers 16-bit weights; ZeRO 2 scatters every micro-batch; ZeRO 3
    # gathers in both passes of each.
    found, plain = (parts(run("llama-8b", strategy__zero=stage))["links_j"] for stage in (zero, 1))
    assert found / plain == pytest.approx(moved / (4 + 2), rel=1e-12)


def test_compute_energy_is_flop_times_energy_per_flop(ask: Ask) -> None:
    scenario = ask("llama-8b", workload__global_batch=64)
    result, energy = scenario.run(), scenario.question.problem.machine.energy
    flop = sum(row.count * row.flop for row in result.operators if row.data_type != "vector")
    joules = 64 * flop * energy.matrix_per_flop["bf16"]
    assert result.energy["breakdown"]["compute_j"] <= joules * (1 + 1e-12)  # a power limit can only lower it
    vector = sum(row.count * row.flop for row in result.operators if row.data_type == "vector")
    assert parts(result)["vector_j"] == pytest.approx(
        vector * energy.vector_per_flop / (flop * energy.matrix_per_flop["bf16"]), rel=1e-12
    )


@pytest.mark.parametrize("name", ["llama-405b", "megatron-175b"])
def test_compute_energy_does_not_depend_on_who_computes(ask: Ask, name: str) -> None:
    # Operators of all stages, of all tensor-parallel ranks, of all sequences.
    scenario = ask(name)
    result, machine = scenario.run(), scenario.question.problem.machine
    assert result.energy["device_average_power_w"] < 0.99 * machine.energy.peak_power  # no power limit binds
    flop = sum(row.count * row.flop for row in result.operators if row.data_type != "vector")
    sequences, tp = scenario.question.problem.workload.global_batch, result.plans[0]["tp"]
    data_type = scenario.question.problem.formats.compute["matmul"]
    joules = sequences * tp * flop * machine.energy.matrix_per_flop[data_type]
    assert result.energy["breakdown"]["compute_j"] == pytest.approx(joules, rel=1e-12)


def test_memory_energy_holds_every_operator_and_the_optimizer(ask: Ask) -> None:
    scenario = ask("llama-8b", workload__global_batch=64)
    result, energy = scenario.run(), scenario.question.problem.machine.energy
    flop = sum(row.count * row.flop for row in result.operators if row.data_type != "vector")
    traffic = sum(row.count * row.traffic_bytes for row in result.operators)
    expected = traffic * energy.memory_per_byte / (flop * energy.matrix_per_flop["bf16"])
    assert parts(result)["memory_j"] == pytest.approx(expected, rel=1e-12)


def test_devices_and_hosts_draw_power_for_the_whole_step(ask: Ask) -> None:
    scenario = ask("llama-405b")
    result, energy = scenario.run(), scenario.question.problem.machine.energy
    powers = {"idle_j": energy.idle_power, "host_j": energy.host_power, "network_j": energy.network_power}
    for key, power in powers.items():
        assert result.energy["breakdown"][key] == pytest.approx(8192 * power * result.time["step_s"], rel=1e-12)


def test_cooling_is_the_rest_of_the_facility(run: Run) -> None:
    result = run("llama-405b", site__pue=1.25)
    breakdown = result.energy["breakdown"]
    equipment = sum(value for key, value in breakdown.items() if key != "cooling_j")
    assert breakdown["cooling_j"] == pytest.approx(0.25 * equipment, rel=1e-12)


def test_no_device_draws_more_than_its_limit(ask: Ask) -> None:
    question = ask("llama-405b").question
    limits = np.array([150.0, 300.0, 700.0])
    plans = question.plan.take(np.zeros(3, dtype=np.int64))
    columns = evaluate_columns(question.problem, plans, {"accelerator.power.tdp": limits})
    assert np.all(columns["energy.device_average_power_w"] <= limits * (1 + 1e-12))
    assert np.all(np.diff(columns["energy.device_average_power_w"]) > 0.0)


def test_energy_of_recomputation_is_counted(run: Run) -> None:
    none, full = (run("llama-8b", strategy__recompute=policy).energy["breakdown"] for policy in ("none", "full"))
    # One more forward pass of the layers; five passes instead of four and a half for fused attention.
    assert 1.2 < full["compute_j"] / none["compute_j"] < 4 / 3


def test_money_follows_devices_and_time(run: Run) -> None:
    result = run("llama-8b", pricing={"kind": "cloud", "device_hour": "3.6 USD", "utilisation": 1.0})
    dollars = 64 * 3.6 / 3600 * result.time["step_s"]
    assert result.money["per_step_usd"] == pytest.approx(dollars, rel=1e-9)
    assert result.money["per_million_tokens_usd"] == pytest.approx(dollars / (128 * 8192) * 1e6, rel=1e-9)


def test_a_run_is_its_steps(run: Run) -> None:
    result = run("llama-8b")  # the cluster states no failures
    steps = 1e12 / (128 * 8192)
    assert result.run["goodput"] is None
    assert result.run["days"] == pytest.approx(steps * result.time["step_s"] / 86400, rel=1e-12)
    assert result.run["energy_kwh"] == pytest.approx(steps * result.energy["per_step_j"] / 3.6e6, rel=1e-12)


def test_failures_lengthen_a_run(run: Run) -> None:
    result = run("llama-405b")
    without = 15.6e12 / (2048 * 8192) * result.time["step_s"] / 86400
    assert 0.8 < result.run["goodput"] < 1.0
    assert result.run["days"] == pytest.approx(without / result.run["goodput"], rel=1e-12)


def test_a_power_cap_slows_arithmetic_by_the_cube_root_and_saves_its_square(ask: Ask) -> None:
    plain, capped = (ask("llama-405b", **changes).run() for changes in ({}, {"accelerator__power__cap": "500 W"}))
    ratio = ((500 - 72.6) / (700 - 72.6)) ** (1 / 3)  # idle power of the H100
    assert ratio == pytest.approx(0.87, abs=0.015)  # clocks of the 500 W part of the torchtitan paper over 700 W
    slower = capped.time["step_s"] / plain.time["step_s"]
    assert 1.0 < slower < 1 / ratio  # memory and links keep their pace
    saved = capped.energy["breakdown"]["compute_j"] / plain.energy["breakdown"]["compute_j"]
    assert saved == pytest.approx(ratio**2, rel=1e-9)
    assert capped.energy["per_token_j"] < plain.energy["per_token_j"]


def test_v100s_capped_at_150_watts_lose_at_most_what_the_cap_says() -> None:
    # BERT on V100, 150 instead of 250 W: 6.8 % more time and 13.7 % less energy (arXiv 2205.09646).
    for idle in (25.0, 55.0):
        ratio = capped_clock_ratio(150.0, idle, 250.0, 3.0, 1.0, 1.0)
        assert 1 / ratio > 1.068
        assert (150.0 / 250.0) / ratio < 1 - 0.137


def test_a_locked_clock_lowers_rates_in_proportion(ask: Ask) -> None:
    locked = ask("llama-405b", accelerator__power__clock_limit="1.464 GHz").question.problem.machine  # of 1.83
    assert clock_ratio(locked) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("cap", "800 W", "is above accelerator.power.tdp = 700 W"), ("cap", "60 W", "idles at 72.6 W"),
     ("clock_limit", "2 GHz", "is above accelerator.compute.clock")],
)  # fmt: skip
def test_a_limit_lies_between_idle_and_rated(ask: Ask, field: str, value: str, message: str) -> None:
    scenario = ask("llama-405b", **{f"accelerator__power__{field}": value})
    with pytest.raises(SpecError, match=message):
        scenario.run()
