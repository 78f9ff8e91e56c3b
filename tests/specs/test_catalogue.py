"""Finding, extending and checking spec files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from perfmodel.errors import SpecError, UsageError
from perfmodel.provenance import Basis
from perfmodel.specs import index
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.checks import check_sources

WORLD = Path(__file__).parent / "world"
SCENARIO = (Path(__file__).parent / "question.yaml").read_text(encoding="utf-8")
Write = Callable[[str, str], Path]


def text_of(name: str) -> str:
    """A file of the world."""
    return (WORLD / name).read_text(encoding="utf-8")


def test_a_users_file_is_found_by_name_wherever_it_lies(catalogue: Catalogue, world: Path) -> None:
    spec = catalogue.load("software", "toy-stack")
    assert spec.name == "toy-stack"
    assert spec.origin is not None
    assert spec.origin.path == world / "deep/er/stack.yaml"
    assert spec.origin.user


@pytest.mark.parametrize("alias", ["toy", "toy one"])
def test_aliases_find_a_file(catalogue: Catalogue, alias: str) -> None:
    assert catalogue.load("accelerator", alias).name == "toy-gpu"


def test_a_name_goes_before_an_alias(world: Path) -> None:
    (world / "named.yaml").write_text(
        text_of("devices/toy-gpu.yaml").replace("name: toy-gpu", "name: toy").replace("[toy, ", "[")
    )
    assert Catalogue([world]).load("accelerator", "toy").name == "toy"


def test_aliases_in_block_style_and_files_in_flow_style_are_listed(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "kind: interconnect  # a comment\nname: 'a b'\naliases:\n  - one\n  - \"two\"\nclass: host\n"
    )
    (tmp_path / "b.yaml").write_text("{kind: interconnect, name: flow, class: host, aliases: [three]}\n")
    catalogue = Catalogue([tmp_path])
    found = {entry.name: entry.aliases for entry in catalogue.entries("interconnect") if entry.user}
    assert found == {"a b": ("one", "two"), "flow": ("three",)}
    for name in ("a b", "one", "two", "flow", "three"):
        assert catalogue.load("interconnect", name).class_ == "host"


def test_the_users_folder_is_searched_before_the_package(tmp_path: Path) -> None:
    mine = text_of("devices/toy-gpu.yaml").replace("name: toy-gpu", "name: h100-sxm5-80gb")
    (tmp_path / "mine.yaml").write_text(mine)
    assert Catalogue().load("accelerator", "h100-sxm5-80gb").memory.bandwidth.value == 3.35e12
    assert Catalogue([tmp_path]).load("accelerator", "h100-sxm5-80gb").memory.bandwidth.value == 3e12
    shipped = [entry for entry in Catalogue([tmp_path]).entries("accelerator") if entry.name == "h100-sxm5-80gb"]
    assert [entry.user for entry in shipped] == [True]


def test_the_first_of_two_folders_wins_and_one_folder_may_not_say_a_name_twice(world: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.yaml").write_text(text_of("devices/toy-gpu.yaml").replace("3 TB/s", "5 TB/s"))
    assert Catalogue([other, world]).load("accelerator", "toy-gpu").memory.bandwidth.value == 5e12
    assert Catalogue([world, other]).load("accelerator", "toy-gpu").memory.bandwidth.value == 3e12
    (world / "again.yaml").write_text(text_of("devices/toy-gpu.yaml"))
    with pytest.raises(SpecError, match=r"several files of .* hold the accelerator 'toy-gpu'"):
        Catalogue([world]).load("accelerator", "toy-gpu")


def test_an_unknown_name_is_answered_with_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(SpecError) as error:
        catalogue.load("accelerator", "toy-gqu")
    said = str(error.value)
    assert said.startswith("no accelerator 'toy-gqu'; nearest: toy-gpu; ")
    assert f"{len(catalogue.names('accelerator'))} are known" in said


def test_unknown_kinds_and_folders_are_usage_errors(catalogue: Catalogue, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown kind 'acelerator'; kinds: .*did you mean 'accelerator'"):
        catalogue.load("acelerator", "toy-gpu")
    with pytest.raises(UsageError, match="there is no such folder"):
        Catalogue([tmp_path / "absent"])


def test_a_folder_with_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "MAXIMUM_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.yaml").write_text("kind: model\n")
    with pytest.raises(UsageError, match="more than 3 YAML files"):
        Catalogue([tmp_path]).names("model")


def test_paths_are_relative_to_the_file_that_holds_them(
    write: Write, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("there/gpu.yaml", text_of("devices/toy-gpu.yaml").replace("3 TB/s", "7 TB/s"))
    cluster = write("here/cluster.yaml", text_of("toy-cluster.yaml").replace("toy-gpu", "../there/gpu.yaml"))
    monkeypatch.chdir("/")
    reference = catalogue.load("cluster", cluster).accelerator
    assert catalogue.load("accelerator", reference, relative_to=cluster).memory.bandwidth.value == 7e12
    assert catalogue.check(cluster) == []


def test_extends_merges_deeply_and_lists_replace(write: Write, catalogue: Catalogue) -> None:
    write(
        "base.yaml", text_of("toy-cluster.yaml").replace("toy-cluster", "base") + "power: {host: 1 W, network: 2 W}\n"
    )
    child = write(
        "child.yaml",
        "kind: cluster\nname: child\nextends: base.yaml\npower: {network: 3 W}\ndevices: 8\n"
        "tiers: [{name: only, interconnect: toy-link, devices: 8}]\n",
    )
    spec = catalogue.load("cluster", child)
    assert (spec.name, spec.devices, spec.devices_per_node, spec.accelerator) == ("child", 8, 8, "toy-gpu")
    assert [tier.name for tier in spec.tiers] == ["only"]
    assert (spec.power.host.value, spec.power.network.value) == (1.0, 3.0)


def test_each_number_keeps_the_provenance_of_its_own_file(world: Path) -> None:
    (world / "child.yaml").write_text(
        "kind: accelerator\nname: child\nextends: toy-gpu\n"
        "provenance: {source: mine, basis: measured}\nmemory: {bandwidth: 4 TB/s}\n"
    )
    (world / "silent.yaml").write_text("kind: accelerator\nname: silent\nextends: child\nmemory: {capacity: 96 GiB}\n")
    child = Catalogue([world]).load("accelerator", "child")
    assert (child.memory.bandwidth.source, child.memory.bandwidth.basis) == ("mine", Basis.MEASURED)
    assert (child.memory.capacity.source, child.memory.capacity.basis) == ("toy-datasheet", Basis.VENDOR)
    assert child.aliases == ()
    silent = Catalogue([world]).load("accelerator", "silent").memory
    assert (silent.capacity.source, silent.capacity.basis) == ("unstated", Basis.ASSUMED)
    assert (silent.bandwidth.source, silent.bandwidth.basis) == ("mine", Basis.MEASURED)


def test_a_number_with_a_source_replaces_as_a_whole(world: Path) -> None:
    first = text_of("devices/toy-gpu.yaml").replace(
        "bandwidth: 3 TB/s", "bandwidth: {value: 3 TB/s, low: 2 TB/s, source: a, basis: paper}"
    )
    (world / "devices/toy-gpu.yaml").write_text(first)
    (world / "child.yaml").write_text(
        "kind: accelerator\nname: child\nextends: toy-gpu\n"
        "memory: {bandwidth: {value: 1 TB/s, source: b, basis: user}}\n"
    )
    number = Catalogue([world]).load("accelerator", "child").memory.bandwidth
    assert (number.value, number.low, number.source) == (1e12, None, "b")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_cycle_of_extends_is_an_error(write: Write, length: int) -> None:
    paths = [
        write(f"c{n}.yaml", f"kind: interconnect\nname: c{n}\nextends: c{(n + 1) % length}.yaml\nclass: host\n")
        for n in range(length)
    ]
    with pytest.raises(SpecError, match=r"c\d\.yaml:3: extends: a cycle: c0"):
        Catalogue().load("interconnect", paths[0])


@pytest.mark.parametrize(
    ("value", "words"),
    [("absent", "no interconnect 'absent'"), ("[a]", "expected the name or path"), ("''", "expected the name")],
)
def test_a_base_that_is_not_there_is_named_with_its_line(write: Write, value: str, words: str) -> None:
    path = write("x.yaml", f"kind: interconnect\nname: x\nclass: host\nextends: {value}\n")
    with pytest.raises(SpecError, match=rf"x\.yaml:4: extends: {words}"):
        Catalogue().load("interconnect", path)


def test_a_file_that_changed_is_loaded_again(world: Path) -> None:
    catalogue = Catalogue([world])
    assert catalogue.load("accelerator", "toy-gpu").memory.bandwidth.value == 3e12
    path = world / "devices/toy-gpu.yaml"
    path.write_text(path.read_text().replace("3 TB/s", "11 TB/s"))
    assert catalogue.load("accelerator", "toy-gpu").memory.bandwidth.value == 11e12


def test_the_same_file_is_checked_once(catalogue: Catalogue) -> None:
    assert catalogue.load("accelerator", "toy-gpu") is catalogue.load("accelerator", "toy")


def test_a_users_sources_file_is_known(catalogue: Catalogue, world: Path) -> None:
    assert "toy-datasheet" in catalogue.sources()
    assert "toy-datasheet" not in Catalogue().sources()
    assert check_sources(catalogue, world) == []
    (world / "own-sources.yaml").unlink()
    sentences = check_sources(Catalogue(), world)
    assert len(sentences) == 1
    assert "source 'toy-datasheet' of accelerator.compute." in sentences[0]


def test_a_folder_is_checked_file_by_file(world: Path, write: Write) -> None:
    assert Catalogue().check(world) == []
    (world / "bad.yaml").write_text("kind: interconnect\nname: bad\nclas: host\n")
    (world / "worse.yaml").write_text("kind: thing\n")
    (world / "none.yaml").write_text("name: x\n")
    (world / "question.yaml").write_text(SCENARIO.replace("tp: 8", "tpp: 8"))
    (world / "lost.yaml").write_text(
        text_of("toy-cluster.yaml").replace("toy-gpu", "lost-gpu").replace("toy-cluster", "lost")
    )
    said = [str(error) for error in Catalogue().check(world)]
    assert len(said) == 5
    expected = [
        "bad.yaml:3: clas",
        "worse.yaml:1: kind: unknown kind",
        "none.yaml:1: kind: missing",
        "question.yaml:7: strategy.tpp",
        "lost.yaml:3: accelerator: no accelerator 'lost-gpu'; nearest: toy-gpu",
    ]
    for words in expected:
        assert any(words in line for line in said), words
    assert "cannot be read" in str(Catalogue().check(world / "absent.yaml")[0])


def test_a_library_that_no_link_knows_is_found_by_a_check(tmp_path: Path) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text("kind: software\nname: mine\ncollectives: vlm\n")
    (error,) = Catalogue().check(path)
    assert "stack.yaml:3: collectives: no interconnect has numbers of the library 'vlm'" in str(error)
    assert "did you mean 'vllm'" in str(error)
    path.write_text("kind: software\nname: mine\ncollectives: vllm\n")
    assert Catalogue().check(path) == []
