"""Power, energy, money and failures of a machine: device, node, building."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from perfmodel.equations import money
from perfmodel.machine.lookup import Ledger, Levels, missing, needed
from perfmodel.machine.machine import EnergyParameters, PriceParameters, ReliabilityParameters
from perfmodel.provenance import Basis, Sourced
from perfmodel.specs.efficiency import ANY, EfficiencySpec
from perfmodel.specs.hardware import AcceleratorSpec, ClusterSpec
from perfmodel.specs.site import CloudPricing, PricingSpec, PurchasePricing, ReliabilitySpec, SiteSpec

_HOUR = Sourced(3600.0, "s", "definition", Basis.DERIVED, "seconds per hour")
_YEAR = Sourced(365.25 * 86400.0, "s", "definition", Basis.DERIVED, "seconds per year")


def resolve_energy(
    cluster: ClusterSpec, site: SiteSpec | None, levels: Levels, data_types: tuple[str, ...], ledger: Ledger
) -> EnergyParameters:
    """Power and energy numbers; what the device does not state comes from its class, as a fraction of its TDP.

    Raises
    ------
    SpecError
        The rated power of the device is not stated.
    """
    device, fallback = levels.accelerator, levels.efficiency_class
    share = _Share(needed(device.power.tdp, device, "power.tdp", "power: {tdp: 700 W}"), fallback, ledger)
    vector = device.energy.vector or fallback.energy.vector
    power = resolve_device_power(levels, data_types[0], ledger)
    return EnergyParameters(
        idle_power=power["idle"],
        peak_power=power["limit"],
        matrix_per_flop={name: _matrix_energy(levels, name, ledger) for name in data_types},
        vector_per_flop=ledger.take(
            "energy.vector_per_flop", needed(vector, fallback, "energy.vector", "energy: {vector: 9 pJ/FLOP}")
        ),
        memory_per_byte=power["memory"],
        host_power=share.take("host_power", "cluster.power.host", cluster.power.host, "host_fraction"),
        network_power=share.take("network_power", "cluster.power.network", cluster.power.network, "network_fraction"),
        power_usage_effectiveness=ledger.take(
            "energy.power_usage_effectiveness", _usage_effectiveness(cluster, site, levels)
        ),
    )


def resolve_device_power(levels: Levels, data_type: str, ledger: Ledger) -> dict[str, Any]:
    """Idle power and limit of a device [W], energy of its matrix unit [J/FLOP] and of its memory [J/B]."""
    device, fallback = levels.accelerator, levels.efficiency_class
    share = _Share(needed(device.power.tdp, device, "power.tdp", "power: {tdp: 700 W}"), fallback, ledger)
    memory = device.energy.memory or fallback.energy.memory
    return {
        "idle": share.take("idle_power", "accelerator.power.idle", device.power.idle, "idle_fraction"),
        "limit": ledger.take("energy.peak_power", device.power.cap or share.tdp),
        "matrix": _matrix_energy(levels, data_type, ledger),
        "memory": ledger.take(
            "energy.memory_per_byte", needed(memory, fallback, "energy.memory", "energy: {memory: 5 pJ/bit}")
        ),
    }


@dataclass(frozen=True)
class _Share:
    """Takes a stated power, or the class's fraction of the rated power of the device."""

    tdp: Sourced
    fallback: EfficiencySpec
    ledger: Ledger

    def take(self, leaf: str, stated_as: str, stated: Sourced | None, fraction: str) -> Any:
        path = f"energy.{leaf}"
        if stated is not None:
            return self.ledger.take(path, stated)
        number = needed(
            getattr(self.fallback.power, fraction), self.fallback, f"power.{fraction}", f"power: {{{fraction}: 15 %}}"
        )
        note = f"not stated: {number.value:g} of the TDP (efficiency class {self.fallback.name})"
        return self.ledger.take_product(path, ((number, 1), (self.tdp, 1)), stated_as=stated_as, unit="W", note=note)


