"""Memory of one device by pipeline stage: state, activations in flight, logits, buffers, workspace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from perfmodel.engine.data_parallel import gradient_bytes
from perfmodel.engine.lazy import lazy
from perfmodel.engine.offload import host_bytes, kept_activations
from perfmodel.engine.parameters import (
    Held,
    ParameterClass,
    amounts,
    count,
    gathered_bytes,
    moments_width,
    shards,
    stored_width,
    trained,
)
from perfmodel.engine.pipelines import in_flight_microbatches
from perfmodel.engine.problem import DEVICE, HOST, NVME, Offload, Problem, total
from perfmodel.engine.section_costs import SectionCosts, Sections
from perfmodel.engine.stages import PlanNumbers, StageClass, stage_parameters
from perfmodel.equations import memory, pipeline
from perfmodel.units import Numeric

#: Layers whose gathered parameters are live at once under ZeRO-3: the current one and the prefetched one.
_GATHERED_LAYERS = 2.0
#: Model chunks whose gradients are not scattered yet under ZeRO-2 with an interleaved schedule.
_UNSCATTERED_CHUNKS = 2.0


@dataclass(frozen=True)
class Footprint:
    """Bytes on one device of a stage class; the parts sum to ``total``."""

    weights: Numeric
    gradients: Numeric
    optimizer: Numeric
    activations: Numeric
    logits: Numeric
    communication_buffers: Numeric
    workspace: Numeric
    in_flight: Numeric
    host: Numeric  # bytes of this device in the memory of its host, and in storage
    nvme: Numeric

    @property
    def total(self) -> Numeric:
        # What depends on most of a plan comes last: in a search, the sums before it are of few candidates.
        state = self.workspace + self.weights + self.gradients + self.optimizer
        return state + self.communication_buffers + self.logits + self.activations


def stage_footprint(problem: Problem, plan: PlanNumbers, stage: StageClass, sections: Sections) -> Footprint:
    """Peak memory of one device of a stage."""
    formats, step = problem.formats, problem.machine.step
    held = stage_parameters(problem, stage, sections, plan)
    in_flight = in_flight_microbatches(plan, stage)
    training = problem.workload.training
    weights = _state(plan, held, lambda one: stored_width(formats, one), 3.0)
    optimizer: Numeric = 0.0
    if training:
        optimizer = _state(plan, trained(held), lambda one: formats.state_master + moments_width(formats, one), 1.0)
    kept = memory.activation_bytes(kept_activations(sections, stage, plan), in_flight) if training else 0.0
    offload = problem.offload or Offload()
    return Footprint(
        weights=weights if offload.parameters == DEVICE else 0.0,
        gradients=_state(plan, trained(held), lambda _: formats.state_gradients, 2.0) if training else 0.0,
        optimizer=optimizer if offload.optimizer == DEVICE else 0.0,
        activations=_activations(problem, plan, stage, sections, in_flight),
        logits=np.ceil(stage.has_head) * _logits(problem, plan),
        communication_buffers=_buffers(problem, plan, stage, sections, held),
        workspace=step.workspace,
        in_flight=in_flight,
        host=host_bytes(problem.offload, HOST, optimizer, weights, kept),
        nvme=host_bytes(problem.offload, NVME, optimizer, weights, kept),
    )


def _state(plan: PlanNumbers, held: Held, width: Callable[[ParameterClass], Numeric], level: float) -> Numeric:
    """Bytes of one kind of state, sharded from a ZeRO level on; experts have a data group of their own."""
    return total(memory.state_bytes(amount, width(one), shards(plan, one, level)) for one, amount in held)


def _activations(
    problem: Problem, plan: PlanNumbers, stage: StageClass, sections: Sections, in_flight: Numeric
) -> Numeric:
    fraction = plan.recompute_fraction
    if not problem.workload.training:
        return memory.activation_bytes(_widest_tensor(problem, plan), _GATHERED_LAYERS)
    kept = kept_activations(sections, stage, plan)
    if problem.offload is not None:
        kept = kept - memory.offloaded_bytes(kept, problem.offload.activations)
    # What backward rebuilds of one layer is live while that layer is differentiated.
    rebuilt = fraction * _rebuilt(sections.layer, stage.layers - stage.leading)
    if sections.leading is not None:
        rebuilt = np.maximum(rebuilt, fraction * _rebuilt(sections.leading, stage.leading))
    ends = stage.has_embedding * sections.embedding.saved + stage.has_head * sections.head.saved
    return memory.activation_bytes(kept, in_flight) + rebuilt + ends


def _rebuilt(layer: SectionCosts, count: Numeric) -> Numeric:
    """Bytes that recomputation brings back in one layer, where the stage has such layers."""
    return np.maximum(layer.saved_without_recompute - layer.saved, 0.0) * np.where(count > 0.0, 1.0, 0.0)


def _widest_tensor(problem: Problem, plan: PlanNumbers) -> Numeric:
    tokens = plan.micro_batch * problem.workload.sequence_length / plan.cp
    return pipeline.pipeline_message_bytes(tokens, problem.axes["hidden"], problem.formats.activations, 1.0)


def _logits(problem: Problem, plan: PlanNumbers) -> Numeric:
    """Logits in their format, in training beside the full-precision copy that the loss differentiates."""
    tokens = plan.micro_batch * problem.workload.sequence_length / plan.cp
    copy = problem.formats.full_precision if problem.workload.training else 0.0
    width = problem.formats.logits + copy
    # A model without a vocabulary (images) has a classifier of one row per sequence: nothing to speak of.
    return memory.logits_bytes(tokens, problem.axes.get("vocabulary", 0.0) / plan.tp, width)


def _buffers(problem: Problem, plan: PlanNumbers, stage: StageClass, sections: Sections, held: Held) -> Numeric:
    """Buckets of gradients in flight, gathered parameters of ZeRO-3, gradients of ZeRO-2 not yet scattered."""
    formats, step, training = problem.formats, problem.machine.step, problem.workload.training
    classes = [one for one in problem.parameter_classes if not one.tied]
    layer = amounts(sections.layer, classes)
    live = tuple(
        (
            one,
            _GATHERED_LAYERS * amount
            + stage.has_embedding * getattr(sections.embedding, one.field)
            + stage.has_head * getattr(sections.head, one.field),
        )
        for one, amount in layer
    )
    gathered = gathered_bytes(formats, live)
    if not training:
        return np.where(plan.zero >= 3.0, gathered, 0.0)
    unreduced = gradient_bytes(problem, layer)
    pending = count(trained(held)) * np.minimum(_UNSCATTERED_CHUNKS / plan.grouped_chunks, 1.0)
    chunk = memory.state_bytes(pending, formats.state_gradients, 1.0)
    bucket = np.where(plan.dp * plan.cp * plan.schedule.copies > 1.0, step.gradient_bucket_bytes, 0.0)
    unscattered = np.where(plan.grouped_chunks > 1.0, np.maximum(chunk, bucket), bucket)
    whole = np.where(plan.zero >= 2.0, unscattered, bucket)
    return np.where(plan.zero >= 3.0, gathered + unreduced + bucket, whole)


def fullest(footprints: Sequence[Footprint]) -> tuple[Footprint, Numeric]:
    """The footprint of the fullest stage class, field by field, and its index."""
    most, index, chosen = footprints[0].total, 0.0, []
    for position, candidate in enumerate(footprints[1:], 1):
        larger = candidate.total > most
        most, index = np.where(larger, candidate.total, most), np.where(larger, float(position), index)
        chosen.append((larger, candidate))

    def pick(name: str) -> Numeric:
        best = getattr(footprints[0], name)
        for larger, candidate in chosen:
            best = np.where(larger, getattr(candidate, name), best)
        return best

    return lazy(Footprint, pick), index
