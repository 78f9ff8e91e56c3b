"""The probability that one plan beats another follows from their intervals."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from perfmodel.study.compare import compare

NORMAL_QUANTILE = 1.2815515655446004


def _interval(median: float, spread: float) -> dict[str, object]:
    """A lognormal interval: ``spread`` is the standard deviation of the logarithm."""
    factor = math.exp(NORMAL_QUANTILE * spread)
    numbers = {"p10": median / factor, "p50": median, "p90": median * factor, "basis": "calibrated"}
    return {"uncertainty": {"time.step_s": numbers}}


@pytest.mark.parametrize(
    ("first", "second"), [((4.0, 0.1), (4.4, 0.1)), ((5.0, 0.05), (4.0, 0.3)), ((3.0, 0.2), (3.1, 0.02))]
)
def test_the_probability_is_that_of_drawn_times(made_up: Callable, first: tuple, second: tuple) -> None:
    drawn = np.random.default_rng(7)
    times = [np.exp(drawn.normal(math.log(median), spread, 400_000)) for median, spread in (first, second)]
    expected = float(np.mean(times[0] < times[1]))
    (probability,) = compare([made_up(**_interval(*first)), made_up(**_interval(*second))]).probabilities
    assert probability == pytest.approx(expected, abs=0.004)


def test_equal_plans_are_a_coin_toss_and_order_is_a_complement(made_up: Callable) -> None:
    one, other = made_up(**_interval(4.0, 0.1)), made_up(**_interval(4.3, 0.2))
    assert compare([one, one]).probabilities == (pytest.approx(0.5),)
    (forward,), (backward,) = compare([one, other]).probabilities, compare([other, one]).probabilities
    assert forward is not None
    assert backward == pytest.approx(1 - forward)


@pytest.mark.parametrize("changes", [{"feasible": False, "reasons": ("no",)}, {"uncertainty": {}}])
def test_no_probability_without_two_intervals(made_up: Callable, changes: dict) -> None:
    known = made_up(**_interval(4.0, 0.1))
    assert compare([known, made_up(**({**_interval(4.0, 0.1)} | changes))]).probabilities == (None,)


def test_json_has_every_result_in_order(made_up: Callable) -> None:
    results = [made_up(**_interval(median, 0.1)) for median in (4.0, 5.0, 6.0)]
    told = json.loads(compare(results).to_json())
    assert told["schema"] == "perfmodel.comparison/1"
    assert [one["uncertainty"]["time.step_s"]["p50"] for one in told["results"]] == [4.0, 5.0, 6.0]
    assert len(told["probability_first_is_faster"]) == 2
