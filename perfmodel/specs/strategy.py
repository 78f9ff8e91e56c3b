"""How a scenario spreads the model over the devices, and what it does: strategy and workload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

from perfmodel.specs.base import SwitchField, WholeField
from perfmodel.specs.quantities import CountField, FractionField, SpecModel

#: Groups in the order in which they are placed on the network, innermost first (Megatron's default).
GroupOrder = tuple[Literal["tp", "cp", "dp", "pp"], ...]
DEFAULT_ORDER: GroupOrder = ("tp", "cp", "dp", "pp")

Schedule = Literal["gpipe", "1f1b", "interleaved-1f1b", "zb-h1", "zb-v", "dualpipe"]
#: Schedules with one chunk of the model per stage.
_ONE_CHUNK = ("gpipe", "zb-h1", "dualpipe")


class PipelineSpec(SpecModel):
    """Schedule of the pipeline and the split of the layers.

    Attributes
    ----------
    schedule
        Absent: ``1f1b``, which with more than one virtual stage is ``interleaved-1f1b``. ``zb-v`` has two virtual
        stages, the second one on the way back; ``dualpipe`` feeds micro-batches in at both ends and holds parameters
        twice.
    virtual_stages
        Model chunks per pipeline rank.
    layers_per_stage
        Layers of each stage (of each chunk with virtual stages), first to last; absent: an even split.
    embedding_and_head_as_layers
        The even split counts the embedding and the head as one layer each.
    synchronous_update
        Stages wait for each other before they update their weights, as a gradient norm over the whole model asks for;
        false: a stage updates when it is done, and the norm is checked afterwards (arXiv 2401.10241, section 4).
    """

    schedule: Schedule | None = None
    virtual_stages: WholeField = 1
    layers_per_stage: tuple[CountField, ...] | None = None
    embedding_and_head_as_layers: SwitchField = False
    synchronous_update: SwitchField = True

    @property
    def schedule_name(self) -> str:
        """The schedule, with its default filled in; virtual stages make 1F1B the interleaved one."""
        named = self.schedule or "1f1b"
        return "interleaved-1f1b" if named == "1f1b" and self.virtual_stages > 1 else named

    @model_validator(mode="after")
    def _consistent(self) -> PipelineSpec:
        if self.schedule in _ONE_CHUNK and self.virtual_stages > 1:
            context = {"schedule": self.schedule}
            message = "schedule {schedule} has no virtual stages; use interleaved-1f1b, or zb-v with two"
            raise PydanticCustomError("pipeline", message, context)
        return self


class RecomputeSpec(SpecModel):
    """Which activations are computed again in the backward pass.

    Attributes
    ----------
    policy
        A name of the software stack's ``recompute_policies``.
    blocks
        Layers of each stage that use the policy; absent: all.
    fraction
        The same as a fraction of the layers of a stage.
    """

    policy: str = "none"
    blocks: CountField | None = None
    fraction: FractionField | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"policy": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "anyOf": [
                {"type": "string", "description": "name of a policy"},
                handler.resolve_ref_schema(handler(schema)),
            ]
        }

    @model_validator(mode="after")
    def _consistent(self) -> RecomputeSpec:
        if self.blocks is not None and self.fraction is not None:
            raise PydanticCustomError("recompute", "say `blocks` or `fraction`, not both", {})
        return self


class ContextParallelSpec(SpecModel):
    """How the ranks of a context-parallel group see each other's keys.

    Attributes
    ----------
    kind
        ``all-gather``: keys and values are gathered; ``ring``: they go round while blocks are attended to;
        ``all-to-all``: tokens are exchanged for heads around the attention (Ulysses).
    balanced
        Every rank works on an early and a late slice of the sequence, so that causal work is even; false: on one
        slice, and the rank with the last one sets the pace.
    """

    kind: Literal["all-gather", "ring", "all-to-all"] = "all-gather"
    balanced: SwitchField = True

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {
            "anyOf": [
                {"enum": ["all-gather", "ring", "all-to-all"], "description": "the kind, balanced"},
                handler.resolve_ref_schema(handler(schema)),
            ]
        }


OffloadTier = Literal["device", "host", "nvme"]


class OffloadSpec(SpecModel):
    """What is kept outside of the memory of the devices: in that of their hosts, or in storage behind it.

    Attributes
    ----------
    optimizer
        Master weights and moments; the host updates them.
    parameters
        Weights, of which a device holds those of the layers at work; needs ``zero: 3``.
    activations
        Share of the activations kept for the backward pass that is in the memory of the host.
    """

    optimizer: OffloadTier = "device"
    parameters: OffloadTier = "device"
    activations: FractionField | None = None

    @property
    def tiers(self) -> frozenset[str]:
        """Where something is kept."""
        used = {self.optimizer, self.parameters} | ({"host"} if self.keeps_activations else set[str]())
        return frozenset(used - {"device"})

    @property
    def keeps_activations(self) -> bool:
        """Activations leave the device."""
        return self.activations is not None and self.activations.value > 0.0


class TensorGridSpec(SpecModel):
    """Two-dimensional tensor parallelism: the ``rows * columns = tp`` ranks form a grid and multiply by SUMMA.

    Attributes
    ----------
    rows
        Parts of the tokens, and of the rows of every weight matrix.
    columns
        Parts of the features of every activation, and of the columns of every weight matrix.
    blocks
        Panels into which a product is cut: one panel is broadcast while another is multiplied.
    neighbours
        Devices next to each other stand in one row (``row``: activations travel between them) or in one ``column``
        (weights do).
    """

    rows: WholeField
    columns: WholeField
    blocks: WholeField
    neighbours: Literal["row", "column"] = "row"


class OverlapSpec(SpecModel):
    """Communication that is hidden behind computation as far as the software stack can (true), or not at all (false).

    Attributes
    ----------
    tensor, expert, pipeline, data
        Of tensor parallelism, the exchange between experts, transfers between stages, and data parallelism.
    """

    tensor: SwitchField = True
    expert: SwitchField = True
    pipeline: SwitchField = True
    data: SwitchField = True


class StrategySpec(SpecModel):
    """One plan. ``devices = tp * cp * pp * dp``; ``dp`` is derived, and a conflicting one is an error.

    Attributes
    ----------
    tp, cp, pp, ep, etp
        Tensor, context, pipeline, expert and expert-tensor parallel sizes.
    dp, dp_replicate, dp_shard
        Data parallel size (without ``cp``) and its two factors; absent: derived.
    micro_batch, num_microbatches
        Sequences per micro-batch and replica; micro-batches per step and replica (absent: derived).
    sequence_parallel
        Activations between tensor-parallel regions are sharded over the sequence.
    zero
        0 none, 1 optimizer state, 2 and gradients, 3 and parameters, sharded over ``dp_shard`` times ``cp``.
    recompute
        Name of a policy, or ``{policy, blocks | fraction}``.
    tp_grid
        ``{rows, columns, blocks}``: the tensor group as a grid (absent: one-dimensional). ``sequence_parallel`` is on.
    context_parallel
        ``all-gather``, ``ring`` or ``all-to-all``, or ``{kind, balanced}``.
    order
        Placement of the groups on the network, innermost first.
    pipeline
        Schedule and split of the layers.
    offload
        What is kept in the memory of the hosts.
    overlap
        Kinds of communication that are hidden.
    """

    tp: WholeField = 1
    cp: WholeField = 1
    pp: WholeField = 1
    dp: WholeField | None = None
    dp_replicate: WholeField | None = None
    dp_shard: WholeField | None = None
    ep: WholeField = 1
    etp: WholeField = 1
    micro_batch: WholeField = 1
    num_microbatches: WholeField | None = None
    sequence_parallel: SwitchField = False
    zero: Literal[0, 1, 2, 3] = 0
    recompute: RecomputeSpec = RecomputeSpec()
    tp_grid: TensorGridSpec | None = None
    context_parallel: ContextParallelSpec = ContextParallelSpec()
    order: GroupOrder = DEFAULT_ORDER
    layers_per_stage: tuple[CountField, ...] | None = None
    pipeline: PipelineSpec = PipelineSpec()
    offload: OffloadSpec = OffloadSpec()
    overlap: OverlapSpec = OverlapSpec()

    @field_validator("order")
    @classmethod
    def _whole_order(cls, order: GroupOrder) -> GroupOrder:
        if sorted(order) != sorted(DEFAULT_ORDER):
            raise PydanticCustomError("order", "name each of tp, cp, dp, pp once", {})
        return order

    @model_validator(mode="after")
    def _consistent(self) -> StrategySpec:
        both = self.layers_per_stage is not None and self.pipeline.layers_per_stage is not None
        if both and self.layers_per_stage != self.pipeline.layers_per_stage:
            raise PydanticCustomError("layers", "layers_per_stage and pipeline.layers_per_stage differ; say one", {})
        return self

    @property
    def stage_layers(self) -> tuple[int, ...] | None:
        """Given layers per stage, wherever they are written; None for an even split."""
        return self.layers_per_stage or self.pipeline.layers_per_stage


class RoutingSpec(SpecModel):
    """How the router spreads tokens over the experts.

    Attributes
    ----------
    balance
        ``balanced``: every expert gets the same number of tokens (a balancing loss, or a forced router);
        ``random``: experts are picked at random, so that few tokens touch few experts; ``skewed``: some
        experts are popular.
    imbalance
        Rows of the busiest rank over the mean; absent: 1, or what skewed routing implies.
    capacity_factor
        Experts work on this many times their mean share, padded or dropped; absent: dropless.
    """

    balance: Literal["balanced", "random", "skewed"] = "balanced"
    imbalance: Annotated[float, Field(ge=1)] | None = None
    capacity_factor: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> RoutingSpec:
        if self.capacity_factor is not None and (self.imbalance is not None or self.balance == "skewed"):
            raise PydanticCustomError(
                "routing", "with a capacity_factor every rank has the same rows; leave imbalance and skew out", {}
            )
        return self


class LoraSpec(SpecModel):
    """Low-rank adapters of a fine-tuning; everything else is frozen.

    Attributes
    ----------
    rank
        Of the adapters.
    targets
        Linear layers that get one: names of operators, or shell patterns (``attention.*``, ``mlp.*``).
    dropout
        The input of the adapters is dropped out.
    """

    rank: WholeField
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    dropout: SwitchField = False


class WorkloadSpec(SpecModel):
    """What is computed.

    Attributes
    ----------
    kind
        ``training``, ``fine-tuning``, ``inference`` (prefill and decode of a fixed batch), ``serving``
        (arrivals and service levels) or ``forward`` (one forward pass).
    sequence_length
        Tokens per sequence.
    global_batch
        Sequences per step (training).
    batch
        Sequences of a forward pass or of an inference batch.
    tokens
        Of the whole run; needed for days and total cost only.
    mean_attended_length
        Mean number of keys that a query attends to when documents in a sequence are masked from each
        other; absent: the causal half of the sequence.
    routing
        How tokens are spread over experts (mixtures of experts).
    method
        Of fine-tuning: ``full`` or ``lora``.
    lora
        The adapters of ``method: lora``.
    prompt_tokens, output_tokens
        Of one request (inference).
    """

    kind: Literal["training", "fine-tuning", "inference", "serving", "forward"]
    sequence_length: CountField | None = None
    global_batch: CountField | None = None
    batch: CountField | None = None
    tokens: CountField | None = None
    mean_attended_length: Annotated[float, Field(gt=0)] | None = None
    routing: RoutingSpec = RoutingSpec()
    method: Literal["full", "lora"] | None = None
    lora: LoraSpec | None = None
    prompt_tokens: CountField | None = None
    output_tokens: CountField | None = None

    @model_validator(mode="after")
    def _complete(self) -> WorkloadSpec:
        needed: Mapping[str, tuple[str, ...]] = {
            "training": ("sequence_length", "global_batch"), "fine-tuning": ("sequence_length", "global_batch"),
            "forward": ("sequence_length", "batch"),
        }  # fmt: skip
        missing = [name for name in needed.get(self.kind, ()) if not getattr(self, name)]
        if missing:
            context = {"kind": self.kind, "names": ", ".join(missing)}
            raise PydanticCustomError("workload", "a workload of kind {kind} needs {names} (at least 1)", context)
        self._check_method()
        attended, length = self.mean_attended_length, self.sequence_length
        if attended is not None and length is not None and attended > length:
            context = {"attended": attended, "length": length}
            raise PydanticCustomError(
                "workload", "mean_attended_length {attended} exceeds sequence_length {length}", context
            )
        return self

    def _check_method(self) -> None:
        if self.method is not None and self.kind != "fine-tuning":
            raise PydanticCustomError("workload", "method belongs to kind fine-tuning, not {kind}", {"kind": self.kind})
        if self.method == "lora" and self.lora is None:
            context = {"example": "lora: {rank: 16, targets: [attention.query_key_value, attention.output]}"}
            raise PydanticCustomError("workload", "method lora needs its adapters; write `{example}`", context)
        if self.lora is not None and self.method != "lora":
            raise PydanticCustomError("workload", "lora belongs to method: lora", {})
