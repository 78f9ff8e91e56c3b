"""Energy and power of one step over the whole allocation: arithmetic, memory, links, idle, host, cooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perfmodel.engine.data_parallel import data_collectives
from perfmodel.engine.networks import link_energy, send_energy
from perfmodel.engine.problem import Problem, total
from perfmodel.engine.section_costs import Sections
from perfmodel.engine.stages import PlanGroups, PlanNumbers, StageClass, layer_sum, stage_parameters, stage_sum
from perfmodel.engine.update import optimizer_traffic, orthogonal_energy, orthogonal_flop
from perfmodel.equations import energy, pipeline
from perfmodel.units import Numeric


@dataclass(frozen=True)
class StepEnergy:
    """Joules of one step over all devices; the parts sum to ``total``. Powers in watts."""

    compute: Numeric
    vector: Numeric
    memory: Numeric
    links: Numeric
    idle: Numeric
    host: Numeric
    network: Numeric
    cooling: Numeric
    total: Numeric
    average_power: Numeric
    peak_power: Numeric
    device_average_power: Numeric
    capped: Numeric  # factor <= 1 on the dynamic energy, because a device cannot draw more than its limit


def step_energy(
    problem: Problem,
    plan: PlanNumbers,
    groups: PlanGroups,
    classes: Sequence[StageClass],
    sections: Sections,
    step: Numeric,
    *,
    passes_only: bool = False,
) -> StepEnergy:
    """Add up the energy of all stages; every device of the allocation idles for the whole step.

    ``passes_only``: without what comes once per step (data parallelism, optimizer). No step takes less.
    """
    numbers = problem.machine.energy
    replicas = plan.tp * plan.cp * plan.dp
    m, fraction = plan.num_microbatches, plan.recompute_fraction

    def over_stages(field: str) -> Numeric:
        return total(replicas * one.multiplicity * m * stage_sum(one, sections, field) for one in classes)

    def again(field: str) -> Numeric:
        repeated = total(one.multiplicity * layer_sum(one, sections, f"recompute_{field}") for one in classes)
        return replicas * m * fraction * repeated

    once = () if passes_only else classes
    updates = [(replicas * one.multiplicity, _update_energy(problem, plan, groups, one, sections)) for one in once]
    sends = replicas * plan.pp * _send_energy(problem, plan, groups)
    dynamic = {
        "compute": over_stages("matrix_energy")
        + again("matrix_energy")
        + total(count * worked for count, (worked, _, _) in updates),
        "vector": over_stages("vector_energy") + again("vector_energy"),
        "memory": over_stages("memory_energy")
        + again("memory_energy")
        + total(count * moved for count, (_, moved, _) in updates),
        "links": over_stages("link_energy") + sends + total(count * sent for count, (_, _, sent) in updates),
    }
    return _with_static(problem, plan, dynamic, step, numbers.power_usage_effectiveness)


def _update_energy(
    problem: Problem, plan: PlanNumbers, groups: PlanGroups, stage: StageClass, sections: Sections
) -> tuple[Numeric, Numeric, Numeric]:
    """Energy of the optimizer's products and traffic, and of the data-parallel links, of one device of a stage."""
    held, tiers = stage_parameters(problem, stage, sections, plan), problem.machine.tiers
    sent = total(
        one.count * link_energy(one.operation, one.size, one.group, tiers)
        for one in data_collectives(problem, plan, groups, held)
    )
    if not problem.workload.training:
        return 0.0, 0.0, sent
    traffic = optimizer_traffic(problem, plan, held)
    moved = energy.movement_energy(traffic, problem.machine.energy.memory_per_byte)
    if problem.formats.orthogonal is None:
        return 0.0, moved, sent
    dense, experts = (
        stage.layers * work for work in (sections.layer.orthogonal_flop, sections.layer.expert_orthogonal_flop)
    )
    return orthogonal_energy(problem, orthogonal_flop(problem, plan, dense, experts)), moved, sent


def _send_energy(problem: Problem, plan: PlanNumbers, groups: PlanGroups) -> Numeric:
    tokens = plan.micro_batch * problem.workload.sequence_length / plan.cp
    size = pipeline.pipeline_message_bytes(tokens, problem.axes["hidden"], problem.formats.activations, plan.tp)
    count = pipeline.pipeline_transfers(plan.pp, plan.num_microbatches, plan.virtual_stages, problem.workload.passes)
    return count * send_energy(size, groups.pipeline, problem.machine.tiers)


def _with_static(
    problem: Problem, plan: PlanNumbers, dynamic: dict[str, Numeric], step: Numeric, pue: Numeric
) -> StepEnergy:
    numbers, devices = problem.machine.energy, plan.devices
    drawn = total(dynamic.values())
    limit = devices * (numbers.peak_power - numbers.idle_power) * step
    capped = np.minimum(1.0, limit / np.maximum(drawn, np.finfo(float).tiny))
    idle = energy.static_energy(devices * numbers.idle_power, step)
    host = energy.static_energy(devices * numbers.host_power, step)
    network = energy.static_energy(devices * numbers.network_power, step)
    device = drawn * capped + idle
    equipment = device + host + network
    whole = energy.facility_energy(equipment, pue)
    peak = energy.facility_energy(devices * (numbers.peak_power + numbers.host_power + numbers.network_power), pue)
    return StepEnergy(
        compute=dynamic["compute"] * capped,
        vector=dynamic["vector"] * capped,
        memory=dynamic["memory"] * capped,
        links=dynamic["links"] * capped,
        idle=idle,
        host=host,
        network=network,
        cooling=whole - equipment,
        total=whole,
        average_power=whole / step,
        peak_power=peak,
        device_average_power=device / (devices * step),
        capped=capped,
    )
