"""Scenarios: references, overrides, hash."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.errors import SpecError, UsageError
from perfmodel.provenance import Basis, Sourced
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.overrides import parse_overrides
from perfmodel.specs.resolve import load_scenario
from perfmodel.specs.scenario import key_unit

WORLD = Path(__file__).parent / "world"
SCENARIO = (Path(__file__).parent / "question.yaml").read_text(encoding="utf-8")
Write = Callable[[str, str], Path]


def test_every_reference_is_loaded(scenario: Path, catalogue: Catalogue) -> None:
    loaded = load_scenario(scenario, catalogue)
    assert loaded.name == "toy question"
    assert loaded.model.name == "gpt3-175b"
    assert loaded.cluster.name == "toy-cluster"
    assert loaded.accelerator.name == "toy-gpu"
    assert list(loaded.interconnects) == ["toy-link"]
    assert loaded.efficiency_class.name == "toy-class"
    assert loaded.software.name == "toy-stack"
    assert loaded.numerics.name == "bf16-mixed"
    assert loaded.devices == 32
    assert loaded.scenario.workload.tokens == 300_000_000_000
    assert loaded.scenario.strategy.recompute.policy == "full"


def test_a_cluster_by_name_alone_uses_all_its_devices(scenario: Path, catalogue: Catalogue) -> None:
    scenario.write_text(SCENARIO.replace("{name: toy-cluster, devices: 32}", "toy-cluster"))
    assert load_scenario(scenario, catalogue).devices == 64


def test_specs_written_out_in_place(scenario: Path, catalogue: Catalogue) -> None:
    inline = """\
cluster:
  devices: 32
  devices_per_node: 8
  accelerator: {extends: toy-gpu, memory: {bandwidth: 9 TB/s}}
  tiers: [{name: node, devices: 32, interconnect: {kind: interconnect, name: mine, class: scale-up, bandwidth: 1 TB/s}}]
