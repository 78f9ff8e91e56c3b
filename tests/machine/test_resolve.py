"""Look-up order, derived numbers and errors of the resolver, on made-up specs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import pytest
from pydantic import ValidationError

from perfmodel.errors import SpecError
from perfmodel.machine.machine import Machine
from perfmodel.provenance import Basis, Traced
from perfmodel.specs.efficiency import ELEMENTWISE_KINDS
from perfmodel.specs.hardware import InterconnectSpec
from perfmodel.specs.site import CloudPricing, PurchasePricing, ReliabilitySpec, SiteSpec
from perfmodel.workload.operators import ElementwiseKind

Build = Callable[..., Machine]

MEASURED = {"source": "bench", "basis": "measured"}
PLATEAU_LEVELS = [
    # nearest first: which file says it, where, the value, and the human path of the number
    ("software", "efficiency/chip/matmul/bf16/plateau", 0.91, "software.efficiency.chip.matmul.bf16.plateau"),
    ("software", "efficiency/chip/matmul/any/plateau", 0.90, "software.efficiency.chip.matmul.any.plateau"),
    ("software", "efficiency/chip-like/matmul/bf16/plateau", 0.89, "software.efficiency.chip-like.matmul.bf16.plateau"),
    ("software", "efficiency/any/matmul/any/plateau", 0.88, "software.efficiency.any.matmul.any.plateau"),
    ("accelerator", "efficiency/matmul/bf16/plateau", 0.87, "accelerator.efficiency.matmul.bf16.plateau"),
    ("accelerator", "efficiency/matmul/any/plateau", 0.86, "accelerator.efficiency.matmul.any.plateau"),
    ("efficiency", "efficiency/matmul/bf16/plateau", 0.85, "efficiency_class.efficiency.matmul.bf16.plateau"),
    ("efficiency", "efficiency/matmul/any/plateau", 0.84, "efficiency_class.efficiency.matmul.any.plateau"),
]


@pytest.mark.parametrize("first", range(len(PLATEAU_LEVELS)))
def test_an_efficiency_number_comes_from_the_nearest_place(build: Build, made_up: Any, first: int) -> None:
    specs: dict[str, Any] = {
        "software": made_up.software,
        "accelerator": made_up.accelerator,
        "efficiency": made_up.efficiency,
    }
    for which, path, value, _ in PLATEAU_LEVELS[first:]:
        specs[which] = made_up.change(specs[which], path, value)
    machine = build(**specs)
    _, _, value, path = PLATEAU_LEVELS[first]
    assert machine.matmul["bf16"].plateau == value
    assert machine.provenance["matmul.bf16.plateau"].path == path


def test_the_fall_back_goes_number_by_number(build: Build, made_up: Any) -> None:
    accelerator = made_up.change(
        made_up.accelerator,
        "efficiency",
        {"provenance": MEASURED, "matmul": {"bf16": {"plateau": 0.8, "ramp_time": "9 us"}}},
    )
    software = made_up.change(made_up.software, "efficiency", {"chip": {"matmul": {"bf16": {"plateau": 0.77}}}})
    machine = build(accelerator=accelerator, software=software)
    matmul, basis = machine.matmul["bf16"], machine.provenance
    assert (matmul.plateau, matmul.ramp_time, matmul.launch_floor) == pytest.approx((0.77, 9e-6, 4e-6))
    assert basis["matmul.bf16.plateau"].source == "stack-notes"
    assert basis["matmul.bf16.ramp_time"].basis == Basis.MEASURED
    assert basis["matmul.bf16.launch_floor"].basis == Basis.ASSUMED


def test_fp16_may_borrow_the_efficiency_of_bf16_but_not_its_peak(build: Build, made_up: Any) -> None:
    accelerator = made_up.change(
        made_up.accelerator, "efficiency", {"provenance": MEASURED, "matmul": {"bf16": {"plateau": 0.8}}}
    )
    machine = build(accelerator=accelerator, data_type="fp16")
    assert machine.matmul["fp16"].plateau == 0.8
    assert "bf16" in machine.provenance["matmul.fp16.plateau"].note
    assert machine.matmul["fp16"].peak == 300e12
    without = made_up.change(accelerator, "compute/matrix", {"bf16": {"peak": "400 TFLOP/s"}})
    with pytest.raises(SpecError, match=r"compute\.matrix\.fp16\.peak"):
        build(accelerator=without, data_type="fp16")


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("memory/bandwidth", "memory.bandwidth"), ("memory/capacity", "memory.capacity"),
        ("compute/units", "compute.units"),
        ("compute/vector", "compute.vector.fp32"), ("power/tdp", "power.tdp"),
    ],
)  # fmt: skip
def test_a_missing_number_is_an_error_that_says_what_to_write(
    build: Build, made_up: Any, path: str, named: str
) -> None:
    with pytest.raises(SpecError) as error:
        build(accelerator=made_up.change(made_up.accelerator, path, None))
    message = str(error.value)
    assert named in message
    assert "chip.yaml" in message
    assert f"write `{named.split('.', maxsplit=1)[0]}: {{" in message


def test_only_the_data_types_of_the_numerics_are_required(build: Build) -> None:
    assert set(build().matmul) == {"bf16"}
    with pytest.raises(SpecError, match=r"compute\.matrix\.fp8\.peak.*it has bf16, fp16, fp32"):
        build(data_type="fp8")


def test_a_missing_behaviour_names_the_stack(build: Build, made_up: Any) -> None:
    with pytest.raises(SpecError, match=r"software 'stack' does not state behaviour\.data_window"):
        build(software=made_up.change(made_up.software, "behaviour/data_window", None))


def test_idle_power_of_the_class_is_a_fraction_and_assumed(build: Build, made_up: Any) -> None:
    machine = build()
    assert machine.energy.idle_power == pytest.approx(75.0)
    assert machine.provenance["energy.idle_power"].basis == Basis.ASSUMED
    stated = build(accelerator=made_up.change(made_up.accelerator, "power/idle", "60 W"))
    assert stated.energy.idle_power == 60.0
    assert stated.provenance["energy.idle_power"].basis == Basis.MEASURED


def test_cache_of_a_device_that_states_none(build: Build, made_up: Any) -> None:
    assert build().cache_bandwidth == pytest.approx(16 * 100 * 1e9)
    assert build(
        accelerator=made_up.change(made_up.accelerator, "compute/clock", None)
    ).cache_bandwidth == pytest.approx(1.5 * 2e12)
    stated = made_up.change(made_up.accelerator, "memory/cache", {"capacity": "30 MB", "bandwidth": "5 TB/s"})
    assert build(accelerator=stated).cache_bandwidth == 5e12


def test_tiers(build: Build) -> None:
    node, fabric = build().tiers
    assert (node.kind, node.bandwidth) == ("scale-up", 200e9), "the device's links, not those of the interconnect file"
    assert (fabric.kind, fabric.bandwidth) == ("scale-out", 20e9), "oversubscription divides"
    assert build().provenance["tiers.fabric.bandwidth"].basis == Basis.DERIVED
    for name in ("hop_latency", "hop_growth", "hop_half_size", "tree_fraction", "tree_hop_latency"):
        assert getattr(node, name) is None
        assert getattr(fabric, name) is not None
    for name in ("copy_fraction", "fill_time"):
        assert getattr(node, name) is not None
        assert getattr(fabric, name) is None
    assert node.reduction_latency is None
    assert node.in_network_reduction == 0.0


def test_a_tier_bandwidth_falls_back_to_one_port(build: Build, made_up: Any) -> None:
    tiers = [made_up.cluster["tiers"][0], {"name": "fabric", "interconnect": "cable", "devices": 64}]
    assert build(cluster=made_up.change(made_up.cluster, "tiers", tiers)).tiers[1].bandwidth == 50e9


def test_in_network_reduction_needs_its_numbers(build: Build, made_up: Any) -> None:
    links = made_up.links | {"link": made_up.links["link"] | {"in_network_reduction": True}}
    with pytest.raises(SpecError, match=r"interconnect 'link' does not state efficiency\.reduction_latency"):
        build(links=links)
    stated = {"provenance": MEASURED, "reduction_latency": "90 us", "reduction_fraction": 0.66}
    links["link"]["efficiency"] = stated
    with pytest.raises(SpecError, match=r"does not state efficiency\.reduction_minimum_ranks"):
        build(links=links)
    usual = {**made_up.efficiency["interconnect"]["scale-up"], "reduction_minimum_ranks": 8}
    forms = {**made_up.efficiency["interconnect"], "scale-up": usual}
    of_class = made_up.change(made_up.efficiency, "interconnect", forms)
    node = build(links=links, efficiency=of_class).tiers[0]
    assert (node.in_network_reduction, node.reduction_latency) == pytest.approx((1.0, 90e-6))
    assert node.reduction_minimum_ranks == 8.0
    stated["reduction_minimum_ranks"] = 4
    machine = build(links=links, efficiency=of_class)
    assert machine.tiers[0].reduction_minimum_ranks == 4.0
    leaf = machine.provenance["tiers.node.reduction_minimum_ranks"]
    assert leaf.path == "interconnects.link.efficiency.reduction_minimum_ranks"


def test_a_stack_overrides_the_collectives(build: Build, made_up: Any) -> None:
    software = made_up.change(
        made_up.software, "efficiency", {"any": {"collective": {"scale-up": {"base_latency": "1 us"}}}}
    )
    node, fabric = build(software=software).tiers
    assert node.base_latency == pytest.approx(1e-6)
    assert fabric.base_latency == pytest.approx(20e-6)


KERNELS = {
    "provenance": MEASURED, "direct_latency": "4 us", "direct_step_latency": "0.2 us", "one_shot_fraction": 0.6,
    "two_shot_latency": "9 us", "two_shot_fraction": 0.7, "direct_limit": "8 MiB",
}  # fmt: skip


def test_a_library_of_a_link_counts_before_its_usual_numbers(build: Build, made_up: Any) -> None:
    own = {"provenance": MEASURED, "base_latency": "9 us", "link_fraction": 0.7}
    libraries = {"engine": {**KERNELS, "link_fraction": 0.6}, "called": {"provenance": MEASURED, "based_on": "engine",
                 "call_floor": "20 us", "staging_fraction": 0.9}}  # fmt: skip
    links = made_up.links | {"link": made_up.links["link"] | {"efficiency": own, "libraries": libraries}}

    def node(library: str) -> Any:
        return build(links=links, software=made_up.change(made_up.software, "collectives", library)).tiers[0]

    usual, engine, called, other = (node(library) for library in ("", "engine", "called", "unknown"))
    assert (usual.base_latency, usual.link_fraction, usual.direct) == (pytest.approx(9e-6), 0.7, None)
    assert (engine.base_latency, engine.link_fraction) == (pytest.approx(9e-6), 0.6)
    assert engine.direct.latency == pytest.approx(4e-6)
    assert engine.direct.call_floor is None
    assert (called.direct.call_floor, called.direct.latency) == pytest.approx((20e-6, 4e-6))
    assert called.direct.memory_bandwidth == 2e12
    assert other == usual


def test_a_class_has_numbers_for_engines_on_links_without(build: Build, made_up: Any) -> None:
    efficiency = made_up.change(made_up.efficiency, "interconnect/scale-up/libraries", {"engine": KERNELS})
    software = made_up.change(made_up.software, "collectives", "engine")
    machine = build(efficiency=efficiency, software=software)
    assert machine.tiers[0].direct.limit == 8 * 2**20
    assert machine.provenance["tiers.node.direct.limit"].path.startswith("efficiency_class.")


def test_a_latency_of_the_tier_counts_before_that_of_its_link(build: Build, made_up: Any) -> None:
    tiers = [made_up.cluster["tiers"][0] | {"base_latency": "33 us"}, made_up.cluster["tiers"][1]]
    node, fabric = build(cluster=made_up.change(made_up.cluster, "tiers", tiers)).tiers
    assert (node.base_latency, fabric.base_latency) == pytest.approx((33e-6, 20e-6))


@pytest.mark.parametrize(
    ("tier", "message"),
    [
        ({"topology": "torus"}, "a torus states its dimensions"),
        ({"dimensions": [2, 2]}, "a torus states its dimensions"),
        ({"topology": "torus", "dimensions": [3]}, "a torus of 3 has 3 devices, but a domain has 4"),
        ({"link_graph": [[0, 4, 1]]}, "counted from 0, of the 4 of a domain"),
        ({"link_graph": [[1, 1, 1]]}, "joins two different devices"),
    ],
)
def test_an_impossible_shape_says_which_numbers(build: Build, made_up: Any, tier: dict[str, Any], message: str) -> None:
    tiers = [made_up.cluster["tiers"][0] | tier, made_up.cluster["tiers"][1]]
    with pytest.raises(ValidationError, match=message):
        build(cluster=made_up.change(made_up.cluster, "tiers", tiers))


@pytest.mark.parametrize(
    ("libraries", "message"),
    [
        ({"a": {"based_on": "b"}}, "based_on: no entry b; libraries: a"),
        ({"a": {"based_on": "b"}, "b": {"based_on": "a"}}, "is based on itself"),
    ],
)
def test_a_library_is_based_on_one_that_is_there(made_up: Any, libraries: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        InterconnectSpec.model_validate(made_up.links["link"] | {"libraries": libraries})


def test_an_unknown_interconnect_names_the_tier(build: Build, made_up: Any) -> None:
    with pytest.raises(SpecError, match=r"tier 'fabric': no interconnect 'cable'"):
        build(links={"link": made_up.links["link"]})


def test_a_wrong_class_is_refused(build: Build, made_up: Any) -> None:
    with pytest.raises(SpecError, match=r"of the class 'chip-lik'.*'chip-like' was given"):
        build(accelerator=made_up.change(made_up.accelerator, "efficiency_class", "chip-lik"))


def test_confidence_follows_what_was_measured(build: Build, made_up: Any) -> None:
    measured = made_up.change(
        made_up.accelerator, "efficiency", {"provenance": MEASURED, "matmul": {"bf16": {"plateau": 0.8}}}
    )
    named = made_up.change(made_up.software, "efficiency", {"chip": {"matmul": {"bf16": {"launch_floor": "3 us"}}}})
    fitted = made_up.change(made_up.software, "calibrated_on", ["chip"])
    members = made_up.change(made_up.efficiency, "members", ["other-chip"])
    answers = [
        build(), build(efficiency=members), build(accelerator=measured), build(software=named),
        build(accelerator=measured, software=named), build(accelerator=measured, software=fitted),
        build(accelerator=measured, software=made_up.change(fitted, "kernel_model", "roofline")),
    ]  # fmt: skip
    assert [one.confidence for one in answers] == [
        "assumed", "transferred", "transferred", "assumed", "calibrated", "calibrated", "assumed",
    ]  # fmt: skip
    assert [one.relative_error for one in answers] == [0.35, 0.2, 0.2, 0.35, 0.1, 0.1, 0.35]
    assert {(one.memory_error, one.power_error) for one in answers} == {(0.1, 0.15)}


def test_a_stack_states_the_errors_of_where_it_was_calibrated(build: Build, made_up: Any) -> None:
    measured = made_up.change(
        made_up.accelerator, "efficiency", {"provenance": MEASURED, "matmul": {"bf16": {"plateau": 0.8}}}
    )
    own = {"relative_error": 0.03, "memory_error": 0.04, "power_error": 0.05}
    stack = {**made_up.software, **own}
    names = tuple(own)
    elsewhere, there = (
        build(accelerator=measured, software=one) for one in (stack, {**stack, "calibrated_on": ["chip"]})
    )
    assert [getattr(there, name) for name in names] == [0.03, 0.04, 0.05]
    assert [getattr(elsewhere, name) for name in names] == [0.2, 0.1, 0.15]
    assert [there.provenance[name].path for name in names] == [f"software.{name}" for name in names]
    class_path = "efficiency_class.relative_error"
    assert [elsewhere.provenance[name].path for name in names[1:]] == [f"{class_path}.memory", f"{class_path}.power"]


def test_the_scenario_wins_over_the_cluster_number_by_number(build: Build, made_up: Any) -> None:
    cluster = made_up.change(made_up.cluster, "site", {"pue": 1.5, "grid": "400 g/kWh"})
    cluster = made_up.change(cluster, "reliability", {"device_mtbf": "50000 h", "restart_time": "5 min"})
    site = SiteSpec.model_validate({"pue": 1.1, "electricity": "0.08 USD/kWh"})
    machine = build(cluster=cluster, site=site, reliability=ReliabilitySpec.model_validate({"restart_time": "10 min"}))
    assert machine.energy.power_usage_effectiveness == 1.1
    assert machine.prices.energy_price == pytest.approx(0.08 / 3.6e6)
    assert machine.prices.grid_intensity == pytest.approx(0.4 / 3.6e6)
    assert machine.reliability.device_mtbf == pytest.approx(50000 * 3600)
    assert machine.reliability.restart_time == 600.0
    assert machine.provenance["energy.power_usage_effectiveness"].path == "site.pue"


def test_prices(build: Build, made_up: Any) -> None:
    assert build().prices.device_rate is None
    listed = made_up.change(made_up.accelerator, "price", {"cloud": "3.6 USD/h"})
    assert build(accelerator=listed).prices.device_rate == pytest.approx(0.001)
    rented = CloudPricing.model_validate({"kind": "cloud", "device_hour": "7.2 USD"})
    prices = build(accelerator=listed, pricing=rented).prices
    assert prices.device_rate == pytest.approx(0.002)
    assert prices.includes_energy
    bought = PurchasePricing.model_validate({"kind": "purchase", "device": "30000 USD", "years": 4, "operation": 0.1})
    prices = build(pricing=bought).prices
    assert prices.device_rate == pytest.approx(30000 * (1 / 4 + 0.1) / (365.25 * 86400))
    assert not prices.includes_energy


def test_interest_costs_what_an_annuity_costs(build: Build) -> None:
    bought = PurchasePricing.model_validate({"kind": "purchase", "device": "1000 USD", "years": 3, "interest": 0.1})
    yearly = float(build(pricing=bought).prices.device_rate or 0.0) * 365.25 * 86400
    debt = 1000.0
    for _ in range(3):
        debt = debt * 1.1 - yearly
    assert debt == pytest.approx(0.0, abs=1e-6)


def _leaves(group: Any, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for item in fields(group):
        if item.name in ("provenance", "derived"):
            continue
        value, path = getattr(group, item.name), f"{prefix}{item.name}"
        if is_dataclass(value):
            found += _leaves(value, f"{path}.")
        elif isinstance(value, dict):
            for key, one in value.items():
                found += _leaves(one, f"{path}.{key}.") if is_dataclass(one) else [(f"{path}.{key}", one)]
        elif isinstance(value, tuple):
            for one in value:
                found += _leaves(one, f"{path}.{one.name}.")
        else:
            found.append((path, value))
    return found


def test_every_number_of_the_machine_has_a_source(build: Build) -> None:
    machine = build()
    plain = {"devices", "devices_per_node", "tiers.node.devices", "tiers.fabric.devices", "reliability.spare_fraction",
             "tiers.node.in_network_reduction", "tiers.fabric.in_network_reduction", "tiers.node.switch_devices",
             "tiers.fabric.switch_devices"}  # fmt: skip
    numbers = {
        path: value
        for path, value in _leaves(machine)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    assert set(numbers) - plain == set(machine.provenance)
    for path, number in machine.provenance.items():
        assert numbers[path] == number.value
        assert number.source
        assert number.path
    traced = dict(_leaves(machine.traced()))
    assert all(isinstance(traced[path], Traced) and traced[path].value == numbers[path] for path in machine.provenance)


def test_the_kinds_of_elementwise_operators_agree_with_the_workload() -> None:
    assert set(ELEMENTWISE_KINDS) == {kind.value for kind in ElementwiseKind}
