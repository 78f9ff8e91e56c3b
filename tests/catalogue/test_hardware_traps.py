"""Traps of data sheets: sparse for dense, both directions for one, all links for one, bits for bytes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from perfmodel.provenance import Basis, Sourced
from perfmodel.specs.catalogue import Catalogue

ROOT = Path(__file__).resolve().parents[2]
ACCELERATORS = sorted(path.stem for path in (ROOT / "hardware_specs" / "accelerators").glob("*.yaml"))
INTERCONNECTS = sorted(path.stem for path in (ROOT / "hardware_specs" / "interconnects").glob("*.yaml"))


@functools.cache
def load(kind: str, name: str) -> Any:
    return Catalogue().load(kind, name)


#: Fused multiply-adds of 16-bit numbers per clock and unit with fp32 accumulation (architecture white papers).
PER_CLOCK = {
    "v100-sxm2-32gb": ("fp16", 512), "a100-sxm4-80gb": ("bf16", 1024), "a100-sxm4-40gb": ("bf16", 1024),
    "a100-pcie-80gb": ("bf16", 1024), "a30": ("bf16", 1024), "a40": ("bf16", 512), "a10": ("bf16", 512),
    "l4": ("bf16", 512), "l40s": ("bf16", 512), "rtx-4090": ("bf16", 256), "rtx-5090": ("bf16", 256),
    "h100-sxm5-80gb": ("bf16", 2048), "h200-sxm-141gb": ("bf16", 2048), "gh200-96gb": ("bf16", 2048),
    "b200-sxm-180gb": ("bf16", 4096), "gb200-nvl72": ("bf16", 4096), "mi100": ("fp16", 512), "mi210": ("bf16", 512),
    "mi250x-gcd": ("bf16", 512), "mi300x": ("bf16", 1024), "mi300a": ("bf16", 1024), "mi325x": ("bf16", 1024),
    "mi355x": ("bf16", 2048), "tpu-v3": ("bf16", 128 * 128), "tpu-v4": ("bf16", 128 * 128),
    "gaudi2": ("bf16", 256 * 256),
}  # fmt: skip


@pytest.mark.parametrize("name", PER_CLOCK)
def test_a_dense_peak_is_units_times_clock_times_the_rate_of_a_unit(name: str) -> None:
    data_type, rate = PER_CLOCK[name]
    compute = load("accelerator", name).compute
    clock = compute.clock.value
    peak = compute.matrix[data_type].peak.value
    # A part may run its matrix units below the listed maximum clock (B200: 1.856 of 1.965 GHz), never above.
    assert 0.93 <= peak / (2 * compute.units.value * rate * clock) <= 1.01


@pytest.mark.parametrize("name", ACCELERATORS)
def test_no_sparse_figure_stands_among_the_dense_ones(name: str) -> None:
    matrix = {key: rate.peak.value for key, rate in load("accelerator", name).compute.matrix.items()}
    if name in ("rtx-5090", "vr200-rubin"):
        return  # GeForce halves all but fp4; Rubin lists 4.4 times as much fp8 as bf16
    if {"bf16", "fp8"} <= set(matrix):
        assert matrix["fp8"] / matrix["bf16"] <= 2.6
    if {"bf16", "fp16"} <= set(matrix) and name != "mi100":
        assert matrix["fp16"] == matrix["bf16"]
    if {"fp8", "fp4"} <= set(matrix):
        assert matrix["fp4"] / matrix["fp8"] <= 3.2


def test_data_types_that_a_device_does_not_have() -> None:
    assert "fp8" not in load("accelerator", "a100-sxm4-80gb").compute.matrix
    assert "bf16" not in load("accelerator", "v100-sxm2-32gb").compute.matrix
    assert "int8" not in load("accelerator", "trainium2").compute.matrix


def test_sparsity_is_per_data_type() -> None:
    def gain(name: str, data_type: str) -> float | None:
        rate = load("accelerator", name).compute.matrix[data_type].sparse_2to4
        return rate.value if rate is not None else None

    assert gain("h100-sxm5-80gb", "bf16") == 2.0
    assert gain("a100-sxm4-80gb", "fp64") is None
    assert gain("b300-sxm-288gb", "nvfp4") == pytest.approx(18 / 14, rel=0.01)
    assert gain("gb300-nvl72", "nvfp4") == pytest.approx(20 / 15, rel=0.01)
    assert gain("mi355x", "fp4") is None
    assert gain("mi355x", "fp8") == 2.0
    assert gain("trainium2", "bf16") == pytest.approx(2563 / 667, rel=0.01)
    for name in ("tpu-v5p", "gaudi3", "mi250x-gcd"):
        assert gain(name, "bf16") is None


@pytest.mark.parametrize(
    ("name", "per_direction"),
    [
        ("a100-sxm4-80gb", 300),
        ("h100-sxm5-80gb", 450),
        ("b200-sxm-180gb", 900),
        ("mi300x", 448),
        ("tpu-v5p", 600),
        ("trainium2", 640),
        ("gaudi3", 525),
    ],
)
def test_scale_up_bandwidth_counts_one_direction(name: str, per_direction: float) -> None:
    assert load("accelerator", name).scale_up.bandwidth.value == per_direction * 1e9


def test_one_pair_uses_one_link_of_a_mesh() -> None:
    scale_up = load("accelerator", "mi300x").scale_up
    assert (scale_up.bandwidth.value, scale_up.pair_bandwidth.value) == (448e9, 64e9)


@pytest.mark.parametrize("name", INTERCONNECTS)
def test_links_add_up_to_the_bandwidth(name: str) -> None:
    spec = load("interconnect", name)
    if spec.link_bandwidth is not None and spec.links is not None:
        assert spec.links * spec.link_bandwidth.value == pytest.approx(spec.bandwidth.value, rel=0.01)


def test_port_rates_are_bytes_not_bits() -> None:
    rates = {
        "ib-hdr": 200,
        "ib-ndr": 400,
        "ib-xdr": 800,
        "ib-ndr200": 200,
        "ib-hdr100": 100,
        "roce-400gbe": 400,
        "slingshot-11": 200,
    }
    for name, gigabit in rates.items():
        assert load("interconnect", name).bandwidth.value == gigabit / 8 * 1e9


def test_in_network_reduction_only_where_it_was_measured() -> None:
    assert [name for name in INTERCONNECTS if load("interconnect", name).in_network_reduction] == [
        "nvlink4", "nvlink4-h200",
    ]  # fmt: skip


def test_capacities_are_those_the_driver_reports() -> None:
    mebibytes = {
        "gb200-nvl72": 189471,
        "b300-sxm-288gb": 275040,
        "gb300-nvl72": 284208,
        "l40s": 46068,
        "a100-sxm4-80gb": 80 * 1024,
    }
    for name, reported in mebibytes.items():
        assert load("accelerator", name).memory.capacity.value == reported * 2**20


#: Variants with a lower power limit: their peak is that of the chip, which the limit does not let it reach.
LIMITED = {"h100-sxm-96gb-500w"}
#: Where the energy was measured at the power limit: the fraction of the peak that an H200 or H100 reaches there.
POWER_LIMITED_FRACTION = {"bf16": 0.71, "fp16": 0.71, "fp8": 0.60}
MEASURED_AT_THE_LIMIT = {"perfmodel-power-measurement", "perfmodel-h100-measurement"}


@pytest.mark.parametrize("name", ACCELERATORS)
def test_energy_per_operation_fits_into_the_rated_power(name: str) -> None:
    spec = load("accelerator", name)
    if name in LIMITED:
        return
    for data_type, energy in spec.energy.matrix.items():
        reached = POWER_LIMITED_FRACTION[data_type] if energy.source in MEASURED_AT_THE_LIMIT else 1.0
        power = reached * energy.value * spec.compute.matrix[data_type].peak.value
        idle = spec.power.idle.value if spec.power.idle is not None else 0.0
        assert 0.3 * spec.power.tdp.value <= power <= 1.05 * (spec.power.tdp.value - idle), data_type
    if spec.energy.memory is not None and spec.power.tdp is not None and spec.memory.kind != "SRAM":
        assert spec.energy.memory.value * spec.memory.bandwidth.value <= 0.7 * spec.power.tdp.value


def test_announced_parts_say_so() -> None:
    announced = {name for name in ACCELERATORS if load("accelerator", name).status == "announced"}
    assert announced == {"vr200-rubin", "mi455x", "ascend-950dt"}


def test_a_variant_keeps_its_own_memory() -> None:
    large, small = load("accelerator", "a100-sxm4-80gb"), load("accelerator", "a100-sxm4-40gb")
    assert (large.memory.bandwidth.value, small.memory.bandwidth.value) == pytest.approx((2039e9, 1555e9))
    assert small.memory.capacity.value == large.memory.capacity.value / 2
    assert small.efficiency.matmul["bf16"].plateau.value == large.efficiency.matmul["bf16"].plateau.value


def test_a_device_without_measurements_shows_no_measured_kernels() -> None:
    def states_kernels(name: str) -> bool:
        efficiency = load("accelerator", name).efficiency
        entries = [*efficiency.matmul.values(), *efficiency.attention.values(), *efficiency.elementwise.values()]
        numbers = [number for entry in entries for _, number in entry]
        # What a fit to published steps says of a device is derived.
        return any(isinstance(number, Sourced) and number.basis == Basis.MEASURED for number in numbers)

    def same_chip(name: str) -> bool:
        """Whether the file is a variant of a measured part."""
        text = (ROOT / "hardware_specs" / "accelerators" / f"{name}.yaml").read_text(encoding="utf-8")
        return any(f"extends: {part}" in text for part in parts)

    parts = {"a100-sxm4-80gb", "h100-sxm5-80gb", "h200-sxm-141gb", "b200-sxm-180gb", "l40s"}
    measured = {name for name in ACCELERATORS if states_kernels(name)}
    assert measured == parts | {name for name in ACCELERATORS if same_chip(name)}
    plateaus = [load("accelerator", name).efficiency.matmul["bf16"].plateau for name in sorted(parts)]
    assert all(isinstance(number, Sourced) and number.basis == Basis.MEASURED for number in plateaus)
