"""Rows of a result: operators, communication, stages, waterfall (one plan, plain numbers)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from perfmodel.engine.communication import CommunicationCost
from perfmodel.engine.composition import Evaluation
from perfmodel.engine.data_parallel import data_collectives
from perfmodel.engine.draft import FORWARD
from perfmodel.engine.exposure import exposed_shares
from perfmodel.engine.headline import MEMORY_PARTS
from perfmodel.engine.kernels import Kernel, operator_path
from perfmodel.engine.networks import SEND, Group, collective_time, outer_domains, spanned_tiers
from perfmodel.engine.parameters import Held, amounts
from perfmodel.engine.problem import Problem, total
from perfmodel.engine.result import CommunicationRow, OperatorRow, StageRow
from perfmodel.engine.section_costs import KeyCosts
from perfmodel.engine.sections import stopped_early
from perfmodel.engine.stages import StageClass
from perfmodel.engine.step import stage_passes
from perfmodel.engine.update import optimizer_traffic, orthogonal_energy, orthogonal_flop
from perfmodel.equations import energy, pipeline
from perfmodel.parallel.collective_rules import GATHERED, TENSOR_GROUPS
from perfmodel.parallel.grid_rules import PANELS
from perfmodel.parallel.plan import Plan
from perfmodel.provenance import Traced

RECOMPUTE, OPTIMIZER = "recompute", "optimizer"
_GROUP_NAMES = {**dict.fromkeys(TENSOR_GROUPS, "tensor"), "cp": "context", "ep": "expert", "etp": "expert"}


def number(value: Any) -> float:
    """A plain float from a number, a one-row column or a traced operand: for choices, not for derivations."""
    value = getattr(value, "value", value)
    return float(value.flat[0]) if isinstance(value, np.ndarray) else float(value)


def amount(value: Any) -> Any:
    """A plain float; a traced operand stays, so that an explanation sees what a row is made of."""
    return value if isinstance(value, Traced) else number(value)


def block_counts(problem: Problem) -> dict[str, int]:
    """Repeat count of every block by name."""
    return {block.name: block.count for block in problem.graph.all_blocks()}


def operator_rows(
    problem: Problem, plan: Plan, costs: KeyCosts, evaluation: Evaluation, role: str
) -> tuple[OperatorRow, ...]:
    """One row per operator and phase, recomputed operators and the optimizer included."""
    counts, recomputed = block_counts(problem), problem.policies[plan.recompute_policies[int(plan.recompute[0])]]
    fraction, layers = float(plan.recompute_fraction[0]), {block.name for block in problem.graph.blocks}
    repeated = stopped_early(problem, problem.graph.blocks)
    moved: dict[tuple[str, str], list[CommunicationCost]] = {}
    for one in costs.communication:
        moved.setdefault((operator_path(one.use.block, one.use.operator), one.use.phase), []).append(one)
    rows: list[OperatorRow] = []
    for path, phase, kernels, joules in _by_operator(costs):
        communication = moved.get((path, phase), [])
        rows.append(
            _operator_row(path, phase, role, counts[kernels[0].block], kernels, joules, communication, costs.groups)
        )
        if phase == FORWARD and kernels[0].operator in recomputed and kernels[0].block in layers:
            share = number(repeated.get((kernels[0].block, kernels[0].operator), 1.0))
            count = round(fraction * share * counts[kernels[0].block])
            rows.append(_operator_row(path, RECOMPUTE, role, count, kernels, joules, communication, costs.groups))
    if problem.workload.training:
        rows.append(_optimizer_row(problem, plan, evaluation, role))
    return tuple(rows)


def _by_operator(costs: KeyCosts) -> list[tuple[str, str, list[Kernel], float]]:
    """Path, phase, kernels and energy of every operator and phase, in order."""
    grouped: dict[tuple[str, str], list[tuple[Kernel, float]]] = {}
    for kernel, joules in zip(costs.kernels, costs.kernel_energies, strict=True):
        grouped.setdefault((kernel.path, kernel.phase), []).append((kernel, amount(joules.total)))
    return [
        (path, phase, [one for one, _ in found], sum(joules for _, joules in found))
        for (path, phase), found in grouped.items()
    ]


def _operator_row(
    path: str,
    phase: str,
    role: str,
    count: int,
    kernels: Sequence[Kernel],
    joules: float,
    communication: Sequence[CommunicationCost],
    groups: Mapping[str, Group],
) -> OperatorRow:
    compute, memory, floor = (
        sum(amount(getattr(kernel, name)) for kernel in kernels) for name in ("compute_time", "memory_time", "floor")
    )
    terms = {"compute": compute, "memory": memory, "launch": floor}
    moved = sum(
        amount(row.size) * amount(row.applied) for row in communication if number(groups[row.use.group].ranks) > 1.0
    )
    links = sum(amount(row.energy) * amount(row.applied) for row in communication)
    return OperatorRow(
        name=f"{path}:{phase}",
        phase=phase,
        role=role,
        count=count,
        flop=sum(amount(kernel.flop) + amount(kernel.vector_flop) for kernel in kernels),
        traffic_bytes=sum(amount(kernel.traffic) for kernel in kernels),
        communication_bytes=moved,
        time_s=amount(operator_time(kernels)),
        energy_j=joules + links,
        bound=max(terms, key=lambda term: number(terms[term])),
        data_type=kernels[0].data_type,
        compute_s=compute,
        memory_s=memory,
        floor_s=floor,
    )


def operator_time(kernels: Sequence[Kernel]) -> Any:
    """Time of the kernels of one operator and phase (works on traced operands)."""
    return total(kernel.time for kernel in kernels)


def _critical_parameters(problem: Problem, evaluation: Evaluation) -> Held:
    """What the critical stage holds."""
    return amounts(evaluation.step.critical, problem.parameter_classes)


def _optimizer_row(problem: Problem, plan: Plan, evaluation: Evaluation, role: str) -> OperatorRow:
    numbers, critical = evaluation.numbers, evaluation.step.critical
    traffic = amount(optimizer_traffic(problem, numbers, _critical_parameters(problem, evaluation)))
    time = amount(evaluation.step.optimizer)
    joules = amount(energy.movement_energy(traffic, problem.machine.energy.memory_per_byte))
    flop: Any = 0.0
    if problem.formats.orthogonal is not None:
        work = critical.orthogonal_flop, critical.expert_orthogonal_flop
        flop = amount(orthogonal_flop(problem, numbers, *work))
        joules = joules + amount(orthogonal_energy(problem, flop))
    return OperatorRow(
        "optimizer.step:optimizer",
        OPTIMIZER,
        role,
        int(plan.pp[0]),
        flop,
        traffic,
        0.0,
        time,
        joules,
        "memory",
        "vector",
        0.0,
        time,
        0.0,
    )


# -- communication -----------------------------------------------------------------------------------
def communication_rows(
    problem: Problem, plan: Plan, costs: KeyCosts, evaluation: Evaluation
) -> tuple[CommunicationRow, ...]:
    """Totals per step on the device of the critical stage, by group and operation."""
    rows = _model_parallel_rows(problem, plan, costs, evaluation)
    return (*rows, *_pipeline_rows(problem, evaluation), *_data_rows(problem, evaluation))


def _model_parallel_rows(
    problem: Problem, plan: Plan, costs: KeyCosts, evaluation: Evaluation
) -> list[CommunicationRow]:
    groups, shares = costs.groups, exposed_shares(problem, evaluation.numbers)
    recomputed = problem.policies[plan.recompute_policies[int(plan.recompute[0])]]
    fraction, m = float(plan.recompute_fraction[0]), float(plan.num_microbatches[0])
    occurrences = occurrences_of(problem, evaluation)
    exposed = dict.fromkeys(TENSOR_GROUPS, amount(shares.tensor))
    exposed |= {"cp": _exposed_share_of_context(problem, evaluation)}
    panels = _exposed_share_of_panels(evaluation)
    exposed |= dict.fromkeys(("ep", "etp"), amount(shares.expert))
    folded: dict[tuple[str, str, float], list[Any]] = {}
    for row in costs.communication:
        group = groups[row.use.group]
        if number(group.ranks) <= 1.0 or number(row.applied) == 0.0:
            continue
        times = amount(row.applied) * occurrences[row.use.block] * m
        if (
            row.use.phase == FORWARD
            and row.use.operator in recomputed
            and row.use.block in {one.name for one in problem.graph.blocks}
        ):
            times = times * (1.0 + fraction)
        share = amount(shares.regather) if row.use.regather else exposed[row.use.group]
        share = panels if row.use.operation in PANELS else share
        name = (row.use.group, row.use.operation, number(row.size))
        sums = folded.setdefault(name, [0.0, 0.0, 0.0, amount(row.size)])
        for position, value in enumerate((times, times * amount(row.time), times * amount(row.time) * share)):
            sums[position] = sums[position] + value  # not in place: operands may be traced
    return [
        _communication_row(problem, _GROUP_NAMES[axis], operation, groups[axis], size, count, time, share)
        for (axis, operation, _), (count, time, share, size) in folded.items()
        if number(count) > 0.0
    ]


def _exposed_share_of_context(problem: Problem, evaluation: Evaluation) -> Any:
    """Exposure of a ring or an exchange is known for the sum: shared out in proportion to the time of the parts."""
    exposed, hidden = (amount(evaluation.step.of_all_microbatches(name)) for name in ("context", "context_overlapped"))
    if problem.context.kind == GATHERED or number(exposed) + number(hidden) <= 0.0:
        return amount(problem.machine.step.context_exposed)
    return exposed / (exposed + hidden)


def _exposed_share_of_panels(evaluation: Evaluation) -> Any:
    """Exposure of the panels of products on a grid, shared out like that of context parallelism."""
    stage, fraction = _critical_class(evaluation), evaluation.numbers.recompute_fraction
    exposed, moved = (
        amount(stage_passes(stage, evaluation.sections, fraction, name)[1]) for name in ("panels_exposed", "panels")
    )
    return exposed / moved if number(moved) > 0.0 else 0.0


def _critical_class(evaluation: Evaluation) -> StageClass:
    totals = [number(time.total) for time in evaluation.stage_times]
    return evaluation.classes[int(np.argmax(totals))]


def occurrences_of(problem: Problem, evaluation: Evaluation) -> dict[str, Any]:
    """How often the critical stage runs each block."""
    stage = _critical_class(evaluation)
    graph, leading = problem.graph, amount(stage.leading)
    counts = {
        block.name: leading * block.count / graph.leading_layers
        if block.leading
        else (amount(stage.layers) - leading) * block.count / (graph.layers - graph.leading_layers)
        for block in graph.blocks
    }
    counts[problem.graph.prologue.name] = amount(stage.has_embedding)
    counts[problem.graph.epilogue.name] = amount(stage.has_head)
    return counts


def _communication_row(
    problem: Problem,
    name: str,
    operation: str,
    group: Group,
    size: float,
    count: float,
    time: float,
    exposed: float,
    title: str = "",
) -> CommunicationRow:
    tiers = spanned_tiers(group, problem.machine.tiers)
    return CommunicationRow(
        group=name,
        operation=operation,
        name=f"{title or name} {operation}",
        ranks=round(number(group.ranks)),
        tiers=tiers,
        binding_tier=_binding_tier(problem, group),
        count=count,
        bytes_per_operation=size,
        time_s=time,
        exposed_s=exposed,
        overlapped_s=time - exposed,
    )


def _binding_tier(problem: Problem, group: Group) -> str:
    """The tier with the least bandwidth per byte that crosses it."""
    tiers, spanned = problem.machine.tiers, spanned_tiers(group, problem.machine.tiers)
    members = [number(count) for count in group.members]
    crossing = [number(members[0]), *(number(count) for count in outer_domains(group))]
    load = {}
    for level, tier in enumerate(tiers):
        if tier.name in spanned:
            owned = (members[level - 1] if level else 1.0) * number(tier.bandwidth) * number(tier.link_fraction)
            load[tier.name] = (1.0 - 1.0 / crossing[level]) / owned
    return max(load, key=lambda name: load[name]) if load else ""


def _pipeline_rows(problem: Problem, evaluation: Evaluation) -> list[CommunicationRow]:
    numbers, step = evaluation.numbers, evaluation.step
    if number(numbers.pp) <= 1.0:
        return []
    tokens = amount(numbers.micro_batch) * amount(problem.workload.sequence_length) / amount(numbers.cp)
    size = pipeline.pipeline_message_bytes(
        tokens, amount(problem.axes["hidden"]), amount(problem.formats.activations), amount(numbers.tp)
    )
    count = amount(
        pipeline.pipeline_transfers(
            numbers.pp, numbers.num_microbatches, numbers.virtual_stages, problem.workload.passes
        )
    )
    time = amount(step.of_all_microbatches("pipeline")) + amount(step.of_all_microbatches("pipeline_overlapped"))
    return [
        _communication_row(
            problem,
            "pipeline",
            SEND,
            evaluation.groups.pipeline,
            amount(size),
            count,
            time,
            amount(step.of_all_microbatches("pipeline")),
        )
    ]


def _data_rows(problem: Problem, evaluation: Evaluation) -> list[CommunicationRow]:
    step, tiers = evaluation.step, problem.machine.tiers
    exposed, moved = amount(step.data), amount(step.data) + amount(step.data_overlapped)
    uses = data_collectives(problem, evaluation.numbers, evaluation.groups, _critical_parameters(problem, evaluation))
    parts = [
        (one, amount(one.count) * amount(collective_time(one.operation, one.size, one.group, tiers)))
        for one in uses
        if number(one.group.ranks) > 1.0 and number(one.count) > 0.0
    ]
    # Exposure is known for the sum; it is shared out in proportion to the time of the parts.
    whole = sum(time for _, time in parts)
    return [
        _communication_row(
            problem,
            "data",
            one.operation,
            one.group,
            amount(one.size),
            amount(one.count),
            moved * time / whole,
            exposed * time / whole,
            "expert data" if one.of_experts else "data",
        )
        for one, time in parts
        if number(moved) > 0.0
    ]


# -- stages and waterfall ---------------------------------------------------------------------------
def stage_rows(evaluation: Evaluation) -> tuple[StageRow, ...]:
    """One row per class of stages that the plan has."""
    rows = []
    for one, time, footprint in zip(evaluation.classes, evaluation.stage_times, evaluation.footprints, strict=True):
        if number(one.multiplicity) <= 0.0:
            continue
        memory = {key: amount(getattr(footprint, name)) for key, name in MEMORY_PARTS.items()}
        rows.append(
            StageRow(
                one.name,
                round(number(one.position)),
                amount(one.layers),
                bool(number(one.has_embedding)),
                bool(number(one.has_head)),
                amount(time.forward_pass),
                amount(time.backward_pass),
                amount(footprint.in_flight),
                memory,
            )
        )
    return tuple(rows)
