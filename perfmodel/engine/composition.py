"""From plan columns to composed columns: intern the shard keys, cost them once, gather, compose.

Evaluating one plan is a one-row column. The traced evaluation of ``explain`` runs the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.engine.footprint import Footprint, fullest, stage_footprint
from perfmodel.engine.joules import StepEnergy, step_energy
from perfmodel.engine.networks import Group
from perfmodel.engine.problem import Problem
from perfmodel.engine.sections import KeyCosts, Sections, cost_keys, gather
from perfmodel.engine.sizes import Sizes
from perfmodel.engine.stages import PlanGroups, PlanNumbers, StageClass, StageTime
from perfmodel.engine.step import StepTime, stage_time, stage_transfers, step_time
from perfmodel.parallel.mesh import flattened_members, group_strides, mesh_sizes, tier_members
from perfmodel.parallel.plan import Plan
from perfmodel.parallel.stages import StageTable, stage_table
from perfmodel.provenance import Traced

#: Plan columns that operators see.
_KEY_COLUMNS = ("micro_batch", "tp", "cp", "sequence_parallel")


@dataclass(frozen=True)
class Evaluation:
    """Composed columns of plans, with the parts that they were composed from."""

    numbers: PlanNumbers
    groups: PlanGroups
    classes: tuple[StageClass, ...]
    sections: Sections
    stage_times: tuple[StageTime, ...]
    step: StepTime
    footprints: tuple[Footprint, ...]
    peak: Footprint
    peak_class: Any
    energy: StepEnergy


@dataclass(frozen=True)
class Interned:
    """Unique shard keys of plans: their representative rows, and the key of each plan."""

    rows: np.ndarray
    take: np.ndarray


def intern_keys(plan: Plan, order: Sequence[str], hardware: np.ndarray | None = None) -> Interned:
    """Find the distinct shard keys of plans.

    Parameters
    ----------
    plan
        Plans, length n.
    order
        Placement order of the groups (strides of ``tp`` and ``cp`` belong to the key).
    hardware
        Index of the hardware point of each plan, or None.
    """
    if len(plan) == 1:
        return Interned(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))
    strides = group_strides(mesh_sizes(plan), order)
    columns = [getattr(plan, name) for name in _KEY_COLUMNS] + [strides["tp"], strides["cp"], *_context_columns(plan)]
    if hardware is not None:
        columns.append(hardware)
    code = np.zeros(len(plan), dtype=np.int64)
    for column in columns:
        _, compact = np.unique(code, return_inverse=True) if _would_overflow(code, column) else (None, code)
        code = compact * (int(np.max(column)) + 1) + column
    _, rows, take = np.unique(code, return_index=True, return_inverse=True)
    return Interned(rows, take)


def _context_columns(plan: Plan) -> list[np.ndarray]:
    """Devices of the mesh decide whether a small mesh fits into one domain."""
    return [np.minimum(plan.devices, np.iinfo(np.int32).max)]


def _would_overflow(code: np.ndarray, column: np.ndarray) -> bool:
    return (int(code.max()) + 1) * (int(np.max(column)) + 2) > np.iinfo(np.int64).max // 2


def _as_float(column: Any) -> Any:
    return np.asarray(column, dtype=np.float64)


def tier_devices(problem: Problem) -> list[int]:
    """Devices of one domain of each tier, innermost first."""
    return [
        int(np.max(tier.devices.value if isinstance(tier.devices, Traced) else tier.devices))
        for tier in problem.machine.tiers
    ]


def key_groups(plan: Plan, problem: Problem) -> Mapping[str, Group]:
    """Tensor and context groups of plans (or of the representative rows of their keys)."""
    strides, domains = group_strides(mesh_sizes(plan), problem.order), tier_devices(problem)
    return {axis: _group(getattr(plan, axis), strides[axis], domains, plan.devices) for axis in ("tp", "cp")}


def _group(size: Any, stride: Any, domains: list[int], devices: Any) -> Group:
    members = tier_members(size, stride, domains, devices)
    return Group(_as_float(size), tuple(_as_float(count) for count in members))


def plan_groups(plan: Plan, problem: Problem) -> PlanGroups:
    """Groups that depend on the whole plan."""
    sizes, domains = dict(mesh_sizes(plan)), tier_devices(problem)
    strides = group_strides(sizes, problem.order)

    def flat(over: Any) -> Group:
        chosen = sizes | {"dp": over}
        members = flattened_members(("cp", "dp"), chosen, domains, problem.order, plan.devices, strides)
        return Group(_as_float(plan.cp * over), tuple(_as_float(count) for count in members))

    data = flat(plan.dp)
    shard = data if np.array_equal(plan.dp, plan.dp_shard) else flat(plan.dp_shard)
    replicas = _group(plan.dp_replicate, strides["dp"] * plan.dp_shard, domains, plan.devices)
    pipeline = _group(plan.pp, strides["pp"], domains, plan.devices)
    return PlanGroups(data, shard, replicas, pipeline, _group(plan.tp, strides["tp"], domains, plan.devices))


def plan_numbers(plan: Plan) -> PlanNumbers:
    """The integer columns as floats."""
    return PlanNumbers(
        **{
            name: _as_float(getattr(plan, name))
            for name in (
                "tp",
                "cp",
                "pp",
                "dp",
                "dp_shard",
                "virtual_stages",
                "micro_batch",
                "num_microbatches",
                "sequence_parallel",
                "zero",
                "recompute_fraction",
                "devices",
            )
        }
    )


def stage_classes(table: StageTable) -> tuple[StageClass, ...]:
    """The stage table as records."""
    columns = zip(
        table.names, table.layers, table.has_embedding, table.has_head, table.position, table.multiplicity, strict=True
    )
    return tuple(StageClass(*record) for record in columns)


def key_sizes(plan: Plan, problem: Problem) -> Sizes:
    """Shard-key sizes of plans (or of representative rows)."""
    return Sizes(
        _as_float(plan.micro_batch),
        problem.workload.sequence_length,
        _as_float(plan.tp),
        _as_float(plan.cp),
        _as_float(plan.sequence_parallel),
        problem.axes,
    )


def cost_plan_keys(problem: Problem, plan: Plan, interned: Interned) -> KeyCosts:
    """Cost the distinct shard keys of plans."""
    representatives = plan.take(interned.rows)
    return cost_keys(
        problem, key_sizes(representatives, problem), key_groups(representatives, problem), plan.recompute_policies
    )


def compose(
    problem: Problem, numbers: PlanNumbers, groups: PlanGroups, classes: tuple[StageClass, ...], sections: Sections
) -> Evaluation:
    """Compose time, memory and energy of plans (or of one traced plan)."""
    transfers = stage_transfers(problem, numbers, groups, sections)
    times = tuple(stage_time(problem, numbers, transfers, one, sections) for one in classes)
    step = step_time(problem, numbers, groups, classes, times)
    footprints = tuple(stage_footprint(problem, numbers, one, sections) for one in classes)
    peak, peak_class = fullest(footprints)
    energy = step_energy(problem, numbers, groups, classes, sections, step.step)
    return Evaluation(numbers, groups, classes, sections, times, step, footprints, peak, peak_class, energy)


def evaluate_rows(problem: Problem, plan: Plan, costs: KeyCosts, take: np.ndarray) -> Evaluation:
    """Compose plans from the costs of their keys."""
    sections = gather(costs, take, plan.recompute)
    classes = stage_classes(stage_table(plan, problem.layers))
    return compose(problem, plan_numbers(plan), plan_groups(plan, problem), classes, sections)
