"""Longest paths of 1F1B, interleaved 1F1B and ZB-H1 over the stops of a pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from perfmodel.engine.networks import plain
from perfmodel.engine.pipeline_lines import Line, Stages, caller_of, line_of
from perfmodel.engine.problem import Problem
from perfmodel.engine.stages import PlanNumbers
from perfmodel.equations import pipeline_paths
from perfmodel.units import Numeric

#: Forward and backward passes: the end of a step is its start with the two exchanged.
_BOTH = (0, 1)
_Pairs = list[tuple[Numeric, Numeric]]


def _runs(problem: Problem, plan: PlanNumbers, line: Line, passes: Sequence[Numeric]) -> _Pairs:
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
    return _paired(caller_of(problem, plan)(pipeline_paths.run_time, rows))


def _paired(flat: Sequence[Any]) -> _Pairs:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _returns(problem: Problem, plan: PlanNumbers, line: Line, runs: _Pairs) -> _Pairs:
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
        (arrival,) = _paired(caller_of(problem, plan)(pipeline_paths.first_return_time, rows))
        found.append(arrival)
    return found[::-1]


def one_forward_one_backward(problem: Problem, plan: PlanNumbers, stages: Stages) -> Numeric:
    """Time of a step under 1F1B, plain or interleaved."""
    line = line_of(plan, stages, "backward_pass")
    passes = plan.virtual_stages * plan.num_microbatches
    ahead = caller_of(problem, plan)(
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
    return reduce(np.maximum, caller_of(problem, plan)(pipeline_paths.stage_path_time, rows))


def _variants(
    problem: Problem, plan: PlanNumbers, line: Line, returns: _Pairs, passes: Numeric, ahead: Sequence[Numeric]
) -> list[_Pairs]:
    """Starts and ends of paths. Interleaved, either may be held up by the second group of micro-batches."""
    if not np.any(plain(plan.virtual_stages) > 1.0):
        return [returns]
    late = _late(problem, plan, line, returns)
    ends = caller_of(problem, plan)(
        pipeline_paths.late_end_time,
        [
            {"end": times[1], "late_end": held[1], "position": stop.position, "passes": passes, "ahead": one}
            for stop, times, held, one in zip(line.stops, returns, late, ahead, strict=True)
        ],
    )
    from_late = [(held[0], end) for held, end in zip(late, ends, strict=True)]
    return [from_late, [(times[0], held[1]) for times, held in zip(returns, late, strict=True)]]


def _late(problem: Problem, plan: PlanNumbers, line: Line, returns: _Pairs) -> _Pairs:
    """Starts and ends of paths that the second group of micro-batches, or the last but one, may hold up."""
    call = caller_of(problem, plan)
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


def zb_h1(problem: Problem, plan: PlanNumbers, stages: Stages) -> Numeric:
    """Time of a step under ZB-H1."""
    line = line_of(plan, stages, "input_gradient")
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
    return reduce(np.maximum, caller_of(problem, plan)(pipeline_paths.zb_h1_path_time, rows))
