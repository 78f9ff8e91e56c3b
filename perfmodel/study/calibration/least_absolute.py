"""A robust fit: positive parameters with the least mean absolute logarithm of predicted over measured.

Deterministic and without dependencies: least squares on logarithms of the parameters, reweighted until the squares are
absolute values (Schlossmacher 1973), each step damped (Marquardt 1963), then one parameter after the other is tried
larger and smaller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = NDArray[np.float64]

#: Residuals below this weigh as if they were this large.
_FLOOR = 0.01
_STEP = 1e-4
_ROUNDS = 80
_POLISH_STEPS = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005)


@dataclass(frozen=True)
class Parameter:
    """A positive number that may move between two bounds.

    Attributes
    ----------
    name
        Where it stands.
    start
        First guess, inside the bounds.
    low, high
        Bounds.
    """

    name: str
    start: float
    low: float
    high: float


def fit(
    residuals: Callable[[Values], Values], parameters: Sequence[Parameter], rounds: int = _ROUNDS
) -> tuple[Values, float]:
    """Fit parameters.

    Parameters
    ----------
    residuals
        Logarithm of predicted over measured of every row, from the values of the parameters.
    parameters
        What may move.
    rounds
        Largest number of reweighted steps.

    Returns
    -------
    tuple
        Values of the parameters, and the mean absolute residual.
    """
    low = np.log([one.low for one in parameters])
    high = np.log([one.high for one in parameters])

    def at(point: Values) -> Values:
        return residuals(np.exp(np.clip(point, low, high)))

    point = np.clip(np.log([one.start for one in parameters]), low, high)
    point = _reweighted(at, point, low, high, rounds)
    point = _polished(at, point, low, high)
    return np.exp(point), _loss(at(point))


def _loss(values: Values) -> float:
    return float(np.mean(np.abs(values)))


def _reweighted(at: Callable[[Values], Values], point: Values, low: Values, high: Values, rounds: int) -> Values:
    """Damped least squares with weights that turn squares into absolute values."""
    current, damping = at(point), 1e-2
    for _ in range(rounds):
        slopes = _slopes(at, point, current, high)
        weights = 1.0 / np.maximum(np.abs(current), _FLOOR)
        normal = (slopes * weights[:, None]).T @ slopes
        gradient = (slopes * weights[:, None]).T @ current
        scale = np.diag(normal) + 1e-12 * np.trace(normal) + 1e-300
        step = np.linalg.solve(normal + np.diag(damping * scale), -gradient)
        trial = np.clip(point + np.clip(step, -1.0, 1.0), low, high)
        after = at(trial)
        if _loss(after) < _loss(current):
            gain = _loss(current) - _loss(after)
            point, current, damping = trial, after, max(damping / 4.0, 1e-6)
            if gain < 1e-7:
                break
        elif damping > 1e6:
            break
        else:
            damping *= 5.0
    return point


def _slopes(at: Callable[[Values], Values], point: Values, current: Values, high: Values) -> Values:
    columns: list[Values] = []
    for position in range(point.size):
        step = -_STEP if point[position] + _STEP > high[position] else _STEP
        moved = point.copy()
        moved[position] += step
        columns.append((at(moved) - current) / step)
    return np.stack(columns, axis=1)


def _polished(at: Callable[[Values], Values], point: Values, low: Values, high: Values) -> Values:
    """Try each parameter alone, larger and smaller, with shrinking steps."""
    best = _loss(at(point))
    for size in _POLISH_STEPS:
        moved = True
        while moved:
            moved = False
            for position in range(point.size):
                for step in (size, -size):
                    trial = point.copy()
                    trial[position] = np.clip(trial[position] + step, low[position], high[position])
                    loss = _loss(at(trial))
                    if loss < best * (1.0 - 1e-6):
                        point, best, moved = trial, loss, True
    return point
