"""Published, measured and hand-computed numbers, independent of the code."""

from __future__ import annotations

import math

import numpy as np
import pytest

from perfmodel.equations import (
    attention,
    collectives,
    confidence,
    energy,
    matmul,
    memory,
    metrics,
    money,
    reliability,
    roofline,
    training,
    uncertainty,
)

HOUR = 3600.0
DAY = 86400.0

#: Closed-form numbers of the H100 SXM (bf16): data sheet, and the fit of the kernel study over three software stacks.
H100_LOOP = {
    "peak": 989.4e12, "units": 132.0, "plateau": 0.81, "loop_latency": 1.30e-9, "loop_growth": 0.0,
    "tile_overhead": 0.53e-6, "split_overhead": 3.14e-6,
}  # fmt: skip
H100_MEMORY = {"bandwidth": 3.35e12, "cache_bandwidth": 3.4e12, "bandwidth_fraction": 0.87, "ramp_time": 0.53e-6}
H100_FLOOR = 2.08e-6

#: Measured bf16 GEMM latencies on one H100 SXM, chosen to span shapes: few rows, long loops, square, very large.
#: Source: NVIDIA aiconfigurator (https://github.com/ai-dynamo/aiconfigurator), Apache-2.0, tables h100_sxm/gemm.
MEASURED_GEMM = [
    (1.0, 768.0, 65536.0, 38.5431e-6),
    (64.0, 16384.0, 3584.0, 45.404e-6),
    (112.0, 12288.0, 16384.0, 150.892e-6),
    (128.0, 10240.0, 2560.0, 25.254e-6),
    (160.0, 51200.0, 5120.0, 229.959e-6),
    (768.0, 3584.0, 16384.0, 106.145e-6),
    (1024.0, 7168.0, 2048.0, 44.966e-6),
    (1281.0, 3072.0, 10240.0, 102.347e-6),
    (1793.0, 16384.0, 8192.0, 572.499e-6),
    (2560.0, 3584.0, 12288.0, 294.763e-6),
    (3585.0, 65536.0, 12288.0, 8.32451e-3),
    (16384.0, 10240.0, 12288.0, 5.46494e-3),
    (32768.0, 12288.0, 5120.0, 5.87867e-3),
]


@pytest.mark.parametrize(("rows", "columns", "contraction", "measured"), MEASURED_GEMM)
def test_measured_gemm_latency(rows: float, columns: float, contraction: float, measured: float) -> None:
    on_chip = matmul.tile_loop_time(1.0, rows, columns, contraction, **H100_LOOP)
    traffic = matmul.matmul_traffic(1.0, rows, columns, contraction, 2.0, 2.0, 2.0)
    time = roofline.kernel_time(H100_FLOOR, on_chip, roofline.memory_time(traffic, 0.0, **H100_MEMORY))
    assert time == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize(
    ("rows", "columns", "contraction", "measured"),
    [(96.0, 1536.0, 6144.0, 12.766e-6), (513.0, 1024.0, 10240.0, 22.550e-6), (769.0, 10240.0, 512.0, 17.157e-6)],
)
def test_the_tile_loop_explains_what_a_roofline_cannot(
    rows: float, columns: float, contraction: float, measured: float
) -> None:
    # Same source. The data-sheet roofline is twice too fast where few tiles loop over a long axis, or where a short
    # loop does not pay for its prologue.
    traffic = matmul.matmul_traffic(1.0, rows, columns, contraction, 2.0, 2.0, 2.0)
    flop = matmul.matmul_flop(1.0, rows, columns, contraction)
    assert measured > 2.0 * roofline.roofline_time(flop, traffic, H100_LOOP["peak"], H100_MEMORY["bandwidth"])
    on_chip = matmul.tile_loop_time(1.0, rows, columns, contraction, **H100_LOOP)
    time = roofline.kernel_time(H100_FLOOR, on_chip, roofline.memory_time(traffic, 0.0, **H100_MEMORY))
    assert time == pytest.approx(measured, rel=0.15)


