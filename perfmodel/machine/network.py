"""The tiers of a cluster's network with every number that the closed forms of the collectives need.

A number of a tier is looked up in this order: software stack, the tier itself (its latency), the entry of the stack's
collective library under the interconnect, the interconnect, the accelerator's class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel.errors import SpecError, nearest
from perfmodel.machine.link_graph import ring_counts
from perfmodel.machine.lookup import Ledger, Levels, missing, needed
from perfmodel.machine.machine import DirectParameters, NetworkTier
from perfmodel.provenance import Sourced
from perfmodel.specs.efficiency import InterconnectEfficiency, LibraryEfficiency, NetworkForm, library_chain
from perfmodel.specs.hardware import ClusterSpec, InterconnectSpec, TierSpec

_COMMON = {"base_latency": "7 us", "step_latency": "1 us", "link_fraction": "0.8"}
_SCALE_UP = {"copy_fraction": "2.2", "fill_time": "3.8 us"}
_REDUCTION = {"reduction_latency": "91 us", "reduction_fraction": "0.66", "reduction_minimum_ranks": "8"}
_MESSAGES = ("peer_fraction", "message_latency")
_SCALE_OUT = {
    "hop_latency": "5.3 us", "hop_growth": "49 us", "hop_half_size": "100 kB",
    "tree_fraction": "0.5", "tree_hop_latency": "22 us",
}  # fmt: skip
#: Number of a library's kernel -> (name in the machine, example).
_DIRECT = {
    "direct_latency": ("latency", "4.5 us"), "direct_step_latency": ("step_latency", "0.1 us"),
    "one_shot_fraction": ("one_shot_fraction", "0.6"), "two_shot_latency": ("two_shot_latency", "8 us"),
    "two_shot_fraction": ("two_shot_fraction", "0.65"), "direct_limit": ("limit", "8 MiB"),
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
        _resolve_tier(tier, interconnect_of(tier, interconnects), cluster, levels, ledger) for tier in cluster.tiers
    )


def interconnect_of(tier: TierSpec, interconnects: Mapping[str, InterconnectSpec]) -> InterconnectSpec:
    """The interconnect of a tier.

    Raises
    ------
    SpecError
        It names one that was not loaded.
    """
    if isinstance(tier.interconnect, InterconnectSpec):
        return tier.interconnect
    if tier.interconnect not in interconnects:
        known = ", ".join(interconnects) or "none"
        hint = nearest(tier.interconnect, interconnects)
        raise SpecError(f"tier {tier.name!r}: no interconnect {tier.interconnect!r}; loaded: {known}{hint}")
    return interconnects[tier.interconnect]


def form_of(link: InterconnectSpec) -> NetworkForm:
    """The closed form of a link; links of class ``host`` use that of scale-up."""
    return "scale-out" if link.class_ == "scale-out" else "scale-up"


def efficiencies(link: InterconnectSpec, levels: Levels) -> tuple[InterconnectEfficiency, ...]:
    """The sets of numbers of a link, nearest first: those of the stack's library, the usual ones, the class's."""
    of_class = levels.efficiency_class.interconnect.get(form_of(link))
    return (*libraries_of(link, levels), link.efficiency, *([of_class] if of_class is not None else []))


def libraries_of(link: InterconnectSpec, levels: Levels) -> tuple[LibraryEfficiency, ...]:
    """Entries of the stack's collective library for a link, nearest first."""
    of_class = levels.efficiency_class.interconnect.get(form_of(link))
    shelves = (link.libraries, of_class.libraries if of_class is not None else {})
    return library_chain(levels.software.collectives, *shelves)


