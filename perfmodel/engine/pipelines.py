"""How a schedule composes the stages of a pipeline: the bubble of a step, and the micro-batches in flight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from perfmodel.engine.networks import plain
from perfmodel.engine.pipeline_lines import Stages
from perfmodel.engine.pipeline_paths import one_forward_one_backward, zb_h1
from perfmodel.engine.pipeline_waves import dualpipe, zb_v
from perfmodel.engine.problem import Problem
from perfmodel.engine.stages import PlanNumbers, StageClass, StageTime
from perfmodel.equations import pipeline, pipeline_schedules
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


def pipeline_bubble(
    problem: Problem, plan: PlanNumbers, classes: Sequence[StageClass], times: Sequence[StageTime], worst: StageTime
) -> Numeric:
    """Idle time of the slowest stage in one step."""
    if not np.any(plain(plan.pp) > 1.0):
        return 0.0
    stages, busy = Stages(classes, times, worst), plan.num_microbatches * worst.total
    path = _PATHS[plan.schedule.name] if problem.workload.training else _forward_only
    return pipeline_schedules.idle_time(path(problem, plan, stages), busy, plan.pp)


def _forward_only(_: Problem, plan: PlanNumbers, stages: Stages) -> Numeric:
    slot = stages.worst.total
    return pipeline.pipeline_time(plan.num_microbatches, slot, stages.sum("total") - slot, plan.virtual_stages)


def _gpipe(_: Problem, plan: PlanNumbers, stages: Stages) -> Numeric:
    slowest = stages.longest("forward_pass"), stages.longest("backward_pass")
    return pipeline_schedules.gpipe_time(plan.num_microbatches, stages.sum("total"), *slowest)


_PATHS: Mapping[str, Callable[[Problem, PlanNumbers, Stages], Numeric]] = {
    GPIPE: _gpipe,
    ONE_F_ONE_B: one_forward_one_backward,
    INTERLEAVED: one_forward_one_backward,
    ZB_H1: zb_h1,
    ZB_V: zb_v,
    DUALPIPE: dualpipe,
}
