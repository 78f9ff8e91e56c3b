"""Decode attention, latent attention and expert kernels: limits, monotonicity and counting oracles."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.equations import attention, decode_attention, expert_kernels, experts, matmul

UNITS = 132.0
H100 = {"peak": 989e12, "units": UNITS, "unit_bandwidth": 40e9, "tile_overhead": 3.5e-6, "split_overhead": 1e-6}
SIZES = {"batch": 8.0, "keys": 4096.0, "blocks": 8.0, "key_bytes": 512.0, "key_flop": 0.0}


def decode(**changes: float) -> float:
    return float(decode_attention.decode_on_chip_time(**{**H100, **SIZES, **changes}))


def test_one_long_sequence_is_cut_so_that_every_unit_has_work() -> None:
    whole = decode(batch=1.0, blocks=1.0, keys=131072.0, split_overhead=1e3)
    cut = decode(batch=1.0, blocks=1.0, keys=131072.0)
    # 264 pieces on 132 units: two rounds of 1/264 of the walk, two block costs, and the cost of the cut.
    walk = 131072.0 * 512.0 / 40e9
    assert whole == pytest.approx(walk + 3.5e-6)
    assert cut == pytest.approx(2.0 * (walk / 264.0 + 3.5e-6) + 1e-6)


def test_many_blocks_cost_their_overhead_even_with_next_to_no_cache() -> None:
    assert decode(batch=1024.0, keys=2.0) / decode(batch=512.0, keys=2.0) == pytest.approx(2.0)


@pytest.mark.parametrize("name", ["keys", "batch", "blocks", "key_bytes", "key_flop"])
def test_more_of_anything_never_takes_less(name: str) -> None:
    start = {**SIZES, "key_flop": 1e5}
    for scale in (1.0, 3.0, 17.0, 130.0):
        small = decode(**{**start, name: start[name] * scale})
        assert decode(**{**start, name: start[name] * scale * 1.5}) >= small * (1.0 - 1e-12) - 1e-12


def test_a_window_as_long_as_the_cache_changes_nothing_and_a_cut_never_hurts() -> None:
    for keys in np.geomspace(1.0, 1e6, 40):
        assert decode(keys=float(np.ceil(keys))) <= decode(keys=float(np.ceil(keys)), split_overhead=1e3)


def test_shared_keys_are_read_once_until_the_group_outgrows_the_tile() -> None:
    groups = [float(decode_attention.decode_groups(heads, 1.0, 1.0)) for heads in (1.0, 8.0, 32.0, 33.0, 128.0)]
    assert groups == [1.0, 1.0, 1.0, 33.0, 128.0]


def test_the_latent_of_deepseek_is_576_values_per_position() -> None:
    # DeepSeek-V2, table 1: (512 + 64) elements per token and layer, against 2 * 128 heads * 128 of plain attention.
    one = decode_attention.latent_attention_traffic(1.0, 1.0, 1001.0, 128.0, 512.0, 64.0, 2.0, 2.0)
    two = decode_attention.latent_attention_traffic(1.0, 1.0, 1000.0, 128.0, 512.0, 64.0, 2.0, 2.0)
    assert one - two == 2.0 * 576.0
    plain = attention.attention_traffic(1.0, 1.0, 1001.0, 128.0, 128.0, 128.0, 128.0, 2.0, 2.0)
    plain -= attention.attention_traffic(1.0, 1.0, 1000.0, 128.0, 128.0, 128.0, 128.0, 2.0, 2.0)
    assert plain / (one - two) == pytest.approx(56.9, abs=0.05)


def test_the_busiest_rank_never_gets_more_than_all_tokens_at_all_its_experts() -> None:
    for ranks in (1.0, 2.0, 8.0, 64.0, 256.0):
        fair = float(expert_kernels.routed_rows(1000.0, 8.0, ranks))
        local = 256.0 / ranks
        busiest = float(expert_kernels.busiest_rows(fair, experts.skewed_imbalance(ranks), 1000.0, 8.0, local))
        assert fair <= busiest <= max(fair, 1000.0 * min(8.0, local))
    assert float(expert_kernels.busiest_rows(8000.0, experts.skewed_imbalance(1.0), 1000.0, 8.0, 256.0)) == 8000.0


def test_rows_of_the_touched_experts_add_up_to_the_rows_of_the_rank() -> None:
    for rows in (1.0, 5.0, 100.0, 1e5):
        touched = experts.touched_experts_random(32.0, rows)
        assert float(expert_kernels.rows_per_expert(rows, touched) * touched) == pytest.approx(rows)
        assert float(expert_kernels.rows_per_expert(rows, touched)) >= 1.0 - 1e-12


def test_a_skewed_router_touches_fewer_experts_than_an_even_one_and_more_than_a_pure_power_law() -> None:
    """The factor describes one rank of many: its experts are a mix of popular and unpopular ones."""
    random = np.random.default_rng(1)
    weights = np.arange(1.0, 65.0) ** -1.2
    draws = [np.unique(random.choice(64, 256, p=weights / weights.sum())).size for _ in range(200)]
    even = float(experts.touched_experts_random(64.0, 256.0))
    assert np.mean(draws) < float(expert_kernels.touched_experts_skewed(even)) < even


def test_quantising_per_row_counts_only_where_rows_are_short() -> None:
    device = {"bandwidth": 3.35e12, "bandwidth_fraction": 0.87, "units": UNITS}
    short = float(matmul.quantise_time(4096.0, 64.0, 9.0, 0.9e-6, **device))
    long = float(matmul.quantise_time(4096.0, 65536.0, 9.0, 0.9e-6, **device))
    assert short == pytest.approx(0.9e-6 * 4096.0 / UNITS)
    assert long == pytest.approx(9.0 * 4096.0 * 65536.0 / (3.35e12 * 0.87))