def _resolve_tier(
    tier: TierSpec, link: InterconnectSpec, cluster: ClusterSpec, levels: Levels, ledger: Ledger
) -> NetworkTier:
    form, path = form_of(link), f"tiers.{tier.name}"
    scale_up = form == "scale-up"
    reduces = link.in_network_reduction and scale_up
    sets = efficiencies(link, levels)
    stated = [name for name in _MESSAGES if any(getattr(one, name) is not None for one in sets)]
    optional = (_REDUCTION if reduces else {}) | dict.fromkeys(stated if scale_up else (), "")
    wanted = _COMMON | (_SCALE_UP if scale_up else _SCALE_OUT) | optional
    absent = (*(_SCALE_OUT if scale_up else _SCALE_UP), *_REDUCTION, *_MESSAGES)
    numbers: dict[str, Any] = dict.fromkeys(absent) | {
        name: ledger.take(f"{path}.{name}", _find(tier, link, name, levels, text)) for name, text in wanted.items()
    }
    of_class = levels.efficiency_class.interconnect.get(form)
    energy = link.energy or (of_class.energy if of_class is not None else None)
    return NetworkTier(
        name=tier.name,
        kind=form,
        devices=tier.devices,
        bandwidth=_bandwidth(tier, link, cluster, levels, ledger),
        pair_bandwidth=_pair_bandwidth(tier, levels, ledger, scale_up=scale_up),
        in_network_reduction=float(reduces),
        energy_per_byte=ledger.take(f"{path}.energy_per_byte", needed(energy, link, "energy", "energy: 5 pJ/bit")),
        topology=tier.topology,
        dimensions=tier.dimensions,
        direct=_direct(tier, link, levels, ledger) if scale_up else None,
        **_shape(tier, link, ledger),
        **numbers,
    )


def _find(tier: TierSpec, link: InterconnectSpec, number: str, levels: Levels, example: str) -> Sourced:
    """One number of a tier, from the nearest place that states it."""
    form = form_of(link)
    places: list[Any] = [entry.collective[form] for entry in levels.stack_entries() if form in entry.collective]
    places += [tier, *efficiencies(link, levels)]
    found = next((one for place in places if (one := getattr(place, number, None)) is not None), None)
    return needed(found, link, f"efficiency.{number}", f"efficiency: {{{number}: {example}}}")


def _direct(tier: TierSpec, link: InterconnectSpec, levels: Levels, ledger: Ledger) -> DirectParameters | None:
    """Kernels of the stack's library on this link; None when it has none of its own."""
    library = levels.software.collectives
    chain = libraries_of(link, levels)
    if all(entry.direct_latency is None for entry in chain):
        return None
    path = f"tiers.{tier.name}.direct"

    def take(name: str, leaf: str, example: str) -> Any:
        found = next((one for entry in chain if (one := getattr(entry, name)) is not None), None)
        where = f"libraries.{library}.{name}"
        return ledger.take(f"{path}.{leaf}", needed(found, link, where, f"{name}: {example}"))

    numbers = {leaf: take(name, leaf, example) for name, (leaf, example) in _DIRECT.items()}
    if all(entry.call_floor is None for entry in chain):
        return DirectParameters(**numbers)
    memory = levels.accelerator.memory.bandwidth
    memory = needed(memory, levels.accelerator, "memory.bandwidth", "memory: {bandwidth: 3.35 TB/s}")
    return DirectParameters(
        **numbers,
        call_floor=take("call_floor", "call_floor", "21 us"),
        staging_fraction=take("staging_fraction", "staging_fraction", "0.88"),
        memory_bandwidth=ledger.take(f"{path}.memory_bandwidth", memory),
    )


def _shape(tier: TierSpec, link: InterconnectSpec, ledger: Ledger) -> dict[str, Any]:
    """Limits of a domain that is not one switch."""
    path, shape = f"tiers.{tier.name}", dict[str, Any]()
    if tier.shared_bandwidth is not None:
        shape["switch_devices"] = float(tier.switch_devices)
        shape["shared_bandwidth"] = ledger.take(f"{path}.shared_bandwidth", tier.shared_bandwidth)
    if tier.link_graph:
        one_link = needed(link.link_bandwidth, link, "link_bandwidth", "link_bandwidth: 25 GB/s")
        shape["link_bandwidth"] = ledger.take(f"{path}.link_bandwidth", one_link)
        shape["rings"] = ring_counts(tier.link_graph, tier.devices)
    return shape


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
    if not scale_up or tier.link_graph or tier.topology == "torus":
        return None
    pair = tier.pair_bandwidth or levels.accelerator.scale_up.pair_bandwidth
    everything = tier.bandwidth or levels.accelerator.scale_up.bandwidth
    # A switch gives a pair all links: no limit of its own, so that a swept bandwidth is not held back by it.
    if pair is None or (everything is not None and pair.value >= everything.value):
        return None
    return ledger.take(f"tiers.{tier.name}.pair_bandwidth", pair)
