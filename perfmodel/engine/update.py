"""The optimizer step of one device: passes over the state, casts of low-bit weights, orthogonal updates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.engine.clocks import energy_per_flop, sustained_rate
from perfmodel.engine.offload import gradients_out, store, weights_back
from perfmodel.engine.parameters import (
    Held,
    ParameterClass,
    amounts,
    gathered_width,
    moments_width,
    shards,
    trained,
)
from perfmodel.engine.problem import DEVICE, NVME, Problem, total
from perfmodel.engine.stages import PlanNumbers, StageTime
from perfmodel.equations import elementwise, energy, memory, optimizer, overlap, roofline, training
from perfmodel.units import Numeric

#: Role of the 16-bit products, in which updates are made orthogonal.
_WIDE_ROLE = "head"


def optimizer_time(problem: Problem, plan: PlanNumbers, stage: StageTime) -> Numeric:
    """Time of the optimizer step of one device of a stage [s]."""
    if not problem.workload.training:
        return 0.0
    machine, held = problem.machine, amounts(stage, problem.parameter_classes)
    time = _pass_time(problem, plan, held)
    if problem.formats.linear is not None:
        cast = machine.elementwise["cast"].bandwidth_fraction
        time = time + optimizer.optimizer_time(_cast_traffic(problem, held), machine.memory_bandwidth, cast)
    if problem.formats.orthogonal is not None:
        numbers = machine.matmul[problem.formats.compute[_WIDE_ROLE]]
        plateau = numbers.plateau * sustained_rate(machine) / machine.step.matmul_slowdown
        time = time + roofline.plateau_time(_busiest_flop(problem, plan, stage), numbers.peak, plateau)
    return time


def _pass_time(problem: Problem, plan: PlanNumbers, held: Held) -> Numeric:
    """The pass over the state: on the device, or on its host, which reads from storage what does not fit."""
    machine, offload, traffic = problem.machine, problem.offload, _update_traffic(problem, plan, held)
    if offload is None or offload.optimizer == DEVICE or machine.host is None:
        fraction = machine.elementwise["optimizer"].bandwidth_fraction
        return optimizer.optimizer_time(traffic, machine.memory_bandwidth, fraction)
    time = optimizer.optimizer_time(traffic, machine.host.memory.bandwidth, 1.0)
    if offload.optimizer != NVME:
        return time
    formats, disk = problem.formats, store(machine.host, NVME)
    state = total(
        memory.state_bytes(n, formats.state_master + moments_width(formats, one), shards(plan, one, 1.0))
        for one, n in trained(held)
    )
    return np.maximum(time, memory.transfer_time(state, disk.bandwidth, machine.host.memory.bandwidth))


@dataclass(frozen=True)
class UpdateTransfers:
    """Gradients on their way to the host and weights on their way back, once per step [s]."""

    exposed: Numeric = 0.0
    overlapped: Numeric = 0.0


def update_transfers(problem: Problem, plan: PlanNumbers, stage: StageTime, update: Numeric) -> UpdateTransfers:
    """Transfers of an optimizer step that the host does.

    Gradients leave while the backward pass of a micro-batch goes on, weights come back while the rest is updated.
    """
    offload, share = problem.offload, problem.machine.step.offload_exposed
    if offload is None or offload.optimizer == DEVICE or not problem.workload.training:
        return UpdateTransfers()
    held = amounts(stage, problem.parameter_classes)
    out, back = gradients_out(problem, plan, held), weights_back(problem, plan, held)
    exposed = overlap.exposed_time(out, share, stage.backward_pass) + overlap.exposed_time(back, share, update)
    return UpdateTransfers(exposed, out + back - exposed)


def _busiest_flop(problem: Problem, plan: PlanNumbers, stage: StageTime) -> Numeric:
    """Work on the matrices of the busiest rank; experts are many, so that they are shared out evenly."""
    shards = np.where(plan.zero >= 1.0, plan.state_shards, 1.0)
    dense = optimizer.dealt_out_flop(stage.orthogonal_flop, stage.largest_orthogonal_flop, shards)
    if not problem.has_experts:
        return dense
    return dense + stage.expert_orthogonal_flop / np.where(plan.zero >= 1.0, plan.expert_state_shards, 1.0)


def orthogonal_flop(problem: Problem, plan: PlanNumbers, dense: Numeric, experts: Numeric) -> Numeric:
    """Work on the matrices of the mean rank of a stage [FLOP], from that on all of them: what costs energy."""
    own = dense / np.where(plan.zero >= 1.0, plan.state_shards, 1.0)
    if not problem.has_experts:
        return own
    return own + experts / np.where(plan.zero >= 1.0, plan.expert_state_shards, 1.0)


def orthogonal_energy(problem: Problem, flop: Numeric) -> Numeric:
    """Energy of that work [J]."""
    stated = problem.machine.energy.matrix_per_flop.get(problem.formats.compute[_WIDE_ROLE], 0.0)
    return energy.arithmetic_energy(flop, energy_per_flop(stated, problem.machine))


def optimizer_traffic(problem: Problem, plan: PlanNumbers, held: Held) -> Numeric:
    """Bytes that the optimizer step moves on one device, with the casts of low-bit weights."""
    update = _update_traffic(problem, plan, held)
    return update if problem.formats.linear is None else update + _cast_traffic(problem, held)


def _update_traffic(problem: Problem, plan: PlanNumbers, held: Held) -> Numeric:
    return total(
        optimizer.optimizer_traffic(
            amount / shards(plan, one, 1.0),
            _state_traffic(problem, one),
            problem.machine.step.optimizer_traffic_factor,
        )
        for one, amount in trained(held)
    )


def _state_traffic(problem: Problem, one: ParameterClass) -> Numeric:
    formats = problem.formats
    return training.state_traffic_per_parameter(
        formats.state_gradients, formats.state_master, moments_width(formats, one), gathered_width(formats, one)
    )


def _cast_traffic(problem: Problem, held: Held) -> Numeric:
    """Low-bit weights made once per step, of every parameter that the device computes with and trains."""
    linear = problem.formats.linear
    if linear is None:
        return 0.0
    once = 1.0 - problem.machine.step.recast_weights
    return total(
        elementwise.weight_cast_traffic(amount, linear.cast, once) for one, amount in trained(held) if one.low_bit
    )