def test_the_tile_loop_by_hand() -> None:
    # 128 x 128 x 1024 on 100 units of 10 TFLOP/s, all at the plateau: four tiles of 64 x 64. Splitting over 25
    # units each would be limited to 8 pieces (1024 / 128) and costs 3 us.
    arguments = {"peak": 1e15, "units": 100.0, "plateau": 1.0, "loop_latency": 0.0, "loop_growth": 0.0}
    step = 2 * 64 * 64 / 1e13  # seconds per element of the loop with a tile of 64 x 64
    assert step == pytest.approx(0.8192e-9)
    time = matmul.tile_loop_time(1.0, 128.0, 128.0, 1024.0, **arguments, tile_overhead=0.0, split_overhead=np.inf)
    assert time == pytest.approx(1024 * 2 * 16 * 64 / 1e13)  # sixteen tiles of 16 x 64 are the best without a split
    split = matmul.tile_loop_time(1.0, 128.0, 128.0, 1024.0, **arguments, tile_overhead=0.0, split_overhead=0.0)
    # Sixteen tiles leave six units each; one tile of 128 x 128 could use eight, a 64 x 64 tile eight as well.
    candidates = (1024 / 6 * 2 * 16 * 64 / 1e13, 1024 / 8 * 2 * 64 * 64 / 1e13, 1024 / 8 * 2 * 128 * 128 / 1e13)
    assert split == pytest.approx(min(candidates))


def test_ridge_points_of_data_sheets() -> None:
    # A100 80 GB: 312 TFLOP/s over 2.039 TB/s is 153 FLOP/B; H100 SXM: 989.4 over 3.35 is 295.
    assert roofline.ridge_point(312e12, 2.039e12) == pytest.approx(153.0, rel=1e-3)
    assert roofline.ridge_point(989.4e12, 3.35e12) == pytest.approx(295.3, rel=1e-3)
    # A square bf16 product of size n has an intensity of n / 3.
    flop, traffic = matmul.matmul_flop(1.0, 3e3, 3e3, 3e3), matmul.matmul_traffic(1.0, 3e3, 3e3, 3e3, 2.0, 2.0, 2.0)
    assert roofline.arithmetic_intensity(flop, traffic) == pytest.approx(1e3)


@pytest.mark.parametrize(("mebibytes", "bus_bandwidth"), [(60.0, 195.75e9), (256.0, 217.25e9)])
def test_measured_all_reduce_of_eight_a100(mebibytes: float, bus_bandwidth: float) -> None:
    # NCCL all-reduce of eight A100 (NVLink 3, 300 GB/s), out of place: profile published with vTrain, MICRO 2024.
    # The parameters below were fitted to other machines' profiles of the same accelerator.
    size = mebibytes * 2.0**20
    wire = collectives.all_reduce_wire(size, 8.0)
    time = collectives.switched_ring_time(
        wire, collectives.all_reduce_copy(size, 8.0), collectives.all_reduce_steps(8.0), 300e9, 0.80, 2.76, 7.05e-6,
        9.3e-6, 0.74e-6,
    )  # fmt: skip
    assert wire / time == pytest.approx(bus_bandwidth, rel=0.12)


@pytest.mark.parametrize(
    ("members", "mebibytes", "available", "measured"), [(4.0, 512.0, 0.0, 2.305e-3), (8.0, 256.0, 1.0, 1.090e-3)]
)
def test_measured_all_reduce_of_h100(members: float, mebibytes: float, available: float, measured: float) -> None:
    # NCCL 2.27-2.29, 16-bit, NVLink 4 at 450 GB/s; in-network reduction serves eight devices only. Source: NVIDIA
    # aiconfigurator, Apache-2.0, tables h100_sxm/comm/nccl. The parameters were fitted to this source.
    size = mebibytes * 2.0**20
    wire = collectives.all_reduce_wire(size, members)
    ring = collectives.switched_ring_time(
        wire, collectives.all_reduce_copy(size, members), collectives.all_reduce_steps(members), 450e9, 0.85, 2.23,
        2.81e-6, 5.3e-6, 0.72e-6,
    )  # fmt: skip
    in_network = collectives.in_network_all_reduce_time(size, members, 450e9, 91e-6, 0.665)
    time = collectives.switched_all_reduce_time(ring, in_network, available)
    assert time == pytest.approx(measured, rel=0.12)
    if available:
        assert ring > 1.15 * measured  # a ring alone would not explain the measurement


def test_half_of_the_bandwidth_is_reached_at_the_stated_size() -> None:
    assert collectives.message_efficiency(4e6, 4e6) == 0.5
    # A tree over 1024 nodes takes 20 hops, a ring over them more than 2000.
    hops = {"hop_growth": 0.0, "hop_half_size": 1e5, "step_latency": 0.0}
    assert collectives.tree_latency(1e3, 1024.0, 1.0, 1e-6, **hops) == pytest.approx(20e-6)
    assert collectives.ring_latency(1e3, 1024.0, 1024.0, 2.0, 1e-6, **hops) == pytest.approx(2048e-6)


