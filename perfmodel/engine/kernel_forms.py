"""Times of kernels from their sizes: which equations make up each family, and nothing else.

Columns of sizes and the numbers of one entry go in, seconds come out. Validation calls these with the numbers of the
catalogue, calibration with those that it tries.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from perfmodel.equations import attention, decode_attention, elementwise, expert_kernels, experts, matmul, roofline
from perfmodel.units import Numeric

Column: TypeAlias = NDArray[np.float64]
Sizes: TypeAlias = Mapping[str, Column]
Numbers: TypeAlias = Mapping[str, float]

#: A split that never pays, for kernels that do not split their loop [s].
NO_SPLIT = 1e3
#: Bytes of an element of outputs, and of the inputs and outputs of attention and memory-bound kernels: 16 bits.
WIDE_BYTES = 2.0
#: Query heads that one block of latent decode attention serves.
LATENT_HEADS_PER_BLOCK = 64.0


@dataclass(frozen=True)
class Chip:
    """What the kernels of an accelerator need beside the numbers of their family."""

    units: float
    memory_bandwidth: float
    cache_capacity: float
    cache_bandwidth: float
    vector_peak: float


@dataclass(frozen=True)
class Cost:
    """What one call of a kernel takes: time, work of the matrix unit, and bytes that move."""

    seconds: Column
    flop: Numeric
    traffic: Numeric


def _memory_time(cold: Numeric, hot: Numeric, numbers: Numbers, chip: Chip) -> Numeric:
    return roofline.memory_time(
        cold, hot, chip.memory_bandwidth, chip.cache_bandwidth, numbers["bandwidth_fraction"], numbers["ramp_time"]
    )


def matmul_cost(sizes: Sizes, numbers: Numbers, chip: Chip) -> Cost:
    """Products that a benchmark repeats over a few copies of their operands, with the quantise kernel before them."""
    m, n, k = sizes["m"], sizes["n"], sizes["k"]
    on_chip = matmul.tile_loop_time(
        1.0, m, n, k, sizes["peak"], chip.units, numbers["plateau"], numbers["loop_latency"], numbers["loop_growth"],
        numbers["tile_overhead"], numbers["split_overhead"],
    )  # fmt: skip
    activation, weight = sizes["activation_bytes"], sizes["weight_bytes"]
    traffic = matmul.matmul_traffic(1.0, m, n, k, activation, weight, WIDE_BYTES)
    footprint = matmul.matmul_traffic(
        1.0, m, n, k, activation * sizes["input_copies"], weight * sizes["weight_copies"], WIDE_BYTES
    )
    hot = roofline.hot_fraction(footprint, chip.cache_capacity)
    moved = _memory_time((1.0 - hot) * traffic, hot * traffic, numbers, chip)
    quantise = matmul.quantise_time(
        m, k, numbers.get("quantise_bytes", 0.0), numbers.get("quantise_latency", 0.0),
        chip.memory_bandwidth, numbers["bandwidth_fraction"], chip.units,
    )  # fmt: skip
    seconds = roofline.kernel_time(numbers["launch_floor"], on_chip, moved) + quantise
    return Cost(np.asarray(seconds), matmul.matmul_flop(1.0, m, n, k), traffic)


def attention_cost(sizes: Sizes, numbers: Numbers, chip: Chip) -> Cost:
    """Fused causal attention over new tokens after a cached prefix."""
    batch, queries, cached = sizes["batch"], sizes["queries"], sizes["cached"]
    keys = np.minimum(queries + cached, sizes["window"])
    pairs = attention.windowed_pairs(queries, cached, keys)
    on_chip = attention.attention_on_chip_time(
        batch, queries, keys, pairs / queries, sizes["heads"], sizes["kv_heads"], sizes["query_dim"],
        sizes["value_dim"], sizes["peak"], chip.units, numbers["plateau"], numbers["softmax_latency"],
        numbers["tile_overhead"], sizes["packed"],
    )  # fmt: skip
    traffic = attention.attention_traffic(
        batch, queries, queries + cached, sizes["heads"], sizes["kv_heads"], sizes["query_dim"], sizes["value_dim"],
        WIDE_BYTES, sizes["cache_bytes"],
    )  # fmt: skip
    hot = traffic * roofline.hot_fraction(traffic, chip.cache_capacity) * sizes["warm"]
    moved = _memory_time(traffic - hot, hot, numbers, chip)
    flop = attention.attention_flop(batch, sizes["heads"], pairs, sizes["query_dim"], sizes["value_dim"])
    return Cost(np.asarray(roofline.kernel_time(numbers["launch_floor"], on_chip, moved)), flop, traffic)


def latent_attention_cost(sizes: Sizes, numbers: Numbers, chip: Chip) -> Cost:
    """Latent attention over new tokens: expanded to heads, or absorbed into one shared latent."""
    batch, queries, cached, heads = sizes["batch"], sizes["queries"], sizes["cached"], sizes["heads"]
    absorbed = sizes["absorbed"] > 0.5
    latent, rotary = sizes["latent_dim"], sizes["rotary_dim"]
    kv_heads = np.where(absorbed, 1.0, heads)
    query_dim = np.where(absorbed, latent + rotary, sizes["head_dim"] + rotary)
    value_dim = np.where(absorbed, latent, sizes["value_dim"])
    keys = queries + cached
    pairs = attention.causal_pairs(queries, cached)
    on_chip = attention.attention_on_chip_time(
        batch, queries, keys, pairs / queries, heads, kv_heads, query_dim, value_dim, sizes["peak"], chip.units,
        numbers["plateau"], numbers["softmax_latency"], numbers["tile_overhead"], sizes["absorbed"],
    )  # fmt: skip
    expanded = attention.attention_traffic(
        batch, queries, keys, heads, kv_heads, query_dim, value_dim, WIDE_BYTES, sizes["cache_bytes"]
    )
    shared = decode_attention.latent_attention_traffic(
        batch, queries, keys, heads, latent, rotary, WIDE_BYTES, sizes["cache_bytes"]
    )
    traffic = np.where(absorbed, shared, expanded)
    moved = _memory_time(traffic, 0.0, numbers, chip)
    flop = attention.attention_flop(batch, heads, pairs, query_dim, value_dim)
    return Cost(np.asarray(roofline.kernel_time(numbers["launch_floor"], on_chip, moved)), flop, traffic)


def decode_cost(sizes: Sizes, numbers: Numbers, chip: Chip) -> Cost:
    """Attention of one query token per sequence over its cache."""
    batch, dim, heads, kv_heads = sizes["batch"], sizes["head_dim"], sizes["heads"], sizes["kv_heads"]
    keys = np.minimum(sizes["keys"], sizes["window"])
    groups = decode_attention.decode_groups(heads, kv_heads, sizes["limited_groups"])
    # Kernels of one query head per block are others than those of grouped heads where an entry says so.
    single = groups == heads
    whole = (sizes["whole_single_heads"] > 0.5) & single
    bandwidth, overhead = (
        np.where(single, numbers.get(f"single_{name}", numbers[name]), numbers[name])
        for name in ("unit_bandwidth", "tile_overhead")
    )
    on_chip = decode_attention.decode_on_chip_time(
        batch, keys, groups, 2.0 * dim * sizes["cache_bytes"], 0.0, sizes["peak"], chip.units,
        bandwidth, overhead, np.where(whole, NO_SPLIT, numbers["split_overhead"]),
    )  # fmt: skip
    traffic, footprint = (
        attention.attention_traffic(batch, 1.0, keys, heads, one, dim, dim, WIDE_BYTES, sizes["cache_bytes"])
        for one in (groups, kv_heads)
    )
    hot = traffic * roofline.hot_fraction(footprint, chip.cache_capacity)
    moved = _memory_time(traffic - hot, hot, numbers, chip)
    flop = attention.attention_flop(batch, heads, keys, dim, dim)
    return Cost(np.asarray(roofline.kernel_time(numbers["launch_floor"], on_chip, moved)), flop, traffic)


def latent_decode_cost(sizes: Sizes, numbers: Numbers, chip: Chip) -> Cost:
    """Absorbed latent attention of one query token per sequence."""
    batch, keys, heads = sizes["batch"], sizes["keys"], sizes["heads"]
    latent, rotary = sizes["latent_dim"], sizes["rotary_dim"]
    blocks = np.ceil(heads / LATENT_HEADS_PER_BLOCK)
    flop = attention.attention_flop(1.0, heads / blocks, 1.0, latent + rotary, latent)
    on_chip = decode_attention.decode_on_chip_time(
        batch, keys, blocks, (latent + rotary) * sizes["cache_bytes"], flop, sizes["peak"], chip.units,
        numbers["unit_bandwidth"], numbers["tile_overhead"], numbers["split_overhead"],
    )  # fmt: skip
    traffic = decode_attention.latent_attention_traffic(
        batch, 1.0, keys, heads, latent, rotary, WIDE_BYTES, sizes["cache_bytes"]
    )
    moved = _memory_time(traffic, 0.0, numbers, chip)
    seconds = roofline.kernel_time(numbers["launch_floor"], on_chip, moved)
    return Cost(np.asarray(seconds), attention.attention_flop(batch, heads, keys, latent + rotary, latent), traffic)


def _grouped(sizes: Sizes, numbers: Numbers, chip: Chip, touched: Column, rows: Column, n: Column, k: Column) -> Cost:
    """One grouped product of the touched experts, without launch."""
    on_chip = matmul.tile_loop_time(
        touched, expert_kernels.rows_per_expert(rows, touched), n, k, sizes["peak"], chip.units, numbers["plateau"],
        numbers["loop_latency"], 0.0, numbers["tile_overhead"], NO_SPLIT,
    )  # fmt: skip
    traffic = matmul.matmul_traffic(
        touched, rows / touched, n, k, sizes["activation_bytes"], sizes["weight_bytes"], WIDE_BYTES
    )
    hot = traffic * roofline.hot_fraction(2.0 * traffic, chip.cache_capacity)
    seconds = roofline.kernel_time(0.0, on_chip, _memory_time(traffic - hot, hot, numbers, chip))
    return Cost(np.asarray(seconds), matmul.matmul_flop(1.0, rows, n, k), traffic)


def expert_cost(sizes: Sizes, numbers: Numbers, chip: Chip) -> Cost:
    """Feed-forward of the experts of one rank: two grouped products and the permutation around them."""
    tokens, top_k, ranks = sizes["tokens"], sizes["top_k"], sizes["expert_ranks"]
    local = sizes["experts"] / ranks
    skewed = sizes["skewed"] > 0.5
    fair = expert_kernels.routed_rows(tokens, top_k, ranks)
    busiest = expert_kernels.busiest_rows(fair, experts.skewed_imbalance(ranks), tokens, top_k, local)
    rows = np.where(skewed, busiest, fair)
    drawn = experts.touched_experts_random(local, rows)
    touched = np.where(skewed, expert_kernels.touched_experts_skewed(drawn), experts.touched_experts(local, rows))
    hidden, inner = sizes["hidden"], sizes["inner"]
    up = _grouped(sizes, numbers, chip, touched, rows, sizes["gates"] * inner, hidden)
    down = _grouped(sizes, numbers, chip, touched, rows, hidden, inner)
    moved_rows = np.where(sizes["writes_all_rows"] > 0.5, tokens * top_k, rows)
    traffic = expert_kernels.permutation_traffic(tokens, moved_rows, hidden, numbers["permute_bytes"])
    permute = _memory_time(traffic, 0.0, {**numbers, "ramp_time": 0.0}, chip)
    seconds = numbers["launch_floor"] + up.seconds + down.seconds + permute
    return Cost(np.asarray(seconds), up.flop + down.flop, up.traffic + down.traffic + traffic)


def elementwise_cost(sizes: Sizes, numbers: Numbers, chip: Chip) -> Cost:
    """A memory-bound kernel that a benchmark repeats on the same data.

    A kernel that does not fill the memory does not fill the cache either: the same fraction holds for both.
    """
    traffic = elementwise.elementwise_traffic(sizes["tokens"], sizes["features"], sizes["elements_moved"], WIDE_BYTES)
    hot = traffic * roofline.hot_fraction(traffic, chip.cache_capacity)
    slowed = replace(chip, cache_bandwidth=chip.cache_bandwidth * numbers["bandwidth_fraction"])
    moved = _memory_time(traffic - hot, hot, numbers, slowed)
    return Cost(np.asarray(roofline.kernel_time(numbers["launch_floor"], 0.0, moved)), 0.0, traffic)


FORMS: Mapping[str, Callable[[Sizes, Numbers, Chip], Cost]] = {
    "matmul": matmul_cost,
    "attention": attention_cost,
    "latent_attention": latent_attention_cost,
    "decode_attention": decode_cost,
    "latent_decode": latent_decode_cost,
    "experts": expert_cost,
    "elementwise": elementwise_cost,
}
