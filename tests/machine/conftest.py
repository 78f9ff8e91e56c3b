"""Small made-up specs: every number differs, so that a test sees which one was taken."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from perfmodel.machine.machine import Machine
from perfmodel.machine.resolve import resolve
from perfmodel.specs.hardware import AcceleratorSpec, ClusterSpec, EfficiencySpec, InterconnectSpec
from perfmodel.specs.site import ReliabilitySpec, SiteSpec
from perfmodel.specs.software import SoftwareSpec

_MADE_UP = {"source": "made-up", "basis": "measured"}
_GUESS = {"source": "guess", "basis": "assumed"}

ACCELERATOR: dict[str, Any] = {
    "kind": "accelerator", "name": "chip", "efficiency_class": "chip-like", "provenance": _MADE_UP,
    "compute": {"units": 100, "clock": "1 GHz",
                "matrix": {"bf16": {"peak": "400 TFLOP/s"}, "fp16": {"peak": "300 TFLOP/s"}},
                "vector": {"fp32": "20 TFLOP/s"}},
    "memory": {"capacity": "64 GiB", "bandwidth": "2 TB/s"},
    "scale_up": {"interconnect": "link", "bandwidth": "200 GB/s"},
    "power": {"tdp": "500 W"},
}  # fmt: skip
MATMUL = {"plateau": 0.5, "tile_overhead": "1 us", "loop_latency": "1 ns", "loop_growth": 0, "split_overhead": "3 us",
          "launch_floor": "4 us", "bandwidth_fraction": 0.7, "ramp_time": "2 us"}  # fmt: skip
ATTENTION = {"plateau": 0.4, "softmax_latency": "0.01 ns", "tile_overhead": "5 us", "launch_floor": "8 us",
             "bandwidth_fraction": 0.3, "ramp_time": "1 us", "backward_fraction": 0.6}  # fmt: skip
CLASS: dict[str, Any] = {
    "kind": "efficiency", "name": "chip-like", "provenance": _GUESS,
    "efficiency": {"matmul": {"any": MATMUL}, "attention": {"any": ATTENTION},
                   "elementwise": {"any": {"bandwidth_fraction": 0.6, "launch_floor": "2 us", "ramp_time": "0 s"}}},
    "interconnect": {
        "scale-up": {"base_latency": "7 us", "step_latency": "1 us", "link_fraction": 0.8, "copy_fraction": 2,
                     "fill_time": "3 us", "energy": "5 pJ/bit"},
        "scale-out": {"base_latency": "20 us", "step_latency": "1 us", "link_fraction": 0.9, "hop_latency": "5 us",
                      "hop_growth": "40 us", "hop_half_size": "100 kB", "tree_fraction": 0.5,
                      "tree_hop_latency": "20 us", "energy": "60 pJ/bit"},
    },
    "cache": {"capacity": "4 MB", "bytes_per_clock": "16 B", "bandwidth_over_memory": 1.5},
    "energy": {"matrix": {"any": "0.6 pJ/FLOP"}, "vector": "9 pJ/FLOP", "memory": "5 pJ/bit"},
    "power": {"sustained_rate": 1, "idle_fraction": "15 %", "host_fraction": "50 %", "network_fraction": "8 %",
              "power_usage_effectiveness": 1.2},
    "relative_error": {"calibrated": 0.1, "transferred": 0.2, "assumed": 0.35, "experts": 0.15, "anchored": 0.05,
                       "memory": 0.1, "power": 0.15},
}  # fmt: skip
SOFTWARE: dict[str, Any] = {
    "kind": "software", "name": "stack", "provenance": {"source": "stack-notes", "basis": "paper"},
    "behaviour": {
        "tensor_exposed": 1, "regather_exposed": 0, "context_exposed": 0.3, "expert_exposed": 0.8,
        "pipeline_exposed": 0.4, "grouped_slowdown": 1, "expert_block_overhead": "80 us",
        "data_exposed": 0.1, "data_window": 1,
        "elementwise_inflation": 1, "matmul_slowdown": 1, "block_overhead": "40 us", "fixed_overhead": "5 ms",
        "optimizer_traffic_factor": 2, "jitter_per_doubling": 0.005, "gradient_bucket_bytes": "100 MB",
        "reserved_memory": "1 GiB", "workspace": "64 MiB", "early_stop_recompute": 0,
        "quantise_inflation": 1, "recast_weights": 0, "offload_exposed": 0.1,
    },
}  # fmt: skip
CLUSTER: dict[str, Any] = {
    "kind": "cluster", "name": "machine-room", "accelerator": "chip", "devices": 64, "devices_per_node": 4,
    "provenance": _MADE_UP,
    "tiers": [
        {"name": "node", "interconnect": "link", "devices": 4},
        {"name": "fabric", "interconnect": "cable", "devices": 64, "bandwidth": "40 GB/s", "oversubscription": 2},
    ],
}  # fmt: skip
LINKS: dict[str, dict[str, Any]] = {
    "link": {
        "kind": "interconnect",
        "name": "link",
        "class": "scale-up",
        "provenance": _MADE_UP,
        "bandwidth": "999 GB/s",
    },
    "cable": {
        "kind": "interconnect",
        "name": "cable",
        "class": "scale-out",
        "provenance": _MADE_UP,
        "bandwidth": "50 GB/s",
    },
}


class Numerics:
    """Stands for a numerics spec."""

    def __init__(self, data_type: str = "bf16") -> None:
        self.compute: Mapping[str, str] = {"matmul": data_type, "attention": data_type, "head": data_type}


def change(spec: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A deep copy with one entry set (or removed when ``value`` is None)."""
    data = copy.deepcopy(dict(spec))
    *parents, last = path.split("/")
    place = data
    for key in parents:
        place = place.setdefault(key, {})
    if value is None:
        del place[last]
    else:
        place[last] = value
    return data


class MadeUp:
    """The made-up files, and a way to change one entry."""

    accelerator = ACCELERATOR
    efficiency = CLASS
    software = SOFTWARE
    cluster = CLUSTER
    links = LINKS
    change = staticmethod(change)


@pytest.fixture
def made_up() -> type[MadeUp]:
    return MadeUp


@pytest.fixture
def build() -> Callable[..., Machine]:
    """Resolve the made-up specs, any of them replaced."""

    def build_machine(
        accelerator: Mapping[str, Any] = ACCELERATOR,
        efficiency: Mapping[str, Any] = CLASS,
        software: Mapping[str, Any] = SOFTWARE,
        cluster: Mapping[str, Any] = CLUSTER,
        links: Mapping[str, Mapping[str, Any]] = LINKS,
        data_type: str = "bf16",
        site: SiteSpec | None = None,
        pricing: Any = None,
        reliability: ReliabilitySpec | None = None,
    ) -> Machine:
        return resolve(
            ClusterSpec.model_validate(cluster),
            AcceleratorSpec.model_validate(accelerator),
            {name: InterconnectSpec.model_validate(link) for name, link in links.items()},
            EfficiencySpec.model_validate(efficiency),
            SoftwareSpec.model_validate(software),
            Numerics(data_type),
            site,
            pricing,
            reliability,
        )

    return build_machine
