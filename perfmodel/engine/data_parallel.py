"""Data parallelism: what is reduced and gathered once per step, and the gathers of every layer under ZeRO 3.

ZeRO 0 reduces all gradients once; ZeRO 1 scatters them and gathers the weights; ZeRO 2 scatters once per
group of micro-batches (``equations.training.gradient_reductions``); ZeRO 3 gathers parameters in both passes
of every micro-batch, scatters its gradients, and reduces them once over the replicas of hybrid sharding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial

import numpy as np

from perfmodel.engine.exposure import exposed_shares
from perfmodel.engine.networks import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER, Group, collective_time, plain
from perfmodel.engine.parameters import (
    Held,
    amounts,
    bytes_of,
    gathered_bytes,
    of_experts,
    trained,
)
from perfmodel.engine.problem import Problem, total
from perfmodel.engine.section_costs import SectionCosts, Sections
from perfmodel.engine.stages import PlanGroups, PlanNumbers, StageClass, StageTime, StateGroups, stage_sum
from perfmodel.equations import overlap, training
from perfmodel.units import Numeric


@dataclass(frozen=True)
class DataBuffers:
    """What data parallelism moves per step for one device: full buffers [B], and how often gradients are reduced."""

    gradients: Numeric
    weights: Numeric  # that are trained: gathered after the optimizer step
    sharded: Numeric  # all weights: gathered in every pass under ZeRO 3
    reductions: Numeric


@dataclass(frozen=True)
class DataTimes:
    """Time of one data-parallel collective of each kind."""

    all_reduce: Numeric
    reduce_scatter: Numeric
    all_gather: Numeric
    replicas: Numeric  # all-reduce of the shards over the replicas of hybrid sharding


@dataclass(frozen=True)
class DataTraffic:
    """Communication of a step outside the micro-batches: exposed and overlapped time."""

    exposed: Numeric
    overlapped: Numeric


@dataclass(frozen=True)
class DataCollective:
    """One data-parallel collective of a stage; ``count`` per step, 0 in plans that do not have it."""

    operation: str
    group: Group
    size: Numeric  # bytes of the full buffer
    count: Numeric
    of_experts: bool = False


def data_buffers(problem: Problem, plan: PlanNumbers, held: Held) -> DataBuffers:
    """Buffers of parameters that one set of groups reduces and gathers."""
    formats = problem.formats
    gradients = gradient_bytes(problem, held)
    deferred = training.gradient_reductions(plan.uses, plan.pp, plan.grouped_chunks)
    reductions = np.where(plan.zero >= 2.0, deferred, 1.0)
    return DataBuffers(gradients, gathered_bytes(formats, trained(held)), gathered_bytes(formats, held), reductions)


def gradient_bytes(problem: Problem, held: Held) -> Numeric:
    """Bytes of the gradients of a device as they are reduced."""
    return bytes_of(trained(held), lambda _: problem.formats.gradient_reduction)


def data_collectives(problem: Problem, plan: PlanNumbers, groups: PlanGroups, held: Held) -> tuple[DataCollective, ...]:
    """Everything that data parallelism does in a step for a stage that holds these parameters."""
    return tuple(
        one
        for state, part, experts in held_by_group(groups, held)
        for one in _state_collectives(problem, plan, state, part, experts=experts)
    )


def held_by_group(groups: PlanGroups, held: Held) -> tuple[tuple[StateGroups, Held, bool], ...]:
    """The parameters of a device with the groups that reduce them; True for those of the experts."""
    dense = (groups.dense, of_experts(held, expert=False), False)
    return (dense,) if groups.expert is None else (dense, (groups.expert, of_experts(held, expert=True), True))


def _state_collectives(
    problem: Problem, plan: PlanNumbers, groups: StateGroups, held: Held, *, experts: bool
) -> tuple[DataCollective, ...]:
    buffers, m = data_buffers(problem, plan, held), plan.uses
    backward = 1.0 if problem.workload.training else 0.0
    whole, state, sharded = (_by_zero(plan, *levels) for levels in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    shards = buffers.gradients / groups.shard.ranks
    make = partial(DataCollective, of_experts=experts)
    return (
        make(ALL_REDUCE, groups.data, buffers.gradients, backward * whole),
        make(REDUCE_SCATTER, groups.data, buffers.gradients, backward * state * buffers.reductions),
        make(ALL_GATHER, groups.data, buffers.weights, backward * state),
        make(REDUCE_SCATTER, groups.shard, buffers.gradients, backward * sharded * m),
        make(ALL_GATHER, groups.shard, buffers.sharded, (1.0 + backward) * sharded * m),
        make(ALL_REDUCE, groups.replicas, shards, backward * sharded),
    )


def _data_times(problem: Problem, groups: StateGroups, buffers: DataBuffers) -> DataTimes:
    tiers = problem.machine.tiers
    return DataTimes(
        collective_time(ALL_REDUCE, buffers.gradients, groups.data, tiers),
        collective_time(REDUCE_SCATTER, buffers.gradients, groups.data, tiers),
        collective_time(ALL_GATHER, buffers.weights, groups.data, tiers),
        collective_time(ALL_REDUCE, buffers.gradients / groups.shard.ranks, groups.replicas, tiers),
    )


def data_parallel(problem: Problem, plan: PlanNumbers, groups: PlanGroups, worst: StageTime) -> DataTraffic:
    """Gradient reduction and weight gathering of a step, hidden behind micro-batches of the stage ``worst``.

    A reduction hides behind the backward passes of the micro-batches that it gathers up: one, or a whole group
    under ZeRO 2 with an interleaved schedule. The collectives of dense parameters and of experts follow each other.
    """
    if not problem.workload.training:
        return DataTraffic(0.0, 0.0)
    step = problem.machine.step
    parts = [
        (buffers, _data_times(problem, state, buffers))
        for state, held, _ in held_by_group(groups, amounts(worst, problem.parameter_classes))
        for buffers in (data_buffers(problem, plan, held),)
    ]
    buffers, times, exposed_share = parts[0][0], _added([one for _, one in parts]), exposed_shares(problem, plan).data
    window, forward_window = step.data_window * worst.backward_pass, step.data_window * worst.forward_pass
    grouped = np.where(plan.zero >= 2.0, plan.num_microbatches / buffers.reductions, 1.0)
    exposed_time = _exposure(problem, worst)
    scattered = buffers.reductions * exposed_time(times.reduce_scatter, exposed_share, grouped * window)
    gathered = exposed_time(times.all_gather, exposed_share, forward_window)
    reduced = exposed_time(times.all_reduce, exposed_share, window)
    replicated = exposed_time(times.replicas, exposed_share, window)
    sharded_time = buffers.reductions * times.reduce_scatter + times.all_gather
    exposed = _by_zero(plan, reduced, scattered + gathered, replicated)
    moved = _by_zero(plan, times.all_reduce, sharded_time, times.replicas)
    return DataTraffic(exposed, moved - exposed)


def _exposure(problem: Problem, worst: StageTime) -> Callable[[Numeric, Numeric, Numeric], Numeric]:
    """What passes of a micro-batch leave exposed: they hide all layers together, or each the one before."""
    if problem.machine.choices.data_overlap == "step":
        return overlap.exposed_time
    return partial(overlap.layered_exposed_time, layers=worst.layers)


def _added(times: Sequence[DataTimes]) -> DataTimes:
    """The times of several buffers, one after the other."""
    return DataTimes(*(total(getattr(one, item.name) for one in times) for item in fields(DataTimes)))


def _by_zero(plan: PlanNumbers, replicated: Numeric, sharded_state: Numeric, sharded_parameters: Numeric) -> Numeric:
    """The value of ZeRO 0, of ZeRO 1 and 2, or of ZeRO 3."""
    return np.where(plan.zero >= 3.0, sharded_parameters, np.where(plan.zero >= 1.0, sharded_state, replicated))


@dataclass(frozen=True)
class GatherTime:
    """ZeRO 3 on one micro-batch of a stage (or of one occurrence of a section)."""

    forward: Numeric = 0.0
    backward: Numeric = 0.0
    overlapped: Numeric = 0.0


@dataclass(frozen=True)
class SectionGathers:
    """ZeRO 3 on one occurrence of each section; the same for all stages."""

    embedding: GatherTime = GatherTime()
    layer: GatherTime = GatherTime()
    leading: GatherTime | None = None
    head: GatherTime = GatherTime()


def section_gathers(problem: Problem, plan: PlanNumbers, groups: PlanGroups, sections: Sections) -> SectionGathers:
    """Exposed time of the parameter gathers and gradient scatters of ZeRO 3, per section and micro-batch.

    Zero for plans that do not shard parameters.
    """
    if not np.any(plain(plan.zero) >= 3):
        return SectionGathers()
    embedding, layer, head = (
        _section_gather(problem, plan, groups, one) for one in (sections.embedding, sections.layer, sections.head)
    )
    leading = None if sections.leading is None else _section_gather(problem, plan, groups, sections.leading)
    return SectionGathers(embedding, layer, leading, head)


def gather_time(stage: StageClass, gathers: SectionGathers) -> GatherTime:
    """The gathers of what a stage holds."""
    return GatherTime(*(stage_sum(stage, gathers, item.name) for item in fields(GatherTime)))


def _section_gather(problem: Problem, plan: PlanNumbers, groups: PlanGroups, section: SectionCosts) -> GatherTime:
    exposed, tiers = exposed_shares(problem, plan), problem.machine.tiers
    gather, scatter = 0.0, 0.0
    held = amounts(section, (one for one in problem.parameter_classes if not one.tied))
    for state, part, _ in held_by_group(groups, held):
        weights = gathered_bytes(problem.formats, part)
        gather = gather + collective_time(ALL_GATHER, weights, state.shard, tiers)
        if problem.workload.training and trained(part):
            scatter = scatter + collective_time(REDUCE_SCATTER, gradient_bytes(problem, part), state.shard, tiers)
    again = gather if problem.workload.training else 0.0
    forward = section.forward + exposed.tensor * section.tensor_forward + section.panels_exposed_forward
    backward = section.backward + exposed.tensor * section.tensor_backward + section.panels_exposed_backward
    backward = backward + plan.recompute_fraction * section.recompute
    forward_exposed = overlap.gathered_layer_time(forward, gather, exposed.data) - forward
    backward_exposed = overlap.gathered_layer_time(backward, again + scatter, exposed.data) - backward
    overlapped = np.maximum(gather + again + scatter - forward_exposed - backward_exposed, 0.0)
    sharded = np.where(plan.zero >= 3.0, 1.0, 0.0)
    return GatherTime(sharded * forward_exposed, sharded * backward_exposed, sharded * overlapped)
