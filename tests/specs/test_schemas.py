"""The published JSON Schemas say what the models say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.json_schema import schema_for, schema_text, write_schemas
from perfmodel.specs.kinds import KINDS
from perfmodel.specs.templates import template, template_kinds
from perfmodel.specs.yaml_reader import read_file, read_text

WORLD = Path(__file__).parent / "world"
SCENARIO = (Path(__file__).parent / "question.yaml").read_text(encoding="utf-8")


def text_of(name: str) -> str:
    """A file of the world."""
    return (WORLD / name).read_text(encoding="utf-8")


PUBLISHED = Path(__file__).resolve().parents[2] / "docs/reference/schemas"


def problems(schema: dict[str, Any], value: Any) -> list[str]:
    """What a JSON Schema validator finds: an oracle that knows nothing of the models."""
    return [error.message for error in Draft202012Validator(schema).iter_errors(value)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_file_is_valid(kind: str) -> None:
    schema = schema_for(kind)
    entries = Catalogue().entries(kind)
    assert entries
    for entry in entries:
        assert problems(schema, read_file(entry.path).data) == [], entry.path


@pytest.mark.parametrize("name", template_kinds())
def test_every_template_is_valid(name: str) -> None:
    data = read_text(template(name)).data
    assert problems(schema_for(data["kind"]), data) == []


SEARCH = SCENARIO.replace("tp: 8", "tp: [4, 8]") + "question: search\n"


@pytest.mark.parametrize("values", ["auto", "[4, 8]", "{from: 2, to: 8, points: 3}"])
def test_a_search_may_have_several_values_where_others_have_one(values: str) -> None:
    text = SEARCH.replace("tp: [4, 8]", f"tp: {values}")
    schema = schema_for("scenario")
    assert problems(schema, read_text(text).data) == []
    assert problems(schema, read_text(text.replace("question: search", "question: evaluate")).data)
    assert problems(schema_for("scenario", axes=False), read_text(text).data)


@pytest.mark.parametrize(
    "text",
    [
        SEARCH.replace("[4, 8]", "{from: 2, to: 8, step: 3}"),
        SEARCH.replace("[4, 8]", "[]"),
        SEARCH.replace("[4, 8]", "some"),
        SEARCH.replace("software: toy-stack\n", ""),
        SEARCH + "top: [1, 2]\n",
        SEARCH + "objectives: {time.step_s: least}\n",
    ],
)
def test_not_everything_is_an_axis(text: str) -> None:
    assert problems(schema_for("scenario"), read_text(text).data)


GPU, LINK = text_of("devices/toy-gpu.yaml"), text_of("links.yaml")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("accelerator", GPU.replace("bandwidth", "bandwith")),
        ("accelerator", GPU.replace("3 TB/s", "3")),
        ("accelerator", GPU.replace("basis: vendor", "basis: vender")),
        ("accelerator", GPU.replace("name: toy-gpu\n", "")),
        ("interconnect", LINK.replace("class: scale-up\n", "")),
        ("interconnect", LINK.replace("class: scale-up", "class: sideways")),
        ("scenario", SCENARIO.replace("tp: 8", "tp: 0")),
        ("scenario", SCENARIO.replace("recompute: full", "recompute: {fraction: 1}").replace("tp: 8", "tp: eight")),
        ("scenario", SCENARIO.replace("software: toy-stack\n", "")),
        ("scenario", SCENARIO.replace("kind: training", "kind: trainin")),
        ("scenario", SCENARIO + "pricing: {kind: cloud}\n"),
    ],
)
def test_what_the_models_refuse_the_schema_refuses(kind: str, text: str) -> None:
    assert problems(schema_for(kind), read_text(text).data)


def test_a_file_that_extends_another_may_leave_things_out() -> None:
    schema = schema_for("interconnect")
    data: dict[str, Any] = {"kind": "interconnect", "name": "x"}
    assert problems(schema, data)
    assert problems(schema, {**data, "extends": "y"}) == []
    assert problems(schema, {**data, "extends": "y", "clas": "host"})


def test_the_text_is_the_same_on_every_run(tmp_path: Path) -> None:
    paths = write_schemas(tmp_path)
    assert [path.name for path in paths] == [f"{kind}.schema.json" for kind in KINDS]
    for kind, path in zip(KINDS, paths, strict=True):
        assert path.read_text() == schema_text(kind)
        assert json.loads(path.read_text()) == schema_for(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_published_schema_has_not_drifted(kind: str) -> None:
    """Renew with ``python -m perfmodel.specs.json_schema docs/reference/schemas``."""
    assert (PUBLISHED / f"{kind}.schema.json").read_text(encoding="utf-8") == schema_text(kind)
