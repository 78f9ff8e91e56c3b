"""Experts against simulated routing, and limits whose answer is known without the formulas."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.equations import experts


@pytest.mark.parametrize(("count", "rows"), [(8, 4), (8, 16), (128, 128), (32, 400)])
def test_touched_experts_of_simulated_routing(count: int, rows: int) -> None:
    random = np.random.default_rng(5)
    drawn = [len(np.unique(random.integers(0, count, rows))) for _ in range(4000)]
    spread = np.std(drawn) / np.sqrt(len(drawn))
    assert experts.touched_experts_random(float(count), float(rows)) == pytest.approx(np.mean(drawn), abs=5 * spread)


@pytest.mark.parametrize("rows", [0.0, 1.0, 7.0, 64.0, 1e5])
def test_random_rows_never_touch_more_experts_than_even_ones(rows: float) -> None:
    even = experts.touched_experts(16.0, rows)
    assert experts.touched_experts_random(16.0, rows) <= even * (1 + 1e-12)
    assert even <= 16.0
    assert experts.touched_experts_random(1.0, rows) == min(rows, 1.0)


@pytest.mark.parametrize(("count", "domains", "visits", "tolerance"), [(256, 8, 8, 0.012), (128, 4, 8, 0.012),
                                                                       (16, 4, 4, 0.07)])  # fmt: skip
def test_distinct_domains_of_simulated_routing(count: int, domains: int, visits: int, tolerance: float) -> None:
    random = np.random.default_rng(6)
    per_domain = count // domains
    drawn = [len(np.unique(random.permutation(count)[:visits] // per_domain)) for _ in range(4000)]
    assert experts.distinct_domains(float(domains), float(visits)) == pytest.approx(np.mean(drawn), rel=tolerance)


def test_a_token_reaches_no_more_domains_than_there_are_or_than_it_visits() -> None:
    for domains in (1.0, 2.0, 8.0, 64.0):
        for visits in (1.0, 2.0, 8.0):
            found = experts.distinct_domains(domains, visits)
            assert 1.0 - 1e-12 <= found <= min(domains, visits) + 1e-12


def test_the_limit_of_deepseek_v3_is_four_nodes() -> None:
    # arXiv 2412.19437, section 2.1.2: eight groups on eight nodes of eight devices, at most four nodes per token.
    assert experts.reachable_domains(8.0, 8.0, 4.0) == 4.0
    assert experts.reachable_domains(8.0, 1.0, 1.0) == 8.0  # no limit


def test_a_permutation_there_and_back_moves_what_unfused_kernels_move() -> None:
    # k copies of a token: read and written by the dispatch; read and added up by the combination.
    k, hidden = 8.0, 100.0
    copies = k * hidden
    assert experts.dispatch_elements(copies, copies, 0.0) == 2 * copies
    assert experts.combine_elements(copies, copies, hidden, 0.0) == copies + hidden
    again = experts.dispatch_elements(copies, copies, 1.0) + experts.combine_elements(copies, copies, hidden, 1.0)
    assert again == 7 * copies + hidden


def test_the_longer_hop_decides() -> None:
    assert experts.forwarded_exchange_time(3.0, 0.0) == 3.0
    assert 3.0 < experts.forwarded_exchange_time(3.0, 1.0) < 3.02
