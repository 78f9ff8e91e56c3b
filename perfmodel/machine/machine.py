"""The resolved machine: every number the equations need, in SI, each with its provenance.

A :class:`Machine` is made by ``perfmodel.machine.resolve`` from a cluster, its accelerator, its
interconnects, a software stack and a numerics spec. Any leaf may be an array (a hardware sweep): it
broadcasts against the plan columns. ``machine.traced()`` is the same tree with traced leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeAlias

from perfmodel.provenance import Sourced, Traced
from perfmodel.units import Numeric


@dataclass(frozen=True)
class MatmulParameters:
    """Matrix unit and matmul kernels of one data type (equations.matmul)."""

    peak: Numeric  # FLOP/s, dense
    plateau: Numeric  # fraction of peak of a long tile loop, in a burst
    loop_latency: Numeric  # s per element of the contracted axis, serial
    loop_growth: Numeric  # exponent of the latency in the tile area
    tile_overhead: Numeric  # s per tile, prologue and epilogue
    split_overhead: Numeric  # s, fixed cost of splitting the loop over idle units
    launch_floor: Numeric  # s per kernel
    bandwidth_fraction: Numeric
    ramp_time: Numeric  # s, power-law ramp of the memory time


@dataclass(frozen=True)
class AttentionParameters:
    """Fused attention kernels of one data type (equations.attention)."""

    peak: Numeric
    plateau: Numeric
    softmax_latency: Numeric  # s per score and unit
    tile_overhead: Numeric
    launch_floor: Numeric
    bandwidth_fraction: Numeric
    ramp_time: Numeric
    backward_fraction: Numeric  # rate of the backward kernel relative to the forward one


@dataclass(frozen=True)
class ElementwiseParameters:
    """Memory-bound kernels of one kind (equations.elementwise)."""

    bandwidth_fraction: Numeric
    launch_floor: Numeric
    ramp_time: Numeric


#: A number that one closed form of a tier needs (scale-up or scale-out) and that is None in a tier of the other.
OfForm: TypeAlias = Any


@dataclass(frozen=True)
class DirectParameters:
    """All-reduce kernels of an engine beside its library (equations.collective_direct)."""

    latency: Numeric
    step_latency: Numeric
    one_shot_fraction: Numeric
    two_shot_latency: Numeric
    two_shot_fraction: Numeric
    limit: Numeric  # B, largest buffer of these kernels
    call_floor: OfForm = None  # s, host time of a call; None inside a graph, as the two below
    staging_fraction: OfForm = None  # of the memory bandwidth, for the copy of the buffer
    memory_bandwidth: OfForm = None  # B/s


@dataclass(frozen=True)
class NetworkTier:
    """One level of the network: domains of ``devices`` devices (equations.collectives).

    Tier 0 is the innermost. ``bandwidth`` is per device and direction, after oversubscription.
    ``pair_bandwidth`` is what two devices can use between them where links join pairs (None = all of it);
    ``shared_bandwidth`` what the host of a domain carries for all its devices (None = no such limit);
    ``rings[n]`` the directed rings that the graph of links holds for the first n devices (empty = no graph).
    """

    name: str
    kind: str  # "scale-up" or "scale-out": which closed form applies inside the tier
    devices: Numeric  # devices in one domain of this tier
    bandwidth: Numeric  # B/s
    base_latency: Numeric
    step_latency: Numeric
    link_fraction: Numeric
    copy_fraction: OfForm  # scale-up only
    fill_time: OfForm  # scale-up only
    hop_latency: OfForm  # scale-out only, s per inter-node hop
    hop_growth: OfForm  # scale-out only, s, extra of a large chunk
    hop_half_size: OfForm  # scale-out only, B
    tree_fraction: OfForm  # scale-out only
    tree_hop_latency: OfForm  # scale-out only, s
    in_network_reduction: float  # 0 or 1, all-reduce only
    reduction_latency: OfForm
    reduction_fraction: OfForm
    reduction_minimum_ranks: OfForm  # fewer ranks take the ring
    peer_fraction: OfForm  # of the bandwidth, that messages to one peer reach; None: all of it
    message_latency: OfForm  # s, extra latency of messages to all peers; None: no such extra
    energy_per_byte: Numeric
    pair_bandwidth: Numeric | None = None  # scale-up only
    topology: str = "switch"  # or "torus", "dragonfly"
    dimensions: tuple[int, ...] = ()  # of a torus
    shared_bandwidth: Numeric | None = None  # scale-up only
    switch_devices: float = 1.0  # that do not need the shared bandwidth between them
    rings: tuple[float, ...] = ()
    link_bandwidth: OfForm = None  # B/s, one link of the graph
    direct: DirectParameters | None = None  # scale-up only


@dataclass(frozen=True)
class EnergyParameters:
    """Where the joules go (equations.energy)."""

    idle_power: Numeric  # W per device
    peak_power: Numeric  # W per device (TDP, or what an operator caps it at)
    matrix_per_flop: Mapping[str, Numeric]  # J/FLOP by data type
    vector_per_flop: Numeric  # J/FLOP
    memory_per_byte: Numeric  # J/B
    host_power: Numeric  # W per device: CPUs, fans, NICs of the node, shared
    network_power: Numeric  # W per device: switches and optics
    power_usage_effectiveness: Numeric


@dataclass(frozen=True)
class ClockParameters:
    """What an operator sets below the rated power and clock of a device (equations.energy.capped_clock_ratio)."""

    cap: Numeric  # W per device
    rated_power: Numeric  # W per device (TDP)
    exponent: Numeric  # of the clock in the power above idle
    limit: Numeric  # Hz
    rated: Numeric  # Hz


@dataclass(frozen=True)
class StepParameters:
    """Behaviour of the software stack at the level of a step (equations.overlap, equations.pipeline)."""

    tensor_exposed: Numeric  # fraction of tensor-parallel communication that is not hidden
    # fraction of the gathers repeated for the weight gradient that the data gradient does not hide
    regather_exposed: Numeric
    context_exposed: Numeric
    expert_exposed: Numeric  # fraction of the exchange of tokens between experts that is not hidden
    pipeline_exposed: Numeric
    data_exposed: Numeric  # fraction of DP communication that can never be hidden
    data_window: Numeric  # micro-batches whose compute hides DP communication
    elementwise_inflation: Numeric  # memory-bound traffic relative to the fully fused minimum
    matmul_slowdown: Numeric  # kernel time factor of the stack (1 = as measured alone)
    grouped_slowdown: Numeric  # kernel time factor of grouped matmuls (experts) over equal single ones
    block_overhead: Numeric  # s of host or launch time per block and pass, not hidden
    expert_block_overhead: Numeric  # s that a block with experts adds to it
    fixed_overhead: Numeric  # s per step: data loader, logging, garbage collection
    optimizer_traffic_factor: Numeric  # optimizer traffic relative to one pass over its state
    jitter_per_doubling: Numeric  # relative slow-down per doubling of devices beyond one node
    gradient_bucket_bytes: Numeric
    reserved_memory: Numeric  # B that the stack keeps from the allocator
    workspace: Numeric  # B of kernel workspace
    early_stop_recompute: Numeric  # 0 or 1: the last matmul of a block is not recomputed
    quantise_inflation: Numeric  # traffic of quantise kernels relative to what the recipe needs; 0 = fused away
    offload_exposed: Numeric  # fraction of transfers to and from the host that can never be hidden
    recast_weights: Numeric  # 0: low-bit weights are made once per step, 1: in every micro-batch


@dataclass(frozen=True)
class StoreParameters:
    """Memory or storage of the host, as the share of one device."""

    capacity: Numeric  # B
    bandwidth: Numeric  # B/s, one direction


@dataclass(frozen=True)
class HostParameters:
    """What a device can reach beside its own memory (equations.memory); None where a question does not need it."""

    link: Numeric  # B/s, one direction
    memory: StoreParameters
    nvme: StoreParameters | None = None


@dataclass(frozen=True)
class PriceParameters:
    """Money and carbon; None where no price is declared."""

    device_rate: Numeric | None  # USD/s per device, rental or amortised
    energy_price: Numeric | None  # USD/J
    grid_intensity: Numeric | None  # kg/J
    includes_energy: bool = True  # a cloud rate already pays for the electricity


@dataclass(frozen=True)
class ReliabilityParameters:
    """Failures and checkpoints (equations.reliability); ``device_mtbf`` None = goodput unknown."""

    device_mtbf: Numeric | None
    restart_time: Numeric | None
    checkpoint_bandwidth: Numeric | None  # B/s for the whole job
    checkpoint_interval: Numeric | None  # s; None = Young/Daly
    spare_fraction: Numeric = 0.0


@dataclass(frozen=True)
class StackChoices:
    """What a stack declares in a word and not in a number (see ``specs.software.SoftwareSpec``)."""

    kernel_floor: str = "outside"  # or "inside"
    attention_arithmetic: str = "tiles"  # or "rates"
    saved_inputs: str = "sharded"  # or "gathered"
    data_overlap: str = "step"  # or "layer"


@dataclass(frozen=True)
class Factor:
    """One stated number behind a derived leaf: the leaf contains ``value ** power``."""

    number: Sourced
    power: int

    @property
    def path(self) -> str:
        return self.number.path

    @property
    def value(self) -> Numeric:
        return self.number.value


@dataclass(frozen=True)
class Machine:
    """Everything below is a leaf, a mapping of leaf groups, or a leaf group.

    ``provenance`` maps the path of each leaf in this tree to the number that it came from;
    ``derived`` lists the factors of leaves that are products of stated numbers.
    """

    accelerator: str
    cluster: str
    software: str
    kernel_model: str  # "tile_loop" or "roofline"
    attention_kernel: str  # "flash" or "unfused"
    packed_attention: bool  # query heads of a group share a tile
    expert_dispatcher: str  # "flat", "hierarchical" or "node-limited"
    devices: int  # of the cluster
    devices_per_node: int
    units: Numeric
    memory_capacity: Numeric
    memory_bandwidth: Numeric
    cache_capacity: Numeric
    cache_bandwidth: Numeric
    vector_peak: Numeric  # FLOP/s
    sustained_rate: Numeric  # rate of matmuls at the power limit over that of a burst
    matmul: Mapping[str, MatmulParameters]
    attention: Mapping[str, AttentionParameters]
    elementwise: Mapping[str, ElementwiseParameters]
    tiers: tuple[NetworkTier, ...]
    energy: EnergyParameters
    step: StepParameters
    prices: PriceParameters
    reliability: ReliabilityParameters
    host: HostParameters | None = None
    clock: ClockParameters | None = None  # None: neither power nor clock is limited
    choices: StackChoices = StackChoices()
    confidence: str = "assumed"  # calibrated | transferred | assumed
    relative_error: Numeric | None = None  # relative standard deviation of a step time at this confidence
    experts_error: Numeric | None = None  # the same, added for a model with routed experts
    anchored_error: Numeric | None = None  # the same, of a step time scaled from a measured one of stack and device
    memory_error: Numeric | None = None  # relative standard deviation of peak memory
    power_error: Numeric | None = None  # the same of power, beside that of time
    provenance: Mapping[str, Sourced] = field(default_factory=dict)
    derived: Mapping[str, tuple[Factor, ...]] = field(default_factory=dict)

    def traced(self) -> Machine:
        """The same machine with every sourced leaf replaced by a traced operand."""
        return _trace(self, "", self.provenance)


def _trace(group: Any, prefix: str, provenance: Mapping[str, Sourced]) -> Any:
    """Replace the leaves of a parameter tree by traced operands; names and switches stay."""
    changes: dict[str, Any] = {}
    for item in fields(group):
        value = getattr(group, item.name)
        path = f"{prefix}{item.name}"
        if item.name in ("provenance", "derived"):
            continue
        if is_dataclass(value):
            changes[item.name] = _trace(value, f"{path}.", provenance)
        elif isinstance(value, Mapping):
            changes[item.name] = {key: _trace_leaf(one, f"{path}.{key}", provenance) for key, one in value.items()}
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            changes[item.name] = tuple(_trace(one, f"{path}.{one.name}.", provenance) for one in value)
        else:
            changes[item.name] = _trace_leaf(value, path, provenance)
    return replace(group, **changes)


def _trace_leaf(value: Any, path: str, provenance: Mapping[str, Sourced]) -> Any:
    if is_dataclass(value):
        return _trace(value, f"{path}.", provenance)
    if path in provenance:
        return Traced.from_sourced(provenance[path])
    return value
