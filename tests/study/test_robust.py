"""The regression behind the calibrations finds what made the data, ignores outliers, keeps what it cannot see."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.study.calibration.robust import Prior, Vector, fit

TRUTH = np.array([0.3, -0.2])


def linear(design: Vector, target: Vector):
    def model(point: Vector) -> tuple[Vector, Vector]:
        return design @ point - target, design

    return model


def wide(count: int) -> Prior:
    return Prior(np.zeros(count), np.full(count, 1e3), np.full(count, -10.0), np.full(count, 10.0))


def test_exact_data_give_the_numbers_that_made_them() -> None:
    design = np.random.default_rng(0).normal(size=(40, 2))
    found = fit(linear(design, design @ TRUTH), wide(2), np.ones(40))
    assert found == pytest.approx(TRUTH, abs=1e-4)


def test_a_tenth_of_gross_errors_does_not_move_the_fit() -> None:
    rng = np.random.default_rng(1)
    design = rng.normal(size=(200, 2))
    target = design @ TRUTH + rng.normal(scale=0.01, size=200)
    target[:20] += 5.0
    found = fit(linear(design, target), wide(2), np.ones(200))
    assert found == pytest.approx(TRUTH, abs=0.02)
    squares = np.linalg.lstsq(design, target, rcond=None)[0]
    assert np.abs(squares - TRUTH).max() > 3 * np.abs(found - TRUTH).max()


def test_a_number_that_the_data_do_not_see_stays_at_its_prior() -> None:
    design = np.zeros((10, 2))
    design[:, 0] = 1.0
    prior = Prior(np.array([0.0, 0.7]), np.array([1e3, 0.1]), np.full(2, -10.0), np.full(2, 10.0))
    found = fit(linear(design, np.full(10, 0.4)), prior, np.ones(10))
    assert found == pytest.approx([0.4, 0.7], abs=1e-4)


def test_bounds_hold() -> None:
    design = np.ones((10, 1))
    prior = Prior(np.zeros(1), np.full(1, 1e3), np.array([-1.0]), np.array([0.25]))
    assert fit(linear(design, np.full(10, 0.9)), prior, np.ones(10)) == pytest.approx([0.25])
