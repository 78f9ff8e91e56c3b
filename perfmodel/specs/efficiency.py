"""Efficiency numbers by family, and the classes of devices that stand in for missing ones.

The same shapes appear in three places: a device (measured on it), a software stack (its own kernels), and
an efficiency class (for devices without measurements). The order of look-up lives in ``perfmodel.machine``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from perfmodel.provenance import Sourced
from perfmodel.specs.base import FileSpec, SwitchField
from perfmodel.specs.quantities import (
    BandwidthField,
    BytesField,
    EnergyPerByteField,
    EnergyPerFlopField,
    FractionField,
    PositiveFractionField,
    PositiveRatioField,
    PowerField,
    Provenance,
    RatioField,
    SpecModel,
    TimeField,
    quantity,
)

#: A ratio that is at least one: oversubscription, power usage effectiveness, sparse speed-up.
OverheadField = Annotated[Sourced, quantity("1", minimum=1.0)]
#: Ranks from which something is done: a group has at least two.
MinimumRanksField = Annotated[Sourced, quantity("1", minimum=2.0)]
BytesPerClockField = Annotated[Sourced, quantity("B")]
#: Closed form of the collectives that applies inside a tier. Links of class ``host`` use the scale-up form.
NetworkForm = Literal["scale-up", "scale-out"]

#: Kinds of memory-bound operators that a file may give its own numbers (mirrors workload.ElementwiseKind).
ELEMENTWISE_KINDS = (
    "norm", "activation", "rotary", "residual", "dropout", "softmax", "cast", "embedding", "loss", "optimizer",
    "permute", "scan",
)  # fmt: skip

#: Stands for every accelerator, data type or kind without an entry of its own.
ANY = "any"


class KernelError(SpecModel):
    """How far kernels of one entry were from their prediction, and what they were.

    Attributes
    ----------
    low, high
        Tenth and ninetieth percentile of measured over predicted time.
    mean, median
        Mean and median absolute relative error of the rows left out of the fit.
    rows, left_out
        Rows that were fitted, and rows that were left out and give the errors.
    valid
        Smallest and largest value of each size among the fitted rows.
    """

    low: float = Field(gt=0.0)
    high: float = Field(gt=0.0)
    mean: float | None = None
    median: float | None = None
    rows: int = 0
    left_out: int = 0
    valid: Mapping[str, tuple[float, float]] = Field(default_factory=dict)


class KernelPower(SpecModel):
    """Power of a device that runs kernels of one entry back to back, beyond the energy of their work and traffic.

    ``low`` and ``high`` as in :class:`KernelError`, of the measured over the predicted power.
    """

    provenance: Provenance | None = None
    running: PowerField
    low: float = Field(gt=0.0)
    high: float = Field(gt=0.0)
    mean: float | None = None
    median: float | None = None


class MatmulEfficiency(SpecModel):
    """Numbers of ``equations.matmul`` for one data type; the last two are of kernels that quantise activations first.

    ``split_overhead`` of kernels that do not split the loop is so large that no split pays.
    """

    provenance: Provenance | None = None
    error: KernelError | None = None
    power: KernelPower | None = None
    plateau: PositiveFractionField | None = None
    loop_latency: TimeField | None = None
    loop_growth: RatioField | None = None
    tile_overhead: TimeField | None = None
    split_overhead: TimeField | None = None
    launch_floor: TimeField | None = None
    bandwidth_fraction: PositiveRatioField | None = None
    ramp_time: TimeField | None = None
    quantise_bytes: BytesField | None = None
    quantise_latency: TimeField | None = None


class AttentionEfficiency(SpecModel):
    """Numbers of ``equations.attention`` for one data type, of prefill or training kernels.

    ``packed`` and ``absorbed`` say what the kernel does where it differs from the stack's ``attention`` choice:
    heads of a group share a tile; latent attention computes in the latent space. ``warm``: the kernel was timed with
    its operands in the cache, as far as they fit.
    """

    provenance: Provenance | None = None
    error: KernelError | None = None
    power: KernelPower | None = None
    packed: SwitchField | None = None
    absorbed: SwitchField | None = None
    warm: SwitchField | None = None
    plateau: PositiveFractionField | None = None
    softmax_latency: TimeField | None = None
    tile_overhead: TimeField | None = None
    launch_floor: TimeField | None = None
    bandwidth_fraction: PositiveRatioField | None = None
    ramp_time: TimeField | None = None
    backward_fraction: PositiveRatioField | None = None


class DecodeEfficiency(SpecModel):
    """Numbers of ``equations.decode_attention`` for one data type.

    ``limited_groups``: beyond 32 query heads per key-value head, the kernel takes one head at a time.
    ``whole_single_heads``: it does not cut the cache when a block has one query head. ``single_...``: numbers of the
    kernel of one head per block, where that is another one.
    """

    provenance: Provenance | None = None
    error: KernelError | None = None
    power: KernelPower | None = None
    limited_groups: SwitchField | None = None
    whole_single_heads: SwitchField | None = None
    single_unit_bandwidth: BandwidthField | None = None
    single_tile_overhead: TimeField | None = None
    unit_bandwidth: BandwidthField | None = None
    tile_overhead: TimeField | None = None
    split_overhead: TimeField | None = None
    launch_floor: TimeField | None = None
    bandwidth_fraction: PositiveRatioField | None = None
    ramp_time: TimeField | None = None


class ExpertEfficiency(SpecModel):
    """Numbers of the grouped products of experts and of the permutation around them, for one data type.

    ``writes_all_rows``: the kernel also writes and reduces rows of experts on other ranks.
    """

    provenance: Provenance | None = None
    error: KernelError | None = None
    power: KernelPower | None = None
    writes_all_rows: SwitchField | None = None
    plateau: PositiveFractionField | None = None
    loop_latency: TimeField | None = None
    tile_overhead: TimeField | None = None
    launch_floor: TimeField | None = None
    bandwidth_fraction: PositiveRatioField | None = None
    ramp_time: TimeField | None = None
    permute_bytes: BytesField | None = None


class ElementwiseEfficiency(SpecModel):
    """Numbers of a memory-bound kernel of one kind."""

    provenance: Provenance | None = None
    error: KernelError | None = None
    bandwidth_fraction: PositiveRatioField | None = None
    launch_floor: TimeField | None = None
    ramp_time: TimeField | None = None


class KernelEfficiency(SpecModel):
    """Efficiency numbers by family; ``any`` as a data type or kind stands for all that are not named."""

    provenance: Provenance | None = None
    matmul: Mapping[str, MatmulEfficiency] = Field(default_factory=dict)
    attention: Mapping[str, AttentionEfficiency] = Field(default_factory=dict)
    decode_attention: Mapping[str, DecodeEfficiency] = Field(default_factory=dict)
    latent_attention: Mapping[str, AttentionEfficiency] = Field(default_factory=dict)
    latent_decode: Mapping[str, DecodeEfficiency] = Field(default_factory=dict)
    experts: Mapping[str, ExpertEfficiency] = Field(default_factory=dict)
    elementwise: Mapping[str, ElementwiseEfficiency] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known_kinds(self) -> KernelEfficiency:
        unknown = set(self.elementwise) - {*ELEMENTWISE_KINDS, ANY}
        if unknown:
            context = {"got": ", ".join(sorted(unknown)), "allowed": ", ".join((*ELEMENTWISE_KINDS, ANY))}
            raise PydanticCustomError("kind", "unknown elementwise kind {got}; allowed: {allowed}", context)
        return self


class EnergySpec(SpecModel):
    """Dynamic energy per operation and per byte of main memory."""

    provenance: Provenance | None = None
    matrix: Mapping[str, EnergyPerFlopField] = Field(default_factory=dict)
    vector: EnergyPerFlopField | None = None
    memory: EnergyPerByteField | None = None


class ResidualSpec(SpecModel):
    """Measured over predicted time of the rows behind a set of numbers: ends of the 80 % interval.

    ``large`` buffers hold at least 1 MiB.
    """

    provenance: Provenance | None = None
    large_p10: PositiveRatioField
    large_p90: PositiveRatioField
    small_p10: PositiveRatioField
    small_p90: PositiveRatioField


class InterconnectEfficiency(SpecModel):
    """Numbers of ``equations.collectives``: the first block is common, then scale-up, then scale-out.

    ``reduction_minimum_ranks``: the library reduces in the switches from this many ranks on; fewer take the ring.
    """

    provenance: Provenance | None = None
    base_latency: TimeField | None = None
    step_latency: TimeField | None = None
    link_fraction: PositiveRatioField | None = None
    # scale-up
    copy_fraction: PositiveRatioField | None = None
    fill_time: TimeField | None = None
    reduction_latency: TimeField | None = None
    reduction_fraction: PositiveRatioField | None = None
    reduction_minimum_ranks: MinimumRanksField | None = None
    # scale-up, messages between pairs (all-to-all, send); absent: like a ring
    peer_fraction: PositiveRatioField | None = None
    message_latency: TimeField | None = None
    # scale-out
    hop_latency: TimeField | None = None
    hop_growth: TimeField | None = None
    hop_half_size: BytesField | None = None
    tree_fraction: PositiveRatioField | None = None
    tree_hop_latency: TimeField | None = None
    # how far measurements lie from predictions with these numbers
    residuals: ResidualSpec | None = None


class LibraryEfficiency(InterconnectEfficiency):
    """What another library than the usual one does on the same links; numbers left out are those of the link.

    The numbers of ``equations.collective_direct``: all-reduce kernels of an engine for buffers up to ``direct_limit``,
    and calls outside of a captured graph. ``based_on`` names another library of the link whose numbers stand in first.
    """

    based_on: str = ""
    note: str = ""
    direct_latency: TimeField | None = None
    direct_step_latency: TimeField | None = None
    one_shot_fraction: PositiveRatioField | None = None
    two_shot_latency: TimeField | None = None
    two_shot_fraction: PositiveRatioField | None = None
    direct_limit: BytesField | None = None
    call_floor: TimeField | None = None
    staging_fraction: PositiveRatioField | None = None


def library_chain(name: str, *shelves: Mapping[str, LibraryEfficiency]) -> tuple[LibraryEfficiency, ...]:
    """The entries of a library and of those that it is based on, nearest first; none for a library without entry.

    Parameters
    ----------
    name
        The library; empty for the usual one of a link.
    shelves
        Where entries stand, nearest first: those of a link, then those of a class.

    Raises
    ------
    PydanticCustomError
        A library is based on itself.
    """
    names: list[str] = []
    chain: list[LibraryEfficiency] = []
    while name:
        if name in names:
            raise PydanticCustomError("library", "library {library!r} is based on itself", {"library": names[0]})
        names.append(name)
        found = [shelf[name] for shelf in shelves if name in shelf]
        chain += found
        name = next((entry.based_on for entry in found if entry.based_on), "")
    return tuple(chain)


class ClassCacheSpec(SpecModel):
    """Cache of a device that states none. ``bytes_per_clock`` is per unit; without units and clock the
    bandwidth is ``bandwidth_over_memory`` times that of the memory.
    """

    provenance: Provenance | None = None
    capacity: BytesField | None = None
    bytes_per_clock: BytesPerClockField | None = None
    bandwidth_over_memory: PositiveRatioField | None = None


class ClassPowerSpec(SpecModel):
    """Power of what a file leaves out, relative to the rated power of the device; ``sustained_rate`` as there.

    ``clock_exponent``: power above idle grows with the clock to this exponent. It says what a power cap costs.
    """

    provenance: Provenance | None = None
    idle_fraction: FractionField | None = None
    host_fraction: RatioField | None = None
    network_fraction: RatioField | None = None
    power_usage_effectiveness: OverheadField | None = None
    sustained_rate: PositiveRatioField | None = None
    clock_exponent: PositiveRatioField | None = None


class RelativeErrorSpec(SpecModel):
    """Relative standard deviation of a step time, by how well device and stack are known; of memory and of power.

    ``experts`` is added in quadrature for a model with routed experts. ``anchored``: of a step time that is scaled from
    a measurement of another configuration of the same stack on the same device. ``memory``: of the peak of a device.
    ``power``: of the average power of the allocation, beside that of the time.
    """

    provenance: Provenance | None = None
    calibrated: RatioField
    transferred: RatioField
    assumed: RatioField
    experts: RatioField
    anchored: RatioField
    memory: RatioField
    power: RatioField


class ClassInterconnect(InterconnectEfficiency):
    """Efficiency of a link that states none, and its energy."""

    energy: EnergyPerByteField | None = None
    libraries: Mapping[str, LibraryEfficiency] = Field(default_factory=dict[str, LibraryEfficiency])


class EfficiencySpec(FileSpec):
    """Numbers for devices of a class that have none of their own.

    ``members`` are the measured devices that stand behind the numbers; a class without members is a guess.
    """

    kind: Literal["efficiency"]
    members: tuple[str, ...] = ()
    efficiency: KernelEfficiency = KernelEfficiency()
    interconnect: Mapping[NetworkForm, ClassInterconnect] = Field(default_factory=dict[NetworkForm, ClassInterconnect])
    cache: ClassCacheSpec = ClassCacheSpec()
    energy: EnergySpec = EnergySpec()
    power: ClassPowerSpec = ClassPowerSpec()
    relative_error: RelativeErrorSpec
