"""Leaving out candidates that cannot be an answer, without changing the answer.

Recomputation and communication that nothing hides never make a step shorter, cheaper or less hungry. The candidate
without them, all else equal, is a bound of those with them: where the bound is worse than what is known already, they
need not be composed. Whether they fit is still known of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.blocks import PART_CANDIDATES, Block
from perfmodel.engine.problem import Problem
from perfmodel.parallel.plan import OVERLAPS
from perfmodel.parallel.rule import Mask
from perfmodel.study.search.wanted import Wanted

#: Result keys that are no better with more recomputation or less overlap, when less of them is better ...
_LESS = ("time.step_s", "energy.per_step_j", "energy.per_token_j", "money.", "carbon.", "run.days", "run.usd",
         "run.energy_kwh", "run.kg_co2e", "run.device_hours")  # fmt: skip
#: ... and when more is.
_MORE = ("metrics.tokens_per_s", "metrics.tokens_per_s_per_device", "metrics.mfu")


def holds_for(problem: Problem) -> bool:
    """Recomputation never helps: nothing that it saves has to be moved, and it hides no more than the time it takes."""
    moves_activations = problem.offload is not None and bool(np.any(np.asarray(problem.offload.activations) > 0.0))
    return not moves_activations and bool(np.all(np.asarray(problem.machine.step.data_window) <= 1.0))


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
    rows = np.flatnonzero(block.fits.any(axis=tuple(range(block.fits.ndim - 1))))
    for optimistic in _corners(block):
        if len(rows):
            block, devices = block.only(rows), devices[rows]
            rows = _alive(block, wanted, known, devices, optimistic)
    if len(rows):
        yield from block.only(rows).parts()


def _alive(
    block: Block, wanted: Wanted, known: Known, devices: NDArray[np.int64], optimistic: Mapping[int, int]
) -> NDArray[np.int64]:
    """Rows whose bound is not worse than what is known, once the bounds that fit are known themselves."""
    # A bound of candidates none of which fits is of no use.
    could: Mask = np.any(block.fits, axis=tuple(axis + 1 for axis in optimistic), keepdims=True)
    bounds = np.concatenate(
        [_noted(part, wanted, known, devices[rows], could[..., rows]) for rows, part in _cut(block.corner(optimistic))],
        axis=-1,
    )
    return np.flatnonzero(np.any(bounds <= known.limit(devices), axis=0))


def _cut(block: Block) -> Iterator[tuple[slice, Block]]:
    """Rows of a block in parts that are quick to compose."""
    length = max(PART_CANDIDATES * len(block.rows) // block.size, 1)
    for start in range(0, len(block.rows), length):
        rows = slice(start, start + length)
        yield rows, block.only(rows)


def _noted(corner: Block, wanted: Wanted, known: Known, devices: NDArray[np.int64], could: Mask) -> NDArray[np.float64]:
    """Smallest value of every point and row over the switches that are left, after noting what is allowed of them.

    ``could``: where something that is bounded fits.
    """
    bound = wanted.values(corner)[:, 0].reshape(corner.shape)
    fits = corner.everywhere(corner.fits & wanted.allowed(corner))
    point, *_, row = np.nonzero(fits)
    known.note(bound[fits], point, devices[row])
    bound = np.where(could, bound, np.inf)
    return bound.reshape(bound.shape[0], -1, bound.shape[-1]).min(axis=1)


def _corners(block: Block) -> Iterator[dict[int, int]]:
    """Switch axes and the value of each that bounds the others: of recomputation and overlaps, then of overlaps."""
    overlaps: dict[int, int] = {}
    recompute: dict[int, int] = {}
    policies = block.space.structure["recompute_policies"]
    for axis, switch in enumerate(block.space.switches):
        columns = switch.columns
        if len(switch) > 1 and any(name in columns for name in OVERLAPS):
            overlaps[axis] = int(np.argmax(next(columns[name] for name in OVERLAPS if name in columns)))
        if len(switch) > 1 and "recompute" in columns:
            named = np.array([policies[index] == "none" for index in columns["recompute"]])
            nothing = named | (columns["recompute_fraction"] == 0.0)
            if nothing.any():
                recompute[axis] = int(np.argmax(nothing))
    if recompute:
        yield recompute | overlaps
    if overlaps:
        yield overlaps
