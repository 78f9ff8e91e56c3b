"""From plan columns to composed columns: intern the shard keys, cost them once, gather, compose.

Evaluating one plan is a one-row column. The traced evaluation of ``explain`` runs the same functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from perfmodel.engine.footprint import Footprint, fullest, stage_footprint
from perfmodel.engine.joules import StepEnergy, step_energy
from perfmodel.engine.networks import Group, plain
from perfmodel.engine.problem import Problem
from perfmodel.engine.routing import mean_rows, slowest_rows
from perfmodel.engine.section_costs import KeyCosts, Sections
from perfmodel.engine.section_tables import gather
from perfmodel.engine.sections import cost_keys
from perfmodel.engine.sizes import Grid, Sizes
from perfmodel.engine.stages import PlanGroups, PlanNumbers, StageClass, StageTime, StateGroups
from perfmodel.engine.step import Passes, StepTime, passes_time, stage_time, stage_transfers, step_time
from perfmodel.parallel.mesh import (
    expert_members,
    expert_sizes,
    flattened_members,
    grid_strides,
    group_strides,
    mesh_sizes,
    tier_members,
)
from perfmodel.parallel.orders import SCHEDULES
from perfmodel.parallel.plan import OVERLAPS, Plan
from perfmodel.parallel.stages import StageTable, stage_table
from perfmodel.provenance import Traced
from perfmodel.units import Numeric

#: Plan columns that operators see.
_KEY_COLUMNS = ("micro_batch", "tp", "cp", "sequence_parallel")


@dataclass(frozen=True)
class Evaluation:
    """Composed columns of plans, with the parts that they were composed from.

    Memory, time and energy are composed when they are first asked for: most plans of a search do not fit, and few
    questions are about energy.
    """

    problem: Problem
    numbers: PlanNumbers
    classes: tuple[StageClass, ...]
    sections: Sections
    find_groups: Callable[[], PlanGroups]
    whole: Evaluation | None = None  # of which this one has the passes only

    @functools.cached_property
    def groups(self) -> PlanGroups:
        """Process groups that depend on the whole plan."""
        return self.find_groups() if self.whole is None else self.whole.groups

    @functools.cached_property
    def stage_times(self) -> tuple[StageTime, ...]:
        """One micro-batch on every class of stages."""
        transfers = stage_transfers(self.problem, self.numbers, self.groups, self.sections)
        return tuple(stage_time(self.problem, self.numbers, transfers, one, self.sections) for one in self.classes)

    @functools.cached_property
    def passes(self) -> Passes:
        """All micro-batches of a step."""
        if self.whole is not None:
            return self.whole.passes
        return passes_time(self.problem, self.numbers, self.classes, self.stage_times)

    @functools.cached_property
    def step(self) -> StepTime:
        """The step."""
        alone = self.whole is not None
        return step_time(self.problem, self.numbers, self.groups, self.passes, passes_only=alone)

    @functools.cached_property
    def footprints(self) -> tuple[Footprint, ...]:
        """Memory of one device of every class of stages."""
        return tuple(stage_footprint(self.problem, self.numbers, one, self.sections) for one in self.classes)

    @functools.cached_property
    def _fullest(self) -> tuple[Footprint, Numeric]:
        return fullest(self.footprints)

    @property
    def peak(self) -> Footprint:
        """Memory of the fullest class of stages."""
        return self._fullest[0]

    @functools.cached_property
    def peak_bytes(self) -> Numeric:
        """Memory of the fullest class of stages, all of it."""
        return functools.reduce(np.maximum, (one.total for one in self.footprints))

    @property
    def peak_class(self) -> Numeric:
        """Its index among the classes."""
        return self._fullest[1]

    @functools.cached_property
    def energy(self) -> StepEnergy:
        """Energy of the step over the whole allocation."""
        parts = (self.problem, self.numbers, self.groups, self.classes, self.sections)
        return step_energy(*parts, self.step.step, passes_only=self.whole is not None)

    def of_passes(self) -> Evaluation:
        """The same with step and energy of the passes alone, of which no plan takes less."""
        return replace(self, whole=self)


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
    columns = key_columns(plan, order, experts=bool(np.any(plan.ep * plan.etp > 1)))
    if hardware is not None:
        columns.append(hardware)
    code = np.zeros(len(plan), dtype=np.int64)
    for column in columns:
        _, compact = np.unique(code, return_inverse=True) if _would_overflow(code, column) else (None, code)
        code = compact * (int(np.max(column)) + 1) + column
    _, rows, take = np.unique(code, return_index=True, return_inverse=True)
    return Interned(rows, take)


def key_columns(plan: Plan, order: Sequence[str], *, experts: bool) -> list[np.ndarray]:
    """What operators see of plans: columns of one length.

    ``experts``: some plan spreads experts over ranks.
    """
    strides = group_strides(mesh_sizes(plan), order)
    columns = [getattr(plan, name) for name in _KEY_COLUMNS] + [strides["tp"], strides["cp"], *_context_columns(plan)]
    if experts:
        columns += [plan.ep, plan.etp, *_ranks_inside_stages(plan, order)]
    columns += [plan.tp_rows, plan.tp_blocks, plan.tp_column_first]
    return [np.broadcast_to(column, plan.tp.shape) for column in columns]


def _context_columns(plan: Plan) -> list[np.ndarray]:
    """Devices of the mesh decide whether a small mesh fits into one domain."""
    return [np.minimum(plan.devices, np.iinfo(np.int32).max)]


def _ranks_inside_stages(plan: Plan, order: Sequence[str]) -> list[np.ndarray]:
    """What the place of the experts' groups depends on: the ranks inside the stages of the pipeline, and the stages."""
    if order[-1] == "pp":
        return []
    return [group_strides(mesh_sizes(plan), order)["pp"], plan.pp]


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
    """Tensor, context and expert groups of plans (or of the representative rows of their keys)."""
    strides, domains = group_strides(mesh_sizes(plan), problem.order), tier_devices(problem)
    groups = {axis: _group(getattr(plan, axis), strides[axis], domains, plan.devices) for axis in ("tp", "cp")}
    if np.any(plan.tp_blocks > 0):
        distances = grid_strides(plan, strides["tp"])
        groups |= {
            "columns": _group(plan.tp_columns, distances["columns"], domains, plan.devices),
            "rows": _group(plan.tp_rows, distances["rows"], domains, plan.devices),
        }
    if problem.has_experts:
        groups |= {
            "ep": _expert_group(problem, plan, plan.ep, plan.etp),
            "etp": _expert_group(problem, plan, plan.etp, np.ones_like(plan.etp)),
        }
    return groups


