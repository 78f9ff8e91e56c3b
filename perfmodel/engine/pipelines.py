"""How a schedule composes the stages of a pipeline: the bubble of a step, and the micro-batches in flight.

Stages of a class are equal. A longest path through the pipeline stays at the first or at the last stage of a
class (what lies between is linear in the position), so that a class is one or two *stops* of the recurrence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from perfmodel.engine.networks import plain
from perfmodel.engine.problem import Caller, Problem, call_each, total
from perfmodel.engine.stages import PlanNumbers, StageClass, StageTime
from perfmodel.equations import pipeline, pipeline_paths, pipeline_schedules
from perfmodel.parallel.orders import DUALPIPE, GPIPE, INTERLEAVED, ONE_F_ONE_B, ZB_H1, ZB_V
from perfmodel.units import Numeric


def in_flight_microbatches(plan: PlanNumbers, stage: StageClass) -> Numeric:
    """Most micro-batches whose activations a stage keeps."""
    m, name = plan.num_microbatches, plan.schedule.name
    if name == GPIPE:
        return m
    if name in _FULL:
        return pipeline_schedules.full_in_flight_microbatches(plan.pp, _FULL[name], m)
    return pipeline.in_flight_microbatches(plan.pp, stage.position, m, plan.virtual_stages)


#: Schedules in which all stages keep the same: micro-batches in flight beyond one per stage.
_FULL: Mapping[str, float] = {ZB_H1: 0.0, ZB_V: 0.0, DUALPIPE: 1.0}


def _caller(problem: Problem, plan: PlanNumbers) -> Caller:
    """Rows of one plan are stacked; whole columns stay in the cache when they are computed one by one."""
    return problem.call if np.size(plain(plan.pp)) == 1 else call_each


@dataclass(frozen=True)
class _Stages:
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


def pipeline_bubble(
    problem: Problem, plan: PlanNumbers, classes: Sequence[StageClass], times: Sequence[StageTime], worst: StageTime
) -> Numeric:
    """Idle time of the slowest stage in one step."""
    if not np.any(plain(plan.pp) > 1.0):
        return 0.0
    stages, busy = _Stages(classes, times, worst), plan.num_microbatches * worst.total
    path = _PATHS[plan.schedule.name] if problem.workload.training else _forward_only
    return pipeline_schedules.idle_time(path(problem, plan, stages), busy, plan.pp)


def _forward_only(_: Problem, plan: PlanNumbers, stages: _Stages) -> Numeric:
    slot = stages.worst.total
    return pipeline.pipeline_time(plan.num_microbatches, slot, stages.sum("total") - slot, plan.virtual_stages)


def _gpipe(_: Problem, plan: PlanNumbers, stages: _Stages) -> Numeric:
    slowest = stages.longest("forward_pass"), stages.longest("backward_pass")
    return pipeline_schedules.gpipe_time(plan.num_microbatches, stages.sum("total"), *slowest)


# -- longest paths -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Stop:
    """A stage at which a longest path may stay: its passes through one chunk, and what surrounds it."""

    forward: Numeric
    backward: Numeric  # what other stages wait for
    slot: Numeric  # both
    weight_gradient: Numeric
    position: Numeric
    before: tuple[Numeric, Numeric]  # forward and backward passes of the stages before
    slowest: tuple[Numeric, Numeric]  # of this stage and those before
    skipped: Numeric  # equal stages up to the next stop; -1 where that is the same stage

    @property
    def own(self) -> tuple[Numeric, Numeric]:
        return self.forward, self.backward


@dataclass(frozen=True)
class _Line:
    """The stops of a pipeline from the first stage to the last; forward and backward passes through all stages."""

    stops: tuple[_Stop, ...]
    whole: tuple[Numeric, Numeric]

    @property
    def slowest(self) -> tuple[Numeric, Numeric]:
        return self.stops[-1].slowest


def _line(plan: PlanNumbers, stages: _Stages, backward: str) -> _Line:
    stops: list[_Stop] = []
    rank: Numeric = 0.0
    before: tuple[Numeric, Numeric] = (0.0, 0.0)
    slowest: tuple[Numeric, Numeric] = (0.0, 0.0)
    for one, time in zip(stages.classes, stages.times, strict=True):
        # A class that the plan does not have takes no time.
        share = np.where(one.multiplicity > 0.0, 1.0 / plan.virtual_stages, 0.0)
        own = share * time.forward_pass, share * getattr(time, backward)
        slowest = np.maximum(slowest[0], own[0]), np.maximum(slowest[1], own[1])
        slot, weights = own[0] + own[1], share * time.weight_gradient
        for earlier, skipped in _members(one):
            reach = before[0] + earlier * own[0], before[1] + earlier * own[1]
            stops.append(_Stop(*own, slot, weights, rank + earlier, reach, slowest, skipped))
        count = one.multiplicity
        rank, before = rank + count, (before[0] + count * own[0], before[1] + count * own[1])
    return _Line(tuple(stops), before)


def _members(one: StageClass) -> Iterator[tuple[Numeric, Numeric]]:
    """First and last stage of a class: equal stages before it, and those between it and the next stop."""
    if np.any(plain(one.multiplicity) > 1.0):
        yield 0.0, one.multiplicity - 2.0
        yield np.maximum(one.multiplicity - 1.0, 0.0), 0.0
    else:
        yield 0.0, 0.0


#: Forward and backward passes: the end of a step is its start with the two exchanged.
_BOTH = (0, 1)
_Pairs = list[tuple[Numeric, Numeric]]


def _runs(problem: Problem, plan: PlanNumbers, line: _Line, passes: Sequence[Numeric]) -> _Pairs:
    """Time of the first passes of each direction, one count of passes per stop."""
    rows = [
        {
            "reach": stop.before[way] + stop.own[way],
            "slowest_before": stop.slowest[way],
            "passes": count,
            "round_trip": line.whole[way],
            "slowest": line.slowest[way],
            "stages": plan.pp,
            "virtual_stages": plan.virtual_stages,
        }
        for stop, count in zip(line.stops, passes, strict=True)
        for way in _BOTH
    ]
    return _paired(_caller(problem, plan)(pipeline_paths.run_time, rows))


def _paired(flat: Sequence[Any]) -> _Pairs:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _returns(problem: Problem, plan: PlanNumbers, line: _Line, runs: _Pairs) -> _Pairs:
    """Start and end of the paths at every stop: first pass of the other direction, from the last stage up."""
    found: _Pairs = []
    arrival: tuple[Numeric, Numeric] = (0.0, 0.0)
    for stop, run in zip(reversed(line.stops), reversed(runs), strict=True):
        rows = [
            {
                "own": stop.own[1 - way],
                "arrival": arrival[way] + stop.skipped * stop.own[1 - way],
                "run_ahead": run[way],
            }
            for way in _BOTH
        ]
        (arrival,) = _paired(_caller(problem, plan)(pipeline_paths.first_return_time, rows))
        found.append(arrival)
    return found[::-1]


def _one_forward_one_backward(problem: Problem, plan: PlanNumbers, stages: _Stages) -> Numeric:
    line = _line(plan, stages, "backward_pass")
    passes = plan.virtual_stages * plan.num_microbatches
    ahead = _caller(problem, plan)(
        pipeline_paths.passes_ahead,
        [{"stages": plan.pp, "position": stop.position, "virtual_stages": plan.virtual_stages} for stop in line.stops],
    )
    first = _runs(problem, plan, line, [np.minimum(one, passes - 1.0) for one in ahead])
    returns = _returns(problem, plan, line, first)
    few = any(np.any(plain(passes) < plain(one) + 2.0) for one in ahead)
    runs = _runs(problem, plan, line, [passes - 1.0] * len(ahead)) if few else [(0.0, 0.0)] * len(ahead)
    rows = [
        {
            "forward": stop.forward,
            "backward": stop.backward,
            "start": start,
            "end": end,
            "forward_run": run[0],
            "backward_run": run[1],
            "passes": passes,
            "ahead": one,
        }
        for variant in _variants(problem, plan, line, returns, passes, ahead)
        for stop, (start, end), run, one in zip(line.stops, variant, runs, ahead, strict=True)
    ]
    return reduce(np.maximum, _caller(problem, plan)(pipeline_paths.stage_path_time, rows))


def _variants(
    problem: Problem, plan: PlanNumbers, line: _Line, returns: _Pairs, passes: Numeric, ahead: Sequence[Numeric]
) -> list[_Pairs]:
    """Starts and ends of paths. Interleaved, either may be held up by the second group of micro-batches."""
    if not np.any(plain(plan.virtual_stages) > 1.0):
        return [returns]
    late = _late(problem, plan, line, returns)
    ends = _caller(problem, plan)(
        pipeline_paths.late_end_time,
        [
            {"end": times[1], "late_end": held[1], "position": stop.position, "passes": passes, "ahead": one}
            for stop, times, held, one in zip(line.stops, returns, late, ahead, strict=True)
        ],
    )
    from_late = [(held[0], end) for held, end in zip(late, ends, strict=True)]
    return [from_late, [(times[0], held[1]) for times, held in zip(returns, late, strict=True)]]


def _late(problem: Problem, plan: PlanNumbers, line: _Line, returns: _Pairs) -> _Pairs:
    """Starts and ends of paths that the second group of micro-batches, or the last but one, may hold up."""
    call = _caller(problem, plan)
    each = [(stop, times[way], way) for stop, times in zip(line.stops, returns, strict=True) for way in _BOTH]
    groups = call(
        pipeline_paths.second_group_time,
        [
            {
                "start": start,
                "slot": stop.slot,
                "onwards": line.whole[way] - stop.before[way],
                "stages": plan.pp,
                "position": stop.position,
            }
            for stop, start, way in each
        ],
    )
    latest = [reduce(np.maximum, groups[way::2]) for way in _BOTH]
    rows = [
        {
            "start": start,
            "second_group": latest[way],
            "before": stop.before[way],
            "slot": stop.slot,
            "position": stop.position,
            "stages": plan.pp,
            "num_microbatches": plan.num_microbatches,
            "virtual_stages": plan.virtual_stages,
        }
        for stop, start, way in each
    ]
    return _paired(call(pipeline_paths.late_start_time, rows))


def _zb_h1(problem: Problem, plan: PlanNumbers, stages: _Stages) -> Numeric:
    line = _line(plan, stages, "input_gradient")
    runs = _runs(problem, plan, line, [plan.pp - 1.0 - stop.position for stop in line.stops])
    tails: list[Numeric] = []
    arrival: Numeric = 0.0
    for stop in line.stops:
        tail = pipeline_paths.postponed_tail_time(
            stop.weight_gradient, stop.position, arrival, stop.before[0], plan.synchronous
        )
        tails.append(tail)
        arrival = tail + (1.0 + stop.skipped) * stop.backward
    rows = [
        {
            "forward": stop.forward,
            "input_gradient": stop.backward,
            "weight_gradient": stop.weight_gradient,
            "start": start,
            "below": sum(line.whole) - sum(stop.before) - stop.slot,
            "tail": tail,
            "num_microbatches": plan.num_microbatches,
            "stages": plan.pp,
            "position": stop.position,
        }
        for stop, (start, _), tail in zip(line.stops, _returns(problem, plan, line, runs), tails, strict=True)
    ]
    return reduce(np.maximum, _caller(problem, plan)(pipeline_paths.zb_h1_path_time, rows))


# -- schedules known by the bubble of equal stages ---------------------------------------------------
@dataclass(frozen=True)
class _Others:
    """Mean times of the stages beside the slowest one."""

    forward: Numeric
    input_gradient: Numeric
    weight_gradient: Numeric

    @property
    def total(self) -> Numeric:
        return self.forward + self.input_gradient + self.weight_gradient


def _others(problem: Problem, plan: PlanNumbers, stages: _Stages, left_out: float) -> _Others:
    names = ("forward_pass", "input_gradient", "weight_gradient")
    rows = [
        {
            "all_stages": stages.sum(name),
            "own": getattr(stages.worst, name),
            "stages": plan.pp,
            "left_out": left_out,
        }
        for name in names
    ]
    return _Others(*_caller(problem, plan)(pipeline_schedules.mean_of_others, rows))


def _zb_v(problem: Problem, plan: PlanNumbers, stages: _Stages) -> Numeric:
    worst, others = stages.worst, _others(problem, plan, stages, 1.0)
    bubble = pipeline_schedules.zb_v_bubble_time(
        plan.pp, others.forward, others.input_gradient, others.weight_gradient, plan.synchronous
    )
    left = pipeline_schedules.zb_v_slow_stage_bubble_time(
        bubble,
        plan.num_microbatches,
        plan.pp,
        worst.total - others.total,
        worst.input_gradient - others.input_gradient,
        worst.weight_gradient,
        others.weight_gradient,
        others.forward,
        plan.synchronous,
    )
    return plan.num_microbatches * worst.total + left


def _dualpipe(problem: Problem, plan: PlanNumbers, stages: _Stages) -> Numeric:
    """The stage opposite holds the same; a pair of passes takes as long as both alone (the stack hides the sends)."""
    worst, others = stages.worst, _others(problem, plan, stages, plan.schedule.copies)
    bubble = pipeline_schedules.dualpipe_bubble_time(
        plan.pp, others.forward, others.input_gradient, others.weight_gradient, others.total
    )
    left = pipeline_schedules.dualpipe_slow_stage_bubble_time(
        bubble, plan.pp, worst.total - others.total, worst.forward_pass - others.forward
    )
    return plan.num_microbatches * worst.total + left


_PATHS: Mapping[str, Callable[[Problem, PlanNumbers, _Stages], Numeric]] = {
    GPIPE: _gpipe,
    ONE_F_ONE_B: _one_forward_one_backward,
    INTERLEAVED: _one_forward_one_backward,
    ZB_H1: _zb_h1,
    ZB_V: _zb_v,
    DUALPIPE: _dualpipe,
}
