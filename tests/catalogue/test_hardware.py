"""The shipped hardware: every file is read, every number has a source and a plausible size."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from perfmodel.errors import SpecError
from perfmodel.machine.machine import Machine
from perfmodel.machine.resolve import resolve
from perfmodel.provenance import Basis, Sourced
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.efficiency import library_chain
from perfmodel.specs.sources import BUILTIN_SOURCES

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "accelerator": ROOT / "hardware_specs" / "accelerators",
    "interconnect": ROOT / "hardware_specs" / "interconnects",
    "cluster": ROOT / "hardware_specs" / "clusters",
    "efficiency": ROOT / "perfmodel" / "catalog" / "efficiency",
    "software": ROOT / "perfmodel" / "catalog" / "software",
}
FILES = [(kind, path) for kind, folder in FOLDERS.items() for path in sorted(folder.glob("*.yaml"))]
NAMES = {kind: [path.stem for one, path in FILES if one == kind] for kind in FOLDERS}
#: Decades that a number of a unit may have in one device, link or cluster: a slip of 1000 falls outside.
BOUNDS = {
    "B/s": (100e6, 50e15), "FLOP/s": (0.5e12, 50e15), "1/s": (0.5e9, 5e9), "W": (10.0, 50e3), "s": (0.0, 1e9),
    "J/FLOP": (1e-14, 2e-10), "J/B": (5e-12, 1e-9), "USD": (200.0, 2e5), "USD/s": (0.2 / 3600, 20 / 3600),
    "B": (0.0, 8e12), "1": (0.0, 1e9),
}  # fmt: skip


@functools.cache
def catalogue() -> Catalogue:
    return Catalogue()


def load(kind: str, name: str) -> Any:
    return catalogue().load(kind, name)


def numbers(value: Any) -> Iterator[Sourced]:
    """Every number of a spec, at any depth."""
    if isinstance(value, Sourced):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from numbers(getattr(value, name))
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from numbers(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from numbers(one)


@pytest.mark.parametrize(("kind", "path"), FILES, ids=[path.stem for _, path in FILES])
def test_a_file_is_valid_and_sourced(kind: str, path: Path) -> None:
    spec = load(kind, path.stem)
    assert spec.name == path.stem, "the name is the stem of the file"
    assert spec.title
    known = set(catalogue().sources()) | BUILTIN_SOURCES
    assert spec.provenance is None or spec.provenance.source in known
    found = list(numbers(spec))
    assert found or kind == "cluster"
    for number in found:
        assert number.source in known, f"{number.path}: unknown source {number.source!r}"
        assert number.source != "unstated", f"{number.path} has no source"
        low, high = BOUNDS[number.unit]
        assert low <= number.value <= high, f"{number.path} = {number.value:g} {number.unit}"
        if number.low is not None or number.high is not None:
            assert (number.low or 0.0) <= number.value <= (number.high or float("inf")), (
                f"{number.path}: outside its own range"
            )


def test_the_catalogue_is_broad() -> None:
    assert len(NAMES["accelerator"]) >= 45
    assert len(NAMES["interconnect"]) >= 35
    assert len(NAMES["cluster"]) >= 25


def test_no_alias_is_taken_twice() -> None:
    for kind, names in NAMES.items():
        every = Counter([*names, *(alias for name in names for alias in load(kind, name).aliases)])
        assert [name for name, count in every.items() if count > 1] == [], kind


def test_a_source_says_what_it_is_and_none_is_unused() -> None:
    specs = [load(kind, name) for kind, names in NAMES.items() for name in names]
    used = {number.source for spec in specs for number in numbers(spec)}
    used |= {spec.provenance.source for spec in specs if spec.provenance is not None}
    own = set(catalogue().load_file("sources", ROOT / "hardware_specs" / "sources.yaml").sources)  # type: ignore[attr-defined]
    assert own - used == set(), "sources that no number names"


@pytest.mark.parametrize("name", NAMES["accelerator"])
def test_references_of_an_accelerator_exist(name: str) -> None:
    spec = load("accelerator", name)
    assert spec.efficiency_class in NAMES["efficiency"]
    assert spec.scale_up.interconnect is None or spec.scale_up.interconnect in NAMES["interconnect"]


@pytest.mark.parametrize("name", NAMES["efficiency"])
def test_members_of_a_class_were_measured(name: str) -> None:
    for member in load("efficiency", name).members:
        accelerator = load("accelerator", member)
        assert accelerator.efficiency_class == name
        assert any(number.basis == Basis.MEASURED for number in numbers(accelerator.efficiency.matmul))


@pytest.mark.parametrize("name", NAMES["software"])
def test_references_of_a_stack_exist(name: str) -> None:
    stack = load("software", name)
    assert set(stack.efficiency) <= {*NAMES["accelerator"], *NAMES["efficiency"], "any"}
    assert set(stack.calibrated_on) <= set(NAMES["accelerator"])
    assert set(stack.recipes) <= set(catalogue().names("numerics"))
    assert stack.recompute_policies["none"] == ()
    assert "full" in stack.recompute_policies


def test_selective_recomputation_covers_both_attention_kernels() -> None:
    from fnmatch import fnmatchcase

    patterns = load("software", "megatron-core").recompute_policies["selective"]
    names = [
        "attention.core",
        "attention.scores",
        "attention.softmax",
        "attention.context",
        "attention.output",
        "mlp.up",
    ]
    assert [any(fnmatchcase(name, pattern) for pattern in patterns) for name in names] == [True] * 4 + [False] * 2


# -- budget of efficiency numbers ------------------------------------------------------------------------

MAXIMUM_NUMBERS = 8


def _families(efficiency: Any) -> Iterator[tuple[str, int]]:
    for family in ("matmul", "attention", "decode_attention", "latent_attention", "latent_decode", "experts"):
        for data_type, entry in getattr(efficiency, family).items():
            # The power while kernels run is a number of the energy equations.
            times = entry.model_copy(update={"power": None})
            yield f"{family} {data_type}", len(list(numbers(times)))
    yield "memory-bound", len(list(numbers(efficiency.elementwise)))


@pytest.mark.parametrize("kind", ["accelerator", "efficiency"])
def test_at_most_eight_efficiency_numbers_per_family(kind: str) -> None:
    for name in NAMES[kind]:
        for family, count in _families(load(kind, name).efficiency):
            assert count <= MAXIMUM_NUMBERS, f"{name}: {family} has {count}"


@pytest.mark.parametrize("name", NAMES["software"])
def test_at_most_eight_efficiency_numbers_per_family_of_a_stack(name: str) -> None:
    for accelerator, entry in load("software", name).efficiency.items():
        for family, count in _families(entry):
            assert count <= MAXIMUM_NUMBERS, f"{name} on {accelerator}: {family} has {count}"
        for form, collective in entry.collective.items():
            assert len(list(numbers(collective))) <= MAXIMUM_NUMBERS, f"{name} on {accelerator}: {form}"


@pytest.mark.parametrize("name", NAMES["interconnect"])
def test_at_most_eight_fitted_numbers_per_network_and_library(name: str) -> None:
    link = load("interconnect", name)
    for library, entry in {"usual": link.efficiency, **link.libraries}.items():
        chain = (entry, *library_chain(getattr(entry, "based_on", ""), link.libraries))
        names = {key for one in chain for key, number in vars(one).items() if isinstance(number, Sourced)}
        names -= {"reduction_minimum_ranks"}  # a choice of the library, seen in its curves; no fit moves it
        assert len(names) <= MAXIMUM_NUMBERS, f"{name}: {library} has {sorted(names)}"


@pytest.mark.parametrize("name", NAMES["interconnect"])
def test_fitted_numbers_bring_their_residuals(name: str) -> None:
    # Without the residuals of its class a prediction would have no interval.
    link = load("interconnect", name)
    for entry in (link.efficiency, *link.libraries.values()):
        fitted = any(isinstance(one, Sourced) and one.basis == Basis.MEASURED for one in vars(entry).values())
        assert not fitted or entry.residuals is not None
        if entry.residuals is not None:
            spread = entry.residuals
            assert spread.large_p10.value <= spread.large_p90.value
            assert spread.small_p10.value <= spread.small_p90.value


@pytest.mark.parametrize("name", NAMES["software"])
def test_the_library_of_a_stack_is_known_to_some_link(name: str) -> None:
    library = load("software", name).collectives
    known = {one for link in NAMES["interconnect"] for one in load("interconnect", link).libraries}
    assert not library or library in known


# -- clusters --------------------------------------------------------------------------------------------


class Numerics:
    compute: Mapping[str, str] = {"matmul": "bf16", "attention": "bf16", "head": "bf16"}


def machine(cluster_name: str, software: str) -> Machine:
    cluster = load("cluster", cluster_name)
    accelerator = load("accelerator", cluster.accelerator)
    links = {tier.interconnect: load("interconnect", tier.interconnect) for tier in cluster.tiers}
    return resolve(
        cluster,
        accelerator,
        links,
        load("efficiency", accelerator.efficiency_class),
        load("software", software),
        Numerics(),
    )


@pytest.mark.parametrize("name", NAMES["cluster"])
def test_a_cluster_is_consistent(name: str) -> None:
    cluster = load("cluster", name)
    assert cluster.tiers[-1].devices == cluster.devices, "the outermost tier is the whole cluster"
    assert cluster.devices % cluster.devices_per_node == 0
    for tier in cluster.tiers:
        assert tier.devices % cluster.devices_per_node == 0 or tier.devices < cluster.devices_per_node


@pytest.mark.parametrize("software", ["ideal", "megatron-core"])
@pytest.mark.parametrize("name", NAMES["cluster"])
def test_a_cluster_resolves(name: str, software: str) -> None:
    accelerator = load("accelerator", load("cluster", name).accelerator)
    if "bf16" not in {*accelerator.compute.matrix, *accelerator.compute.vector}:
        with pytest.raises(SpecError, match=r"compute\.matrix\.bf16\.peak"):
            machine(name, software)
        return
    made = machine(name, software)
    tier_bandwidths = [tier.bandwidth for tier in made.tiers]
    assert tier_bandwidths == sorted(tier_bandwidths, reverse=True), "outer tiers are not faster than inner ones"
    assert made.memory_bandwidth > tier_bandwidths[0]
    assert made.energy.idle_power < made.energy.peak_power


def test_the_ideal_stack_is_a_pure_roofline() -> None:
    made = machine("meta-24k-h100-roce", "ideal")
    matmul, attention, node = made.matmul["bf16"], made.attention["bf16"], made.tiers[0]
    assert made.kernel_model == "roofline"
    assert (matmul.plateau, matmul.bandwidth_fraction, attention.plateau, attention.backward_fraction) == (1, 1, 1, 1)
    floors = [
        matmul.launch_floor,
        matmul.ramp_time,
        matmul.tile_overhead,
        attention.launch_floor,
        attention.softmax_latency,
    ]
    floors += [one.launch_floor + one.ramp_time for one in made.elementwise.values()]
    floors += [tier.base_latency + tier.step_latency for tier in made.tiers] + [
        made.step.fixed_overhead,
        made.step.block_overhead,
    ]
    assert floors == [0.0] * len(floors)
    assert {one.bandwidth_fraction for one in made.elementwise.values()} == {1.0}
    assert {tier.link_fraction for tier in made.tiers} == {1.0}
    assert node.fill_time == 0.0
    assert made.confidence == "assumed"


def test_failures_of_the_llama_3_run() -> None:
    made = machine("meta-24k-h100-roce", "megatron-core")
    interruptions = 54 * 24 * 3600 * 16384 / made.reliability.device_mtbf  # type: ignore[operator]
    assert interruptions == pytest.approx(419, rel=0.001)
    assert made.tiers[2].bandwidth == pytest.approx(50e9 / 7)


@pytest.mark.parametrize(
    ("cluster", "software", "confidence"),
    [
        ("selene", "megatron-lm-2022", "calibrated"),
        ("meta-24k-h100-roce", "megatron-core", "calibrated"),
        ("selene", "maxtext", "transferred"),
        ("alps", "megatron-core", "transferred"),
        ("mi300x-roce-400gbe", "megatron-core", "assumed"),
        ("tpu-v5p-pod", "maxtext", "calibrated"),
    ],
)
def test_confidence_of_known_pairs(cluster: str, software: str, confidence: str) -> None:
    assert machine(cluster, software).confidence == confidence