def _matrix_energy(levels: Levels, data_type: str, ledger: Ledger) -> Any:
    for entries in (levels.accelerator.energy.matrix, levels.efficiency_class.energy.matrix):
        found = entries.get(data_type) or entries.get(ANY)
        if found is not None:
            return ledger.take(f"energy.matrix_per_flop.{data_type}", found)
    path, example = f"energy.matrix.{data_type}", f"energy: {{matrix: {{{data_type}: 0.6 pJ/FLOP}}}}"
    return missing(levels.efficiency_class, path, example)


def _usage_effectiveness(cluster: ClusterSpec, site: SiteSpec | None, levels: Levels) -> Sourced:
    fallback = levels.efficiency_class
    found = (site.pue if site else None) or cluster.site.pue or fallback.power.power_usage_effectiveness
    return needed(
        found,
        fallback,
        "power.power_usage_effectiveness",
        "power: {power_usage_effectiveness: 1.2}",
    )


def resolve_prices(
    accelerator: AcceleratorSpec,
    cluster: ClusterSpec,
    site: SiteSpec | None,
    pricing: PricingSpec | None,
    ledger: Ledger,
) -> PriceParameters:
    """Money and carbon: the scenario's pricing, else the device's cloud price; None where nothing is stated.

    ``pricing.utilisation`` is not applied here: it belongs to the job (``equations.money.rental_cost``).
    """
    energy = (site.electricity if site else None) or cluster.site.electricity
    grid = (site.grid if site else None) or cluster.site.grid
    return PriceParameters(
        device_rate=_device_rate(accelerator, pricing, ledger),
        energy_price=_optional("prices.energy_price", energy, ledger),
        grid_intensity=_optional("prices.grid_intensity", grid, ledger),
        includes_energy=True if pricing is None else pricing.includes_energy,
    )


def _device_rate(accelerator: AcceleratorSpec, pricing: CloudPricing | PurchasePricing | None, ledger: Ledger) -> Any:
    path = "prices.device_rate"
    if pricing is None:
        return _optional(path, accelerator.price.cloud, ledger)
    if isinstance(pricing, CloudPricing):
        factors = ((pricing.device_hour, 1), (_HOUR, -1))
        return ledger.take_product(
            path, factors, stated_as="pricing.device_hour", unit="USD/s", note="price per hour over 3600 s"
        )
    factors = ((pricing.device, 1), (_yearly_fraction(pricing), 1), (_YEAR, -1))
    note = "purchase price, written off over the years, with interest and operation"
    return ledger.take_product(path, factors, stated_as="pricing.device", unit="USD/s", note=note)


def _yearly_fraction(pricing: PurchasePricing) -> Sourced:
    """Fraction of the price that a year costs: the annuity that pays price and interest, plus operation."""
    interest = 0.0 if pricing.interest is None else pricing.interest.value
    operation = 0.0 if pricing.operation is None else pricing.operation.value
    annuity = float(money.amortised_rate(1.0, pricing.years.value, interest, seconds_per_year=1.0))
    return Sourced(annuity + operation, "1", pricing.years.source, pricing.years.basis, "pricing.years")


def resolve_reliability(
    cluster: ClusterSpec, reliability: ReliabilitySpec | None, ledger: Ledger
) -> ReliabilityParameters:
    """Failures and checkpoints: the scenario's numbers, else the cluster's, number by number."""

    def find(name: str) -> Any:
        own = getattr(reliability, name) if reliability is not None else None
        return _optional(f"reliability.{name}", own or getattr(cluster.reliability, name), ledger)

    return ReliabilityParameters(
        device_mtbf=find("device_mtbf"),
        restart_time=find("restart_time"),
        checkpoint_bandwidth=find("checkpoint_bandwidth"),
        checkpoint_interval=find("checkpoint_interval"),
        spare_fraction=find("spare_fraction") or 0.0,
    )


def _optional(path: str, number: Sourced | None, ledger: Ledger) -> Any:
    return None if number is None else ledger.take(path, number)
