"""The Pareto front and the best few, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from perfmodel.study.search.frontier import pareto_rows, smallest_rows

#: Few distinct numbers, so that there are ties, and infinities.
VALUES = st.sampled_from([0.0, 1.0, 1.0 + 1e-15, 2.0, 3.5, np.inf, -np.inf])


def brute_force(values: NDArray[np.float64]) -> list[int]:
    """Points that no other point dominates: every pair is compared."""
    kept: list[int] = []
    columns = values.T.copy()
    for start in range(0, len(values), 64):
        points = columns[:, start : start + 64, None]
        nowhere_worse = np.logical_and.reduce([c[None, :] <= p for c, p in zip(columns, points, strict=True)])
        better = np.logical_or.reduce([c[None, :] < p for c, p in zip(columns, points, strict=True)])
        kept += (start + np.flatnonzero(~np.any(nowhere_worse & better, axis=1))).tolist()
    return kept


@given(npst.arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=VALUES))
def test_the_front_is_that_of_brute_force(values: NDArray[np.float64]) -> None:
    assert pareto_rows(values).tolist() == brute_force(values)


@pytest.mark.parametrize("objectives", [2, 3])
def test_the_front_of_20_000_candidates(objectives: int) -> None:
    random = np.random.default_rng(7)
    values = np.round(random.exponential(size=(20_000, objectives)), 2)  # rounded: many ties
    values[random.integers(0, 20_000, 300), random.integers(0, objectives, 300)] = np.inf
    assert pareto_rows(values).tolist() == brute_force(values)


@settings(max_examples=50)
@given(npst.arrays(np.float64, st.integers(0, 60), elements=VALUES), st.integers(1, 20))
def test_the_smallest_hold_all_ties(values: NDArray[np.float64], count: int) -> None:
    rows = smallest_rows(values, count)
    bound = np.sort(values)[min(count, len(values)) - 1] if len(values) else 0.0
    assert set(rows.tolist()) == set(np.flatnonzero(values <= bound).tolist())
