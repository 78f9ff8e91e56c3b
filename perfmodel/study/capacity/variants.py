"""What a capacity question chooses among beside sizes: clusters and prices."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from perfmodel.engine.build import Question, build_question
from perfmodel.engine.recall import Recall
from perfmodel.engine.rows import number
from perfmodel.equations import energy
from perfmodel.errors import SpecError, UsageError
from perfmodel.specs.axes import AUTO, DEVICES, Axis
from perfmodel.specs.plain import is_list, is_mapping
from perfmodel.specs.problems import Problem, raise_problems
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.specs.yaml_reader import Place
from perfmodel.study.search.regions import SearchSpace, search_space

#: A cluster with one of these is written out: its devices are its own size.
_WRITTEN_OUT = {"accelerator", "tiers", "extends"}
_CLUSTER, _PRICING = "cluster", "pricing"


@dataclass(frozen=True)
class Variant:
    """One cluster at one price.

    Attributes
    ----------
    resolved
        The scenario with this cluster and price, and the axes that are left.
    cluster, pricing
        Their names; the latter None where there is one price or none.
    settings
        What a scenario sets to be this variant.
    node, largest
        Devices of a node and of the cluster.
    stated
        Sizes that the scenario lists; None: whole nodes.
    nodes_per_rack
        That the power of a rack carries; None without such a limit.
    """

    resolved: ResolvedScenario
    cluster: str
    pricing: str | None
    settings: Mapping[str, Any]
    node: int
    largest: int
    stated: tuple[int, ...] | None
    nodes_per_rack: int | None

    def space(self, devices: Sequence[int], recall: Recall) -> SearchSpace:
        """The plans of some sizes."""
        axis = Axis(DEVICES, tuple(devices), Place(DEVICES))
        document, values = _single(self.resolved)
        first = {**values, DEVICES: devices[0]}
        return search_space(replace(self.resolved, axes=(*self.resolved.axes, axis), single=(document, first)), recall)

    def question(self) -> Question:
        """Graph and machine."""
        return build_question(self.resolved.candidate())


def _single(resolved: ResolvedScenario) -> tuple[Any, Mapping[str, Any]]:
    if resolved.single is None:
        raise UsageError("this scenario was put together in Python without a file; build a new one instead")
    return resolved.single


def variants_of(resolved: ResolvedScenario) -> tuple[Variant, ...]:
    """Every cluster with every price, in the order in which they are written.

    Raises
    ------
    SpecError
        A cluster, a price or a size cannot be.
    """
    axes = {axis.path: axis for axis in resolved.axes}
    clusters = axes[_CLUSTER].values if _CLUSTER in axes else (resolved.scenario.cluster,)
    prices = axes[_PRICING].values if _PRICING in axes else (None,)
    several = len(prices or ()) > 1
    found: list[Variant] = []
    for cluster, (position, price) in itertools.product(clusters or (), enumerate(prices or ())):
        settings, sizes = _cluster(axes, cluster, resolved)
        if _PRICING in axes:
            settings[_PRICING] = price
        found.append(_variant(resolved, settings, sizes, _price_name(price, position) if several else None))
    return tuple(found)


def _variant(
    resolved: ResolvedScenario, settings: Mapping[str, Any], sizes: tuple[int, ...] | None, pricing: str | None
) -> Variant:
    document, values = _single(resolved)
    left = tuple(axis for axis in resolved.axes if axis.path not in (_CLUSTER, _PRICING, DEVICES))
    set_anew = {_CLUSTER, DEVICES, *settings}
    here = {path: value for path, value in values.items() if path not in set_anew}
    own = replace(resolved, axes=left, single=(document, {**here, **settings}))
    candidate = own.candidate()
    question = build_question(candidate)
    machine = question.problem.machine
    return Variant(
        own, candidate.cluster.name, pricing, settings, machine.devices_per_node, machine.devices, sizes,
        _nodes_per_rack(candidate, question),
    )  # fmt: skip


def _cluster(
    axes: Mapping[str, Axis], value: Any, resolved: ResolvedScenario
) -> tuple[dict[str, Any], tuple[int, ...] | None]:
    """What sets a cluster (without its size), and the sizes that are stated with it."""
    if not is_mapping(value):
        key = "path" if str(value).endswith((".yaml", ".yml")) else "name"
        return {_CLUSTER: {key: value}}, _sizes(axes, None, resolved)
    if _WRITTEN_OUT & set(value):
        return {_CLUSTER: dict(value)}, _sizes(axes, None, resolved)
    stated = value.get("devices")
    kept = {key: one for key, one in value.items() if key != "devices"}
    return {_CLUSTER: kept}, _sizes(axes, None if stated == AUTO else stated, resolved)


def _sizes(axes: Mapping[str, Axis], stated: Any, resolved: ResolvedScenario) -> tuple[int, ...] | None:
    axis = axes.get(DEVICES)
    if axis is not None:
        values, place = axis.values, axis.place
    else:
        values = tuple(stated) if is_list(stated) else None if stated is None else (stated,)
        place = resolved.place(_CLUSTER)
    if values is None:
        return None
    wrong = [one for one in values if isinstance(one, bool) or not isinstance(one, int) or one < 1]
    if wrong:
        raise_problems([
            Problem(place, DEVICES, f"expected whole numbers of at least 1, or auto (whole nodes), got {wrong[0]!r}")
        ])  # fmt: skip
    return tuple(sorted(values))


def _price_name(price: Any, position: int) -> str:
    """A price in words: its kind and its number."""
    if not is_mapping(price):
        return str(position + 1)
    said = [str(price.get(key)) for key in ("kind", "device_hour", "device") if price.get(key) is not None]
    years = [f"over {price['years']} years"] if "years" in price else []
    return " ".join([*said, *years]) or str(position + 1)


def _nodes_per_rack(resolved: ResolvedScenario, question: Question) -> int | None:
    """Nodes at their peak that a rack carries."""
    site = resolved.scenario.site
    limit = (site.rack_power if site is not None else None) or resolved.cluster.site.rack_power
    if limit is None:
        return None
    machine = question.problem.machine
    numbers = machine.energy
    device = numbers.peak_power + numbers.host_power + numbers.network_power
    return int(number(energy.nodes_per_rack(limit.value, machine.devices_per_node * device)))


def coarse_sizes(variant: Variant) -> tuple[int, ...]:
    """Sizes that are tried first: those that are stated, or one, two, three, four, six, eight ... whole nodes."""
    if variant.stated is not None:
        return variant.stated
    nodes = variant.largest // variant.node
    if not nodes:
        raise SpecError(f"{variant.cluster}: {variant.largest} devices are no whole node of {variant.node}")
    return tuple(sorted({one * variant.node for one in _counts(nodes)} | {nodes * variant.node}))


def _counts(largest: int) -> Iterator[int]:
    power = 1
    while power <= largest:
        yield power
        if power > 1 and power * 3 // 2 <= largest:
            yield power * 3 // 2
        power *= 2


def all_sizes(variant: Variant) -> tuple[int, ...]:
    """Sizes that are told apart: those that are stated, or every whole node up to 64, every second one up to 128 ..."""
    if variant.stated is not None:
        return variant.stated
    found, smallest = set(coarse_sizes(variant)), 1
    while smallest <= variant.largest:
        granularity = granularity_of(variant, smallest)
        largest = min(_FINE * granularity, variant.largest)
        found |= set(fine_sizes(variant, smallest, largest, granularity))
        smallest = largest + 1
    return tuple(sorted(found))


def fine_sizes(variant: Variant, smallest: int, largest: int, granularity: int) -> Sequence[int]:
    """Every size of a granularity [devices] within bounds; those that are stated."""
    if variant.stated is not None:
        return [one for one in variant.stated if smallest <= one <= largest]
    first = -(-smallest // granularity) * granularity
    return range(max(first, granularity), largest + 1, granularity)


#: Sizes up to an answer that are all tried.
_FINE = 64


def granularity_of(variant: Variant, devices: int) -> int:
    """Devices by which sizes up to this one are told apart: one node, or a power of two of them in large machines."""
    nodes = 1
    while devices > _FINE * nodes * variant.node:
        nodes *= 2
    return nodes * variant.node
