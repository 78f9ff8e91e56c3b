"""Properties that the physics must have: monotonicity, limits, conservation, exact zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.equations import (
    attention,
    collectives,
    energy,
    matmul,
    memory,
    money,
    optimizer,
    overlap,
    pipeline,
    roofline,
)
from perfmodel.equations import reliability as failures
from perfmodel.units import EQUATIONS, equation_units

sizes = st.floats(1.0, 1e10)
times = st.floats(1e-9, 1e3)
ranks = st.integers(2, 4096).map(float)
dimensions = st.integers(1, 65536).map(float)

FASTER_UNITS = ("B/s", "FLOP/s")
SLOWER_UNITS = ("s", "FLOP")
FRACTIONS = {"plateau", "link_fraction", "copy_fraction", "bandwidth_fraction", "reduction_fraction", "tree_fraction",
             "one_shot_fraction", "two_shot_fraction", "port_fraction", "staging_fraction"}  # fmt: skip
#: Parameters whose growth may shorten a time, and why.
NOT_SLOWER = {
    ("exposed_time", "window"),  # more computation hides more
    ("layered_exposed_time", "window"),
    ("panels_exposed_time", "compute"),
    ("recompute_time", "skipped_time"),  # what is skipped is not recomputed
    ("daly_interval", "checkpoint_time"),  # an interval, not a cost; falls back to the MTBF
    ("daly_interval", "mtbf"),
    # A bubble is time without work: work of its own, or of a slow stage, fills it. The time of the step grows
    # (tests/parallel/test_schedules.py).
    ("zb_h1_bubble_time", "weight_gradient"),
    *(("zb_v_bubble_time", name) for name in ("forward", "input_gradient", "weight_gradient")),
    ("dualpipe_bubble_time", "pair"),
    ("idle_time", "busy"),
    ("ratio_estimate", "predicted_there"),  # the more was predicted of what was measured, the faster the world
    # Parts of a path that start and end also contain.
    ("late_start_time", "slot"),
    *(("stage_path_time", name) for name in ("forward", "backward", "end", "start", "forward_run", "backward_run")),
    ("postponed_tail_time", "before"),
    ("zb_h1_path_time", "forward"),
    ("zb_h1_path_time", "input_gradient"),
    ("zb_h1_path_time", "weight_gradient"),
    # Marks in an order: sums before two stages are taken from each other, and a schedule refuses the plans of which
    # a count is negative. The time of the step grows (tests/engine/test_pipelines.py).
    *(
        (name, parameter)
        for name, parameters in {
            "first_gradient_ready_time": ("before", "forward_held"),
            "zb_v_return_ready_time": ("forward", "input_gradient", "weight_gradient"),
            "zb_v_last_forward_ready_time": ("forward", "input_gradient", "weight_gradient"),
            "zb_v_last_turn_ready_time": ("before_held",),
            "zb_v_last_return_ready_time": ("input_gradient", "weight_gradient"),
            "zb_v_end_time": ("before",),
            "dualpipe_first_pair_time": ("before_held", "input_gradient_held", "total_held", "forward"),
            "dualpipe_last_forward_ready_time": ("first_pair", "first_return", "total"),
            "dualpipe_steady_time": ("total",),
            "dualpipe_last_pair_ready_time": ("before", "total", "forward"),
            "dualpipe_last_return_ready_time": ("input_gradient", "weight_gradient"),
            "dualpipe_end_time": ("before",),
        }.items()
        for parameter in parameters
    ),
    ("engine_all_reduce_time", "size"),  # beyond its limit an engine calls a library, which may be faster
    ("engine_all_reduce_time", "size_limit"),
}


def _time_parameters() -> list[tuple[str, str, int]]:
    """(equation, parameter, direction) of every equation that returns a time."""
    found: list[tuple[str, str, int]] = []
    for name, function in EQUATIONS.items():
        units = equation_units(function)
        if units["return"] is None or units["return"].symbol != "s":
            continue
        for parameter, unit in units.items():
            short = name.partition(".")[2]
            if parameter == "return" or unit is None or (short, parameter) in NOT_SLOWER:
                continue
            if unit.symbol in FASTER_UNITS or parameter in FRACTIONS:
                found.append((name, parameter, -1))
            elif unit.symbol in SLOWER_UNITS or (unit.symbol == "B" and not parameter.endswith("half_size")):
                found.append((name, parameter, +1))
    return found


@pytest.mark.parametrize(("name", "parameter", "direction"), _time_parameters())
def test_times_grow_with_work_and_fall_with_speed(
    name: str, parameter: str, direction: int, draw: Callable[[str, np.random.Generator], dict[str, float]]
) -> None:
    # One argument is swept over six decades around its value (a fraction over its range), the others stay.
    random = np.random.default_rng(7)
    for _ in range(20):
        values = draw(name, random)
        around = values[parameter] * np.logspace(-3.0, 3.0, 97)
        swept = np.linspace(0.01, 1.0, 97) if parameter in FRACTIONS else around
        result = np.broadcast_to(EQUATIONS[name](**{**values, parameter: swept}), swept.shape)
        assert np.all(direction * np.diff(result) >= -1e-12 * np.max(result))


@given(times, times, st.floats(1.0, 20.0))
def test_smooth_extrema_lie_between_their_bounds(first: float, second: float, exponent: float) -> None:
    larger, smaller = max(first, second), min(first, second)
    maximum = roofline.smooth_maximum(first, second, exponent)
    minimum = roofline.smooth_minimum(first, second, exponent)
    assert larger * (1 - 1e-12) <= maximum <= (first + second) * (1 + 1e-12)
    assert smaller / 2.0 ** (1.0 / exponent) * (1 - 1e-12) <= minimum <= smaller * (1 + 1e-12)
    assert maximum == pytest.approx(roofline.smooth_maximum(second, first, exponent), rel=1e-12)
    # Scale does not matter: the form has no unit of its own.
    assert roofline.smooth_maximum(first * 1e9, second * 1e9, exponent) == pytest.approx(maximum * 1e9, rel=1e-9)


def test_smooth_extrema_at_the_edges_of_arithmetic() -> None:
    assert roofline.smooth_maximum(0.0, 0.0, 3.0) == 0.0
    assert roofline.smooth_minimum(0.0, 0.0, 3.0) == 0.0
    assert roofline.smooth_minimum(0.0, 5.0, 3.0) == 0.0
    assert roofline.smooth_maximum(0.0, 5.0, 3.0) == 5.0
    assert roofline.smooth_maximum(1e-300, 1e300, 8.0) == 1e300
    assert roofline.smooth_minimum(1e-300, 1e300, 8.0) == 1e-300
    assert roofline.smooth_minimum(2.0, np.inf, 8.0) == 2.0


@given(times, times)
def test_a_sharp_smooth_maximum_is_the_maximum(first: float, second: float) -> None:
    assert roofline.smooth_maximum(first, second, 1e4) == pytest.approx(max(first, second), rel=1e-3)


@given(times, times, times)
def test_fixed_exponents_agree_with_the_general_form(floor: float, first: float, second: float) -> None:
    assert roofline.kernel_time(floor, first, second) == pytest.approx(
        floor + roofline.smooth_maximum(first, second, 3.0), rel=1e-12
    )
    assert collectives.transfer_time(floor, first, second) == pytest.approx(
        floor + roofline.smooth_maximum(first, second, 1.5), rel=1e-12
    )
    assert overlap.gathered_layer_time(first, second, 0.25) == pytest.approx(
        roofline.smooth_maximum(first, second, 4.0) + 0.25 * second, rel=1e-12
    )
    assert collectives.switched_all_reduce_time(first, second, 1.0) == pytest.approx(
        roofline.smooth_minimum(first, second, 8.0), rel=1e-12
    )
    assert collectives.multi_node_all_reduce_time(first, second) == pytest.approx(
        roofline.smooth_minimum(first, second, 6.0), rel=1e-12
    )


@given(times, times, sizes)
def test_infinite_bandwidth_leaves_the_computation(floor: float, compute: float, traffic: float) -> None:
    free = roofline.memory_time(traffic, traffic, 1e300, 1e300, 1.0, 1e-6)
    assert roofline.kernel_time(floor, compute, free) == pytest.approx(floor + compute, rel=1e-9)
    assert roofline.roofline_time(compute * 1e15, traffic, 1e15, 1e300) == pytest.approx(compute, rel=1e-12)


@given(sizes, st.floats(0.0, 1.0))
def test_memory_time_is_at_least_that_of_the_data_sheet(traffic: float, hot: float) -> None:
    time = roofline.memory_time((1.0 - hot) * traffic, hot * traffic, 3e12, 6e12, 0.9, 1e-6)
    assert time >= traffic / 6e12
    assert roofline.memory_time(0.0, 0.0, 3e12, 6e12, 0.9, 1e-6) == 0.0
    assert roofline.memory_time(traffic, 0.0, 3e12, 6e12, 0.9, 0.0) == pytest.approx(traffic / 2.7e12, rel=1e-12)


@given(st.floats(0.0, 1e14), st.floats(1.0, 1e9))
def test_hot_fraction_is_a_fraction(footprint: float, capacity: float) -> None:
    fraction = roofline.hot_fraction(footprint, capacity)
    assert 0.0 <= fraction <= 1.0
    assert roofline.hot_fraction(footprint, 0.0) == 0.0
    assert fraction <= roofline.hot_fraction(footprint / 2.0, capacity)


@given(st.integers(1, 64).map(float), dimensions, dimensions, dimensions, st.floats(0.0, 1e-5))
def test_the_tile_loop_is_never_faster_than_the_plateau(
    batch: float, rows: float, columns: float, contraction: float, overhead: float
) -> None:
    time = matmul.tile_loop_time(batch, rows, columns, contraction, 1e15, 132.0, 0.8, 1e-9, 0.3, overhead, 3e-6)
    bound = roofline.plateau_time(matmul.matmul_flop(batch, rows, columns, contraction), 1e15, 0.8)
    assert time >= bound * (1.0 - 1e-12)
    # One unit works through the loop of one tile at least once, in at most 32 pieces.
    assert time >= contraction / 32.0 * 1e-9 * 0.25**0.3 * (1.0 - 1e-12)


@given(dimensions, dimensions, dimensions)
def test_a_larger_product_takes_no_less_time(rows: float, columns: float, contraction: float) -> None:
    def time(*shape: float) -> Any:
        return matmul.tile_loop_time(1.0, *shape, 1e15, 132.0, 0.8, 1e-9, 0.0, 5e-7, 3e-6)

    base = time(rows, columns, contraction) * (1.0 - 1e-12)
    assert time(rows + 1.0, columns, contraction) >= base
    assert time(rows, columns + 1.0, contraction) >= base
    assert matmul.tile_loop_time(2.0, rows, columns, contraction, 1e15, 132.0, 0.8, 1e-9, 0.0, 5e-7, 3e-6) >= base


def test_kernels_that_do_not_split_say_so_with_an_infinite_overhead() -> None:
    arguments = (1.0, 16.0, 64.0, 65536.0, 1e15, 132.0, 0.8, 1e-9, 0.0, 0.0)
    whole = matmul.tile_loop_time(*arguments, np.inf)
    assert whole == pytest.approx(65536.0 * 1e-9, rel=1e-12)
    assert matmul.tile_loop_time(*arguments, 3e-6) == pytest.approx(65536.0 / 32.0 * 1e-9 + 3e-6, rel=1e-12)
    # Each piece has the prologue and epilogue of a tile.
    with_overhead = matmul.tile_loop_time(*arguments[:-1], 1e-6, 3e-6)
    assert with_overhead == pytest.approx(65536.0 / 32.0 * 1e-9 + 1e-6 + 3e-6, rel=1e-12)


@given(dimensions, st.integers(0, 65536).map(float), st.integers(1, 65536).map(float))
def test_pairs_of_a_window(queries: float, cached: float, window: float) -> None:
    pairs = attention.windowed_pairs(queries, cached, window)
    assert pairs <= attention.causal_pairs(queries, cached)
    assert pairs <= queries * window
    if window >= queries + cached:
        assert pairs == attention.causal_pairs(queries, cached)
    # Queries in two parts see the same keys.
    assert attention.windowed_pairs(queries, cached, window) + attention.windowed_pairs(
        3.0, cached + queries, window
    ) == attention.windowed_pairs(queries + 3.0, cached, window)


@given(st.integers(1, 200), st.integers(0, 200), st.integers(1, 300))
@settings(max_examples=50)
def test_pairs_are_those_of_the_mask(queries: int, cached: int, window: int) -> None:
    row, key = np.mgrid[cached : cached + queries, 0 : cached + queries]
    mask = (key <= row) & (key > row - window)
    assert attention.windowed_pairs(float(queries), float(cached), float(window)) == mask.sum()
    assert attention.causal_pairs(float(queries), float(cached)) == (key <= row).sum()


@given(st.integers(1, 64).map(float), dimensions, st.sampled_from([1.0, 2.0, 8.0]), st.sampled_from([0.0, 1.0]))
def test_attention_is_never_faster_than_the_plateau(
    batch: float, queries: float, kv_heads: float, packed: float
) -> None:
    pairs = attention.causal_pairs(queries, 0.0)
    time = attention.attention_on_chip_time(
        batch, queries, queries, pairs / queries, 16.0, kv_heads, 128.0, 128.0, 1e15, 132.0, 0.7, 0.0, 0.0, packed
    )
    bound = roofline.plateau_time(attention.attention_flop(batch, 16.0, pairs, 128.0, 128.0), 1e15, 0.7)
    assert time >= bound * (1.0 - 1e-12)


def test_long_attention_approaches_the_plateau() -> None:
    queries = 2.0**17
    pairs = attention.causal_pairs(queries, 0.0)
    time = attention.attention_on_chip_time(
        1.0, queries, queries, pairs / queries, 64.0, 8.0, 128.0, 128.0, 1e15, 132.0, 0.7, 0.0, 4e-6, 1.0
    )
    bound = roofline.plateau_time(attention.attention_flop(1.0, 64.0, pairs, 128.0, 128.0), 1e15, 0.7)
    assert time == pytest.approx(bound, rel=0.01)


def test_with_fewer_tiles_than_units_the_longest_tile_bounds() -> None:
    # One head of one sequence: 16 tiles on 132 units; the last one visits all the keys, 20 ns for each.
    time = attention.attention_on_chip_time(
        1.0, 2048.0, 2048.0, 1024.5, 1.0, 1.0, 128.0, 128.0, 1e30, 132.0, 1.0, 20e-9 / 128.0, 1e-6, 0.0
    )
    assert time == pytest.approx(2048.0 * 20e-9 + 1e-6, rel=1e-3)


@given(st.integers(64, 2048).map(float))
def test_windowed_attention_is_faster_and_ends_in_causal_attention(window: float) -> None:
    def time(width: float) -> Any:
        pairs = attention.windowed_pairs(8192.0, 0.0, width)
        return attention.attention_on_chip_time(
            8.0, 8192.0, width, pairs / 8192.0, 32.0, 8.0, 128.0, 128.0, 1e15, 132.0, 0.7, 3e-11, 4e-6, 1.0
        )

    assert time(window) < time(window + 64.0) < time(8192.0)
    assert time(8191.0) == pytest.approx(time(8192.0), rel=1e-2)


@given(sizes, ranks)
def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather(size: float, members: float) -> None:
    assert collectives.all_reduce_wire(size, members) == 2.0 * collectives.all_gather_wire(size, members)
    assert collectives.all_reduce_steps(members) == 2.0 * collectives.all_gather_steps(members)
    # No collective sends more than its bound, and more ranks send a larger part of the buffer.
    assert collectives.all_reduce_wire(size, members) < 2.0 * size
    assert collectives.all_gather_wire(size, members) <= collectives.all_gather_wire(size, members + 1.0)


@given(sizes, st.integers(1, 64).map(float), st.integers(1, 64).map(float))
def test_the_tiers_of_a_ring_carry_its_bytes(size: float, members: float, domains: float) -> None:
    inner = collectives.tier_wire_time(size, 1.0, members, 1.0, 1.0, 1.0)
    outer = collectives.tier_wire_time(size, 1.0, domains, members, 1.0, 1.0)
    assert inner + outer == pytest.approx(collectives.all_gather_wire(size, members * domains), rel=1e-9, abs=1e-9)


SWITCHED = {"bandwidth": 300e9, "link_fraction": 0.8, "copy_fraction": 2.76, "fill_time": 7e-6,
            "base_latency": 9e-6, "step_latency": 7e-7}  # fmt: skip
HOPS = {"hop_latency": 5e-6, "hop_growth": 5e-5, "hop_half_size": 1e5, "step_latency": 8e-7}


@given(st.floats(0.0, 1e10))
def test_one_rank_communicates_in_no_time(size: float) -> None:
    for wire, copy, steps in (
        (collectives.all_reduce_wire, collectives.all_reduce_copy, collectives.all_reduce_steps),
        (collectives.all_gather_wire, collectives.all_gather_copy, collectives.all_gather_steps),
        (collectives.all_to_all_wire, collectives.all_gather_copy, collectives.all_to_all_steps),
    ):
        assert wire(size, 1.0) == copy(size, 1.0) == steps(1.0) == 0.0
        assert collectives.switched_ring_time(wire(size, 1.0), copy(size, 1.0), steps(1.0), **SWITCHED) == 0.0
    assert collectives.in_network_all_reduce_time(size, 1.0, 450e9, 9e-5, 0.66) == 0.0
    assert collectives.tier_wire_time(size, 2.0, 1.0, 1.0, 50e9, 0.9) == 0.0
    assert collectives.tree_wire_time(size, 1.0, 1.0, 50e9, 0.9) == 0.0
    assert collectives.ring_latency(size, 1.0, 1.0, 2.0, **HOPS) == 0.0
    assert collectives.transfer_time(1e-5, 0.0, 0.0) == 0.0
    assert collectives.switched_all_reduce_time(0.0, 0.0, 1.0) == 0.0
    assert collectives.multi_node_all_reduce_time(0.0, 0.0) == 0.0


@given(ranks)
def test_an_empty_buffer_takes_no_time(members: float) -> None:
    assert collectives.switched_ring_time(
        collectives.all_reduce_wire(0.0, members), 0.0, collectives.all_reduce_steps(members), **SWITCHED
    ) == 0.0  # fmt: skip
    assert collectives.in_network_all_reduce_time(0.0, members, 450e9, 9e-5, 0.66) == 0.0
    assert collectives.transfer_time(1e-5, 1e-4, collectives.tier_wire_time(0.0, 2.0, members, 8.0, 5e10, 0.9)) == 0.0
    assert collectives.point_to_point_time(0.0, 50e9, 0.9, 1e-5) == 0.0
    assert collectives.message_efficiency(0.0, 4e6) == 0.0
    assert collectives.message_efficiency(0.0, 0.0) == 0.0


@given(sizes, st.sampled_from([2.0, 8.0, 64.0]), st.sampled_from([1.0, 2.0, 8.0]))
def test_a_ring_in_one_node_has_no_hop_between_nodes(size: float, members: float, laps: float) -> None:
    assert collectives.ring_latency(size, members, 1.0, laps, **HOPS) == pytest.approx(
        laps * (members - 1.0) * 8e-7, rel=1e-12
    )
    assert collectives.ring_latency(size, members, 2.0, laps, **HOPS) > laps * 2.0 * 5e-6


@given(times, times)
def test_without_in_network_reduction_the_ring_remains(ring: float, in_network: float) -> None:
    assert collectives.switched_all_reduce_time(ring, in_network, 0.0) == ring
    assert collectives.switched_all_reduce_time(ring, in_network, 1.0) <= ring * (1.0 + 1e-12)


@given(times, st.floats(0.0, 1.0), times)
def test_exposed_time_lies_between_its_bounds(total: float, fraction: float, window: float) -> None:
    exposed = overlap.exposed_time(total, fraction, window)
    assert fraction * total * (1.0 - 1e-9) - 1e-15 <= exposed <= total
    assert overlap.exposed_time(total, fraction, 0.0) == total
    assert overlap.exposed_time(total, 1.0, window) == total


def test_jitter_begins_beyond_one_node() -> None:
    assert overlap.jitter_factor(1.0, 8.0, 0.01) == overlap.jitter_factor(8.0, 8.0, 0.01) == 1.0
    assert overlap.jitter_factor(16.0, 8.0, 0.01) == pytest.approx(1.01)


@given(sizes, st.integers(1, 1024).map(float))
def test_sharded_state_adds_up(parameters: float, shards: float) -> None:
    one = memory.state_bytes(parameters, 12.0, shards)
    assert one * shards == pytest.approx(memory.state_bytes(parameters, 12.0, 1.0), rel=1e-12)


@given(st.floats(0.0, 1.0))
def test_recomputation_saves_memory_and_costs_time(fraction: float) -> None:
    assert 2.0 <= memory.recomputed_activation_bytes(34.0, 2.0, fraction) <= 34.0
    assert overlap.recompute_time(10.0, fraction, 0.0) == pytest.approx(10.0 * fraction)


@given(st.floats(0.0, 1e5), st.floats(1e-6, 1e3), st.floats(10.0, 100.0), st.floats(200.0, 2000.0))
def test_the_power_limit_holds(dynamic: float, time: float, idle: float, limit: float) -> None:
    limited = energy.power_limited_time(dynamic, idle, limit, time)
    assert limited >= time
    assert energy.device_energy(idle, dynamic, limited) / limited <= limit * (1.0 + 1e-9)
    power = energy.device_power(idle, dynamic, limited, limit)
    assert idle <= power <= limit
    assert power * limited == pytest.approx(energy.device_energy(idle, dynamic, limited), rel=1e-9)
    # The cap binds exactly where the limited time is longer.
    if idle + dynamic / time > limit * 1.000001:
        assert limited > time
        assert power == pytest.approx(limit)
    if idle + dynamic / time < limit * 0.999999:
        assert limited == time


@given(st.floats(1.0, 1e6), st.integers(1, 20).map(float), st.floats(0.0, 0.3))
def test_an_annuity_repays_the_price(price: float, years: float, rate: float) -> None:
    payment = money.amortised_rate(price, years, rate) * money.SECONDS_PER_YEAR
    present = sum(payment / (1.0 + rate) ** year for year in range(1, int(years) + 1))
    assert present == pytest.approx(price, rel=1e-9)
    # What is worth its price at the end costs its interest only.
    assert money.amortised_rate(price, years, rate, 1.0) * money.SECONDS_PER_YEAR == pytest.approx(
        price * rate, rel=1e-9, abs=1e-9 * price
    )


def test_a_tiny_interest_is_nearly_none() -> None:
    assert money.amortised_rate(1e4, 4.0, 1e-12) == pytest.approx(money.amortised_rate(1e4, 4.0, 0.0), rel=1e-9)


@given(st.floats(10.0, 1e4), st.floats(1.0, 300.0), st.floats(1e3, 1e6), st.floats(0.0, 1e3))
def test_goodput_is_a_fraction_that_failures_lower(
    interval: float, checkpoint: float, mtbf: float, restart: float
) -> None:
    value = failures.goodput(interval, checkpoint, mtbf, restart)
    assert 0.0 <= value <= interval / (interval + checkpoint)
    assert failures.goodput(interval, checkpoint, mtbf * 2.0, restart) >= value
    assert failures.goodput(interval, checkpoint, mtbf, restart + 10.0) <= value


def test_without_failures_goodput_pays_for_checkpoints_only() -> None:
    assert failures.goodput(900.0, 100.0, 1e15, 300.0) == pytest.approx(0.9, rel=1e-9)
    assert failures.goodput(1e9, 1.0, 1.0, 1.0) == pytest.approx(0.0, abs=1e-100)


@given(st.floats(1.0, 100.0), st.floats(1e3, 1e6))
@settings(max_examples=50)
def test_the_daly_interval_is_the_best_one(checkpoint: float, mtbf: float) -> None:
    best = failures.daly_interval(checkpoint, mtbf)
    factors = np.linspace(0.5, 1.5, 201)
    values = failures.goodput(best * factors, checkpoint, mtbf, 60.0)
    assert failures.goodput(best, checkpoint, mtbf, 60.0) >= np.max(values) * (1.0 - 1e-5)
    # Young's estimate is the same without its correction.
    assert failures.young_daly_interval(checkpoint, mtbf) >= best * 0.9


@given(st.integers(1, 64).map(float), st.integers(1, 64).map(float), st.integers(2, 8).map(float))
def test_the_first_stage_keeps_the_published_number_of_microbatches(stages: float, extra: float, chunks: float) -> None:
    # Korthikanti et al. 2022, section 4.2.3: p (1 + (p - 1) / (p v)) for interleaved stages, p for plain ones.
    many = stages * extra * 8.0
    published = stages * (1.0 + (stages - 1.0) / (stages * chunks))
    assert pipeline.in_flight_microbatches(stages, 0.0, 1e6, chunks) == pytest.approx(published, rel=1e-12)
    assert pipeline.in_flight_microbatches(stages, 0.0, 1e6, 1.0) == stages
    assert pipeline.in_flight_microbatches(stages, stages - 1.0, many, 1.0) == 1.0
    assert pipeline.in_flight_microbatches(stages, 0.0, 1.0, chunks) == 1.0


def test_one_stage_has_no_bubble_and_no_transfers() -> None:
    assert pipeline.bubble_fraction(1.0, 8.0, 1.0) == 0.0
    assert pipeline.pipeline_time(8.0, 2.0, 0.0, 1.0) == 16.0
    assert pipeline.pipeline_transfers(1.0, 8.0, 1.0, 2.0) == 0.0


@given(sizes)
def test_the_optimizer_is_bound_by_memory(parameters: float) -> None:
    traffic = optimizer.optimizer_traffic(parameters, 30.0, 1.0)
    assert optimizer.optimizer_time(traffic, 3e12, 0.8) == pytest.approx(parameters * 30.0 / 2.4e12, rel=1e-12)
    assert optimizer.accumulation_traffic(parameters, 4.0) == pytest.approx(8.0 * parameters)
