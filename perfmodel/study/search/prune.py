"""Leaving out candidates that cannot be an answer, without changing the answer.

Recomputation and communication that nothing hides never make a step shorter, cheaper or less hungry. The candidate
without them, all else equal, is a bound of those with them: where the bound is worse than what is known already, they
need not be composed. Whether they fit is still known of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.blocks import Block
from perfmodel.parallel.plan import OVERLAPS
from perfmodel.study.search.wanted import Wanted

#: Result keys that are no better with more recomputation or less overlap, when less of them is better ...
_LESS = ("time.step_s", "energy.per_step_j", "energy.per_token_j", "money.", "carbon.", "run.days", "run.usd",
         "run.energy_kwh", "run.kg_co2e", "run.device_hours")  # fmt: skip
#: ... and when more is.
_MORE = ("metrics.tokens_per_s", "metrics.tokens_per_s_per_device", "metrics.mfu")


def can_prune(wanted: Wanted) -> bool:
    """One objective that is bounded so, and no limit that has to be looked at candidate by candidate."""
    if len(wanted.objectives) != 1 or any(bound.column is None for bound in wanted.bounds):
        return False
    only = wanted.objectives[0]
    return only.key.startswith(_LESS) if only.sign > 0 else only.key in _MORE


@dataclass
class Known:
    """The best values so far: of every hardware point and number of devices, and the last one that is shown.

    Attributes
    ----------
    bests
        Shape ``(points, numbers of devices)``.
    shown
        The smallest values of all, at most as many as are shown.
    """

    bests: NDArray[np.float64]
    top: int
    shown: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    def note(self, values: NDArray[np.float64], point: NDArray[np.int64], devices: NDArray[np.int64]) -> None:
        """Take values of candidates that are allowed into account."""
        np.minimum.at(self.bests, (point, devices), values)
        self.shown = np.sort(np.concatenate([self.shown, values]))[: self.top]

    def limit(self, devices: NDArray[np.int64]) -> NDArray[np.float64]:
        """Largest value that can still be an answer, by point and row: shape ``(points, rows)``."""
        last = self.shown[-1] if len(self.shown) == self.top else np.inf
        return np.maximum(self.bests[:, devices], last)


def promising_parts(block: Block, wanted: Wanted, known: Known, devices: NDArray[np.int64]) -> Iterator[Block]:
    """Parts of a block that may hold an answer.

    Parameters
    ----------
    known
        Best values so far; what the block adds is noted.
    devices
        Index of the number of devices of every row.
    """
    kept = np.flatnonzero(block.fits.any(axis=tuple(range(block.fits.ndim - 1))))
    if not len(kept):
        return
    block, devices = block.only(kept), devices[kept]
    corner = block.corner(_optimistic(block))
    bound = wanted.values(corner)[:, 0].reshape(corner.shape)
    fits = corner.fits & wanted.allowed(corner)
    point, *_, row = np.nonzero(fits)
    known.note(bound[fits], point, devices[row])
    limit = known.limit(devices)
    # Between the points and the rows lie the switches.
    middle = (slice(None), *[None] * (bound.ndim - 2), slice(None))
    alive = np.any(bound <= limit[middle], axis=tuple(range(bound.ndim - 1)))
    yield from block.only(np.flatnonzero(alive)).parts()


def _optimistic(block: Block) -> dict[int, int]:
    """Switch axes and the value of each that bounds the others."""
    found: dict[int, int] = {}
    policies = block.space.structure["recompute_policies"]
    for axis, switch in enumerate(block.space.switches):
        for name in OVERLAPS:
            if name in switch.columns and np.any(switch.columns[name] > 0):
                found[axis] = int(np.argmax(switch.columns[name]))
        if "recompute" in switch.columns:
            nothing = [policies[index] == "none" for index in switch.columns["recompute"]]
            nothing = np.array(nothing) | (switch.columns["recompute_fraction"] == 0.0)
            if nothing.any():
                found[axis] = int(np.argmax(nothing))
    return found
