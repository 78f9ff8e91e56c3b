"""What a file may say about hardware: accelerators, interconnects, clusters, and the site around them.

Conventions of every number here: peaks are dense; bandwidth is per direction and per device unless the
name says otherwise; capacities are bytes (a part sold as "80 GB" usually holds 80 GiB); an absent number
is unknown, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from perfmodel.errors import nearest
from perfmodel.specs.base import FileSpec, SwitchField
from perfmodel.specs.efficiency import (
    EfficiencySpec,
    EnergySpec,
    InterconnectEfficiency,
    KernelEfficiency,
    LibraryEfficiency,
    OverheadField,
    library_chain,
)
from perfmodel.specs.quantities import (
    BandwidthField,
    BytesField,
    CountField,
    EnergyPerByteField,
    FlopRateField,
    FrequencyField,
    MoneyField,
    MoneyRateField,
    PositivePowerField,
    PositiveRatioField,
    PowerField,
    Provenance,
    SpecModel,
    TimeField,
)
from perfmodel.specs.site import ReliabilitySpec, SiteSpec

__all__ = ["AcceleratorSpec", "ClusterSpec", "EfficiencySpec", "InterconnectSpec", "TierSpec"]

Status = Literal["available", "announced", "discontinued"]


class MatrixRate(SpecModel):
    """Dense peak of one data type, and the factor that 2:4 sparsity adds (absent = no gain)."""

    provenance: Provenance | None = None
    peak: FlopRateField
    sparse_2to4: OverheadField | None = None


class ComputeSpec(SpecModel):
    """Arithmetic of one device. ``units`` are the processors that tiles of a kernel are spread over."""

    provenance: Provenance | None = None
    units: PositiveRatioField | None = None
    clock: FrequencyField | None = None
    matrix: Mapping[str, MatrixRate] = Field(default_factory=dict)
    vector: Mapping[str, FlopRateField] = Field(default_factory=dict)


class CacheSpec(SpecModel):
    """Last cache level on the chip that all units share."""

    provenance: Provenance | None = None
    capacity: BytesField | None = None
    bandwidth: BandwidthField | None = None


class MemorySpec(SpecModel):
    """Main memory of one device."""

    provenance: Provenance | None = None
    kind: str = ""
    capacity: BytesField | None = None
    bandwidth: BandwidthField | None = None
    cache: CacheSpec | None = None


class ScaleUpSpec(SpecModel):
    """Links between devices of one domain: ``bandwidth`` of all links, ``pair_bandwidth`` to one peer."""

    provenance: Provenance | None = None
    interconnect: str | None = None
    bandwidth: BandwidthField | None = None
    pair_bandwidth: BandwidthField | None = None
    domain: CountField | None = None


class HostLinkSpec(SpecModel):
    """Link between a device and its CPU."""

    provenance: Provenance | None = None
    name: str = ""
    bandwidth: BandwidthField | None = None


class PowerSpec(SpecModel):
    """Power of one device: rated maximum, idle with the program loaded, and what the limit costs.

    ``sustained_rate`` is the arithmetic rate of kernels that follow each other for minutes, over that of a short
    burst: at its power limit a device lowers its clock. It applies to steps, not to kernels measured alone.
    ``cap`` and ``clock_limit`` are what an operator sets below the rated power and clock; efficiencies and
    ``sustained_rate`` are those without them.
    """

    provenance: Provenance | None = None
    tdp: PositivePowerField | None = None
    idle: PowerField | None = None
    sustained_rate: PositiveRatioField | None = None
    cap: PositivePowerField | None = None
    clock_limit: FrequencyField | None = None


class PriceSpec(SpecModel):
    """Purchase price of one device, and cloud price of one device per time."""

    provenance: Provenance | None = None
    purchase: MoneyField | None = None
    cloud: MoneyRateField | None = None


class AcceleratorSpec(FileSpec):
    """One device as software sees it."""

    kind: Literal["accelerator"]
    vendor: str = ""
    year: int | None = None
    status: Status = "available"
    efficiency_class: str = "generic-accelerator"
    compute: ComputeSpec = ComputeSpec()
    memory: MemorySpec = MemorySpec()
    scale_up: ScaleUpSpec = ScaleUpSpec()
    host_link: HostLinkSpec = HostLinkSpec()
    power: PowerSpec = PowerSpec()
    energy: EnergySpec = EnergySpec()
    price: PriceSpec = PriceSpec()
    efficiency: KernelEfficiency = KernelEfficiency()


InterconnectClass = Literal["scale-up", "scale-out", "host"]
#: Shape of a tier. ``switch``: all to all, or pairs where a pair bandwidth says so; ``dragonfly``: the tier joins
#: groups whose links may be detoured.
Topology = Literal["switch", "torus", "dragonfly"]


class InterconnectSpec(FileSpec):
    """A kind of link: per device when it joins devices (scale-up), per port when it joins nodes.

    ``latency`` is that of the hardware alone, for information; the model uses ``efficiency.base_latency``
    and the latencies per step or hop, which include the software.
    """

    kind: Literal["interconnect"]
    class_: InterconnectClass = Field(alias="class")
    year: int | None = None
    status: Status = "available"
    topology: str = ""
    bandwidth: BandwidthField | None = None
    link_bandwidth: BandwidthField | None = None
    links: CountField | None = None
    latency: TimeField | None = None
    energy: EnergyPerByteField | None = None
    in_network_reduction: SwitchField = False
    efficiency: InterconnectEfficiency = InterconnectEfficiency()
    libraries: Mapping[str, LibraryEfficiency] = Field(default_factory=dict[str, LibraryEfficiency])

    @model_validator(mode="after")
    def _known_libraries(self) -> InterconnectSpec:
        for name, entry in self.libraries.items():
            library_chain(name, self.libraries)
            if entry.based_on and entry.based_on not in self.libraries:
                context: dict[str, object] = {
                    "library": name, "base": entry.based_on,
                    "known": ", ".join(self.libraries) + nearest(entry.based_on, self.libraries),
                }  # fmt: skip
                raise PydanticCustomError(
                    "library", "{library}: based_on: no entry {base}; libraries: {known}", context
                )
        return self


class TierSpec(SpecModel):
    """One level of a cluster's network: domains of ``devices`` devices joined by an interconnect.

    ``bandwidth`` is per device and direction before ``oversubscription``. Shapes that are not one switch:
    ``pair_bandwidth`` (links between pairs), ``dimensions`` of a torus, ``link_graph`` (``[device, device, links]`` of
    a domain), ``shared_bandwidth`` of a host that carries the traffic of all its devices except between the
    ``switch_devices`` below one switch, ``dragonfly``.
    ``base_latency`` is that of a call on this system, where it is known.
    """

    provenance: Provenance | None = None
    name: str
    interconnect: str | InterconnectSpec
    devices: CountField
    topology: Topology = "switch"
    dimensions: tuple[CountField, ...] = ()
    link_graph: tuple[tuple[CountField, CountField, CountField], ...] = ()
    bandwidth: BandwidthField | None = None
    pair_bandwidth: BandwidthField | None = None
    shared_bandwidth: BandwidthField | None = None
    switch_devices: CountField = 1
    oversubscription: OverheadField | None = None
    base_latency: TimeField | None = None

    @model_validator(mode="after")
    def _shape(self) -> TierSpec:
        volume = prod(self.dimensions)
        context: dict[str, object] = {
            "tier": self.name, "devices": self.devices, "volume": volume,
            "dimensions": " x ".join(map(str, self.dimensions)) or "none",
        }  # fmt: skip
        if (self.topology == "torus") != bool(self.dimensions):
            raise PydanticCustomError(
                "torus", "tier {tier}: a torus states its dimensions, and nothing else has them", context
            )
        if self.dimensions and volume < self.devices:
            rule = "tier {tier}: a torus of {dimensions} has {volume} devices, but a domain has {devices}"
            raise PydanticCustomError("torus", rule, context)
        ends = [end for first, second, _ in self.link_graph for end in (first, second)]
        if any(end >= self.devices for end in ends) or any(first == second for first, second, _ in self.link_graph):
            rule = "tier {tier}: link_graph joins two different devices, counted from 0, of the {devices} of a domain"
            raise PydanticCustomError("link_graph", rule, context)
        return self


class ClusterPowerSpec(SpecModel):
    """Power per device of what is around it: node without devices, and network."""

    provenance: Provenance | None = None
    host: PowerField | None = None
    network: PowerField | None = None


class StoreSpec(SpecModel):
    """Memory or storage of a host, as the share of one device: capacity, and bandwidth of one direction."""

    provenance: Provenance | None = None
    capacity: BytesField | None = None
    bandwidth: BandwidthField | None = None


class HostSpec(SpecModel):
    """What a host offers each of its devices beside their own memory."""

    provenance: Provenance | None = None
    memory: StoreSpec = StoreSpec()
    nvme: StoreSpec = StoreSpec()


class ClusterSpec(FileSpec):
    """Devices of one kind and the tiers of the network between them, innermost first.

    A scenario may use fewer ``devices`` than the outermost tier holds.
    """

    kind: Literal["cluster"]
    year: int | None = None
    status: Status = "available"
    accelerator: str | AcceleratorSpec
    devices: CountField
    devices_per_node: CountField
    tiers: tuple[TierSpec, ...]
    power: ClusterPowerSpec = ClusterPowerSpec()
    host: HostSpec = HostSpec()
    site: SiteSpec = SiteSpec()
    reliability: ReliabilitySpec = ReliabilitySpec()

    @model_validator(mode="after")
    def _nested_tiers(self) -> ClusterSpec:
        sizes = [tier.devices for tier in self.tiers]
        names = [tier.name for tier in self.tiers]
        context: dict[str, object] = {"tiers": ", ".join(f"{tier.name} {tier.devices}" for tier in self.tiers)}
        if not sizes:
            raise PydanticCustomError("tiers", "at least one tier is needed: the links inside a node", {})
        if sizes != sorted(set(sizes)) or len(set(names)) < len(names):
            raise PydanticCustomError("tiers", "tiers need different names and growing domains; got {tiers}", context)
        if self.devices > sizes[-1]:
            rule = "{devices} devices do not fit in the outermost tier ({largest} devices)"
            raise PydanticCustomError("tiers", rule, {"devices": self.devices, "largest": sizes[-1]})
        return self