numerics: {extends: bf16-mixed, state: {moments: 4 B}}
"""
    scenario.write_text(SCENARIO.replace("cluster: {name: toy-cluster, devices: 32}\n", inline))
    loaded = load_scenario(scenario, catalogue)
    number = loaded.accelerator.memory.bandwidth
    assert number is not None
    assert (number.value, number.source, number.basis) == (9e12, "scenario", Basis.USER)
    capacity = loaded.accelerator.memory.capacity
    assert capacity is not None
    assert (capacity.source, capacity.basis) == ("toy-datasheet", Basis.VENDOR)
    assert list(loaded.interconnects) == ["mine"]
    assert loaded.numerics.state.total == 14.0
    changed = loaded.replace(**{"cluster.accelerator.memory.bandwidth": "1 TB/s", "numerics.state.moments": "2 B"})
    assert changed.accelerator.memory.bandwidth is not None
    assert changed.accelerator.memory.bandwidth.value == 1e12
    assert changed.numerics.state.total == 12.0


@pytest.mark.parametrize(("question", "needed"), [("capacity", "goal"), ("solve", "vary"), ("solve", "until")])
def test_a_question_says_what_it_needs(scenario: Path, catalogue: Catalogue, question: str, needed: str) -> None:
    scenario.write_text(SCENARIO + f"question: {question}\n")
    with pytest.raises(SpecError, match=rf"question\.yaml:8: {needed}: missing; `question: {question}` needs it"):
        load_scenario(scenario, catalogue)


def test_a_misspelt_question_names_the_questions(scenario: Path, catalogue: Catalogue) -> None:
    scenario.write_text(SCENARIO + "question: serch\n")
    with pytest.raises(SpecError, match="evaluate, search, capacity, solve; did you mean 'search'"):
        load_scenario(scenario, catalogue)


def test_an_option_that_replaces_a_mapping_replaces_the_axes_in_it(scenario: Path, catalogue: Catalogue) -> None:
    searched = SCENARIO.replace("devices: 32", "devices: [16, 32]") + "question: search\n"
    scenario.write_text(searched)
    assert [one.path for one in load_scenario(scenario, catalogue).axes] == ["cluster.devices"]
    one = load_scenario(scenario, catalogue, {"cluster": {"name": "toy-cluster", "devices": 16}})
    assert (one.axes, one.devices) == ((), 16)


def test_axes_inside_a_mapping_that_an_option_sets_are_axes(scenario: Path, catalogue: Catalogue) -> None:
    scenario.write_text(SCENARIO + "question: search\n")
    written = {"strategy": {"tp": [1, 2], "zero": "auto", "pipeline": {"virtual_stages": [1, 2]}, "pp": 2},
               "cluster": {"name": "toy-cluster", "devices": [16, 32]}}  # fmt: skip
    loaded = load_scenario(scenario, catalogue, written)
    values = {one.path: one.values for one in loaded.axes}
    assert values == {
        "strategy.tp": (1, 2), "strategy.zero": None, "strategy.pipeline.virtual_stages": (1, 2),
        "cluster.devices": (16, 32),
    }  # fmt: skip
    assert (loaded.scenario.strategy.pp, loaded.devices) == (2, 16)
    candidate = loaded.candidate(**{"strategy.tp": 2, "strategy.zero": 1, "strategy.pipeline.virtual_stages": 2})
    assert (candidate.scenario.strategy.tp, candidate.scenario.strategy.pp, candidate.axes) == (2, 2, ())


def test_a_candidate_is_an_evaluation_whatever_the_options_say(scenario: Path, catalogue: Catalogue) -> None:
    scenario.write_text(SCENARIO)
    options = {"question": "solve", "vary": "workload.global_batch", "until": {"time.step_s": "4 s"},
               "between": {"from": 8, "to": 64}}  # fmt: skip
    loaded = load_scenario(scenario, catalogue, options)
    assert (loaded.scenario.question, loaded.axes) == ("solve", ())
    candidate = loaded.candidate(**{"workload.global_batch": 32})
    assert candidate.scenario.question == "evaluate"
    assert candidate.scenario.vary is None


def test_several_kinds_of_device_come_later(scenario: Path, catalogue: Catalogue) -> None:
    scenario.write_text(SCENARIO.replace("{name: toy-cluster, devices: 32}", "{pools: []}"))
    with pytest.raises(UsageError, match="several kinds of device"):
        load_scenario(scenario, catalogue)


OVERRIDES: list[tuple[str, str, Any]] = [
    ("strategy.tp=4", "scenario.strategy.tp", 4),
    ("strategy={tp: 2}", "scenario.strategy.tp", 2),
    ("strategy.recompute.fraction=0.5", "scenario.strategy.recompute.fraction", 0.5),
    ("strategy.pipeline.layers_per_stage=[40, 56]", "scenario.strategy.stage_layers", (40, 56)),
    ("workload.global_batch=128", "scenario.workload.global_batch", 128),
    ("cluster.devices=64", "devices", 64),
    ("site.pue=1.2", "scenario.site.pue", 1.2),
    ("pricing={kind: cloud, device_hour: 2 USD}", "scenario.pricing.device_hour", 2.0),
    ("cluster.accelerator.memory.bandwidth=4 TB/s", "accelerator.memory.bandwidth", 4e12),
    ("accelerator.memory.bandwidth=4 TB/s", "accelerator.memory.bandwidth", 4e12),
    ("cluster.accelerator.compute.matrix.bf16.peak=2 PFLOP/s", "accelerator.compute.matrix.bf16.peak", 2e15),
    ("cluster.accelerator.price.cloud=3 USD/h", "accelerator.price.cloud", 3 / 3600),
    ("cluster.tiers.node.bandwidth=100 GB/s", "cluster.tiers.0.bandwidth", 100e9),
    ("cluster.tiers.0.bandwidth=100 GB/s", "cluster.tiers.0.bandwidth", 100e9),
    ("cluster.tiers.node.interconnect.latency=1 us", "interconnects.toy-link.latency", 1e-6),
    ("interconnects.toy-link.latency=1 us", "interconnects.toy-link.latency", 1e-6),
    ("cluster.power.host=100 W", "cluster.power.host", 100.0),
    ("software.behaviour.tensor_exposed=0.5", "software.behaviour.tensor_exposed", 0.5),
    ("efficiency_class.relative_error.assumed=0.4", "efficiency_class.relative_error.assumed", 0.4),
    ("numerics.state.moments=4 B", "numerics.state.moments", 4.0),
    ("numerics=bf16-pure", "numerics.name", "bf16-pure"),
    ("model=llama-2-7b", "model.name", "llama-2-7b"),
    ("model.layers=12", "model.layers", 12),
    ("accelerator=a100-sxm4-80gb", "accelerator.name", "a100-sxm4-80gb"),
]


def value_of(loaded: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(loaded, dict):
            loaded = loaded[part]
        elif isinstance(loaded, tuple):
            loaded = loaded[int(part)]
        else:
            loaded = getattr(loaded, part)
    return loaded


@pytest.mark.parametrize(("setting", "path", "expected"), OVERRIDES, ids=[one[0] for one in OVERRIDES])
def test_any_field_can_be_set(scenario: Path, catalogue: Catalogue, setting: str, path: str, expected: Any) -> None:
    before = load_scenario(scenario, catalogue)
    after = load_scenario(scenario, catalogue, [setting])
    found = value_of(after, path)
    if isinstance(found, Sourced):
        assert (found.source, found.basis) == ("user", Basis.USER)
        found = found.value
    assert found == pytest.approx(expected) if isinstance(expected, float) else found == expected
    assert after.sha256 != before.sha256
    assert load_scenario(scenario, catalogue) == before
    assert before.replace(**parse_overrides([setting])) == after


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("stratgy.tp=4", "unknown key 'stratgy'; allowed: .*did you mean 'strategy'"),
        ("strategy.tpp=4", "unknown key 'tpp'"),
        ("cluster.accelerator.memory.bandwith=4 TB/s", "did you mean 'bandwidth'"),
        ("cluster.accelerator.memory.bandwidth=4", "4 has no unit; expected a quantity of B/s"),
        ("cluster.accelerator.memory.bandwidth=4 TB", "'4 TB' is not a quantity of B/s"),
        ("cluster.accelerator.memory.bandwidth.value=4 TB/s", "a number has no part 'value'"),
        ("cluster.tiers.nod.bandwidth=1 TB/s", "no item 'nod' in the list; items: node; did you mean 'node'"),
        ("interconnects.nvlink.latency=1 us", "no interconnect 'nvlink' here; interconnects: toy-link"),
        ("name.x=1", "there is nothing below"),
        ("accelerator=toy-gpuu", "no accelerator 'toy-gpuu'; nearest: toy-gpu"),
        ("strategy.tp=[1", "not YAML"),
        ("strategy.tp_grid={rows: 3, columns: 5, blocks: 15}", r"rows \* columns = 3 \* 5 = 15 conflicts with tp = "),
    ],
)
def test_what_cannot_be_set_is_said_with_the_setting(
    scenario: Path, catalogue: Catalogue, setting: str, words: str
) -> None:
    with pytest.raises(SpecError, match=words) as error:
        load_scenario(scenario, catalogue, [setting])
    assert str(error.value).startswith(f"--set {setting.split('=', maxsplit=1)[0]}")


@pytest.mark.parametrize("setting", ["strategy.tp", "=4", "a..b=1"])
def test_a_setting_has_a_path_and_a_value(scenario: Path, catalogue: Catalogue, setting: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        load_scenario(scenario, catalogue, [setting])


def test_replace_takes_numbers_of_python_and_numpy_and_swept_columns(scenario: Path, catalogue: Catalogue) -> None:
    loaded = load_scenario(scenario, catalogue)
    assert loaded.replace(**{"strategy.tp": np.int64(4)}).scenario.strategy.tp == 4
    column = Sourced(np.array([1e12, 2e12]), "B/s", "user", Basis.USER)
    swept = loaded.replace(**{"cluster.accelerator.memory.bandwidth": column})
    assert swept.accelerator.memory.bandwidth is not None
    assert list(swept.accelerator.memory.bandwidth.value) == [1e12, 2e12]
    assert swept.sha256 != loaded.sha256
    again = loaded.replace(**{"strategy.tp": 4}).replace(**{"strategy.pp": 4})
    assert (again.scenario.strategy.tp, again.scenario.strategy.pp) == (4, 4)


BASE: dict[str, Any] = {
    "name": "q",
    "model": "gpt3-175b",
    "cluster": {"name": "toy-cluster", "devices": 32},
    "software": "toy-stack",
    "workload": {"kind": "training", "sequence_length": 2048, "global_batch": 64, "tokens": 1e9},
    "strategy": {"tp": 8, "pp": 2, "recompute": "full", "pipeline": {"virtual_stages": 2}},
    "site": {"pue": 1.2, "electricity": "0.08 USD/kWh"},
}


def shuffled(data: Any, seed: int) -> Any:
    if not isinstance(data, dict):
        return data
    keys = list(data)
    random.Random(seed).shuffle(keys)  # noqa: S311 - an order, not a secret
    return {key: shuffled(data[key], seed) for key in keys}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Catalogue([shutil.copytree(WORLD, tmp_path_factory.mktemp("shared") / "world")])


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_the_hash_does_not_depend_on_the_order_of_keys(shared: Catalogue, seed: int) -> None:
    assert load_scenario(shuffled(BASE, seed), shared).sha256 == load_scenario(BASE, shared).sha256


def test_the_hash_depends_on_content_not_on_spelling(scenario: Path, catalogue: Catalogue, world: Path) -> None:
    first = load_scenario(scenario, catalogue).sha256
    scenario.write_text(
        "# a comment\n"
        + SCENARIO.replace("300B", "300_000_000_000").replace("recompute: full", "recompute: {policy: full}")
    )
    assert load_scenario(scenario, catalogue).sha256 == first
    scenario.write_text(SCENARIO + "question: evaluate\nnumerics: bf16-mixed\n")
    assert load_scenario(scenario, catalogue).sha256 == first
    scenario.write_text(SCENARIO.replace("300B", "301B"))
    assert load_scenario(scenario, catalogue).sha256 != first
    scenario.write_text(SCENARIO)
    device = world / "devices/toy-gpu.yaml"
    device.write_text(device.read_text().replace("3 TB/s", "3000 GB/s"))
    assert load_scenario(scenario, Catalogue([world])).sha256 == first
    device.write_text(device.read_text().replace("3000 GB/s", "3001 GB/s"))
    assert load_scenario(scenario, Catalogue([world])).sha256 != first


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("time.step_s", "s"),
        ("memory.peak_bytes", "B"),
        ("energy.per_step_j", "J"),
        ("energy.average_power_w", "W"),
        ("money.per_step_usd", "USD"),
        ("run.days", "day"),
        ("run.energy_kwh", "kWh"),
        ("run.usd", "USD"),
        ("metrics.mfu", "1"),
        ("metrics.tokens_per_s", "1"),
        ("metrics.tokens_per_s_per_device", "1"),
    ],
)
def test_result_keys_carry_their_unit(key: str, unit: str) -> None:
    assert key_unit(key) == unit


def test_published_figures_are_read_in_the_unit_of_their_key(scenario: Path, catalogue: Catalogue) -> None:
    figures = [
        "time.step_s, value: 4600 ms",
        "run.days, value: 24 h",
        "metrics.mfu, value: 41 %",
        "memory.peak_bytes, value: 80 GiB",
    ]
    rows = "".join(f"  - {{key: {figure}, source: toy-datasheet}}\n" for figure in figures)
    scenario.write_text(SCENARIO + "published:\n" + rows)
    values = [one.value for one in load_scenario(scenario, catalogue).scenario.published]
    assert values == pytest.approx([4.6, 1.0, 0.41, 80 * 2**30])


def test_an_unknown_source_in_a_users_file_is_a_warning(scenario: Path, catalogue: Catalogue) -> None:
    assert load_scenario(scenario, catalogue).warnings == ()
    scenario.write_text(SCENARIO + "published: [{key: time.step_s, value: 1, source: toy-datashet}]\n")
    (warning,) = load_scenario(scenario, catalogue).warnings
    assert "source 'toy-datashet'" in warning
    assert "did you mean 'toy-datasheet'?" in warning


def test_a_scenario_is_found_by_path_stem_and_relative_name(write: Write, catalogue: Catalogue, world: Path) -> None:
    (world / "asked.yaml").write_text(SCENARIO)
    assert load_scenario("toy question", Catalogue([world])).name == "toy question"
    assert load_scenario("asked", Catalogue([world])).name == "toy question"
    assert load_scenario(world / "asked.yaml", catalogue).name == "toy question"
    with pytest.raises(SpecError, match="no scenario 'askedd'"):
        load_scenario("askedd", catalogue)