def test_point_to_point_mesh() -> None:
    # MI300X: seven links of 64 GB/s; two devices use one of them, eight use all.
    assert collectives.mesh_bandwidth(448e9, 64e9, 2.0) == 64e9
    assert collectives.mesh_bandwidth(448e9, 64e9, 8.0) == 448e9


def test_attention_work_of_flash_attention_papers() -> None:
    # Dao 2023 counts 4 * n**2 * d * heads for the forward pass, half of it when causal, 2.5 times it backward.
    length, heads, dim = 16384.0, 16.0, 128.0
    full = attention.attention_flop(1.0, heads, length * length, dim, dim)
    assert full == 4.0 * length**2 * dim * heads
    causal = attention.attention_flop(1.0, heads, attention.causal_pairs(length, 0.0), dim, dim)
    assert causal == pytest.approx(full / 2.0, rel=1e-4)
    assert attention.attention_backward_flop(full) == 10.0 * length**2 * dim * heads
    assert attention.attention_backward_time(1.0, 1.0) == 2.5


@pytest.mark.parametrize(
    ("cached", "window"), [(0, 10**9), (4096, 10**9), (0, 512), (0, 3000), (4096, 1024), (0, 4096)]
)
@pytest.mark.parametrize("group", [1, 4])
def test_tiles_visit_the_union_of_their_rows(cached: int, window: int, group: int) -> None:
    # Counted from the mask: a tile of 128 stacked rows holds 128 / group queries and visits every key that one of them
    # sees, in blocks of 32 keys (half a block more on average). One unit works through all the tiles, 1 ns per score.
    queries = 4096
    span = 128 // group
    row = np.arange(cached, cached + queries)
    first = np.maximum(row - window + 1, 0)
    visited = sum(float(row[end - 1] + 1 - first[end - span]) + 16.0 for end in range(span, queries + 1, span))
    pairs = attention.windowed_pairs(float(queries), float(cached), float(window))
    time = attention.attention_on_chip_time(
        1.0, float(queries), float(min(window, cached + queries)), pairs / queries, float(group), 1.0, 64.0, 64.0, 1e30,
        1.0, 1.0, 1e-9, 0.0, 1.0,
    )  # fmt: skip
    assert time == pytest.approx(visited * 128 * 1e-9, rel=0.015)


@pytest.mark.parametrize(
    ("shards", "gigabytes"),
    [((1.0, 1.0, 1.0), 120.0), ((1.0, 1.0, 64.0), 31.4), ((1.0, 64.0, 64.0), 16.6), ((64.0, 64.0, 64.0), 1.9)],
)
def test_memory_of_the_zero_paper(shards: tuple[float, float, float], gigabytes: float) -> None:
    # Rajbhandari et al. 2020, figure 1: 7.5e9 parameters, 64 ranks, mixed-precision Adam (2 + 2 + 12 bytes).
    parts = [memory.state_bytes(7.5e9, size, shard) for size, shard in zip((2.0, 2.0, 12.0), shards, strict=True)]
    assert sum(parts) / 1e9 == pytest.approx(gigabytes, abs=0.06)


def test_activations_of_a_gpt3_layer() -> None:
    # Korthikanti et al. 2022, equation 1: s b h (34 + 5 a s / h); GPT-3 has a = 96, s = 2048, h = 12288. Selective
    # recomputation leaves 34 of 34 + 80, that is, it removes 70 % (section 5).
    whole, kept = 34.0 + 5.0 * 96.0 * 2048.0 / 12288.0, 34.0
    saved = 1.0 - memory.recomputed_activation_bytes(whole, kept, 1.0) / whole
    assert saved == pytest.approx(0.70, abs=0.005)


def test_utilisation_of_palm_540b() -> None:
    # Chowdhery et al. 2022, appendix B: 238.3e3 tokens/s on 6144 TPU v4 (275 TFLOP/s) is 46.2 % of the peak, with
    # 118 layers, 48 heads of 256 and sequences of 2048.
    per_token = 6.0 * 540.35e9 + 12.0 * 118 * 48 * 256 * 2048
    assert metrics.model_flop_utilisation(per_token * 238.3e3, 1.0, 6144.0, 275e12) == pytest.approx(0.462, abs=5e-4)
    # By hand: 2048 sequences of 2048 tokens in 16 s.
    assert metrics.tokens_per_second(2048.0 * 2048.0, 16.0) == 262_144.0