def _expert_group(problem: Problem, plan: Plan, size: Any, distance: Any) -> Group:
    members = expert_members(size, distance, mesh_sizes(plan), tier_devices(problem), problem.order, plan.devices)
    return Group(_as_float(size), tuple(_as_float(count) for count in members))


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
    tensor = _group(plan.tp, strides["tp"], domains, plan.devices)
    dense, expert = StateGroups(data, shard, replicas), _expert_state_groups(problem, plan)
    copies = SCHEDULES[plan.schedule].copies
    if copies > 1.0:
        dense = _with_copies(dense, pipeline, copies)
        expert = None if expert is None else _with_copies(expert, pipeline, copies)
    return PlanGroups(dense, expert, pipeline, tensor)


def _expert_state_groups(problem: Problem, plan: Plan) -> StateGroups | None:
    """Replicas of the experts: the innermost of them share state, the outermost ``dp_replicate`` hold copies."""
    if not problem.has_experts:
        return None
    distance, replicas = plan.ep * plan.etp, expert_sizes(plan)["edp"]
    shards = np.maximum(replicas // plan.dp_replicate, 1)
    data = _expert_group(problem, plan, replicas, distance)
    shard = data if np.all(plan.dp_replicate == 1) else _expert_group(problem, plan, shards, distance)
    return StateGroups(data, shard, _expert_group(problem, plan, plan.dp_replicate, distance * shards))


def _with_copies(groups: StateGroups, pipeline: Group, copies: float) -> StateGroups:
    """The groups and those on the stage opposite, which holds the same parameters: near where the pipeline is."""

    def joined(group: Group) -> Group:
        members = zip(group.members, pipeline.members, strict=True)
        both = tuple(here * np.where(stages >= pipeline.ranks, copies, 1.0) for here, stages in members)
        return Group(group.ranks * copies, both)

    return StateGroups(joined(groups.data), joined(groups.shard), groups.replicas)


def plan_numbers(plan: Plan) -> PlanNumbers:
    """The integer columns as floats."""
    return PlanNumbers(
        **{
            name: _as_float(getattr(plan, name))
            for name in (
                "tp",
                "cp",
                "ep",
                "etp",
                "pp",
                "dp",
                "dp_shard",
                "virtual_stages",
                "micro_batch",
                "num_microbatches",
                "sequence_parallel",
                "zero",
                "recompute_fraction",
                "tp_rows",
                "tp_blocks",
                *OVERLAPS,
                "devices",
            )
        },
        schedule=SCHEDULES[plan.schedule],
        synchronous=1.0 if plan.synchronous_update else 0.0,
    )


def stage_classes(table: StageTable) -> tuple[StageClass, ...]:
    """The stage table as records."""
    columns = zip(
        table.names, table.layers, table.has_embedding, table.has_head, table.position, table.multiplicity,
        table.leading, strict=True,
    )  # fmt: skip
    return tuple(StageClass(*record, copies=table.copies) for record in columns)


def key_sizes(plan: Plan, problem: Problem) -> Sizes:
    """Shard-key sizes of plans (or of representative rows)."""
    return sizes_of(problem, plan_numbers(plan))


def sizes_of(problem: Problem, numbers: PlanNumbers) -> Sizes:
    """What operators see of a plan."""
    return Sizes(
        micro_batch=numbers.micro_batch,
        full_sequence=problem.workload.sequence_length,
        tp=numbers.tp,
        cp=numbers.cp,
        sequence_parallel=numbers.sequence_parallel,
        axes=problem.axes,
        ep=numbers.ep,
        etp=numbers.etp,
        routed_slowest=slowest_rows(problem.routing, numbers.ep),
        routed_mean=mean_rows(problem.routing, numbers.ep),
        grid=_grid(numbers),
    )


def _grid(numbers: PlanNumbers) -> Grid | None:
    if not np.any(plain(numbers.tp_blocks) > 0.0):
        return None
    active = np.where(numbers.tp_blocks > 0.0, 1.0, 0.0)
    return Grid(active, numbers.tp_rows, numbers.tp / numbers.tp_rows, np.maximum(numbers.tp_blocks, 1.0))


def cost_plan_keys(problem: Problem, plan: Plan, interned: Interned) -> KeyCosts:
    """Cost the distinct shard keys of plans."""
    representatives = plan.take(interned.rows)
    return cost_keys(
        problem, key_sizes(representatives, problem), key_groups(representatives, problem), plan.recompute_policies
    )


def evaluate_rows(problem: Problem, plan: Plan, costs: KeyCosts, take: np.ndarray) -> Evaluation:
    """Compose plans from the costs of their keys."""
    sections = gather(costs, take, plan.recompute)
    classes = stage_classes(stage_table(plan, problem.layers, problem.graph.leading_layers))
    return Evaluation(problem, plan_numbers(plan), classes, sections, lambda: plan_groups(plan, problem))
