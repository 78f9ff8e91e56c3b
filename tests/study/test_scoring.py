"""Statistics of a validation against figures computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.study.validation.lines import Line, Prediction, Status
from perfmodel.study.validation.scoring import rank_correlation, score, summarise


def line(
    measured: float, predicted: float | None, low: float | None = None, high: float | None = None, **columns: str
) -> Line:
    status = Status.OK if predicted is not None else Status.INCOMPLETE
    reason = "" if predicted is not None else "vocab is blank"
    return Line(
        0, "", "iter_time_s", "s", measured, Prediction(predicted, low, high, "calibrated", status, (), reason), columns
    )


def test_four_rows_by_hand() -> None:
    lines = [
        line(10.0, 10.9, 9.0, 12.0),
        line(10.0, 8.0, 7.0, 9.0),
        line(10.0, 10.5, 9.0, 12.0),
        line(10.0, None),
    ]
    found = score(lines)
    assert (found.rows, found.ok) == (4, 3)
    assert found.mape == pytest.approx((0.09 + 0.2 + 0.05) / 3)
    assert found.median_ape == pytest.approx(0.09)
    assert found.bias == pytest.approx((0.09 - 0.2 + 0.05) / 3)
    assert found.within_10pct == pytest.approx(2 / 3)
    assert found.coverage_80 == pytest.approx(2 / 3)


def test_nothing_to_score_is_no_score() -> None:
    found = score([line(1.0, None)])
    assert (found.ok, found.mape, found.coverage_80) == (0, None, None)


def test_a_monotone_prediction_has_the_ranks_of_the_measurement() -> None:
    measured = np.array([1.0, 3.0, 2.0, 10.0])
    assert rank_correlation(measured**3, measured) == pytest.approx(1.0)
    assert rank_correlation(-measured, measured) == pytest.approx(-1.0)


def test_ties_share_their_rank() -> None:
    # Ranks 1.5, 1.5, 3 against 1, 2, 3: covariance 1.5 over sqrt(1.5 * 2).
    assert rank_correlation(np.array([5.0, 5.0, 7.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(1.5 / np.sqrt(3.0))


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=30), st.floats(0.5, 2.0))
def test_a_constant_factor_is_the_mean_the_median_and_the_bias(measured: list[float], factor: float) -> None:
    found = score([line(value, value * factor) for value in measured])
    assert found.mape == pytest.approx(abs(factor - 1.0), abs=1e-9)
    assert found.median_ape == pytest.approx(abs(factor - 1.0), abs=1e-9)
    assert found.bias == pytest.approx(factor - 1.0, abs=1e-9)


def test_groups_add_up_to_the_whole() -> None:
    lines = [line(1.0, 1.1, gpu="a"), line(1.0, 1.2, gpu="b"), line(1.0, None, gpu="b")]
    document = summarise("training", lines, "iter_time_s")
    assert {name: one["rows"] for name, one in document["by"]["gpu"].items()} == {"a": 1, "b": 2}
    assert document["by"]["gpu"]["b"]["ok"] == 1
    assert document["not_ok"] == {"incomplete: vocab is blank": 1}
    weights = [one["ok"] * one["mape"] for one in document["by"]["gpu"].values()]
    assert sum(weights) / document["ok"] == pytest.approx(document["mape"])
