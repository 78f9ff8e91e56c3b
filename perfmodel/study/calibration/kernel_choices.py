"""What a calibration of kernels may choose: numbers that move, their bounds, and forms of the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from perfmodel.engine.kernel_forms import NO_SPLIT

#: A form of the kernel: switches, numbers that are fixed, numbers that move.
Variant: TypeAlias = tuple[dict[str, bool], dict[str, float], tuple[str, ...]]

#: Numbers of each family that a fit may move, with bounds in SI units.
BOUNDS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "matmul": {
        "launch_floor": (0.2e-6, 400e-6), "plateau": (0.05, 1.0), "tile_overhead": (0.01e-6, 20e-6),
        "loop_latency": (0.05e-9, 20e-9), "split_overhead": (0.5e-6, 20e-6), "ramp_time": (0.02e-6, 30e-6),
        "bandwidth_fraction": (0.3, 1.0), "cache_bandwidth": (1e11, 1e14), "quantise_bytes": (0.05, 30.0),
        "quantise_latency": (0.01e-6, 5e-6),
    },
    "attention": {
        "launch_floor": (0.3e-6, 400e-6), "plateau": (0.05, 1.0), "softmax_latency": (0.0005e-9, 1e-9),
        "tile_overhead": (0.05e-6, 20e-6), "bandwidth_fraction": (0.05, 1.2),
    },
    "latent_attention": {
        "launch_floor": (0.3e-6, 400e-6), "plateau": (0.05, 1.0), "tile_overhead": (0.05e-6, 20e-6),
        "bandwidth_fraction": (0.05, 1.2),
    },
    "decode_attention": {
        "launch_floor": (0.3e-6, 400e-6), "bandwidth_fraction": (0.05, 1.2), "tile_overhead": (0.05e-6, 20e-6),
        "split_overhead": (0.05e-6, 50e-6), "unit_bandwidth": (1e9, 1e12), "single_unit_bandwidth": (1e9, 1e12),
        "single_tile_overhead": (0.05e-6, 20e-6),
    },
    "latent_decode": {
        "launch_floor": (0.3e-6, 400e-6), "bandwidth_fraction": (0.05, 1.2), "tile_overhead": (0.05e-6, 20e-6),
        "split_overhead": (0.05e-6, 50e-6), "ramp_time": (0.1e-6, 50e-6), "unit_bandwidth": (1e9, 1e13),
    },
    "experts": {
        "launch_floor": (1e-6, 400e-6), "plateau": (0.03, 1.0), "bandwidth_fraction": (0.1, 1.2),
        "loop_latency": (0.02e-9, 20e-9), "tile_overhead": (0.005e-6, 20e-6), "permute_bytes": (0.1, 60.0),
    },
}  # fmt: skip
#: Start of numbers that the catalogue may not state.
TYPICAL: Mapping[str, Mapping[str, float]] = {
    "matmul": {"quantise_bytes": 5.0, "quantise_latency": 0.3e-6},
    "decode_attention": {"single_unit_bandwidth": 40e9, "single_tile_overhead": 1.5e-6},
}
#: Terms that trade against the plateau: the search starts with several sizes of them.
SERIAL = ("loop_latency", "tile_overhead", "softmax_latency", "split_overhead", "single_tile_overhead")
#: Numbers of kernels of one query head per block, where they are others than those of grouped heads.
SINGLE = ("single_unit_bandwidth", "single_tile_overhead")
#: Numbers that move with few measurements.
FEW = {
    "matmul": ("launch_floor", "plateau"),
    "attention": ("launch_floor", "plateau"),
    "latent_attention": ("launch_floor", "plateau"),
    "decode_attention": ("launch_floor", "bandwidth_fraction"),
    "latent_decode": ("launch_floor", "bandwidth_fraction"),
    "experts": ("launch_floor", "plateau"),
}
#: Numbers of the tile loop of an accelerator.
TILE_LOOP = (
    "launch_floor", "plateau", "tile_overhead", "loop_latency", "split_overhead", "ramp_time", "bandwidth_fraction",
)  # fmt: skip
#: Types whose tile loop is fitted for the accelerator, over all stacks.
SIXTEEN_BIT = ("bf16", "fp16")
#: ``loop_growth`` of kernels whose step grows with the tile; the other choice is none.
CUTLASS_GROWTH = 0.3
#: A choice of form must lower the loss by this much to be taken.
WORTH_A_CHOICE = 3e-3
#: Sizes whose range is reported, by family.
RANGES: Mapping[str, tuple[str, ...]] = {
    "matmul": ("m", "n", "k"),
    "attention": ("batch", "queries", "heads", "kv_heads", "head_dim"),
    "latent_attention": ("batch", "queries", "heads"),
    "decode_attention": ("batch", "keys", "heads", "kv_heads", "head_dim"),
    "latent_decode": ("batch", "keys", "heads"),
    "experts": ("tokens", "hidden", "inter", "experts", "top_k", "expert_ranks"),
}


def variants(family: str, key: str, *, few: bool) -> list[Variant]:
    """Forms that a fit chooses from: switches, fixed numbers, numbers that move."""
    every = tuple(name for name in BOUNDS[family] if name not in SINGLE)
    if few or (family == "matmul" and key in SIXTEEN_BIT):
        return [({}, {}, FEW[family])]
    if family == "attention":
        return [({"packed": packed, "warm": warm}, {}, every) for packed in (True, False) for warm in (False, True)]
    if family == "latent_attention":
        return [({"absorbed": absorbed}, {}, every) for absorbed in (True, False)]
    if family == "experts":
        return [({"writes_all_rows": wide}, {}, every) for wide in (True, False)]
    if family == "decode_attention":
        return [
            ({"limited_groups": limited, "whole_single_heads": whole}, {}, (*every, *more))
            for limited in (False, True)
            for whole in (False, True)
            for more in ((), SINGLE)
        ]
    if family == "latent_decode":
        whole = tuple(name for name in every if name != "split_overhead")
        return [({}, {}, every), ({}, {"split_overhead": NO_SPLIT}, whole)]
    if family == "matmul":
        return _matmul_variants(key)
    return [({}, {}, every)]


def _matmul_variants(key: str) -> list[Variant]:
    """Kernels that split their loop or do not, with or without a growing step, with or without a quantise kernel."""
    tile = ("launch_floor", "plateau", "tile_overhead", "loop_latency", "ramp_time")
    last = "bandwidth_fraction" if key.endswith("-weight") else "quantise_bytes"
    return [
        ({}, {}, (*tile, last)),
        ({}, {"split_overhead": NO_SPLIT}, (*tile, last)),
        ({}, {"split_overhead": NO_SPLIT, "loop_growth": CUTLASS_GROWTH}, (*tile, last)),
        *([({}, {"split_overhead": NO_SPLIT}, (*tile, last, "quantise_latency"))] if last == "quantise_bytes" else []),
    ]
