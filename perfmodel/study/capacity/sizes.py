"""The best plan of one size of one variant, found when it is asked for, and why there is none."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from perfmodel.engine.build import build_question
from perfmodel.engine.evaluate import answer
from perfmodel.engine.recall import Recall
from perfmodel.engine.result import Result
from perfmodel.specs.axes import DEVICES
from perfmodel.study.capacity.goal import RATE, Goal, limit_word, limits_of, looked_for
from perfmodel.study.capacity.variants import Variant
from perfmodel.study.intervals import log_time
from perfmodel.study.search.answer import entries, explore, full_result
from perfmodel.study.search.regions import SearchSpace
from perfmodel.study.search.result import Entry
from perfmodel.study.search.walk import Found
from perfmodel.study.search.wanted import Bound, Wanted

#: Words for what stops a size beside a limit.
DIVISIBILITY, MEMORY, RACK = "divisibility", "memory", "rack_power"


@dataclass(frozen=True)
class Size:
    """One number of devices.

    Attributes
    ----------
    entry
        The best plan; None where none keeps the limits.
    met
        It meets the goal.
    """

    variant: Variant
    devices: int
    entry: Entry | None
    met: bool

    @property
    def value(self) -> Callable[[str], float]:
        """A number of the plan by its result key; not a number where there is none."""
        numbers = {} if self.entry is None else self.entry.numbers
        return lambda key: float(numbers.get(key, np.nan))


@dataclass(frozen=True)
class Sizes:
    """Sizes of one variant, each searched once."""

    variant: Variant
    goal: Goal
    bounds: tuple[Bound, ...]
    tell: Callable[[int], None]
    recall: Recall
    _spaces: dict[int, SearchSpace] = field(default_factory=dict[int, SearchSpace])
    _best: dict[tuple[int, float], Size] = field(default_factory=dict[tuple[int, float], Size])

    @classmethod
    def of(cls, variant: Variant, goal: Goal, tell: Callable[[int], None], recall: Recall) -> Sizes:
        """Nothing searched yet."""
        return cls(variant, goal, limits_of(variant.resolved, variant.question(), goal), tell, recall)

    @property
    def rack_is_enough(self) -> bool:
        """A rack carries a node."""
        return self.variant.nodes_per_rack is None or self.variant.nodes_per_rack >= 1

    def at(self, devices: int, factor: float = 1.0) -> Size:
        """The best plan of a size; the goal must be met with times longer by a factor."""
        return self.all_of((devices,), factor)[0]

    def all_of(self, several: Sequence[int], factor: float = 1.0) -> list[Size]:
        """The best plans of many sizes, found in one pass over all of their plans."""
        kept = 1.0 if self.goal.bounds_time else factor
        new = [one for one in several if (one, kept) not in self._best]
        if new:
            self.tell(len(new))
            space = self.variant.space(new, self.recall)
            # Where the best plan may miss the goal, the goal is a limit of its own.
            of_goal = () if self.goal.bounds_time else self.goal.surer(factor).bounds
            found = explore(space, self._order((*self.bounds, *of_goal)))
            # In the order of the objective: of several of one size, the first is the best.
            best: dict[int, Entry] = {}
            for entry in entries(space, found.bests):
                best.setdefault(int(entry.plan["devices"]), entry)
            for one in new:
                entry = None if one not in best else self._named(best[one], one)
                self._best[one, kept] = Size(self.variant, one, entry, met=False)
        return [self._judged(self._best[one, kept], factor) for one in several]

    def _judged(self, size: Size, factor: float) -> Size:
        """The size, and whether its best plan meets the goal."""
        met = size.entry is not None and self.goal.surer(factor).met(size.entry.numbers)
        return replace(size, met=met and self.rack_is_enough)

    def _order(self, bounds: tuple[Bound, ...]) -> Wanted:
        return looked_for(self.goal.key, bounds, most=self.goal.key == RATE)

    def _first(self, devices: int, space: SearchSpace, found: Found) -> Size:
        listed = entries(space, found.best.take(np.arange(min(len(found.best), 1))))
        return Size(self.variant, devices, self._named(listed[0], devices) if listed else None, met=False)

    def _named(self, entry: Entry, devices: int) -> Entry:
        """An entry that says everything which makes it a scenario."""
        return Entry({**self.variant.settings, DEVICES: devices, **entry.settings}, entry.plan, entry.numbers)

    def _space(self, devices: int) -> SearchSpace:
        if devices not in self._spaces:
            self._spaces[devices] = self.variant.space((devices,), self.recall)
        return self._spaces[devices]

    def _walk(self, devices: int, bounds: tuple[Bound, ...]) -> tuple[SearchSpace, Found]:
        space = self._space(devices)
        return space, explore(space, self._order(bounds))

    def stops(self, devices: int, factor: float = 1.0) -> tuple[str, ...]:
        """What stops a size: one word or several that stop it together; nothing where it meets the goal."""
        if self.at(devices, factor).met:
            return ()
        if not self.rack_is_enough:
            return (RACK,)
        _, found = self._walk(devices, ())
        if not found.evaluated:
            return (DIVISIBILITY,)
        if not found.feasible:
            return (MEMORY,)
        bounds = (*self.bounds, *self.goal.surer(factor).bounds)
        words = list(dict.fromkeys(limit_word(one) for one in bounds))
        alone = [word for word in words if self._allows(devices, _without(bounds, word))]
        kept = [one for one in words if self._allows(devices, tuple(b for b in bounds if limit_word(b) == one))]
        return tuple(alone or [one for one in words if one not in kept] or words)

    def _allows(self, devices: int, bounds: tuple[Bound, ...]) -> bool:
        return self._walk(devices, bounds)[1].allowed > 0

    def reach(self, devices: int, bound: Bound) -> Size:
        """The plan of a size with the best of a limited result where all other limits are kept and the goal is met."""
        others = _without((*self.bounds, *self.goal.bounds), limit_word(bound))
        wanted = looked_for(bound.key, others, most=bool(np.isfinite(bound.lower)))
        space = self._space(devices)
        return self._first(devices, space, explore(space, wanted))

    def shown(self, devices: int) -> Size:
        """The size for a table: its best plan, and where none keeps the limits the one that would be without them."""
        size = self.at(devices)
        for bounds in (self.bounds, ()):
            if size.entry is None:
                size = self._first(devices, *self._walk(devices, bounds))
        return size

    def result(self, size: Size) -> Result:
        """The full result of the best plan of a size; of the one that comes nearest to fitting where there is none."""
        if size.entry is not None:
            return full_result_of(self.variant, size.entry)
        space, found = self._walk(size.devices, ())
        return full_result(space, found.best if len(found.best) else found.least_memory)

    @functools.cached_property
    def deviation(self) -> float:
        """Standard deviation of the logarithm of a step time of this variant."""
        known = [one for one in self._best.values() if one.entry is not None]
        if not known or known[-1].entry is None:
            return 0.0
        time = log_time(full_result_of(self.variant, known[-1].entry))
        return 0.0 if time is None else time.stdev


def _without(bounds: tuple[Bound, ...], word: str) -> tuple[Bound, ...]:
    """Limits but those of a word: the power of a site is one limit, on average and at peak."""
    return tuple(one for one in bounds if limit_word(one) != word)


def full_result_of(variant: Variant, entry: Entry) -> Result:
    """The full result of an entry."""
    settings = {path: value for path, value in entry.settings.items() if path not in variant.settings}
    return answer(build_question(variant.resolved.candidate(**settings)))
