"""Composition of a training step from section costs: stages, pipeline, data parallelism, optimizer.

All numbers are columns over plans (or traced operands of one plan). The critical stage is the one with
the longest micro-batch; its exposed times are the breakdown of the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from perfmodel.engine.data_parallel import (
    DataTraffic,
    SectionGathers,
    data_parallel,
    gather_time,
    section_gathers,
)
from perfmodel.engine.exposure import exposed_shares
from perfmodel.engine.lazy import lazy
from perfmodel.engine.networks import ALL_GATHER, collective_time, plain, send_time
from perfmodel.engine.offload import kept_activations, stage_offload
from perfmodel.engine.parameters import ALL_CLASSES, Held
from perfmodel.engine.pipelines import pipeline_bubble
from perfmodel.engine.problem import Problem, keep
from perfmodel.engine.section_costs import Sections
from perfmodel.engine.stages import (
    PlanGroups,
    PlanNumbers,
    StageClass,
    StageTime,
    layer_sum,
    stage_parameters,
    stage_sum,
)
from perfmodel.engine.update import UpdateTransfers, optimizer_time, update_transfers
from perfmodel.equations import overlap, pipeline
from perfmodel.units import Numeric


@dataclass(frozen=True)
class StepTime:
    """Exposed times of the step on its critical stage; they sum to ``step``. Overlapped times apart."""

    microbatches: Numeric
    critical: StageTime
    bubble: Numeric
    optimizer: Numeric
    overhead: Numeric
    traffic: DataTraffic
    update_transfers: UpdateTransfers
    step: Numeric

    def of_all_microbatches(self, field: str) -> Numeric:
        """A time of one micro-batch on the critical stage, over the step."""
        return self.microbatches * getattr(self.critical, field)

    @property
    def data(self) -> Numeric:
        return self.traffic.exposed + self.of_all_microbatches("gather")

    @property
    def data_overlapped(self) -> Numeric:
        return self.traffic.overlapped + self.of_all_microbatches("gather_overlapped")

    @property
    def offload(self) -> Numeric:
        return self.update_transfers.exposed + self.of_all_microbatches("offload")

    @property
    def offload_overlapped(self) -> Numeric:
        return self.update_transfers.overlapped + self.of_all_microbatches("offload_overlapped")


@dataclass(frozen=True)
class Transfers:
    """What every stage does beside its operators, per micro-batch: the same for all stages."""

    sends: Numeric
    gathers: SectionGathers


def stage_transfers(problem: Problem, plan: PlanNumbers, groups: PlanGroups, sections: Sections) -> Transfers:
    """Transfers between stages, and the gathers of ZeRO 3 per section."""
    return Transfers(_sends(problem, plan, groups), section_gathers(problem, plan, groups, sections))


def stage_time(
    problem: Problem, plan: PlanNumbers, transfers: Transfers, stage: StageClass, sections: Sections
) -> StageTime:
    """Time of one micro-batch on a stage."""
    fraction, exposed = plan.recompute_fraction, exposed_shares(problem, plan)
    forward, backward = stage_sum(stage, sections, "forward"), stage_sum(stage, sections, "backward")
    recompute = fraction * layer_sum(stage, sections, "recompute")
    regather = stage_sum(stage, sections, "tensor_regather")
    tensor_forward, tensor = stage_passes(stage, sections, fraction, "tensor")
    context_forward, context_exposed = stage_passes(stage, sections, fraction, "context_exposed")
    _, context = stage_passes(stage, sections, fraction, "context")
    expert_forward, expert = stage_passes(stage, sections, fraction, "expert") if problem.has_experts else (0.0, 0.0)
    panels = _panels(plan, stage, sections)
    tensor_exposed = exposed.tensor * tensor + exposed.regather * regather + panels.exposed
    sends, gathers = transfers.sends, gather_time(stage, transfers.gathers)
    exposed_forward = exposed.tensor * tensor_forward + panels.forward + context_forward
    forward_pass = forward + exposed_forward + exposed.expert * expert_forward
    held = stage_parameters(problem, stage, sections, plan)
    moved = stage_offload(problem, plan, held, kept_activations(sections, stage, plan), forward, backward + recompute)
    times = StageTime(
        forward=forward,
        backward=backward,
        recompute=recompute,
        tensor=tensor_exposed,
        context=context_exposed,
        expert=exposed.expert * expert,
        pipeline=exposed.pipeline * sends,
        **{f"gather_{item.name}": getattr(gathers, item.name) for item in fields(gathers)},
        # Nothing hides the first panel of a product: exposed time may be longer than all of the collectives.
        tensor_overlapped=np.maximum(tensor + regather + panels.moved - tensor_exposed, 0.0),
        context_overlapped=context - context_exposed,
        expert_overlapped=(1.0 - exposed.expert) * expert,
        pipeline_overlapped=(1.0 - exposed.pipeline) * sends,
        **{f"offload_{item.name}": getattr(moved, item.name) for item in fields(moved)},
        forward_pass=forward_pass + gathers.forward + moved.forward,
        weight_gradient=stage_sum(stage, sections, "weight_gradient") + exposed.regather * regather,
        **_state(stage, sections, held),
    )
    return times if problem.label is keep else _labelled(problem, stage.name, times)


@dataclass(frozen=True)
class _Panels:
    """Collectives of products on a grid: exposed in the forward pass, exposed in all passes, and all of them."""

    forward: Numeric = 0.0
    exposed: Numeric = 0.0
    moved: Numeric = 0.0


def _panels(plan: PlanNumbers, stage: StageClass, sections: Sections) -> _Panels:
    if not np.any(plain(plan.tp_blocks) > 0.0):
        return _Panels()
    exposed = stage_passes(stage, sections, plan.recompute_fraction, "panels_exposed")
    return _Panels(*exposed, stage_passes(stage, sections, plan.recompute_fraction, "panels")[1])


def _state(stage: StageClass, sections: Sections, held: Held) -> dict[str, Numeric]:
    """Layers and parameters of a stage by class, and the work of an optimizer on their matrices."""
    counts = dict.fromkeys((one.field for one in ALL_CLASSES), 0.0) | {one.field: amount for one, amount in held}
    layer = sections.layer
    return counts | {
        "layers": stage.layers,
        "orthogonal_flop": stage.layers * layer.orthogonal_flop,
        "largest_orthogonal_flop": np.where(stage.layers > 0.0, 1.0, 0.0) * layer.largest_orthogonal_flop,
        "expert_orthogonal_flop": stage.layers * layer.expert_orthogonal_flop,
    }


def stage_passes(stage: StageClass, sections: Sections, fraction: Numeric, name: str) -> tuple[Numeric, Numeric]:
    """Communication of one kind: of the forward pass, and of all passes with what recomputation repeats."""
    forward, backward = stage_sum(stage, sections, f"{name}_forward"), stage_sum(stage, sections, f"{name}_backward")
    again = fraction * layer_sum(stage, sections, f"{name}_recompute")
    return forward, forward + backward + again


#: Units of the fields of a stage that are not times.
_UNITS = {"parameters": "1", "layers": "1", "flop": "FLOP", "bandwidth": "B/s"}


def _labelled(problem: Problem, stage: str, times: StageTime) -> StageTime:
    """Names for the derivation: one micro-batch on this class of stages."""
    names = {item.name: f"{item.name.replace('_', ' ')} on the {stage} stage" for item in fields(StageTime)}
    units = {name: _UNITS.get(name.rsplit("_", 1)[-1], "s") for name in names}
    return StageTime(**{name: problem.label(getattr(times, name), names[name], units[name]) for name in names})


def _sends(problem: Problem, plan: PlanNumbers, groups: PlanGroups) -> Numeric:
    """Time of the transfers between stages of one micro-batch: one activation and one gradient per chunk.

    Each tensor-parallel rank sends its share. Without sequence parallelism the receivers gather the whole
    (Narayanan et al. 2021, arXiv 2104.04473, section 4.1).
    """
    tokens = plan.micro_batch * problem.workload.sequence_length / plan.cp
    tiers, width = problem.machine.tiers, problem.formats.activations
    share = pipeline.pipeline_message_bytes(tokens, problem.axes["hidden"], width, plan.tp)
    whole = pipeline.pipeline_message_bytes(tokens, problem.axes["hidden"], width, 1.0)
    gathered = (1.0 - plan.sequence_parallel) * collective_time(ALL_GATHER, whole, groups.tensor, tiers)
    once = send_time(share, groups.pipeline, tiers) + gathered
    return pipeline.pipeline_transfers(plan.pp, 1.0, plan.virtual_stages, problem.workload.passes) * once


def slowest(stages: Sequence[StageTime]) -> StageTime:
    """The stage with the longest micro-batch, field by field (the first one on a tie)."""
    longest, chosen = stages[0].total, []
    for candidate in stages[1:]:
        longer = candidate.total > longest
        longest = np.where(longer, candidate.total, longest)
        chosen.append((longer, candidate))

    def pick(name: str) -> Numeric:
        best = getattr(stages[0], name)
        for longer, candidate in chosen:
            best = _chosen(longer, getattr(candidate, name), best)
        return best

    return lazy(StageTime, pick)


def _chosen(longer: Any, candidate: Numeric, best: Numeric) -> Numeric:
    """The number of the longer stage; what both stages have in common (mostly nothing) needs no choice."""
    return best if candidate is best else np.where(longer, candidate, best)


def critical_stage(problem: Problem, times: Sequence[StageTime]) -> StageTime:
    """The slowest stage, under that name in derivations."""
    worst = slowest(times)
    return worst if problem.label is keep else _labelled(problem, "slowest", worst)


@dataclass(frozen=True)
class Passes:
    """The passes of all micro-batches over the model: on the slowest stage, and its idle time."""

    microbatches: Numeric
    critical: StageTime
    slot: Numeric  # one micro-batch on the slowest stage
    bubble: Numeric


def passes_time(
    problem: Problem, plan: PlanNumbers, classes: Sequence[StageClass], times: Sequence[StageTime]
) -> Passes:
    """Compose the passes of a step: micro-batches of the slowest stage, and the bubble."""
    worst, label = critical_stage(problem, times), problem.label
    slot = label(worst.total, "time of one micro-batch on the slowest stage", "s")
    bubble = label(pipeline_bubble(problem, plan, classes, times, worst), "pipeline bubble", "s")
    return Passes(plan.num_microbatches, worst, slot, bubble)


def step_time(
    problem: Problem, plan: PlanNumbers, groups: PlanGroups, passes: Passes, *, passes_only: bool = False
) -> StepTime:
    """Compose the step: passes, data parallelism, optimizer, overhead.

    ``passes_only``: without what comes once per step (data parallelism, optimizer). No step is shorter: a search knows
    from it what it need not compose.
    """
    machine, worst, m, label = problem.machine, passes.critical, passes.microbatches, problem.label
    traffic = DataTraffic(0.0, 0.0) if passes_only else data_parallel(problem, plan, groups, worst)
    data = label(traffic.exposed, "exposed data-parallel communication", "s")
    update = label(0.0 if passes_only else optimizer_time(problem, plan, worst), "optimizer step", "s")
    moved = UpdateTransfers() if passes_only else update_transfers(problem, plan, worst, update)
    busy = label(m * passes.slot + passes.bubble + data + update + moved.exposed, "step without overhead", "s")
    jitter = overlap.jitter_factor(plan.devices, float(machine.devices_per_node), machine.step.jitter_per_doubling)
    overhead = label(machine.step.fixed_overhead + busy * (jitter - 1.0), "overhead", "s")
    moved_data = DataTraffic(data, traffic.overlapped)
    return StepTime(m, worst, passes.bubble, update, overhead, moved_data, moved, busy + overhead)
