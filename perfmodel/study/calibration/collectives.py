"""Numbers of a network or a library fitted to measured collectives.

Which numbers move follows from what was measured: on one domain those of the ring (and of the reduction in the
switches, where it was measured), across domains those of hops, ring and tree, for an engine those of its own kernels,
and for calls outside of a graph the time of a call. With few rows only a latency and a fraction move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from perfmodel.engine.domains import ALL_REDUCE
from perfmodel.engine.networks import SEND
from perfmodel.errors import UsageError
from perfmodel.machine.machine import NetworkTier
from perfmodel.study.calibration import robust
from perfmodel.study.calibration.robust import Vector
from perfmodel.study.collective_model import LARGE, predicted_times
from perfmodel.study.collective_rows import CollectiveRow

#: Fewer distinct configurations (operation, ranks, nodes) or rows than this fix a latency and a fraction only.
FEW_CONFIGURATIONS, FEW_ROWS = 2, 24
#: Spread of the prior of a number around that of its class, of the logarithm: it only holds what rows do not tell.
_PRIOR_DEVIATION = 2.0
#: Relative step of the numerical derivative.
_STEP = 1e-4
#: Largest buffers of an engine's own kernel that are tried [B].
_LIMITS = tuple(2.0**power for power in range(20, 27))
#: Families of numbers.
RING, SCALE_OUT, DIRECT, EAGER = "ring", "scale-out", "direct", "eager"
#: Parts of them for curves that tell little: a latency and a fraction, a latency, or the latencies between nodes.
FLOOR, LATENCY, HOPS = "floor", "latency", "hops"

#: Name in a spec -> (name in a tier, lowest, highest value).
_BOUNDS: dict[str, tuple[str, float, float]] = {
    "base_latency": ("base_latency", 1e-7, 1e-3),
    "step_latency": ("step_latency", 1e-8, 1e-4),
    "link_fraction": ("link_fraction", 0.05, 1.0),
    "copy_fraction": ("copy_fraction", 0.2, 20.0),
    "fill_time": ("fill_time", 1e-8, 1e-3),
    "reduction_latency": ("reduction_latency", 1e-6, 1e-3),
    "reduction_fraction": ("reduction_fraction", 0.2, 1.0),
    "peer_fraction": ("peer_fraction", 0.4, 1.0),
    "message_latency": ("message_latency", 1e-7, 1e-4),
    "hop_latency": ("hop_latency", 1e-7, 1e-3),
    "hop_growth": ("hop_growth", 1e-7, 1e-2),
    "hop_half_size": ("hop_half_size", 1e3, 1e9),
    "tree_fraction": ("tree_fraction", 0.05, 1.0),
    "tree_hop_latency": ("tree_hop_latency", 1e-7, 1e-3),
    "direct_latency": ("direct.latency", 1e-7, 1e-3),
    "direct_step_latency": ("direct.step_latency", 1e-9, 1e-4),
    "one_shot_fraction": ("direct.one_shot_fraction", 0.02, 1.0),
    "two_shot_latency": ("direct.two_shot_latency", 1e-7, 1e-3),
    "two_shot_fraction": ("direct.two_shot_fraction", 0.02, 1.0),
    "direct_limit": ("direct.limit", _LIMITS[0], _LIMITS[-1]),
    "call_floor": ("direct.call_floor", 1e-6, 1e-3),
    "staging_fraction": ("direct.staging_fraction", 0.1, 1.0),
}
_MOVING: dict[str, tuple[str, ...]] = {
    RING: ("base_latency", "step_latency", "link_fraction", "copy_fraction", "fill_time"),
    SCALE_OUT: (
        "base_latency", "hop_latency", "hop_growth", "hop_half_size", "link_fraction", "tree_fraction",
        "tree_hop_latency",
    ),
    DIRECT: ("direct_latency", "direct_step_latency", "one_shot_fraction", "two_shot_latency", "two_shot_fraction"),
    EAGER: ("call_floor", "staging_fraction"),
    FLOOR: ("base_latency", "link_fraction"),
    LATENCY: ("base_latency",),
    HOPS: ("base_latency", "hop_growth", "hop_half_size"),
}  # fmt: skip
_MESSAGES = ("peer_fraction", "message_latency")
_REDUCTION = ("reduction_latency", "reduction_fraction")
#: What moves with few rows.
_FEW: dict[str, tuple[str, ...]] = {
    RING: _MOVING[FLOOR], SCALE_OUT: _MOVING[FLOOR],
    DIRECT: ("direct_latency", "one_shot_fraction", "two_shot_fraction"),
    EAGER: _MOVING[EAGER], FLOOR: _MOVING[FLOOR], LATENCY: _MOVING[LATENCY],
    HOPS: _MOVING[HOPS],
}  # fmt: skip


@dataclass(frozen=True)
class Parameter:
    """A positive number that may move between two bounds."""

    name: str
    start: float
    low: float
    high: float


@dataclass(frozen=True)
class Residuals:
    """Measured over predicted: tenth, fiftieth and ninetieth percentile, and how many rows; None without rows."""

    rows: int
    p10: float | None = None
    p50: float | None = None
    p90: float | None = None
    median_error: float | None = None

    @classmethod
    def of(cls, ratio: Vector) -> Residuals:
        """Statistics of measured over predicted times."""
        if not ratio.size:
            return cls(0)
        low, middle, high = (float(value) for value in np.quantile(ratio, [0.1, 0.5, 0.9]))
        return cls(ratio.size, low, middle, high, float(np.median(np.abs(1.0 / ratio - 1.0))))


@dataclass(frozen=True)
class Calibration:
    """Fitted numbers of one network and library.

    Attributes
    ----------
    family
        Which form.
    numbers
        Name in a spec -> value in SI units.
    loss
        Mean absolute logarithm of predicted over measured.
    large, small
        Residuals of buffers of at least 1 MiB, and of smaller ones.
    ranks, sizes
        Smallest and largest of what was measured: the range of validity.
    configurations
        What was fitted: (operation, ranks, nodes).
    """

    family: str
    numbers: Mapping[str, float]
    loss: float
    large: Residuals
    small: Residuals
    ranks: tuple[int, int]
    sizes: tuple[float, float]
    configurations: tuple[tuple[str, int, int], ...]


def fit_collectives(
    rows: Sequence[CollectiveRow],
    tiers: Sequence[NetworkTier],
    start: Sequence[NetworkTier] | None = None,
    family: str | None = None,
) -> Calibration:
    """Fit the numbers of one network and library.

    Parameters
    ----------
    rows
        Measured collectives of one cluster with one library.
    tiers
        Its network with the numbers of the catalogue: what does not move keeps them.
    start
        The same network with the numbers of the class, where the fit starts; None: it starts from ``tiers``.
    family
        Which numbers move; None: what the rows and the network suggest.

    Returns
    -------
    Calibration
        The numbers, how far they miss, and where they hold.

    Raises
    ------
    UsageError
        No row says a time.
    """
    usable = [row for row in rows if row.measured is not None and row.measured > 0.0]
    if not usable:
        raise UsageError("nothing to fit: no row has a measured time")
    chosen = family or family_of(usable, tiers)
    problem = _Problem.of(usable, tiers, start or tiers, chosen)
    problem, values = _best_limit(problem) if chosen == DIRECT else (problem, _solve(problem))
    ratio = np.exp(-problem.residuals(values))
    large = np.array([row.size >= LARGE for row in usable])
    return Calibration(
        family=chosen,
        numbers=problem.numbers(values),
        loss=float(np.mean(np.abs(np.log(ratio)))),
        large=Residuals.of(ratio[large]),
        small=Residuals.of(ratio[~large]),
        ranks=(min(row.ranks for row in usable), max(row.ranks for row in usable)),
        sizes=(min(row.size for row in usable), max(row.size for row in usable)),
        configurations=tuple(sorted({row.configuration for row in usable})),
    )


@dataclass(frozen=True)
class _Problem:
    """Rows, the network with its numbers, and the parameters that move on one of its tiers."""

    rows: Sequence[CollectiveRow]
    measured: Vector
    tiers: tuple[NetworkTier, ...]
    level: int
    parameters: tuple[Parameter, ...]
    fixed: Mapping[str, float]

    @classmethod
    def of(
        cls, rows: Sequence[CollectiveRow], tiers: Sequence[NetworkTier], start: Sequence[NetworkTier], family: str
    ) -> _Problem:
        level = len(tiers) - 1 if any(row.nodes > 1 for row in rows) else 0
        names = moving_numbers(rows, tiers[level], family)
        parameters = tuple(_parameter(name, start[level]) for name in names)
        return cls(rows, np.array([row.measured for row in rows]), tuple(tiers), level, parameters, {})

    def numbers(self, values: Vector) -> dict[str, float]:
        """Name in a spec -> value."""
        names = (one.name for one in self.parameters)
        return {**dict(zip(names, (float(value) for value in values), strict=True)), **self.fixed}

    def residuals(self, values: Vector) -> Vector:
        """Logarithm of predicted over measured."""
        changed = list(self.tiers)
        changed[self.level] = with_numbers(changed[self.level], self.numbers(values))
        return np.log(predicted_times(self.rows, changed) / self.measured)


def _solve(problem: _Problem) -> Vector:
    """Fit the logarithms of the parameters."""
    start, low, high = (np.log([getattr(one, end) for one in problem.parameters]) for end in ("start", "low", "high"))

    def model(point: Vector) -> tuple[Vector, Vector]:
        residuals = problem.residuals(np.exp(point))
        slopes: list[Vector] = []
        for position in range(point.size):
            step = -_STEP if point[position] + _STEP > high[position] else _STEP
            moved = point.copy()
            moved[position] += step
            slopes.append((problem.residuals(np.exp(moved)) - residuals) / step)
        return residuals, np.stack(slopes, axis=1)

    prior = robust.Prior(start, np.full(start.size, _PRIOR_DEVIATION), low, high)
    return np.exp(robust.fit(model, prior, np.ones(len(problem.rows))))


def _best_limit(problem: _Problem) -> tuple[_Problem, Vector]:
    """The largest buffer of an engine's own kernel is a limit of the software: a power of two, each tried."""
    tried = [replace(problem, fixed={"direct_limit": limit}) for limit in _LIMITS]
    solved = [(one, _solve(one)) for one in tried]
    return min(solved, key=lambda pair: float(np.mean(np.abs(pair[0].residuals(pair[1])))))