def test_rate_of_the_trillion_parameter_model() -> None:
    # Narayanan et al. 2021, table 1: 502 PFLOP/s on 3072 A100 is 163 TFLOP/s each, 52 % of 312 TFLOP/s.
    rate = metrics.achieved_flop_rate(502e15, 1.0, 3072.0)
    assert rate == pytest.approx(163e12, rel=5e-3)
    assert metrics.hardware_flop_utilisation(502e15, 1.0, 3072.0, 312e12) == pytest.approx(0.52, abs=5e-3)


def test_training_time_of_gpt3() -> None:
    # Narayanan et al. 2021, section 5.1: 300e9 tokens of 8 * 175e9 FLOP on 1024 A100 at 140 TFLOP/s take 34 days.
    tokens_per_step = 1536.0 * 2048.0
    step_time = 8.0 * 175e9 * tokens_per_step / (1024 * 140e12)
    assert metrics.run_time(300e9, tokens_per_step, step_time, 1.0) / DAY == pytest.approx(34.0, abs=0.2)
    assert metrics.flop_per_token(8.0 * 175e9 * tokens_per_step, tokens_per_step) == pytest.approx(1.4e12)


def test_energy_and_carbon_of_gpt3() -> None:
    # Patterson et al. 2021, table 4: 10,000 V100 at 330 W for 14.8 days with a PUE of 1.10 are 1,287 MWh; at 0.429
    # kg/kWh they are 552 t of CO2 equivalents.
    device = energy.static_energy(330.0, 14.8 * DAY) * 10_000
    megawatt_hours = energy.facility_energy(device, 1.10) / 3.6e9
    assert megawatt_hours == pytest.approx(1287.0, rel=3e-3)
    assert money.carbon(1287.0 * 3.6e9, 0.429 / 3.6e6) / 1e3 == pytest.approx(552.1, abs=0.1)
    assert energy.cluster_power(330.0, 0.0, 1e4, 1.10) == pytest.approx(3.63e6)


def test_energy_of_a_matrix_unit_and_its_memory() -> None:
    # 989.4 TFLOP/s at 0.6 pJ are 594 W; 3.35 TB/s at 5 pJ/bit are 134 W.
    assert energy.arithmetic_energy(989.4e12, 0.6e-12) == pytest.approx(593.64)
    assert energy.movement_energy(3.35e12, 40e-12) == pytest.approx(134.0)
    # Both at once on an idle power of 70 W exceed a limit of 700 W: the work takes (594 + 134) / 630 of its time.
    assert energy.power_limited_time(727.64, 70.0, 700.0, 1.0) == pytest.approx(1.155, rel=1e-3)


def test_failures_of_the_llama_3_run() -> None:
    # Llama 3 herd of models, section 3.3.4: 419 unexpected interruptions in 54 days on 16,384 devices, one every
    # 3.1 hours, that is 50,700 hours per device.
    mtbf = reliability.job_mtbf(50_677 * HOUR, 16_384.0)
    assert mtbf == pytest.approx(54 * DAY / 419, rel=1e-3)
    # To first order a job loses sqrt(2 delta / M) to checkpoints and rework and R / M to restarts.
    interval = reliability.daly_interval(20.0, mtbf)
    lost = math.sqrt(2 * 20.0 / mtbf) + 300.0 / mtbf
    assert reliability.goodput(interval, 20.0, mtbf, 300.0) == pytest.approx(1.0 - lost, abs=5e-3)


def test_the_interval_of_young_by_hand() -> None:
    # A checkpoint of 5 minutes and a failure a day: sqrt(2 * 5 * 1440) = 120 minutes.
    assert reliability.young_daly_interval(300.0, DAY) == pytest.approx(120 * 60.0)
    # The series of Daly: 7200 s * (1 + sqrt(1 / 576) / 3 + 1 / 5184) - 300 s = 7001.4 s.
    assert reliability.daly_interval(300.0, DAY) == pytest.approx(7200 * (1 + 1 / 72 + 1 / 5184) - 300)
    assert reliability.daly_interval(300.0, 100.0) == 100.0


