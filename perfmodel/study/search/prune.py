"""Leaving out candidates that cannot be an answer, without changing the answer.

Recomputation and communication that nothing hides never make a step shorter, cheaper or less hungry, and the gathers
of ZeRO 3 never the passes of a step. (Parameters in the memory of hosts, which ZeRO 3 fetches in parts, need it:
there is no plan without it to compare with.) The candidate without them, all else equal, is a bound of those with
them: where the bound is worse than what is known already, they need not be composed. Whether they fit is still known
of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.blocks import PART_CANDIDATES, Block, runs
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


@dataclass(frozen=True)
class Corner:
    """Candidates of a block that bound the others: what is optimistic of some of its switches.

    Attributes
    ----------
    chosen
        Value of a switch by axis.
    noted
        Those of them that an earlier corner has too.
    """

    chosen: Mapping[int, slice]
    noted: Mapping[int, slice] | None = None


def promising_parts(block: Block, wanted: Wanted, known: Known, devices: NDArray[np.int64]) -> Iterator[Block]:
    """Parts of a block that may hold an answer.

    Parameters
    ----------
    known
        Best values so far; what the block adds is noted.
    devices
        Index of the number of devices of every row.
    """
    for corner in _corners(block):
        kept = block.rows_that_fit
        block, devices = block.only(kept), devices[kept]
        if len(kept):
            block = _promising(block, wanted, known, devices, corner)
    yield from block.parts()


def _promising(block: Block, wanted: Wanted, known: Known, devices: NDArray[np.int64], corner: Corner) -> Block:
    """The block without candidates whose bound is worse than what is known, once bounds that fit are known themselves.

    What the passes take without ZeRO 3 bounds a row with ZeRO 3: most rows need not be composed with it.
    """
    optimistic = block.corner(corner.chosen)
    bounds = np.full(optimistic.shape, np.inf)
    least = np.full((len(block.points), len(block.rows)), -np.inf)
    parts = _by_sharding(block, optimistic.size)
    for place, part in parts:
        kept = part.rows_that_fit
        rows = kept[np.any(least[:, kept] <= known.limit(devices[kept]), axis=0)]
        length = max(PART_CANDIDATES // part.corner(corner.chosen).row_size, 1)
        for start in range(0, len(rows), length):
            some = rows[start : start + length]
            few = part.only(some)
            first = few.corner(corner.chosen)
            values = _values(first, wanted)
            new = first.everywhere(first.fits & wanted.allowed(first) & ~_noted(first, corner))
            point, *_, row = np.nonzero(new)
            known.note(values[new], point, devices[some][row])
            bounds[(slice(None), *place, some)] = np.where(_any_fits(few, corner), values, np.inf)
            if part is not parts[-1][1]:
                least[:, some] = _values(first.of_passes(), wanted).min(axis=tuple(range(1, len(first.shape) - 1)))
    limit = known.limit(devices)
    return block.where(bounds <= limit.reshape(len(block.points), *[1] * len(block.space.switches), -1))


#: Candidates that are composed in one go, with ZeRO 3 and without.
_FEW = 32_768


def _by_sharding(block: Block, candidates: int) -> list[tuple[tuple[slice, ...], Block]]:
    """The block without ZeRO 3, and with it: where each is among the switches, and the part."""
    everything = (slice(None),) * len(block.space.switches)
    for axis, switch in enumerate(block.space.switches):
        if "zero" in switch.columns and candidates > _FEW:
            sharded = switch.columns["zero"] >= 3
            found = sorted(runs(sharded), key=lambda one: bool(sharded[one.start]))
            return [((*everything[:axis], one, *everything[axis + 1 :]), block.corner({axis: one})) for one in found]
    return [(everything, block)]


def _values(block: Block, wanted: Wanted) -> NDArray[np.float64]:
    """The objective of every candidate of a block."""
    return wanted.values(block)[:, 0].reshape(block.shape)


def _any_fits(block: Block, corner: Corner) -> Mask:
    """Where something that the corner bounds fits: a bound of candidates none of which fits is of no use."""
    return np.any(block.fits, axis=tuple(axis + 1 for axis in corner.chosen), keepdims=True)


def _noted(part: Block, corner: Corner) -> Mask:
    """Candidates that are noted already."""
    mask = np.zeros((1, *part.space.switch_shape, 1), dtype=bool)
    if corner.noted is not None:
        chosen = (corner.noted.get(axis, slice(None)) for axis in range(len(part.space.switches)))
        mask[(slice(None), *chosen)] = True
    return mask


def _corners(block: Block) -> Iterator[Corner]:
    """Corners of recomputation and overlaps, then of overlaps."""
    overlaps: dict[int, slice] = {}
    recompute: dict[int, slice] = {}
    policies = block.space.structure["recompute_policies"]
    for axis, switch in enumerate(block.space.switches):
        columns = switch.columns
        if len(switch) > 1 and any(name in columns for name in OVERLAPS):
            overlaps[axis] = _only(next(columns[name] for name in OVERLAPS if name in columns) > 0)
        if len(switch) > 1 and "recompute" in columns:
            named = np.array([policies[index] == "none" for index in columns["recompute"]])
            nothing = named | (columns["recompute_fraction"] == 0.0)
            if nothing.any():
                recompute[axis] = _only(nothing)
    if recompute:
        yield Corner(recompute | overlaps)
    if overlaps:
        yield Corner(overlaps, recompute or None)


def _only(chosen: NDArray[np.bool_]) -> slice:
    """The first value that is chosen."""
    first = int(np.argmax(chosen))
    return slice(first, first + 1)
