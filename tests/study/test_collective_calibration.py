"""The fit of collective numbers: it finds what made the times, resists outliers, and stays put with few rows."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.errors import UsageError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.vocabulary import SystemPhrase
from perfmodel.study.calibration.collectives import (
    DIRECT,
    RING,
    SCALE_OUT,
    fit_collectives,
    moving_numbers,
    with_numbers,
)
from perfmodel.study.collective_model import Networks, predicted_times
from perfmodel.study.collective_rows import CollectiveRow

NETWORKS = Networks(Catalogue())
OPERATIONS = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter")
TRUE_RING = {
    "base_latency": 11e-6, "step_latency": 0.6e-6, "link_fraction": 0.7, "copy_fraction": 1.7, "fill_time": 6e-6,
    "message_latency": 3e-6,
}  # fmt: skip


def rows(
    operations: tuple[str, ...] = OPERATIONS, ranks: tuple[int, ...] = (2, 4, 8), nodes: tuple[int, ...] = (1,),
    cluster: str = "dgx-a100", library: str = "",
) -> list[CollectiveRow]:  # fmt: skip
    """Rows without a time."""
    return [
        CollectiveRow(
            operation, 2.0**power, many * count, count, True, SystemPhrase(match="*", cluster=cluster), library, None,
            "time_us", 1e-6,
        )
        for operation in operations
        for many in ranks
        for count in nodes
        for power in range(10, 31)
    ]  # fmt: skip


def timed(given: list[CollectiveRow], times: np.ndarray) -> list[CollectiveRow]:
    from dataclasses import replace

    return [replace(row, measured=float(time)) for row, time in zip(given, times, strict=True)]


def test_a_fit_finds_the_numbers_that_made_the_times() -> None:
    tiers, start = (NETWORKS.of("dgx-a100", "", fitted=fitted).tiers for fitted in (True, False))
    true = (with_numbers(tiers[0], TRUE_RING),)
    made = fit_collectives(timed(rows(), predicted_times(rows(), true)), tiers, start)
    assert made.family == RING
    assert made.numbers == pytest.approx(TRUE_RING, rel=0.05)
    assert made.loss < 0.005
    assert made.ranks == (2, 8)
    assert made.sizes == (2.0**10, 2.0**30)


def test_outliers_and_noise_do_not_bend_a_fit() -> None:
    tiers, start = (NETWORKS.of("dgx-a100", "", fitted=fitted).tiers for fitted in (True, False))
    times = predicted_times(rows(), (with_numbers(tiers[0], TRUE_RING),))
    random = np.random.default_rng(3)
    noisy = times * np.exp(random.normal(0.0, 0.03, times.size)) * np.where(random.random(times.size) < 0.1, 3.0, 1.0)
    made = fit_collectives(timed(rows(), noisy), tiers, start)
    assert made.numbers["link_fraction"] == pytest.approx(0.7, rel=0.03)
    assert made.numbers["base_latency"] == pytest.approx(11e-6, rel=0.1)
    assert made.large.p10 is not None
    assert made.large.p90 is not None
    assert made.large.p10 < 1.0 < made.large.p90


def test_a_fit_does_not_depend_on_the_order_of_rows() -> None:
    tiers = NETWORKS.of("dgx-a100", "").tiers
    given = timed(rows(), predicted_times(rows(), (with_numbers(tiers[0], TRUE_RING),)))
    assert fit_collectives(given[::-1], tiers).numbers == pytest.approx(fit_collectives(given, tiers).numbers, rel=1e-6)


def test_with_few_rows_a_latency_and_a_fraction_move() -> None:
    tiers = NETWORKS.of("dgx-a100", "").tiers
    one = rows(operations=("all-reduce",), ranks=(8,))
    assert moving_numbers(one, tiers[0], RING) == ("base_latency", "link_fraction")
    made = fit_collectives(timed(one, 1.3 * predicted_times(one, tiers)), tiers)
    assert set(made.numbers) == {"base_latency", "link_fraction"}
    assert made.numbers["link_fraction"] < tiers[0].link_fraction
    assert made.loss < 0.1


def test_numbers_between_nodes_are_found_too() -> None:
    tiers, start = (NETWORKS.of("perlmutter", "", fitted=fitted).tiers for fitted in (True, False))
    true = {"base_latency": 20e-6, "hop_latency": 8e-6, "hop_growth": 30e-6, "hop_half_size": 2e5,
            "link_fraction": 0.8, "tree_fraction": 0.6, "tree_hop_latency": 30e-6}  # fmt: skip
    given = rows(("all-reduce", "all-gather"), ranks=(2, 4), nodes=(2, 8, 64), cluster="perlmutter")
    changed = (tiers[0], with_numbers(tiers[1], true))
    made = fit_collectives(timed(given, predicted_times(given, changed)), tiers, start)
    assert made.family == SCALE_OUT
    assert made.numbers == pytest.approx(true, rel=0.15)


def test_kernels_of_an_engine_and_the_limit_of_their_buffers_are_found() -> None:
    tiers, start = (NETWORKS.of("dgx-h100", "vllm", fitted=fitted).tiers for fitted in (True, False))
    true = {"direct_latency": 6e-6, "direct_step_latency": 0.3e-6, "one_shot_fraction": 0.5, "two_shot_latency": 9e-6,
            "two_shot_fraction": 0.6, "direct_limit": 2.0**24}  # fmt: skip
    given = rows(("all-reduce",), cluster="dgx-h100", library="vllm")
    times = predicted_times(given, (with_numbers(tiers[0], true),))
    made = fit_collectives(timed(given, times), tiers, start)
    assert made.family == DIRECT
    assert made.numbers == pytest.approx(true, rel=0.1)


def test_nothing_to_fit_is_an_error() -> None:
    with pytest.raises(UsageError, match="no row has a measured time"):
        fit_collectives(rows(), NETWORKS.of("dgx-a100", "").tiers)
