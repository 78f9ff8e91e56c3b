"""Longest paths of ZB-V and DualPipe over the stops of a pipeline: waves of passes between marks of the orders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from perfmodel.engine.pipeline_lines import Stages, Stop, caller_of, line_of
from perfmodel.engine.problem import Caller, Problem
from perfmodel.engine.stages import PlanNumbers
from perfmodel.equations import pipeline_mirrored, pipeline_waves
from perfmodel.units import Numeric

#: One number per stop, first to last.
_Marks: TypeAlias = list[Any]


def _down(call: Caller, stops: Sequence[Stop], passing: _Marks, ready: _Marks) -> _Marks:
    """A wave from the first stop to the last: when its pass has ended on each."""
    between = [0.0, *(stop.skipped for stop in stops[:-1])]
    found: _Marks = []
    arrival: Numeric = 0.0
    for own, skipped, since in zip(passing, between, ready, strict=True):
        row = {"passing": own, "arrival": arrival, "skipped": skipped, "ready": since}
        (arrival,) = call(pipeline_waves.wave_time, [row])
        found.append(arrival)
    return found


def _up(call: Caller, stops: Sequence[Stop], passing: _Marks, ready: _Marks) -> _Marks:
    """A wave from the last stop to the first."""
    found: _Marks = []
    arrival: Numeric = 0.0
    for stop, own, since in zip(reversed(stops), reversed(passing), reversed(ready), strict=True):
        row = {"passing": own, "arrival": arrival, "skipped": stop.skipped, "ready": since}
        (arrival,) = call(pipeline_waves.wave_time, [row])
        found.append(arrival)
    return found[::-1]


def _longest_of_pairs(
    call: Caller, equation: Callable[..., Any], count: int, row: Callable[[int, int], Mapping[str, Any]], *, upper: bool
) -> _Marks:
    """For each stop the longest path over the stops at which it may stay before: those below it, or above."""
    pairs = [[(one, held) for held in (range(one, count) if upper else range(one + 1))] for one in range(count)]
    flat = iter(call(equation, [row(*pair) for group in pairs for pair in group]))
    return [reduce(np.maximum, [next(flat) for _ in group]) for group in pairs]


def _first_gradients(call: Caller, plan: PlanNumbers, stops: Sequence[Stop]) -> _Marks:
    """When a stop has made the forward passes before its first input gradient."""
    depth = plan.pp / plan.schedule.copies
    return _longest_of_pairs(
        call,
        pipeline_waves.first_gradient_ready_time,
        len(stops),
        lambda one, held: {
            "before": stops[one].before[0],
            "before_held": stops[held].before[0],
            "forward_held": stops[held].forward,
            "position": stops[one].position,
            "held": stops[held].position,
            "depth": depth,
        },
        upper=True,
    )


def zb_v(problem: Problem, plan: PlanNumbers, stages: Stages) -> Numeric:
    """Time of a step under ZB-V, from the first input gradients to the weight gradients that were put off."""
    stops, call = line_of(plan, stages, "input_gradient").stops, caller_of(problem, plan)
    forward, gradient = [stop.forward for stop in stops], [stop.backward for stop in stops]
    first = _down(call, stops, gradient, _first_gradients(call, plan, stops))
    returned = _up(call, stops, gradient, _zb_v_steady(call, plan, stops, "first_gradient", first))
    last = _up(call, stops, forward, _zb_v_steady(call, plan, stops, "first_return", returned))
    turned = _down(call, stops, gradient, _zb_v_turns(call, stops, last))
    rows = [
        {
            "last_turn": since,
            "input_gradient": stop.backward,
            "weight_gradient": stop.weight_gradient,
            "stages": plan.pp,
            "position": stop.position,
        }
        for stop, since in zip(stops, turned, strict=True)
    ]
    final = _up(call, stops, gradient, call(pipeline_waves.zb_v_last_return_ready_time, rows))
    return _end(call, pipeline_waves.zb_v_end_time, plan, stops, final)


#: By what is known: the equation of the next mark.
_ZB_V_STEADY: Mapping[str, Callable[..., Any]] = {
    "first_gradient": pipeline_waves.zb_v_return_ready_time,
    "first_return": pipeline_waves.zb_v_last_forward_ready_time,
}


def _zb_v_steady(call: Caller, plan: PlanNumbers, stops: Sequence[Stop], known: str, marks: _Marks) -> _Marks:
    rows = [
        {
            known: since,
            "forward": stop.forward,
            "input_gradient": stop.backward,
            "weight_gradient": stop.weight_gradient,
            "stages": plan.pp,
            "position": stop.position,
            "num_microbatches": plan.num_microbatches,
        }
        for stop, since in zip(stops, marks, strict=True)
    ]
    return call(_ZB_V_STEADY[known], rows)


def _zb_v_turns(call: Caller, stops: Sequence[Stop], last_forward: _Marks) -> _Marks:
    return _longest_of_pairs(
        call,
        pipeline_waves.zb_v_last_turn_ready_time,
        len(stops),
        lambda one, held: {
            "last_forward": last_forward[held],
            "before": stops[one].before[1],
            "before_held": stops[held].before[1],
            "input_gradient": stops[one].backward,
            "input_gradient_held": stops[held].backward,
            "weight_gradient_held": stops[held].weight_gradient,
            "held": stops[held].position,
        },
        upper=False,
    )


def _end(
    call: Caller, equation: Callable[..., Any], plan: PlanNumbers, stops: Sequence[Stop], last_return: _Marks
) -> Numeric:
    rows = [
        {
            "last_return": since,
            "weight_gradient": stop.weight_gradient,
            "position": stop.position,
            "before": stop.before[0],
            "synchronous": plan.synchronous,
        }
        for stop, since in zip(stops, last_return, strict=True)
    ]
    return reduce(np.maximum, call(equation, rows))


def dualpipe(problem: Problem, plan: PlanNumbers, stages: Stages) -> Numeric:
    """Time of a step under DualPipe, over one half of the stages, from the outside.

    A pair takes as long as both passes (the stack hides the sends).
    """
    stops = line_of(plan, stages, "input_gradient", plan.schedule.copies).stops
    call = caller_of(problem, plan)
    gradient, whole = [stop.backward for stop in stops], [stop.total for stop in stops]
    place = [{"stages": plan.pp, "position": stop.position} for stop in stops]
    rows = [
        {"ready": since, "forward": stop.forward} | at
        for stop, since, at in zip(stops, _first_gradients(call, plan, stops), place, strict=True)
    ]
    first = _down(call, stops, gradient, call(pipeline_mirrored.dualpipe_first_gradient_ready_time, rows))
    steady = _dualpipe_steady(call, plan, stops, _dualpipe_first_pairs(call, plan, stops, first))
    paired = _up(call, stops, whole, _dualpipe_last_pairs(call, plan, stops, steady))
    passes = [{"input_gradient": stop.backward, "weight_gradient": stop.weight_gradient} for stop in stops]
    rows = [
        {"last_pair": since, "position": stop.position} | each
        for stop, since, each in zip(stops, paired, passes, strict=True)
    ]
    turned = _down(call, stops, gradient, call(pipeline_mirrored.dualpipe_last_turn_ready_time, rows))
    rows = [{"last_turn": since} | each | at for since, each, at in zip(turned, passes, place, strict=True)]
    final = _up(call, stops, gradient, call(pipeline_mirrored.dualpipe_last_return_ready_time, rows))
    return _end(call, pipeline_mirrored.dualpipe_end_time, plan, stops, final)


def _dualpipe_first_pairs(call: Caller, plan: PlanNumbers, stops: Sequence[Stop], first_gradient: _Marks) -> _Marks:
    return _longest_of_pairs(
        call,
        pipeline_mirrored.dualpipe_first_pair_time,
        len(stops),
        lambda one, held: {
            "first_gradient": first_gradient[held],
            "before": stops[one].before[1],
            "before_held": stops[held].before[1],
            "input_gradient_held": stops[held].backward,
            "total_held": stops[held].total,
            "total": stops[one].total,
            "forward": stops[one].forward,
            "stages": plan.pp,
            "position": stops[one].position,
        },
        upper=False,
    )


def _dualpipe_steady(call: Caller, plan: PlanNumbers, stops: Sequence[Stop], first_pair: _Marks) -> _Marks:
    """Ends of the steady state, in which the last forward passes run inwards."""
    whole = [stop.total for stop in stops]
    returned = _up(call, stops, whole, first_pair)
    rows = [
        {
            "first_return": back,
            "total": stop.total,
            "stages": plan.pp,
            "position": stop.position,
            "num_microbatches": plan.num_microbatches,
        }
        for stop, back in zip(stops, returned, strict=True)
    ]
    ready = call(
        pipeline_mirrored.dualpipe_last_forward_ready_time,
        [row | {"first_pair": pair} for row, pair in zip(rows, first_pair, strict=True)],
    )
    last = _down(call, stops, whole, ready)
    return call(
        pipeline_mirrored.dualpipe_steady_time,
        [row | {"last_forward": since} for row, since in zip(rows, last, strict=True)],
    )


def _dualpipe_last_pairs(call: Caller, plan: PlanNumbers, stops: Sequence[Stop], steady: _Marks) -> _Marks:
    return _longest_of_pairs(
        call,
        pipeline_mirrored.dualpipe_last_pair_ready_time,
        len(stops),
        lambda one, held: {
            "steady": steady[held],
            "before": stops[one].total_before,
            "before_held": stops[held].total_before,
            "total": stops[one].total,
            "forward": stops[one].forward,
            "stages": plan.pp,
            "held": stops[held].position,
        },
        upper=True,
    )
