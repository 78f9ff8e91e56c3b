"""A deterministic minimiser for a handful of positive numbers, and the loss of a fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

#: Logarithmic error below which the loss is quadratic: noise of repeats must not steer the fit.
SMOOTH = 0.03
#: Losses of a simplex that differ by less are the same.
SAME = 1e-5
#: Logarithmic edge of the first simplex, and of the simplex of each restart.
FIRST_EDGE, NEXT_EDGE = 0.35, 0.15


def smoothed_error(predicted: Vector, measured: Vector) -> float:
    """Mean smoothed absolute logarithmic error: robust against outliers, smooth near zero."""
    error = np.log(predicted / measured)
    return float(np.mean(np.sqrt(error * error + SMOOTH * SMOOTH)) - SMOOTH)


def minimise(
    loss: Callable[[Vector], float], start: Vector, low: Vector, high: Vector, *, rounds: int = 3, steps: int = 400
) -> Vector:
    """Nelder-Mead in the logarithms of the numbers, restarted from its best point, inside bounds.

    Parameters
    ----------
    loss
        Function of the numbers.
    start, low, high
        Start and bounds, all positive.
    rounds
        Restarts with a fresh simplex, smaller after the first.
    steps
        Evaluations of a round, per number 100 at most.

    Returns
    -------
    ndarray
        The best point; the same in every run.
    """
    floor, ceiling = np.log(low), np.log(high)
    best = np.clip(np.log(start), floor, ceiling)

    def at(point: Vector) -> float:
        return loss(np.exp(np.clip(point, floor, ceiling)))

    for turn in range(rounds):
        edge = FIRST_EDGE if turn == 0 else NEXT_EDGE
        simplex = [best] + [best + np.where(np.arange(best.size) == i, _inward(best[i], ceiling[i], edge), 0.0)
                            for i in range(best.size)]  # fmt: skip
        best = np.clip(_nelder_mead(at, simplex, min(steps, 100 * best.size)), floor, ceiling)
    return np.exp(best)


def _inward(value: float, ceiling: float, edge: float) -> float:
    return -edge if value + edge > ceiling else edge


def _nelder_mead(loss: Callable[[Vector], float], simplex: list[Vector], steps: int) -> Vector:
    points = sorted(((loss(point), tuple(point)) for point in simplex), key=lambda one: one[0])
    for _ in range(steps):
        values = np.array([point for _, point in points])
        centre, worst = values[:-1].mean(axis=0), values[-1]
        reflected = centre + (centre - worst)
        cost = loss(reflected)
        if cost < points[0][0]:
            stretched = centre + 2.0 * (centre - worst)
            far = loss(stretched)
            new = (far, stretched) if far < cost else (cost, reflected)
        elif cost < points[-2][0]:
            new = (cost, reflected)
        else:
            toward = reflected if cost < points[-1][0] else worst
            inside = centre + 0.5 * (toward - centre)
            new = (loss(inside), inside)
            if new[0] >= min(cost, points[-1][0]):
                shrunk = [values[0] + 0.5 * (one - values[0]) for one in values[1:]]
                points = [points[0], *((loss(one), tuple(one)) for one in shrunk)]
                points.sort(key=lambda one: one[0])
                continue
        points[-1] = (new[0], tuple(new[1]))
        points.sort(key=lambda one: one[0])
        if points[-1][0] - points[0][0] < SAME:
            break
    return np.array(points[0][1])
