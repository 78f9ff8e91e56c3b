"""The tiers of a cluster's network with every number that the closed forms of the collectives need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel.errors import SpecError, nearest
from perfmodel.machine.lookup import Ledger, Levels, missing, needed
from perfmodel.machine.machine import NetworkTier
from perfmodel.provenance import Sourced
from perfmodel.specs.efficiency import NetworkForm
from perfmodel.specs.hardware import ClusterSpec, InterconnectSpec, TierSpec

_COMMON = {"base_latency": "7 us", "step_latency": "1 us", "link_fraction": "0.8"}
_SCALE_UP = {"copy_fraction": "2.2", "fill_time": "3.8 us"}
_REDUCTION = {"reduction_latency": "91 us", "reduction_fraction": "0.66"}
_SCALE_OUT = {
    "hop_latency": "5.3 us", "hop_growth": "49 us", "hop_half_size": "100 kB",
    "tree_fraction": "0.5", "tree_hop_latency": "22 us",
}  # fmt: skip


def resolve_tiers(
    cluster: ClusterSpec, interconnects: Mapping[str, InterconnectSpec], levels: Levels, ledger: Ledger
) -> tuple[NetworkTier, ...]:
    """Every tier of the cluster, innermost first.

    Raises
    ------
    SpecError
        A tier names an interconnect that is not there, or a bandwidth is stated nowhere.
    """
    return tuple(
        _resolve_tier(tier, _interconnect(tier, interconnects), cluster, levels, ledger) for tier in cluster.tiers
    )


def _interconnect(tier: TierSpec, interconnects: Mapping[str, InterconnectSpec]) -> InterconnectSpec:
    if isinstance(tier.interconnect, InterconnectSpec):
        return tier.interconnect
    if tier.interconnect not in interconnects:
        known = ", ".join(interconnects) or "none"
        hint = nearest(tier.interconnect, interconnects)
        raise SpecError(f"tier {tier.name!r}: no interconnect {tier.interconnect!r}; loaded: {known}{hint}")
    return interconnects[tier.interconnect]


def _resolve_tier(
    tier: TierSpec, link: InterconnectSpec, cluster: ClusterSpec, levels: Levels, ledger: Ledger
) -> NetworkTier:
    form: NetworkForm = "scale-out" if link.class_ == "scale-out" else "scale-up"
    path = f"tiers.{tier.name}"
    scale_up = form == "scale-up"
    reduces = link.in_network_reduction and scale_up
    wanted = _COMMON | (_SCALE_UP if scale_up else _SCALE_OUT) | (_REDUCTION if reduces else {})
    absent = (_SCALE_OUT if scale_up else _SCALE_UP) | ({} if reduces else _REDUCTION)
    numbers: dict[str, Any] = dict.fromkeys(absent) | {
        name: ledger.take(f"{path}.{name}", _find(link, form, name, levels, text)) for name, text in wanted.items()
    }
    energy = link.energy or _of_class(levels, form, "energy")
    return NetworkTier(
        name=tier.name,
        kind=form,
        devices=tier.devices,
        bandwidth=_bandwidth(tier, link, cluster, levels, ledger),
        pair_bandwidth=_pair_bandwidth(tier, levels, ledger, scale_up=scale_up),
        in_network_reduction=float(reduces),
        energy_per_byte=ledger.take(f"{path}.energy_per_byte", needed(energy, link, "energy", "energy: 5 pJ/bit")),
        **numbers,
    )


def _find(link: InterconnectSpec, form: NetworkForm, number: str, levels: Levels, example: str) -> Sourced:
    """Software stack, then interconnect, then the accelerator's class."""
    for entry in levels.stack_entries():
        found = getattr(entry.collective[form], number) if form in entry.collective else None
        if found is not None:
            return found
    found = getattr(link.efficiency, number) or _of_class(levels, form, number)
    return needed(found, link, f"efficiency.{number}", f"efficiency: {{{number}: {example}}}")


def _of_class(levels: Levels, form: NetworkForm, number: str) -> Sourced | None:
    entry = levels.efficiency_class.interconnect.get(form)
    return getattr(entry, number) if entry is not None else None


def _bandwidth(tier: TierSpec, link: InterconnectSpec, cluster: ClusterSpec, levels: Levels, ledger: Ledger) -> Any:
    """Per device and direction: stated for the tier, else the device's (scale-up), else one port of the link."""
    own = levels.accelerator.scale_up.bandwidth if link.class_ == "scale-up" else None
    stated = tier.bandwidth or own or link.bandwidth
    if stated is None:
        missing(cluster, f"tiers.{tier.name}.bandwidth", "bandwidth: 50 GB/s")
    path = f"tiers.{tier.name}.bandwidth"
    if tier.oversubscription is None:
        return ledger.take(path, stated)
    note = f"{tier.name}: divided by the oversubscription {tier.oversubscription.value:g}"
    factors = ((stated, 1), (tier.oversubscription, -1))
    return ledger.take_product(path, factors, stated_as=f"cluster.{path}", unit="B/s", note=note)


def _pair_bandwidth(tier: TierSpec, levels: Levels, ledger: Ledger, *, scale_up: bool) -> Any:
    if not scale_up:
        return None
    pair = tier.pair_bandwidth or levels.accelerator.scale_up.pair_bandwidth
    everything = tier.bandwidth or levels.accelerator.scale_up.bandwidth
    # A switch gives a pair all links: no limit of its own, so that a swept bandwidth is not held back by it.
    if pair is None or (everything is not None and pair.value >= everything.value):
        return None
    return ledger.take(f"tiers.{tier.name}.pair_bandwidth", pair)
