"""The best plan of one size of one variant, found when it is asked for, and why there is none."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from perfmodel.engine.build import build_question
from perfmodel.engine.evaluate import answer
from perfmodel.engine.result import Result
from perfmodel.specs.axes import DEVICES
from perfmodel.study.capacity.goal import RATE, Goal, limit_word, limits_of, looked_for
from perfmodel.study.capacity.variants import Variant
from perfmodel.study.intervals import log_time
from perfmodel.study.search.answer import entries, full_result
from perfmodel.study.search.regions import SearchSpace
from perfmodel.study.search.result import Entry
from perfmodel.study.search.walk import Found, joined, run_task, tasks_of
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
    _spaces: dict[int, SearchSpace] = field(default_factory=dict[int, SearchSpace])
    _best: dict[tuple[int, float], Size] = field(default_factory=dict[tuple[int, float], Size])

    @classmethod
    def of(cls, variant: Variant, goal: Goal, tell: Callable[[int], None]) -> Sizes:
        """Nothing searched yet."""
        return cls(variant, goal, limits_of(variant.resolved, variant.question(), goal), tell)

    @property
    def rack_is_enough(self) -> bool:
        """A rack carries a node."""
        return self.variant.nodes_per_rack is None or self.variant.nodes_per_rack >= 1

    def at(self, devices: int, factor: float = 1.0) -> Size:
        """The best plan of a size; the goal must be met with times longer by a factor."""
        key = (devices, 1.0 if self.goal.bounds_time else factor)
        if key not in self._best:
            self._best[key] = self._searched(devices, factor)
        found = self._best[key]
        met = found.entry is not None and self.goal.surer(factor).met(found.entry.numbers)
        return Size(self.variant, devices, found.entry, met and self.rack_is_enough)

    def _searched(self, devices: int, factor: float) -> Size:
        self.tell(devices)
        of_goal = () if self.goal.bounds_time else self.goal.surer(factor).bounds
        space, found = self._walk(devices, (*self.bounds, *of_goal))
        table = found.bests.in_order()
        listed = entries(space, table.take(np.arange(min(len(table), 1))))
        return Size(self.variant, devices, self._named(listed[0], devices) if listed else None, met=False)

    def _named(self, entry: Entry, devices: int) -> Entry:
        """An entry that says everything which makes it a scenario."""
        return Entry({**self.variant.settings, DEVICES: devices, **entry.settings}, entry.plan, entry.numbers)

    def _space(self, devices: int) -> SearchSpace:
        if devices not in self._spaces:
            self._spaces[devices] = self.variant.space(devices)
        return self._spaces[devices]

    def _walk(self, devices: int, bounds: tuple[Bound, ...]) -> tuple[SearchSpace, Found]:
        space = self._space(devices)
        wanted = looked_for(self.goal.key, bounds, most=self.goal.key == RATE)
        return self._gone_through(space, wanted)

    @staticmethod
    def _gone_through(space: SearchSpace, wanted: Wanted) -> tuple[SearchSpace, Found]:
        return space, joined(space, wanted, [run_task(space, wanted, task) for task in tasks_of(space)])

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
        alone = [one for one in bounds if self._allows(devices, tuple(other for other in bounds if other != one))]
        alone = alone or [one for one in bounds if not self._allows(devices, (one,))] or list(bounds)
        return tuple(dict.fromkeys(limit_word(one) for one in alone))

    def _allows(self, devices: int, bounds: tuple[Bound, ...]) -> bool:
        return self._walk(devices, bounds)[1].allowed > 0

    def reach(self, devices: int, bound: Bound) -> float | None:
        """What a result comes to at best where all other limits are kept and the goal is met; None: they cannot be."""
        others = tuple(one for one in (*self.bounds, *self.goal.bounds) if one != bound)
        most = np.isfinite(bound.lower)
        wanted = looked_for(bound.key, others, most=bool(most))
        _, found = self._gone_through(self._space(devices), wanted)
        if not len(found.best) or not self.rack_is_enough:
            return None
        value = float(found.best.values[0, 0])
        return -value if most else value

    def result(self, size: Size) -> Result:
        """The full result of the best plan of a size; of the one that comes nearest to fitting where there is none."""
        if size.entry is not None:
            return full_result_of(self.variant, size.entry)
        space, found = self._walk(size.devices, ())
        return full_result(space, found.bests.in_order() if len(found.bests) else found.least_memory)

    @functools.cached_property
    def deviation(self) -> float:
        """Standard deviation of the logarithm of a step time of this variant."""
        known = [one for one in self._best.values() if one.entry is not None]
        if not known or known[-1].entry is None:
            return 0.0
        time = log_time(full_result_of(self.variant, known[-1].entry))
        return 0.0 if time is None else time.stdev


def full_result_of(variant: Variant, entry: Entry) -> Result:
    """The full result of an entry."""
    settings = {path: value for path, value in entry.settings.items() if path not in variant.settings}
    return answer(build_question(variant.resolved.candidate(**settings)))
