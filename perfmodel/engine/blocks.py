"""Candidates of a search, block by block: memory of all, and whatever else is asked of those that fit.

A block has one dimension per hardware sweep and switch, and the rows of a plan space as its last one. Its columns meet
by broadcasting, so that every number is computed once for all candidates that share it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.composition import Evaluation, evaluate_rows
from perfmodel.engine.headline import PRICED, memory_fits, plan_rules, priced_numbers, result_numbers
from perfmodel.engine.key_book import HardwarePoints, KeyBook
from perfmodel.engine.problem import Problem, call_each
from perfmodel.engine.recall import Shelf, digest
from perfmodel.engine.section_costs import KeyCosts
from perfmodel.parallel.plan import Counts, Plan
from perfmodel.parallel.rule import Mask
from perfmodel.parallel.rules import violated
from perfmodel.parallel.space import PlanSpace, Switch
from perfmodel.units import Numeric

#: Candidates that differ in memory and are looked at together, and candidates that are composed at a time: the largest
#: arrays of a composition stay in the cache of a processor.
BLOCK_CANDIDATES = 262_144
PART_CANDIDATES = 131_072


@dataclass(frozen=True)
class Block:
    """Some rows of a plan space with all of their switches, on every hardware point.

    Arrays over the block broadcast to ``shape = (points, *switch_shape, rows)``; masks have length 1 along dimensions
    on which they do not depend.
    """

    space: PlanSpace
    rows: NDArray[np.int64]  # row indices of the space
    columns: Mapping[str, Counts]  # of the rows
    points: HardwarePoints
    base: Problem
    costs: KeyCosts
    take: NDArray[np.int64]  # key of every (point, switch, row)
    numbered: NDArray[np.int64]  # combinations of switches of the whole space that this block has, shape switch_shape
    switch_count: int  # of the whole space
    shelf: Shelf | None = None  # what is known of this physics
    whole: Block | None = None  # of which this one has the passes only

    @functools.cached_property
    def plan(self) -> Plan:
        """Columns of all candidates."""
        return self.space.block(self.columns)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the block."""
        return (len(self.points), *self.space.switch_shape, len(self.rows))

    @functools.cached_property
    def problem(self) -> Problem:
        """The problem with the hardware points along the first dimension; equations are called column by column."""
        shaped = self.points.spread(self.base, (len(self.points),) + (1,) * (len(self.shape) - 1))
        return replace(shaped, call=call_each)

    @functools.cached_property
    def evaluation(self) -> Evaluation:
        """Memory, time and energy, each composed when it is asked for."""
        if self.whole is not None:
            return self.whole.evaluation.of_passes()
        return evaluate_rows(self.problem, self.plan, self.costs, self.take)

    @functools.cached_property
    def possible(self) -> Mask:
        """Candidates that keep every integer rule and are not another candidate written differently."""
        requested = self.columns["devices"]
        kept = ~violated(plan_rules(self.base, self.plan, requested)) & ~redundant(self.plan)
        return kept.reshape((1,) * (len(self.shape) - kept.ndim) + kept.shape)

    @functools.cached_property
    def fits(self) -> Mask:
        """Possible candidates whose memory fits."""
        return self.possible & self._recalled("fits", lambda: memory_fits(self.problem, self.evaluation))

    @property
    def peak_bytes(self) -> Numeric:
        """Memory of the fullest device."""
        return self._recalled("memory.peak_bytes", lambda: self.evaluation.peak_bytes)

    def _recalled(self, name: str, compute: Callable[[], Any]) -> Any:
        """Something that follows from the physics, computed where it is not known."""
        return (
            compute() if self.shelf is None else self.shelf.get((self._content, self.whole is not None, name), compute)
        )

    @functools.cached_property
    def _content(self) -> bytes:
        """Which candidates of the whole space the block has."""
        return digest(self.rows, self.numbered)

    def count(self, mask: Mask) -> int:
        """Candidates for which a mask holds; where it does not vary along a dimension it holds for all of it."""
        return int(np.count_nonzero(mask)) * (self.size // mask.size)

    def everywhere(self, mask: Mask) -> Mask:
        """A mask over the whole block."""
        return np.broadcast_to(mask, self.shape)

    def numbers(self, keys: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Result keys over the block."""
        found: Mapping[str, Numeric] = (
            result_numbers(self.problem, self.evaluation, keys) if self.shelf is None else self._known_numbers(keys)
        )
        return {key: np.broadcast_to(np.asarray(found[key], dtype=np.float64), self.shape) for key in keys}

    def _known_numbers(self, keys: Sequence[str]) -> Mapping[str, Numeric]:
        """Numbers that follow from the physics are looked up, and priced anew."""

        def physical(key: str) -> Numeric:
            return self._recalled(key, lambda: result_numbers(self.problem, self.evaluation, [key])[key])

        found = {key: physical(key) for key in keys if not key.startswith(PRICED)}
        priced = [key for key in keys if key.startswith(PRICED)]
        if not priced:
            return found
        step, energy = physical("time.step_s"), functools.partial(physical, "energy.per_step_j")
        return found | priced_numbers(self.problem, self.evaluation.numbers, step, energy, priced)

    def candidates(self, flat: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Hardware point and candidate index of flat positions of the block."""
        point, switch, row = np.unravel_index(flat, (len(self.points), self.space.switch_count, len(self.rows)))
        return point, self.rows[row] * self.switch_count + self.numbered.ravel()[switch]

    def only(self, kept: NDArray[np.int64] | slice) -> Block:
        """The block of some of its rows."""
        smaller = replace(
            self,
            rows=self.rows[kept],
            columns={name: column[kept] for name, column in self.columns.items()},
            take=self.take[..., kept],
        )
        return self._with_known(smaller, (*[slice(None)] * (len(self.shape) - 1), kept))

    def parts(self) -> Iterator[Block]:
        """What fits of the block, in parts that are quick to compose; together they have every candidate that fits."""
        for part in self.split("zero", lambda zero: zero >= 3):
            trimmed = part.trimmed()
            pieces = math.ceil(trimmed.size / PART_CANDIDATES)
            for one in trimmed.split("recompute", lambda values, n=pieces: np.arange(len(values)) * n // len(values)):
                length = max(PART_CANDIDATES // one.row_size, 1)
                for start in range(0, len(one.rows), length):
                    yield one.only(slice(start, start + length))

    @property
    def rows_that_fit(self) -> NDArray[np.int64]:
        """Positions of the rows that fit on some point with some value of the switches."""
        return np.flatnonzero(self.fits.any(axis=tuple(range(self.fits.ndim - 1))))

    @property
    def row_size(self) -> int:
        """Candidates of a row on all hardware points, possible or not."""
        return self.space.switch_count * len(self.points)

    @property
    def size(self) -> int:
        """Candidates of the block on all hardware points, possible or not."""
        return math.prod(self.shape)

    def split(self, column: str, groups: Callable[[NDArray[Any]], NDArray[Any]]) -> Iterator[Block]:
        """The rows that fit with neighbouring values of a switch; ``groups``: the group of every value."""
        axis = next((i for i, one in enumerate(self.space.switches) if column in one.columns), None)
        if axis is None:
            yield self
            return
        for run in runs(groups(self.space.switches[axis].columns[column])):
            part = self.corner({axis: run})
            kept = part.rows_that_fit
            if len(kept):
                yield part.only(kept)

    def corner(self, chosen: Mapping[int, slice]) -> Block:
        """The block with neighbouring values of some of its switches, by axis."""
        return self._of_switches(tuple(chosen.get(axis, slice(None)) for axis in range(len(self.space.switches))))

    def where(self, mask: Mask) -> Block:
        """The block in which candidates fit only where a mask holds too: the others are not looked at again."""
        smaller = self._with_known(replace(self), (slice(None),) * len(self.shape))
        smaller.__dict__["fits"] = self.fits & mask
        return smaller

    def trimmed(self) -> Block:
        """The block without the first and the last values of switches with which nothing fits."""
        chosen: dict[int, slice] = {}
        for axis in range(len(self.space.switches)):
            others = tuple(one for one in range(self.fits.ndim) if one != axis + 1)
            there = np.flatnonzero(self.fits.any(axis=others))
            if self.fits.shape[axis + 1] > 1 and len(there):
                chosen[axis] = slice(int(there[0]), int(there[-1]) + 1)
        return self.corner(chosen)

    def of_passes(self) -> Block:
        """The block with time and energy of the passes over the model alone, of which no candidate takes less."""
        return self._with_known(replace(self, whole=self), (slice(None),) * len(self.shape))

    def _of_switches(self, chosen: tuple[slice, ...]) -> Block:
        switches = tuple(
            Switch({name: values[one] for name, values in switch.columns.items()})
            for switch, one in zip(self.space.switches, chosen, strict=True)
        )
        keyed = tuple(
            one if length > 1 else slice(None) for one, length in zip(chosen, self.take.shape[1:-1], strict=True)
        )
        smaller = replace(
            self,
            space=replace(self.space, switches=switches),
            take=self.take[(slice(None), *keyed)],
            numbered=self.numbered[chosen],
        )
        return self._with_known(smaller, (slice(None), *chosen, slice(None)))

    def _with_known(self, smaller: Block, part: tuple[Any, ...]) -> Block:
        """The smaller block with what is known already: the problem, and its part of the masks."""
        if "problem" in self.__dict__:
            smaller.__dict__["problem"] = self.problem
        for name in ("possible", "fits"):
            if name in self.__dict__:
                mask: Mask = self.__dict__[name]
                chosen = tuple(one if length > 1 else slice(None) for one, length in zip(part, mask.shape, strict=True))
                smaller.__dict__[name] = mask[chosen]
        return smaller


def runs(values: NDArray[Any]) -> list[slice]:
    """Neighbours with the same value."""
    ends = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def redundant(plan: Plan) -> Mask:
    """Plans that are another plan written differently: sharding over one rank, sequence parallelism without ranks."""
    alone = (plan.sequence_parallel > 0) & (plan.tp == 1)
    unsharded = (plan.zero > 0) & (plan.dp * plan.cp == 1) & (plan.zero < 3)
    copies = (plan.zero < 3) & (plan.dp_replicate > 1)
    return alone | unsharded | copies


def possible_rows(problem: Problem, space: PlanSpace, start: int, stop: int) -> NDArray[np.int64]:
    """Rows of a range that keep the integer rules with some value of the switches."""
    index = np.arange(start, stop, dtype=np.int64)
    columns = space.row_columns(index)
    divides = columns["devices"] == (
        columns["tp"] * columns["cp"] * columns["pp"] * columns["dp_shard"] * columns["dp_replicate"]
    )
    index, columns = index[divides], {name: column[divides] for name, column in columns.items()}
    if not len(index):
        return index
    # The most permissive switches: nothing sharded over the sequence, and replicas allowed.
    plan = space.plan_of_rows(columns, {"sequence_parallel": 0, "zero": 3})
    return index[~violated(plan_rules(problem, plan, columns["devices"]))]


def blocks_of_rows(
    problem: Problem, space: PlanSpace, rows: NDArray[np.int64], points: HardwarePoints, book: KeyBook | None = None,
    shelf: Shelf | None = None,
) -> Iterator[Block]:  # fmt: skip
    """Blocks of possible rows; their shard keys are looked up in a book, or costed together.

    ``shelf``: what is known of this physics; None: everything is computed.
    """
    if not len(rows):
        return
    columns = space.row_columns(rows)
    keyed = keyed_plan(space, columns)
    shelf = None if shelf is None else shelf.narrowed(digest(space))
    book = KeyBook.of(problem, [keyed], points) if book is None else book
    found = book.find(keyed, experts=problem.has_experts)
    take = found.reshape(len(points), *_key_shape(space), len(rows))
    numbered = np.arange(space.switch_count, dtype=np.int64).reshape(space.switch_shape)
    length = max(BLOCK_CANDIDATES // _count_of(space, _OF_MEMORY), 1)
    for start in range(0, len(rows), length):
        part = slice(start, start + length)
        chosen = {name: column[part] for name, column in columns.items()}
        yield Block(
            space, rows[part], chosen, points, problem, book.costs, take[..., part], numbered, space.switch_count, shelf
        )


#: Switches on which memory depends.
_OF_MEMORY = ("recompute", "zero", "sequence_parallel")


def _count_of(space: PlanSpace, names: Sequence[str]) -> int:
    """Combinations of some switches."""
    return math.prod(len(one) for one in space.switches if any(name in one.columns for name in names))


#: The switch that operators see.
_KEY_SWITCH = "sequence_parallel"


def _key_shape(space: PlanSpace) -> tuple[int, ...]:
    """Lengths of the switches as far as the keys differ."""
    return tuple(len(one) if _KEY_SWITCH in one.columns else 1 for one in space.switches)


def keyed_plan(space: PlanSpace, columns: Mapping[str, Counts]) -> Plan:
    """Plans of rows with every value of the switch that operators see, one value after the other."""
    switch = next((one for one in space.switches if _KEY_SWITCH in one.columns), None)
    if switch is None:
        return space.plan_of_rows(columns)
    each, values = len(columns["tp"]), switch.columns[_KEY_SWITCH]
    tiled: dict[str, Any] = {name: np.tile(column, len(values)) for name, column in columns.items()}
    return space.plan_of_rows(tiled, {_KEY_SWITCH: np.repeat(values, each)})