def test_goodput_of_simulated_failures() -> None:
    # Segments of computation and checkpoint that start again after each failure; failures hit restarts as well.
    interval, checkpoint, mtbf, restart = 1000.0, 60.0, 3000.0, 200.0
    random = np.random.default_rng(1)
    wall = 0.0
    segments = 20_000
    for _ in range(segments):
        needed = interval + checkpoint
        while (failure := random.exponential(mtbf)) < needed:
            wall += failure
            needed = interval + checkpoint + restart
        wall += needed
    simulated = segments * interval / wall
    # Here a restart belongs to the attempt after a failure; the closed form lets it be hit in the same way.
    assert reliability.goodput(interval, checkpoint, mtbf, restart) == pytest.approx(simulated, rel=0.02)


def test_spares_cover_a_poisson_number_of_repairs() -> None:
    mean = 16_384.0 * 24 / 50_677
    spares = reliability.spare_devices(16_384.0, 50_677 * HOUR, DAY, 2.326)
    covered = sum(math.exp(-mean) * mean**count / math.factorial(count) for count in range(int(spares) + 1))
    assert 0.97 < covered < 0.995
    assert reliability.checkpoint_time(405e9 * 16.0, 2e12) == pytest.approx(3.24)
    assert reliability.paid_devices(16_384.0, 0.0) == 16_384.0


def test_annuity_of_the_textbook() -> None:
    # The annuity factor of 8 % over ten years is 6.7101: 100,000 USD are 14,903 USD a year.
    assert money.amortised_rate(1e5, 10.0, 0.08) * money.SECONDS_PER_YEAR == pytest.approx(14_902.95, abs=0.01)


def test_rental_and_electricity() -> None:
    # 30.84e6 device hours (Llama 3.1 405B) at 2 USD/h.
    assert money.rental_cost(16_384.0, 2.0 / HOUR, 30.84e6 / 16_384 * HOUR, 1.0) == pytest.approx(61.68e6)
    assert money.energy_cost(700.0 * HOUR * 30.84e6, 0.07 / 3.6e6) == pytest.approx(30.84e6 * 0.7 * 0.07)
    assert metrics.cost_per_token(61.68e6, 15.6e12) * 1e6 == pytest.approx(3.954, abs=1e-3)
    assert metrics.energy_per_token(700.0, 400.0) == 1.75


def test_intervals_of_a_log_normal() -> None:
    # A relative deviation of sqrt(e - 1) is a logarithmic deviation of one.
    assert uncertainty.interval_factor(math.sqrt(math.e - 1.0), 1.0) == pytest.approx(math.e)
    assert uncertainty.interval_factor(0.0, 2.0) == 1.0
    sample = np.exp(np.random.default_rng(2).normal(0.0, math.sqrt(math.log(1.0 + 0.15**2)), 200_000))
    factor = uncertainty.interval_factor(0.15, 1.2816)
    assert np.mean((sample > 1.0 / factor) & (sample < factor)) == pytest.approx(0.80, abs=0.005)
    # A quantile of 0.8416 is a probability of 80 % (tables of the normal distribution).
    deviation = math.sqrt(math.log(1.0 + 0.15**2))
    limit = confidence.sure_factor(deviation, 0.8416)
    assert np.mean(sample < limit) == pytest.approx(0.80, abs=0.005)
    assert confidence.margin_quantile(deviation, limit) == pytest.approx(0.8416)
    assert uncertainty.combined_deviation(0.03, 0.04) == pytest.approx(0.05)
    assert uncertainty.propagated_deviation(-2.0, 0.1) == pytest.approx(0.2)
    assert uncertainty.averaged_deviation(0.1, 9.0, 1.0) == pytest.approx(0.1)
    assert uncertainty.averaged_deviation(0.3, 9.0, 0.0) == pytest.approx(0.1)


def test_gradient_scatters_of_a_sharded_pipeline() -> None:
    # 32 micro-batches: once each without interleaving, once per group of 16 with it, once with one micro-batch.
    assert training.gradient_reductions(32.0, 16.0, 1.0) == 32.0
    assert training.gradient_reductions(32.0, 16.0, 8.0) == 2.0
    assert training.gradient_reductions(1.0, 16.0, 8.0) == 1.0
    # Mixed-precision Adam reads 4 + 4 + 8 bytes and writes 4 + 8 + 2 per parameter.
    assert training.state_traffic_per_parameter(4.0, 4.0, 8.0, 2.0) == 30.0
    assert training.vector_flop(1e6, 5.0) == 5e6
