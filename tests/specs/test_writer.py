"""What is written reads back, and a file is written whole or not at all."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel import files
from perfmodel.errors import SpecError, UsageError
from perfmodel.files import write_whole
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.resolve import load_scenario
from perfmodel.specs.templates import template, template_kinds
from perfmodel.specs.writer import save, to_data, to_yaml
from perfmodel.specs.yaml_reader import read_text

TEXTS = st.one_of(
    st.sampled_from(
        [
            "no",
            "yes",
            "8k",
            "15.6T",
            "1e3",
            "null",
            "",
            " x",
            "a: b",
            "# x",
            "0x1",
            "2024-01-01",
            "'",
            '"',
            "é",
            "-",
            "1_000",
            "true",
        ]
    ),
    st.text(
        alphabet=st.characters(min_codepoint=32, max_codepoint=0x2000, exclude_categories=("Cs", "Cc")), max_size=12
    ),
)
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**12), 10**12),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXTS,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_plain_values_read_back(data: dict[str, Any]) -> None:
    assert read_text(to_yaml(data)).data == data


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("accelerator", "h100-sxm5-80gb"),
        ("accelerator", "toy-gpu"),
        ("interconnect", "toy-link"),
        ("cluster", "toy-cluster"),
        ("software", "megatron-core"),
        ("model", "llama-3.1-405b"),
        ("numerics", "adam-8bit"),
        ("formats", "formats"),
    ],
)
def test_a_saved_spec_loads_as_the_same_spec(tmp_path: Path, catalogue: Catalogue, kind: str, name: str) -> None:
    spec = catalogue.load(kind, name)
    path = tmp_path / "saved.yaml"
    save(path, spec, "saved by a test\nin two lines")
    assert path.read_text().startswith("# saved by a test\n# in two lines\nkind: ")
    again = Catalogue().load(kind, path)
    assert to_data(again) == to_data(spec)
    assert again.model_dump() == spec.model_dump()


def test_a_saved_scenario_asks_the_same_question(tmp_path: Path, scenario: Path, catalogue: Catalogue) -> None:
    loaded = load_scenario(scenario, catalogue, ["strategy.tp=4", "site.electricity=0.08 USD/kWh"])
    path = tmp_path / "saved.yaml"
    save(path, loaded.scenario)
    assert load_scenario(path, catalogue).sha256 == loaded.sha256


def test_what_is_not_plain_is_refused() -> None:
    for value in (b"x", object(), float("inf"), {1, 2}):
        with pytest.raises(SpecError, match="cannot be written"):
            to_yaml({"a": value})


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.yaml"
    write_whole(path, "old\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UsageError, match="cannot be written: No space left"):
        write_whole(path, "new\n")
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UsageError, match="cannot be written"):
        write_whole(tmp_path / "absent" / "f.yaml", "x")


def test_a_written_file_may_be_read_by_others(tmp_path: Path) -> None:
    write_whole(tmp_path / "f.yaml", "x\n")
    plain = tmp_path / "plain"
    plain.write_text("x\n")
    assert stat.S_IMODE((tmp_path / "f.yaml").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("kind", template_kinds())
def test_a_template_is_valid_as_it_stands(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"{kind}.yaml"
    path.write_text(template(kind))
    assert Catalogue().check(path) == []
    assert template(kind).count("#") >= 3 or kind in ("model", "interconnect")


def test_kinds_without_a_template_are_named() -> None:
    assert {"scenario", "accelerator", "cluster", "interconnect", "numerics", "model"} <= set(template_kinds())
    with pytest.raises(UsageError, match=r"no template for 'scenaro'; templates: .*did you mean 'scenario'"):
        template("scenaro")
