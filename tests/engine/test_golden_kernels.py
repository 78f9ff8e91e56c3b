"""Kernels that this project measured itself on one H100.

No number of the tile loop was fitted to these times. The slow-down of two stacks and the energy per FLOP were read off
them: their tests hold the specs to the table, and are no validation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from perfmodel.engine.session import load
from perfmodel.equations import matmul, roofline
from perfmodel.machine.machine import Machine

TABLE = pd.read_csv(Path(__file__).resolve().parents[1] / "golden" / "h100_matmuls.csv")
BYTES_BF16 = 2.0


def h100() -> Machine:
    return load("llama3.1-405b-8192-h100").question.problem.machine


def predicted_seconds() -> NDArray[np.float64]:
    machine = h100()
    numbers = machine.matmul["bf16"]
    m, n, k = (TABLE[name].to_numpy(dtype=np.float64) for name in ("m", "n", "k"))
    on_chip = matmul.tile_loop_time(
        1.0, m, n, k, numbers.peak, machine.units, numbers.plateau, numbers.loop_latency, numbers.loop_growth,
        numbers.tile_overhead, numbers.split_overhead,
    )  # fmt: skip
    traffic = matmul.matmul_traffic(1.0, m, n, k, BYTES_BF16, BYTES_BF16, BYTES_BF16)
    memory = roofline.memory_time(
        traffic, 0.0, machine.memory_bandwidth, machine.cache_bandwidth, numbers.bandwidth_fraction, numbers.ramp_time
    )
    return np.asarray(roofline.kernel_time(numbers.launch_floor, on_chip, memory))


def test_27_products_of_llama_layers_run_in_bursts_as_the_tile_loop_says() -> None:
    error = predicted_seconds() / (TABLE["burst_us"].to_numpy() * 1e-6) - 1.0
    assert len(error) == 27
    assert np.abs(error).mean() < 0.02
    assert np.abs(error).max() < 0.06


def test_the_sustained_rate_is_the_ratio_of_burst_to_sustained_times() -> None:
    assert h100().sustained_rate == pytest.approx((TABLE["burst_us"] / TABLE["sustained_us"]).mean(), abs=5e-3)


def test_the_energy_of_a_product_is_what_its_power_above_idle_says() -> None:
    machine = h100()
    flop = 2.0 * TABLE["m"] * TABLE["n"] * TABLE["k"]
    joules = (TABLE["sustained_power_w"] - machine.energy.idle_power) * TABLE["sustained_us"] * 1e-6
    # The multipliers alone carry the figure: the share of the memory is below a tenth and inside the interval.
    assert np.abs(machine.energy.matrix_per_flop["bf16"] * flop / joules - 1.0).mean() < 0.1
