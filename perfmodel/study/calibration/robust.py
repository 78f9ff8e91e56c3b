"""Robust regression with prior knowledge: the arithmetic of every calibration.

Minimises ``sum_i w_i |r_i(x)| + sum_j ((x_j - x0_j) / s_j)^2`` over a box by Gauss-Newton steps with
iteratively reweighted residuals (Huber and Ronchetti, Robust Statistics, 2nd ed. 2009, chapter 7). The prior holds a
number where the measurements say nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]
#: x -> residuals (m,) and their derivatives (m, n).
Model: TypeAlias = Callable[[Vector], tuple[Vector, Vector]]

#: Residuals below this count as squares: measurement noise of steps and kernels.
NOISE = 0.02
#: Weight of the squared prior against the summed absolute residuals.
PRIOR_WEIGHT = 0.05
_ITERATIONS = 12
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Prior:
    """What is known of each number before the fit; all of shape (n,)."""

    middle: Vector
    deviation: Vector
    low: Vector
    high: Vector


def fit(model: Model, prior: Prior, weights: Vector) -> Vector:
    """The numbers that explain the measurements best.

    Parameters
    ----------
    model
        Residuals (relative errors or log ratios) and their derivatives at a point.
    prior
        Start, spread and bounds.
    weights
        Of the residuals, shape (m,).

    Returns
    -------
    ndarray
        Shape (n,), inside the bounds.
    """
    point = prior.middle.copy()
    residuals, slopes = model(point)
    loss = _loss(residuals, point, prior, weights)
    for _ in range(_ITERATIONS):
        step = _step(residuals, slopes, point, prior, weights)
        scale, improved = 1.0, False
        while scale > 0.1:
            trial = np.clip(point + scale * step, prior.low, prior.high)
            trial_residuals, trial_slopes = model(trial)
            trial_loss = _loss(trial_residuals, trial, prior, weights)
            if trial_loss < loss:
                improved = True
                break
            scale /= 2.0
        if not improved:
            break
        gain = loss - trial_loss
        point, residuals, slopes, loss = trial, trial_residuals, trial_slopes, trial_loss
        if gain < _TOLERANCE * loss:
            break
    return point


def _loss(residuals: Vector, point: Vector, prior: Prior, weights: Vector) -> float:
    size = np.abs(residuals)
    robust = np.where(size < NOISE, 0.5 * size * size / NOISE, size - 0.5 * NOISE)
    away = (point - prior.middle) / prior.deviation
    return float(np.sum(weights * robust) + PRIOR_WEIGHT * np.sum(away * away))


def _step(residuals: Vector, slopes: Vector, point: Vector, prior: Prior, weights: Vector) -> Vector:
    """Gauss-Newton step of the reweighted problem; numbers at a bound that would leave it stay."""
    importance = weights / np.maximum(np.abs(residuals), NOISE)
    pull = 2.0 * PRIOR_WEIGHT / prior.deviation**2
    gradient = slopes.T @ (importance * residuals) + pull * (point - prior.middle)
    curvature = slopes.T @ (importance[:, None] * slopes) + np.diag(pull)
    stuck = ((point <= prior.low) & (gradient > 0.0)) | ((point >= prior.high) & (gradient < 0.0))
    free = ~stuck
    step = np.zeros_like(point)
    step[free] = -np.linalg.solve(curvature[np.ix_(free, free)], gradient[free])
    return step
