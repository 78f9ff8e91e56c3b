"""Composition of a training step from section costs: stages, pipeline, data parallelism, optimizer.

All numbers are columns over plans (or traced operands of one plan). The critical stage is the one with
the longest micro-batch; its exposed times are the breakdown of the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from perfmodel.engine.networks import ALL_GATHER, ALL_REDUCE, REDUCE_SCATTER, Group, collective_time, plain, send_time
from perfmodel.engine.problem import Problem, keep, total
from perfmodel.engine.sections import Sections
from perfmodel.equations import memory, optimizer, overlap, pipeline, training
from perfmodel.units import Numeric


@dataclass(frozen=True)
class PlanNumbers:
    """The plan columns as floats: the boundary between integers and equations."""

    tp: Numeric
    cp: Numeric
    pp: Numeric
    dp: Numeric
    dp_shard: Numeric
    virtual_stages: Numeric
    micro_batch: Numeric
    num_microbatches: Numeric
    sequence_parallel: Numeric
    zero: Numeric
    recompute_fraction: Numeric
    devices: Numeric


@dataclass(frozen=True)
class StageClass:
    """One class of pipeline stages (see ``perfmodel.parallel.stages``), as floats."""

    name: str
    layers: Numeric
    has_embedding: Numeric
    has_head: Numeric
    position: Numeric
    multiplicity: Numeric


@dataclass(frozen=True)
class PlanGroups:
    """The process groups that depend on the whole plan."""

    data: Group  # dp x cp: gradients and optimizer state
    shard: Group  # dp_shard x cp: parameters of ZeRO-3
    replicas: Group  # dp_replicate: gradients of hybrid sharding
    pipeline: Group


@dataclass(frozen=True)
class StageTime:
    """Exposed time of one micro-batch on one class of stages, in seconds, and the work of the stage."""

    forward: Numeric
    backward: Numeric
    recompute: Numeric
    tensor: Numeric
    context: Numeric
    pipeline: Numeric
    gather_forward: Numeric  # ZeRO-3 parameter gathers
    gather_backward: Numeric  # ZeRO-3 parameter gathers and gradient scatters
    tensor_overlapped: Numeric
    context_overlapped: Numeric
    pipeline_overlapped: Numeric
    gather_overlapped: Numeric
    forward_pass: Numeric  # forward with its exposed communication
    parameters: Numeric

    @property
    def total(self) -> Numeric:
        return self.forward + self.backward + self.recompute + self.tensor + self.context + self.pipeline + self.gather

    @property
    def gather(self) -> Numeric:
        return self.gather_forward + self.gather_backward

    @property
    def backward_pass(self) -> Numeric:
        return self.total - self.forward_pass


@dataclass(frozen=True)
class StepTime:
    """Exposed times of the step on its critical stage; they sum to ``step``. Overlapped times apart."""

    forward: Numeric
    backward: Numeric
    recompute: Numeric
    tensor: Numeric
    context: Numeric
    pipeline: Numeric
    data: Numeric
    bubble: Numeric
    optimizer: Numeric
    overhead: Numeric
    tensor_overlapped: Numeric
    context_overlapped: Numeric
    pipeline_overlapped: Numeric
    data_overlapped: Numeric
    step: Numeric


def stage_sum(stage: StageClass, sections: Sections, field: str) -> Numeric:
    """A section field summed over what the stage holds."""
    layer, embedding, head = (
        getattr(section, field) for section in (sections.layer, sections.embedding, sections.head)
    )
    return stage.layers * layer + stage.has_embedding * embedding + stage.has_head * head


def stage_parameters(stage: StageClass, sections: Sections, plan: PlanNumbers) -> Numeric:
    """Local parameters of a stage; tied weights have a copy of their own on the last of several stages."""
    tied = stage_sum(stage, sections, "tied_parameters")
    return stage_sum(stage, sections, "parameters") + np.where(plan.pp > 1.0, tied, 0.0)


def stage_time(
    problem: Problem, plan: PlanNumbers, groups: PlanGroups, stage: StageClass, sections: Sections
) -> StageTime:
    """Time of one micro-batch on a stage."""
    step, fraction = problem.machine.step, plan.recompute_fraction
    forward, backward = stage_sum(stage, sections, "forward"), stage_sum(stage, sections, "backward")
    recompute = fraction * stage.layers * sections.layer.recompute
    tensor_forward = stage_sum(stage, sections, "tensor_forward")
    regather = stage_sum(stage, sections, "tensor_regather")
    tensor = (
        tensor_forward
        + stage_sum(stage, sections, "tensor_backward")
        + fraction * stage.layers * sections.layer.tensor_recompute
    )
    tensor_exposed = step.tensor_exposed * tensor + step.regather_exposed * regather
    context_forward = stage_sum(stage, sections, "context_forward")
    context = (
        context_forward
        + stage_sum(stage, sections, "context_backward")
        + fraction * stage.layers * sections.layer.context_recompute
    )
    sends = _sends(problem, plan, groups)
    forward_pass = forward + step.tensor_exposed * tensor_forward + step.context_exposed * context_forward
    gather_forward, gather_backward, gather_overlapped = _sharded_parameters(problem, plan, groups, stage, sections)
    times = StageTime(
        forward=forward,
        backward=backward,
        recompute=recompute,
        tensor=tensor_exposed,
        context=step.context_exposed * context,
        pipeline=step.pipeline_exposed * sends,
        gather_forward=gather_forward,
        gather_backward=gather_backward,
        tensor_overlapped=tensor + regather - tensor_exposed,
        context_overlapped=(1.0 - step.context_exposed) * context,
        pipeline_overlapped=(1.0 - step.pipeline_exposed) * sends,
        gather_overlapped=gather_overlapped,
        forward_pass=forward_pass + gather_forward,
        parameters=stage_parameters(stage, sections, plan),
    )
    return times if problem.label is keep else _labelled(problem, stage.name, times)


def _labelled(problem: Problem, stage: str, times: StageTime) -> StageTime:
    """Names for the derivation: one micro-batch on this class of stages."""
    names = {item.name: f"{item.name.replace('_', ' ')} on the {stage} stage" for item in fields(StageTime)}
    units = {name: "1" if name == "parameters" else "s" for name in names}
    return StageTime(**{name: problem.label(getattr(times, name), names[name], units[name]) for name in names})


def _sends(problem: Problem, plan: PlanNumbers, groups: PlanGroups) -> Numeric:
    """Time of the transfers between stages of one micro-batch: one activation and one gradient per chunk."""
    tokens = plan.micro_batch * problem.workload.sequence_length / plan.cp
    size = pipeline.pipeline_message_bytes(tokens, problem.axes["hidden"], problem.formats.activations, plan.tp)
    passes = 2.0 if problem.workload.training else 1.0
    return passes * plan.virtual_stages * send_time(size, groups.pipeline, problem.machine.tiers)


def _sharded_parameters(
    problem: Problem, plan: PlanNumbers, groups: PlanGroups, stage: StageClass, sections: Sections
) -> tuple[Numeric, Numeric, Numeric]:
    """ZeRO-3: gathers of a layer's parameters in both passes and the scatter of its gradients.

    Returns the exposed time of the forward and of the backward pass of one micro-batch, and the overlapped
    time; zero for plans that do not shard parameters.
    """
    if not np.any(plain(plan.zero) >= 3):
        return 0.0, 0.0, 0.0
    step, tiers, layer = problem.machine.step, problem.machine.tiers, sections.layer
    weights = memory.state_bytes(layer.parameters, problem.formats.weights, 1.0)
    gradients = memory.state_bytes(layer.parameters, problem.formats.gradient_reduction, 1.0)
    gather = collective_time(ALL_GATHER, weights, groups.shard, tiers)
    scatter = collective_time(REDUCE_SCATTER, gradients, groups.shard, tiers)
    forward = layer.forward + step.tensor_exposed * layer.tensor_forward
    backward = layer.backward + step.tensor_exposed * layer.tensor_backward + plan.recompute_fraction * layer.recompute
    forward_exposed = overlap.gathered_layer_time(forward, gather, step.data_exposed) - forward
    backward_exposed = overlap.gathered_layer_time(backward, gather + scatter, step.data_exposed) - backward
    overlapped = np.maximum(2.0 * gather + scatter - forward_exposed - backward_exposed, 0.0)
    sharded = np.where(plan.zero >= 3.0, stage.layers, 0.0)
    return sharded * forward_exposed, sharded * backward_exposed, sharded * overlapped


def slowest(stages: Sequence[StageTime]) -> StageTime:
    """The stage with the longest micro-batch, field by field (the first one on a tie)."""
    best = stages[0]
    for candidate in stages[1:]:
        longer = candidate.total > best.total
        best = replace(
            best,
            **{
                item.name: np.where(longer, getattr(candidate, item.name), getattr(best, item.name))
                for item in fields(StageTime)
            },
        )
    return best


def critical_stage(problem: Problem, times: Sequence[StageTime]) -> StageTime:
    """The slowest stage, under that name in derivations."""
    worst = slowest(times)
    return worst if problem.label is keep else _labelled(problem, "slowest", worst)


def step_time(
    problem: Problem, plan: PlanNumbers, groups: PlanGroups, classes: Sequence[StageClass], times: Sequence[StageTime]
) -> StepTime:
    """Compose the step: micro-batches of the slowest stage, bubble, data parallelism, optimizer, overhead."""
    machine, worst = problem.machine, critical_stage(problem, times)
    m, label = plan.num_microbatches, problem.label
    slot = label(worst.total, "time of one micro-batch on the slowest stage", "s")
    others = total(one.multiplicity * time.total for one, time in zip(classes, times, strict=True)) - slot
    bubble = label(pipeline.pipeline_bubble_time(others, plan.virtual_stages), "pipeline bubble", "s")
    data, data_overlapped = _data_parallel(problem, plan, groups, worst)
    data = label(data, "exposed data-parallel communication", "s")
    update = label(_optimizer(problem, plan, worst.parameters), "optimizer step", "s")
    busy = label(m * slot + bubble + data + update, "step without overhead", "s")
    jitter = overlap.jitter_factor(plan.devices, float(machine.devices_per_node), machine.step.jitter_per_doubling)
    overhead = label(machine.step.fixed_overhead + busy * (jitter - 1.0), "overhead", "s")
    return StepTime(
        forward=m * worst.forward,
        backward=m * worst.backward,
        recompute=m * worst.recompute,
        tensor=m * worst.tensor,
        context=m * worst.context,
        pipeline=m * worst.pipeline,
        data=data + m * worst.gather,
        bubble=bubble,
        optimizer=update,
        overhead=overhead,
        tensor_overlapped=m * worst.tensor_overlapped,
        context_overlapped=m * worst.context_overlapped,
        pipeline_overlapped=m * worst.pipeline_overlapped,
        data_overlapped=data_overlapped + m * worst.gather_overlapped,
        step=busy + overhead,
    )


@dataclass(frozen=True)
class DataBuffers:
    """What data parallelism moves per step for one device: full buffers, and how often gradients are reduced."""

    gradients: Numeric  # B
    weights: Numeric  # B
    reductions: Numeric


def data_buffers(problem: Problem, plan: PlanNumbers, parameters: Numeric) -> DataBuffers:
    """Buffers of a stage with ``parameters`` local parameters."""
    gradients = memory.state_bytes(parameters, problem.formats.gradient_reduction, 1.0)
    weights = memory.state_bytes(parameters, problem.formats.weights, 1.0)
    deferred = training.gradient_reductions(plan.num_microbatches, plan.pp, plan.virtual_stages)
    return DataBuffers(gradients, weights, np.where(plan.zero >= 2.0, deferred, 1.0))


@dataclass(frozen=True)
class DataTimes:
    """Time of one data-parallel collective of each kind."""

    all_reduce: Numeric
    reduce_scatter: Numeric
    all_gather: Numeric


def data_times(problem: Problem, groups: PlanGroups, buffers: DataBuffers) -> DataTimes:
    """Collectives over gradients and updated weights."""
    tiers = problem.machine.tiers
    return DataTimes(
        collective_time(ALL_REDUCE, buffers.gradients, groups.data, tiers),
        collective_time(REDUCE_SCATTER, buffers.gradients, groups.data, tiers),
        collective_time(ALL_GATHER, buffers.weights, groups.data, tiers),
    )


def _data_parallel(
    problem: Problem, plan: PlanNumbers, groups: PlanGroups, worst: StageTime
) -> tuple[Numeric, Numeric]:
    """Exposed and overlapped time of the gradient reduction and weight gathering that happen once per step.

    ZeRO 0 reduces all gradients once; ZeRO 1 scatters them and gathers the weights; ZeRO 2 scatters once
    per group of micro-batches (``equations.training.gradient_reductions``). Hybrid sharding (ZeRO 3 with
    replicas) reduces the scattered gradients over the replicas once.
    """
    if not problem.workload.training:
        return 0.0, 0.0
    step, buffers = problem.machine.step, data_buffers(problem, plan, worst.parameters)
    times = data_times(problem, groups, buffers)
    backward_window, forward_window = step.data_window * worst.backward_pass, step.data_window * worst.forward_pass
    reduce_exposed = overlap.exposed_time(times.all_reduce, step.data_exposed, backward_window)
    scatter_exposed = buffers.reductions * overlap.exposed_time(
        times.reduce_scatter, step.data_exposed, backward_window
    )
    gather_exposed = overlap.exposed_time(times.all_gather, step.data_exposed, forward_window)
    sharded_total = buffers.reductions * times.reduce_scatter + times.all_gather
    exposed = np.where(plan.zero >= 1.0, scatter_exposed + gather_exposed, reduce_exposed)
    moved = np.where(plan.zero >= 1.0, sharded_total, times.all_reduce)
    shards = memory.state_bytes(worst.parameters, problem.formats.gradient_reduction, groups.shard.ranks)
    replicated = collective_time(ALL_REDUCE, shards, groups.replicas, problem.machine.tiers)
    replicated_exposed = overlap.exposed_time(replicated, step.data_exposed, backward_window)
    whole = plan.zero < 3.0
    return np.where(whole, exposed, replicated_exposed), np.where(
        whole, moved - exposed, replicated - replicated_exposed
    )


def _optimizer(problem: Problem, plan: PlanNumbers, parameters: Numeric) -> Numeric:
    if not problem.workload.training:
        return 0.0
    machine = problem.machine
    traffic = optimizer_traffic(problem, plan, parameters)
    return optimizer.optimizer_time(
        traffic, machine.memory_bandwidth, machine.elementwise["optimizer"].bandwidth_fraction
    )


def optimizer_traffic(problem: Problem, plan: PlanNumbers, parameters: Numeric) -> Numeric:
    """Bytes that the optimizer step moves on one device."""
    formats = problem.formats
    state = training.state_traffic_per_parameter(
        formats.state_gradients, formats.state_master, formats.state_moments, formats.weights
    )
    owned = parameters / np.where(plan.zero >= 1.0, plan.dp_shard * plan.cp, 1.0)
    return optimizer.optimizer_traffic(owned, state, problem.machine.step.optimizer_traffic_factor)
