"""What a search keeps: the best few, and the Pareto front, both exact and independent of how the work was cut."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
#: Points compared with the front at a time.
_CHUNK = 2048


def smallest_rows(values: Values, count: int) -> NDArray[np.int64]:
    """Rows that hold the ``count`` smallest values, with all that equal the largest of them, in no order."""
    if len(values) <= count:
        return np.arange(len(values))
    return np.flatnonzero(values <= np.partition(values, count - 1)[count - 1])


def pareto_rows(values: Values) -> NDArray[np.int64]:
    """Indices of the points that no other point dominates, in the order in which they stand.

    Parameters
    ----------
    values
        Shape ``(n, k)``, smaller is better; infinities are values like others.

    Notes
    -----
    A point is dominated by one that is nowhere worse and somewhere better: of equal points all are kept.
    """
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    rows = np.flatnonzero(~_dominated(values, _pivots(values)))
    unique, inverse = np.unique(values[rows], axis=0, return_inverse=True)
    on_front = _of_pairs(unique) if values.shape[1] == 2 else _of_any(unique)
    return rows[on_front[inverse.ravel()]]


def _pivots(values: Values) -> Values:
    """Points that dominate most others: the best in each objective, and one that is good in all."""
    low, high = values.min(axis=0), values.max(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.nan_to_num((values - low) / (high - low), nan=1.0, posinf=1.0)
    best = [int(np.argmin(values[:, column])) for column in range(values.shape[1])]
    return values[[*best, int(np.argmin(share.sum(axis=1)))]]


def _of_pairs(unique: Values) -> NDArray[np.bool_]:
    """Two objectives, sorted by the first and then the second: each must be better in the second than all before."""
    before = np.minimum.accumulate(unique[:, 1])
    kept = np.ones(len(unique), dtype=bool)
    kept[1:] = unique[1:, 1] < before[:-1]
    return kept


def _of_any(unique: Values) -> NDArray[np.bool_]:
    """Points in lexicographic order: only earlier ones can dominate a later one."""
    kept = np.zeros(len(unique), dtype=bool)
    front = np.zeros((0, unique.shape[1]))
    for start in range(0, len(unique), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(unique)))
        rows = rows[~_dominated(unique[rows], front)]
        part = unique[rows]
        rows = rows[~_dominated(part, part)]
        kept[rows] = True
        front = np.concatenate([front, unique[rows]])
    return kept


def _dominated(points: Values, by: Values) -> NDArray[np.bool_]:
    """Points that one of the others dominates; equal points do not dominate each other."""
    dominated = np.zeros(len(points), dtype=bool)
    for start in range(0, len(by), _CHUNK):
        others = by[start : start + _CHUNK]
        nowhere_worse = np.ones((len(points), len(others)), dtype=bool)
        better = np.zeros_like(nowhere_worse)
        for column in range(points.shape[1]):
            mine, theirs = points[:, column, None], others[None, :, column]
            nowhere_worse &= theirs <= mine
            better |= theirs < mine
        dominated |= (nowhere_worse & better).any(axis=1)
    return dominated
