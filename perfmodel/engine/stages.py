"""Plans and stages as the composition sees them: floats, process groups, and the times of a stage and a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from perfmodel.engine.networks import Group
from perfmodel.engine.parameters import Held
from perfmodel.engine.problem import Problem
from perfmodel.engine.section_costs import Sections
from perfmodel.parallel.orders import ONE_F_ONE_B, SCHEDULES, Schedule
from perfmodel.units import Numeric


@dataclass(frozen=True)
class PlanNumbers:
    """The plan columns as floats: the boundary between integers and equations."""

    tp: Numeric
    cp: Numeric
    ep: Numeric
    etp: Numeric
    pp: Numeric
    dp: Numeric
    dp_shard: Numeric
    virtual_stages: Numeric
    micro_batch: Numeric
    num_microbatches: Numeric
    sequence_parallel: Numeric
    zero: Numeric
    recompute_fraction: Numeric
    tp_rows: Numeric
    tp_blocks: Numeric
    tensor_overlap: Numeric
    expert_overlap: Numeric
    pipeline_overlap: Numeric
    data_overlap: Numeric
    devices: Numeric
    schedule: Schedule = SCHEDULES[ONE_F_ONE_B]  # structure, not a column
    synchronous: float = 1.0  # stages wait for each other before they update their weights

    @property
    def uses(self) -> Numeric:
        """Micro-batches of a step that use a parameter on a device: half of them where there are two copies."""
        return self.num_microbatches if self.schedule.copies == 1.0 else self.num_microbatches / self.schedule.copies

    @property
    def grouped_chunks(self) -> Numeric:
        """Chunks of a stage that take turns by groups of micro-batches: those of the interleaved schedule."""
        return 1.0 if self.schedule.folded else self.virtual_stages

    @property
    def state_shards(self) -> Numeric:
        """Ranks that share the state of a dense parameter, where ZeRO shards it."""
        return self.dp_shard * self.cp * self.schedule.copies

    @property
    def expert_state_shards(self) -> Numeric:
        """Ranks that share the state of a parameter of an expert: those of the stage, over the ranks of its experts."""
        return np.maximum(self.state_shards * self.tp / (self.ep * self.etp), 1.0)


@dataclass(frozen=True)
class StageClass:
    """One class of pipeline stages (see ``perfmodel.parallel.stages``), as floats."""

    name: str
    layers: Numeric
    has_embedding: Numeric
    has_head: Numeric
    position: Numeric
    multiplicity: Numeric
    leading: Numeric = 0.0  # of the layers, those of a kind that stands at the start of the model only
    copies: float = 1.0  # of every parameter in one pipeline


@dataclass(frozen=True)
class StateGroups:
    """The groups over which the gradients and the state of parameters are reduced, scattered and gathered."""

    data: Group  # all ranks that hold a parameter: gradients and optimizer state
    shard: Group  # those that share it: parameters of ZeRO-3
    replicas: Group  # dp_replicate: gradients of hybrid sharding


@dataclass(frozen=True)
class PlanGroups:
    """The process groups that depend on the whole plan."""

    dense: StateGroups  # dp x cp
    expert: StateGroups | None  # what is left of tp x cp x dp beside the experts; None in a model without them
    pipeline: Group
    tensor: Group


@dataclass(frozen=True)
class StageTime:
    """Exposed time of one micro-batch on one class of stages, in seconds, and the work of the stage."""

    forward: Numeric
    backward: Numeric
    recompute: Numeric
    tensor: Numeric
    context: Numeric
    expert: Numeric
    pipeline: Numeric
    gather_forward: Numeric  # ZeRO-3 parameter gathers
    gather_backward: Numeric  # ZeRO-3 parameter gathers and gradient scatters
    tensor_overlapped: Numeric
    context_overlapped: Numeric
    expert_overlapped: Numeric
    pipeline_overlapped: Numeric
    gather_overlapped: Numeric
    offload_forward: Numeric  # transfers to and from the host
    offload_backward: Numeric
    offload_overlapped: Numeric
    offload_bandwidth: Numeric  # B/s that would hide them
    forward_pass: Numeric  # forward with its exposed communication
    weight_gradient: Numeric  # the part of backward_pass that no other stage waits for
    # parameters by class (perfmodel.engine.parameters)
    parameters: Numeric
    frozen_parameters: Numeric
    low_bit_parameters: Numeric
    low_bit_frozen_parameters: Numeric
    expert_parameters: Numeric
    expert_frozen_parameters: Numeric
    expert_low_bit_parameters: Numeric
    expert_low_bit_frozen_parameters: Numeric
    matrix_parameters: Numeric
    low_bit_matrix_parameters: Numeric
    expert_matrix_parameters: Numeric
    expert_low_bit_matrix_parameters: Numeric
    tied_parameters: Numeric
    frozen_tied_parameters: Numeric
    orthogonal_flop: Numeric
    largest_orthogonal_flop: Numeric
    expert_orthogonal_flop: Numeric
    layers: Numeric

    @property
    def total(self) -> Numeric:
        computing = self.forward + self.backward + self.recompute
        communicating = self.tensor + self.context + self.expert + self.pipeline + self.gather
        return computing + communicating + self.offload

    @property
    def offload(self) -> Numeric:
        return self.offload_forward + self.offload_backward

    @property
    def gather(self) -> Numeric:
        return self.gather_forward + self.gather_backward

    @property
    def backward_pass(self) -> Numeric:
        return self.total - self.forward_pass

    @property
    def input_gradient(self) -> Numeric:
        return self.backward_pass - self.weight_gradient


class PerSection(Protocol):
    """Something with one value per section of a model, such as :class:`~perfmodel.engine.section_costs.Sections`."""

    @property
    def embedding(self) -> Any: ...
    @property
    def layer(self) -> Any: ...
    @property
    def leading(self) -> Any: ...
    @property
    def head(self) -> Any: ...


def stage_sum(stage: StageClass, sections: PerSection, field: str) -> Numeric:
    """A field of the sections summed over what the stage holds."""
    embedding, head = getattr(sections.embedding, field), getattr(sections.head, field)
    return layer_sum(stage, sections, field) + stage.has_embedding * embedding + stage.has_head * head


def layer_sum(stage: StageClass, sections: PerSection, field: str) -> Numeric:
    """A field of the sections summed over the layers of the stage; ``leading`` is None where no kind leads."""
    layer = getattr(sections.layer, field)
    if sections.leading is None:
        return stage.layers * layer
    return (stage.layers - stage.leading) * layer + stage.leading * getattr(sections.leading, field)


def stage_parameters(problem: Problem, stage: StageClass, sections: Sections, plan: PlanNumbers) -> Held:
    """Local parameters of a stage; tied weights have a copy of their own where embedding and head are apart."""
    apart = (plan.pp > 1.0) & (stage.has_embedding * stage.has_head == 0.0)
    counts = ((one, stage_sum(stage, sections, one.field)) for one in problem.parameter_classes)
    held = tuple((one, np.where(apart, amount, 0.0) if one.tied else amount) for one, amount in counts)
    return held if stage.copies == 1.0 else tuple((one, stage.copies * amount) for one, amount in held)
