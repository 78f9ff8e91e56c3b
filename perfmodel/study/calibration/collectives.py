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

from perfmodel.engine.domains import ALL_REDUCE, IN_NETWORK_MINIMUM_RANKS
from perfmodel.engine.networks import SEND
from perfmodel.errors import UsageError
from perfmodel.machine.machine import NetworkTier
from perfmodel.study.calibration.least_absolute import Parameter, Values, fit
from perfmodel.study.collective_model import LARGE, predicted_times
from perfmodel.study.collective_rows import CollectiveRow

#: Fewer distinct configurations (operation, ranks, nodes) or rows than this fix a latency and a fraction only.
FEW_CONFIGURATIONS, FEW_ROWS = 3, 40
#: Families of numbers.
RING, SCALE_OUT, DIRECT, EAGER, FLOOR = "ring", "scale-out", "direct", "eager", "floor"

#: Name in a spec -> (name in a tier, lowest, highest value).
_BOUNDS: dict[str, tuple[str, float, float]] = {
    "base_latency": ("base_latency", 1e-7, 1e-3),
    "step_latency": ("step_latency", 1e-8, 1e-4),
    "link_fraction": ("link_fraction", 0.05, 1.0),
    "copy_fraction": ("copy_fraction", 0.2, 20.0),
    "fill_time": ("fill_time", 1e-8, 1e-3),
    "reduction_latency": ("reduction_latency", 1e-6, 1e-3),
    "reduction_fraction": ("reduction_fraction", 0.2, 1.0),
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
}  # fmt: skip
_REDUCTION = ("reduction_latency", "reduction_fraction")
#: What moves with few rows.
_FEW: dict[str, tuple[str, ...]] = {
    RING: _MOVING[FLOOR], SCALE_OUT: _MOVING[FLOOR], DIRECT: ("direct_latency", "two_shot_fraction"),
    EAGER: _MOVING[EAGER], FLOOR: _MOVING[FLOOR],
}  # fmt: skip


@dataclass(frozen=True)
class Residuals:
    """Measured over predicted: tenth, fiftieth and ninetieth percentile, and how many rows; None without rows."""

    rows: int
    p10: float | None = None
    p50: float | None = None
    p90: float | None = None
    median_error: float | None = None

    @classmethod
    def of(cls, ratio: Values) -> Residuals:
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
    rows: Sequence[CollectiveRow], tiers: Sequence[NetworkTier], family: str | None = None
) -> Calibration:
    """Fit the numbers of one network and library.

    Parameters
    ----------
    rows
        Measured collectives of one cluster with one library.
    tiers
        Its network with the numbers of the catalogue: where the fit starts, and what does not move.
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
    level = len(tiers) - 1 if any(row.nodes > 1 for row in usable) else 0
    names = moving_numbers(usable, tiers[level], chosen)
    parameters = [_parameter(name, tiers[level]) for name in names]
    measured = np.array([row.measured for row in usable])

    def residuals(values: Values) -> Values:
        changed = (*tiers[:level], with_numbers(tiers[level], dict(zip(names, values, strict=True))), *tiers[level + 1 :])
        return np.log(predicted_times(usable, changed) / measured)

    values, loss = fit(residuals, parameters)
    ratio = np.exp(-residuals(values))
    large = np.array([row.size >= LARGE for row in usable])
    return Calibration(
        family=chosen,
        numbers=dict(zip(names, (float(value) for value in values), strict=True)),
        loss=loss,
        large=Residuals.of(ratio[large]),
        small=Residuals.of(ratio[~large]),
        ranks=(min(row.ranks for row in usable), max(row.ranks for row in usable)),
        sizes=(min(row.size for row in usable), max(row.size for row in usable)),
        configurations=tuple(sorted({row.configuration for row in usable})),
    )


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
    large = [row for row in reduced if row.ranks >= IN_NETWORK_MINIMUM_RANKS and row.size >= LARGE]
    if family == RING and not few and tier.in_network_reduction and large:
        names = (*names, *_REDUCTION)
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


def _parameter(name: str, tier: NetworkTier) -> Parameter:
    where, low, high = _BOUNDS[name]
    group, _, leaf = where.rpartition(".")
    start = float(getattr(tier.direct if group else tier, leaf))
    return Parameter(name, float(np.clip(start, low, high)), low, high)