def family_of(rows: Sequence[CollectiveRow], tiers: Sequence[NetworkTier]) -> str:
    """The form whose numbers the rows can tell."""
    if any(row.nodes > 1 for row in rows):
        return SCALE_OUT
    kernels = tiers[0].direct
    if kernels is None:
        return RING
    return DIRECT if kernels.call_floor is None else EAGER


def moving_numbers(rows: Sequence[CollectiveRow], tier: NetworkTier, family: str) -> tuple[str, ...]:
    """Names of the numbers that move."""
    few = len({row.configuration for row in rows}) < FEW_CONFIGURATIONS or len(rows) < FEW_ROWS
    names = (_FEW if few else _MOVING)[family]
    reduced = [row for row in rows if row.operation == ALL_REDUCE and row.reducible and row.nodes == 1]
    fewest = tier.reduction_minimum_ranks
    large = fewest is not None and any(row.ranks >= fewest and row.size >= LARGE for row in reduced)
    if family == RING and not few and tier.in_network_reduction and large:
        names = (*names, *_REDUCTION)
    if family == RING and not few:
        names = (*names, *(name for name in _MESSAGES if getattr(tier, name) is not None))
    if family == SCALE_OUT and not any(row.operation == ALL_REDUCE for row in rows):
        names = tuple(name for name in names if not name.startswith("tree"))
    if all(row.operation == SEND for row in rows):
        names = _FEW[FLOOR]
    return names


def with_numbers(tier: NetworkTier, numbers: Mapping[str, float]) -> NetworkTier:
    """A tier with some of its numbers replaced; names as in a spec."""
    own: dict[str, Any] = {}
    kernels: dict[str, Any] = {}
    for name, value in numbers.items():
        group, _, leaf = _BOUNDS[name][0].rpartition(".")
        (kernels if group else own)[leaf] = value
    direct = replace(tier.direct, **kernels) if tier.direct is not None and kernels else tier.direct
    return replace(tier, **own, direct=direct)


def _parameter(name: str, start: NetworkTier) -> Parameter:
    """Where a number starts: from the class, or in the middle of its bounds."""
    where, low, high = _BOUNDS[name]
    group, _, leaf = where.rpartition(".")
    first = getattr(start.direct if group else start, leaf, None)
    return Parameter(name, float(np.clip(np.sqrt(low * high) if first is None else first, low, high)), low, high)
