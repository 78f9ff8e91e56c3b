"""A pipeline as the stops of a longest path: what the recurrences of the schedules run over.

Stages of a class are equal. A longest path through the pipeline stays at the first or at the last stage of a
class (what lies between is linear in the position), so that a class is one or two *stops* of the recurrence; three
where the pipeline has two copies, because the middle stages of DualPipe begin in another order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from perfmodel.engine.networks import plain
from perfmodel.engine.problem import Caller, Problem, call_each, total
from perfmodel.engine.stages import PlanNumbers, StageClass, StageTime
from perfmodel.units import Numeric


def caller_of(problem: Problem, plan: PlanNumbers) -> Caller:
    """Rows of one plan are stacked; whole columns stay in the cache when they are computed one by one."""
    return problem.call if np.size(plain(plan.pp)) == 1 else call_each


@dataclass(frozen=True)
class Stages:
    """The classes of stages with the times of a micro-batch on each, and the slowest of them."""

    classes: Sequence[StageClass]
    times: Sequence[StageTime]
    worst: StageTime

    def sum(self, field: str) -> Numeric:
        return total(
            one.multiplicity * getattr(time, field) for one, time in zip(self.classes, self.times, strict=True)
        )

    def longest(self, field: str) -> Numeric:
        """The longest time of a stage that the plan has."""
        there = (
            np.where(one.multiplicity > 0.0, getattr(time, field), 0.0)
            for one, time in zip(self.classes, self.times, strict=True)
        )
        return reduce(np.maximum, there)


@dataclass(frozen=True)
class Stop:
    """A stage at which a longest path may stay: its passes through one chunk, and what surrounds it."""

    forward: Numeric
    backward: Numeric  # what other stages wait for
    slot: Numeric  # both
    weight_gradient: Numeric
    position: Numeric
    before: tuple[Numeric, Numeric]  # forward and backward passes of the stages before
    weights_before: Numeric  # weight gradients of these
    slowest: tuple[Numeric, Numeric]  # of this stage and those before
    skipped: Numeric  # equal stages up to the next stop; -1 where that is the same stage

    @property
    def own(self) -> tuple[Numeric, Numeric]:
        return self.forward, self.backward

    @property
    def total(self) -> Numeric:
        """Every pass of a micro-batch through the chunk."""
        return self.slot + self.weight_gradient

    @property
    def total_before(self) -> Numeric:
        """The same of the stages before."""
        return self.before[0] + self.before[1] + self.weights_before


@dataclass(frozen=True)
class Line:
    """The stops of a pipeline from the first stage to the last; forward and backward passes through all stages."""

    stops: tuple[Stop, ...]
    whole: tuple[Numeric, Numeric]

    @property
    def slowest(self) -> tuple[Numeric, Numeric]:
        return self.stops[-1].slowest


def line_of(plan: PlanNumbers, stages: Stages, backward: str, copies: float = 1.0) -> Line:
    """The stops of all stages; where there are copies of the pipeline, those up to the turn to the next copy."""
    stops: list[Stop] = []
    rank: Numeric = 0.0
    before: tuple[Numeric, Numeric] = (0.0, 0.0)
    weights_before: Numeric = 0.0
    slowest: tuple[Numeric, Numeric] = (0.0, 0.0)
    for one, time in zip(stages.classes, stages.times, strict=True):
        count = one.multiplicity
        if copies > 1.0:
            count = np.minimum(count, np.maximum(plan.pp / copies - rank, 0.0))
            if stops and not np.any(plain(count) > 0.0):
                break
        # A class that the plan does not have takes no time.
        share = np.where(count > 0.0, 1.0 / plan.virtual_stages, 0.0)
        own = share * time.forward_pass, share * getattr(time, backward)
        slowest = np.maximum(slowest[0], own[0]), np.maximum(slowest[1], own[1])
        slot, weights = own[0] + own[1], share * time.weight_gradient
        for earlier, skipped in _members(count, copies):
            reach = before[0] + earlier * own[0], before[1] + earlier * own[1]
            late = weights_before + earlier * weights
            stops.append(Stop(*own, slot, weights, rank + earlier, reach, late, slowest, skipped))
        rank, before = rank + count, (before[0] + count * own[0], before[1] + count * own[1])
        weights_before = weights_before + count * weights
    return Line(tuple(stops), before)


def _members(count: Numeric, copies: float) -> Iterator[tuple[Numeric, Numeric]]:
    """Stops among equal stages: those before it, and those between it and the next stop."""
    if not np.any(plain(count) > 1.0):
        yield 0.0, 0.0
        return
    last = np.maximum(count - 1.0, 0.0)
    # Next to the turn to the other copy a path may stay one stage before the last.
    if copies > 1.0 and np.any(plain(count) > 2.0):
        last_but_one = np.maximum(count - 2.0, 0.0)
        yield 0.0, last_but_one - 1.0
        yield last_but_one, last - last_but_one - 1.0
    else:
        yield 0.0, last - 1.0
    yield last, 0.0
