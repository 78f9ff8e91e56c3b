"""From specs to a machine: every number that the equations need, with where it came from.

Order of look-up of an efficiency number: software stack (accelerator, class, ``any``), accelerator,
efficiency class. A missing idle power, latency or efficiency takes the value of the class, with the basis
that the class file gives it (``assumed``). Any other missing number that is needed is a
:class:`~perfmodel.errors.SpecError`; a number of another device is never used.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from pydantic import BaseModel

from perfmodel.errors import SpecError, nearest
from perfmodel.machine.clock import resolve_clock
from perfmodel.machine.facility import resolve_energy, resolve_prices, resolve_reliability
from perfmodel.machine.host import resolve_host
from perfmodel.machine.kernels import resolve_attention, resolve_elementwise, resolve_matmul, vector_peak_of
from perfmodel.machine.lookup import Ledger, Levels, missing, needed
from perfmodel.machine.machine import Machine, StackChoices, StepParameters
from perfmodel.machine.network import resolve_tiers
from perfmodel.provenance import Basis, Sourced
from perfmodel.specs.efficiency import EfficiencySpec, KernelEfficiency
from perfmodel.specs.hardware import AcceleratorSpec, ClusterSpec, InterconnectSpec
from perfmodel.specs.quantities import apply_provenance
from perfmodel.specs.site import PricingSpec, ReliabilitySpec, SiteSpec
from perfmodel.specs.software import BehaviourSpec, SoftwareSpec


class NumericsLike(Protocol):
    """A numerics spec: ``compute`` maps roles (matmul, attention, head) to data types."""

    @property
    def compute(self) -> Any: ...


def resolve(
    cluster: ClusterSpec,
    accelerator: AcceleratorSpec,
    interconnects: Mapping[str, InterconnectSpec],
    efficiency_class: EfficiencySpec,
    software: SoftwareSpec,
    numerics: NumericsLike,
    site: SiteSpec | None = None,
    pricing: PricingSpec | None = None,
    reliability: ReliabilitySpec | None = None,
    offload: Collection[str] = (),
) -> Machine:
    """Put the machine together.

    Parameters
    ----------
    cluster, accelerator, interconnects, efficiency_class, software
        Loaded specs; ``interconnects`` by the names that the tiers use.
    numerics
        Its ``compute`` mapping says which data types must have a peak.
    site, pricing, reliability
        The scenario's own numbers; they win over those of the cluster, one by one.
    offload
        Places outside of the devices where something is kept: ``host``, ``nvme``.

    Returns
    -------
    Machine
        SI numbers, with ``provenance`` for every one of them.

    Raises
    ------
    SpecError
        A needed number is stated nowhere; the message names it, the file and what to write.
    """
    cluster = apply_provenance(cluster, "cluster")
    links = {name: apply_provenance(link, f"interconnects.{name}") for name, link in interconnects.items()}
    levels = Levels(
        apply_provenance(accelerator, "accelerator"),
        apply_provenance(efficiency_class, "efficiency_class"),
        apply_provenance(software, "software"),
    )
    _check_class(accelerator, efficiency_class)
    ledger = Ledger()
    roles = _compute_types(numerics)
    types = tuple(dict.fromkeys(roles.values()))
    attention = roles.get("attention", types[0])
    scenario = _scenario_part(cluster, levels, site, pricing, reliability, types, ledger)
    return Machine(
        matmul={name: resolve_matmul(levels, name, ledger) for name in types},
        attention={attention: resolve_attention(levels, attention, ledger)},
        elementwise=resolve_elementwise(levels, ledger),
        tiers=resolve_tiers(cluster, links, levels, ledger),
        host=resolve_host(cluster, levels.accelerator, offload, ledger),
        provenance=ledger.provenance,
        derived=ledger.derived,
        **_identity(cluster, accelerator),
        **_software_part(levels, ledger),
        **device_part(levels, ledger),
        clock=resolve_clock(levels, scenario["energy"].idle_power, ledger),
        **scenario,
    )


def _check_class(accelerator: AcceleratorSpec, efficiency_class: EfficiencySpec) -> None:
    names = (efficiency_class.name, *efficiency_class.aliases)
    if accelerator.efficiency_class not in names:
        raise SpecError(
            f"accelerator {accelerator.name!r} is of the class {accelerator.efficiency_class!r}, "
            f"but the class {efficiency_class.name!r} was given{nearest(accelerator.efficiency_class, names)}"
        )


def _compute_types(numerics: NumericsLike) -> dict[str, str]:
    compute = numerics.compute
    roles: Mapping[str, Any] = compute.model_dump() if isinstance(compute, BaseModel) else compute
    types = {role: str(value) for role, value in roles.items() if isinstance(value, str)}
    if not types:
        example = "compute: {matmul: bf16, attention: bf16, head: bf16}"
        raise SpecError(f"numerics: compute does not name any data type; write `{example}`")
    return types


def device_part(levels: Levels, ledger: Ledger) -> dict[str, Any]:
    """Units, memory and cache of the accelerator: the leaves of the machine that kernels need beside their own."""
    device = levels.accelerator
    memory = device.memory
    capacity = needed(memory.capacity, device, "memory.capacity", "memory: {capacity: 80 GiB}")
    bandwidth = needed(memory.bandwidth, device, "memory.bandwidth", "memory: {bandwidth: 3.35 TB/s}")
    return {
        "units": _units(levels, ledger),
        "memory_capacity": ledger.take("memory_capacity", capacity),
        "memory_bandwidth": ledger.take("memory_bandwidth", bandwidth),
        "cache_capacity": ledger.take("cache_capacity", _cache_capacity(levels)),
        "cache_bandwidth": _cache_bandwidth(levels, bandwidth, ledger),
        "vector_peak": ledger.take("vector_peak", vector_peak_of(device)),
        "sustained_rate": _sustained_rate(levels, ledger),
    }


def _sustained_rate(levels: Levels, ledger: Ledger) -> Any:
    """Of the device, else of its class; a roofline knows no power limit."""
    if levels.software.kernel_model == "roofline":
        return 1.0
    fallback = levels.efficiency_class
    found = levels.accelerator.power.sustained_rate or fallback.power.sustained_rate
    return ledger.take("sustained_rate", needed(found, fallback, "power.sustained_rate", "power: {sustained_rate: 1}"))


def _units(levels: Levels, ledger: Ledger) -> Any:
    """Processors that tiles are spread over; the roofline has no tiles and needs none."""
    device = levels.accelerator
    if device.compute.units is None and levels.software.kernel_model == "roofline":
        return 1.0
    return ledger.take("units", needed(device.compute.units, device, "compute.units", "compute: {units: 132}"))


def _cache_capacity(levels: Levels) -> Sourced:
    cache, fallback = levels.accelerator.memory.cache, levels.efficiency_class
    found = (cache.capacity if cache else None) or fallback.cache.capacity
    return needed(found, fallback, "cache.capacity", "cache: {capacity: 1 MB}")


def _cache_bandwidth(levels: Levels, memory_bandwidth: Sourced, ledger: Ledger) -> Any:
    """Stated, else the class's bytes per clock and unit, else the class's multiple of the memory bandwidth."""
    path, stated_as = "cache_bandwidth", "accelerator.memory.cache.bandwidth"
    compute, cache, fallback = (
        levels.accelerator.compute,
        levels.accelerator.memory.cache,
        levels.efficiency_class.cache,
    )
    if cache is not None and cache.bandwidth is not None:
        return ledger.take(path, cache.bandwidth)
    if fallback.bytes_per_clock is not None and compute.units is not None and compute.clock is not None:
        note = "not stated: bytes per clock and unit of the efficiency class"
        factors = ((fallback.bytes_per_clock, 1), (compute.units, 1), (compute.clock, 1))
        return ledger.take_product(path, factors, stated_as=stated_as, unit="B/s", note=note)
    if fallback.bandwidth_over_memory is None:
        return missing(levels.accelerator, "memory.cache.bandwidth", "memory: {cache: {bandwidth: 3 TB/s}}")
    note = "not stated: multiple of the memory bandwidth given by the efficiency class"
    factors = ((fallback.bandwidth_over_memory, 1), (memory_bandwidth, 1))
    return ledger.take_product(path, factors, stated_as=stated_as, unit="B/s", note=note)


def _scenario_part(
    cluster: ClusterSpec,
    levels: Levels,
    site: SiteSpec | None,
    pricing: PricingSpec | None,
    reliability: ReliabilitySpec | None,
    types: tuple[str, ...],
    ledger: Ledger,
) -> dict[str, Any]:
    site = apply_provenance(site, "site") if site is not None else None
    pricing = apply_provenance(pricing, "pricing") if pricing is not None else None
    reliability = apply_provenance(reliability, "reliability") if reliability is not None else None
    return {
        "energy": resolve_energy(cluster, site, levels, types, ledger),
        "prices": resolve_prices(levels.accelerator, cluster, site, pricing, ledger),
        "reliability": resolve_reliability(cluster, reliability, ledger),
    }


def _identity(cluster: ClusterSpec, accelerator: AcceleratorSpec) -> dict[str, Any]:
    return {
        "accelerator": accelerator.name,
        "cluster": cluster.name,
        "devices": cluster.devices,
        "devices_per_node": cluster.devices_per_node,
    }


def _software_part(levels: Levels, ledger: Ledger) -> dict[str, Any]:
    software = levels.software
    confidence = _confidence(levels)
    return {
        "software": software.name,
        "kernel_model": software.kernel_model,
        "attention_kernel": software.attention.kernel,
        "packed_attention": software.attention.packed,
        "expert_dispatcher": software.expert_dispatcher,
        "choices": StackChoices(
            kernel_floor=software.kernel_floor,
            attention_arithmetic=software.attention.arithmetic,
            saved_inputs=software.saved_inputs,
            data_overlap=software.data_overlap,
        ),
        "step": _step(software, ledger),
        "confidence": confidence,
        **{name: ledger.take(name, number) for name, number in _errors(levels, confidence).items()},
    }


def _step(software: SoftwareSpec, ledger: Ledger) -> StepParameters:
    numbers: dict[str, Any] = {}
    for name in BehaviourSpec.model_fields:
        if name == "provenance":
            continue
        stated = needed(
            getattr(software.behaviour, name),
            software,
            f"behaviour.{name}",
            f"behaviour: {{{name}: ...}}",
        )
        numbers[name] = ledger.take(f"step.{name}", stated)
    return StepParameters(**numbers)


def _errors(levels: Levels, confidence: str) -> dict[str, Sourced]:
    """Relative standard deviations: those of the stack where it was calibrated, else those of the class."""
    software, errors = levels.software, levels.efficiency_class.relative_error
    usual: dict[str, Sourced] = {
        "relative_error": getattr(errors, confidence),
        "memory_error": errors.memory,
        "power_error": errors.power,
    }
    own = {name: getattr(software, name) for name in usual} if confidence == "calibrated" else {}
    found = {name: own.get(name) or number for name, number in usual.items()}
    return found | {"experts_error": errors.experts, "anchored_error": errors.anchored}


def _confidence(levels: Levels) -> str:
    """How far the step time can be trusted.

    ``calibrated``: matmuls were measured on the device, and the stack has an entry for the device or was
    calibrated on it; ``transferred``: the device or others of its class were measured; ``assumed``:
    neither, or a roofline.
    """
    names = {levels.accelerator.name, *levels.accelerator.aliases}
    own = [entry for name, entry in levels.software.efficiency.items() if name in names]
    measured = any(_has_measured_matmul(entry) for entry in (levels.accelerator.efficiency, *own))
    known_to_stack = bool(own) or bool(names & set(levels.software.calibrated_on))
    if levels.software.kernel_model == "roofline":
        return "assumed"
    if measured and known_to_stack:
        return "calibrated"
    return "transferred" if measured or levels.efficiency_class.members else "assumed"


def _has_measured_matmul(entry: KernelEfficiency) -> bool:
    numbers = (getattr(group, name) for group in entry.matmul.values() for name in type(group).model_fields)
    return any(isinstance(number, Sourced) and number.basis == Basis.MEASURED for number in numbers)
