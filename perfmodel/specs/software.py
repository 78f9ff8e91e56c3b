"""What a file may say about software stacks, and about classes of devices without measurements.

An efficiency number is looked up in this order: software stack (entry of the accelerator, of its class,
``any``), accelerator, efficiency class. The order lives in ``perfmodel.machine``; these are the shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from perfmodel.specs.base import FileSpec, SwitchField, WholeField
from perfmodel.specs.efficiency import EfficiencySpec, InterconnectEfficiency, KernelEfficiency, NetworkForm
from perfmodel.specs.quantities import (
    BytesField,
    FractionField,
    PositiveRatioField,
    Provenance,
    RatioField,
    SpecModel,
    TimeField,
)
from perfmodel.specs.strategy import LoraSpec

__all__ = ["AttentionChoice", "BehaviourSpec", "EfficiencySpec", "SoftwareSpec", "StackEfficiency"]


class StackEfficiency(KernelEfficiency):
    """Efficiency numbers of one stack on one accelerator, class, or ``any``."""

    collective: Mapping[NetworkForm, InterconnectEfficiency] = Field(
        default_factory=dict[NetworkForm, InterconnectEfficiency]
    )


class BehaviourSpec(SpecModel):
    """What a stack does at the level of a step; the meaning of each is in ``machine.StepParameters``."""

    provenance: Provenance | None = None
    tensor_exposed: FractionField | None = None
    regather_exposed: FractionField | None = None
    context_exposed: FractionField | None = None
    expert_exposed: FractionField | None = None
    pipeline_exposed: FractionField | None = None
    data_exposed: FractionField | None = None
    data_window: RatioField | None = None
    elementwise_inflation: PositiveRatioField | None = None
    matmul_slowdown: PositiveRatioField | None = None
    grouped_slowdown: PositiveRatioField | None = None
    block_overhead: TimeField | None = None
    expert_block_overhead: TimeField | None = None
    fixed_overhead: TimeField | None = None
    optimizer_traffic_factor: RatioField | None = None
    jitter_per_doubling: RatioField | None = None
    gradient_bucket_bytes: BytesField | None = None
    reserved_memory: BytesField | None = None
    workspace: BytesField | None = None
    early_stop_recompute: FractionField | None = None
    quantise_inflation: RatioField | None = None
    recast_weights: FractionField | None = None
    offload_exposed: FractionField | None = None


class AttentionChoice(SpecModel):
    """Which attention kernel the stack runs.

    Attributes
    ----------
    kernel
        ``flash`` (one fused kernel) or ``unfused``.
    packed
        Query heads of one group share a tile.
    arithmetic
        Of the fused kernel: ``tiles`` (tiles over units, the softmax a latency per score) or ``rates`` (matrix products
        at the plateau, then the softmax at the same fraction of the vector peak).
    """

    kernel: Literal["flash", "unfused"] = "flash"
    packed: SwitchField = True
    arithmetic: Literal["tiles", "rates"] = "tiles"


class DefaultsSpec(SpecModel):
    """How a run of the stack is set up where its description leaves it out.

    Attributes
    ----------
    recompute
        Policy.
    zero
        Sharding level.
    micro_batch
        Sequences without a pipeline, at most as many as a replica has; with a pipeline it is 1.
    layers_per_chunk
        Layers of a model chunk of the interleaved schedule; None: no virtual stages.
    context_balanced
        Context parallelism gives every rank an early and a late slice.
    lora
        Adapters of a fine-tuning by them.
    note
        Why.
    """

    recompute: str = "none"
    zero: Literal[0, 1, 2, 3] = 0
    micro_batch: WholeField = 4
    layers_per_chunk: WholeField | None = None
    context_balanced: SwitchField = True
    lora: LoraSpec | None = None
    note: str = ""


class SoftwareSpec(FileSpec):
    """A training or serving stack: behaviour, recompute policies, defaults and efficiency overrides.

    ``relative_error`` is the relative standard deviation of its step times on the accelerators that it was calibrated
    on, from the residuals of its own validation; ``memory_error`` and ``power_error`` are the same of peak memory and
    of power. Absent: those of the class of the device.

    ``calibrated_on`` names the accelerators whose published runs with this stack stand behind its
    behaviour; ``collectives`` names the entry of an interconnect's ``libraries`` that the stack calls (links without
    such an entry use their usual numbers); ``recompute_policies`` maps a name to patterns of operator names (as in a
    shell); ``recipes`` are the numerics that it can run. ``expert_dispatcher``: ``flat`` sends every copy of a token to
    its expert in one all-to-all; ``hierarchical`` sends a token once to each network domain and forwards it inside.

    ``kernel_floor``: the launch floor of a kernel stands ``outside`` of the (smooth) maximum of arithmetic and memory
    time, or ``inside`` of a hard one, beside the arithmetic. ``saved_inputs``: with sequence parallelism a matmul keeps
    its share of its input and gathers it again for the weight gradient (``sharded``), or keeps what it gathered
    (``gathered``). ``data_overlap``: data-parallel collectives hide behind the passes of a whole micro-batch
    (``step``), or those of a layer behind the pass of the next one (``layer``).

    ``rebuilt_outputs``: patterns of operators whose output is not kept, because a fused backward kernel rebuilds it.
    ``discarded_outputs``: those whose output is not kept where a policy recomputes them; others keep the output for
    what follows (a region is checkpointed from its input to its output).
    """

    kind: Literal["software"]
    year: int | None = None
    kernel_model: Literal["tile_loop", "roofline"] = "tile_loop"
    kernel_floor: Literal["outside", "inside"] = "outside"
    attention: AttentionChoice = AttentionChoice()
    defaults: DefaultsSpec = DefaultsSpec()
    expert_dispatcher: Literal["flat", "hierarchical", "node-limited"] = "flat"
    collectives: str = ""
    saved_inputs: Literal["sharded", "gathered"] = "sharded"
    data_overlap: Literal["step", "layer"] = "step"
    behaviour: BehaviourSpec = BehaviourSpec()
    recompute_policies: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    rebuilt_outputs: tuple[str, ...] = ()
    discarded_outputs: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    calibrated_on: tuple[str, ...] = ()
    efficiency: Mapping[str, StackEfficiency] = Field(default_factory=dict)
    relative_error: RatioField | None = None
    memory_error: RatioField | None = None
    power_error: RatioField | None = None
