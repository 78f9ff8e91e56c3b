"""The published JSON Schemas say what the models say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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


_ANNOTATIONS = {"title", "description", "default", "$schema", "$defs", "discriminator", "then"}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}


class Oracle:
    """A small JSON Schema validator that knows nothing of the models (keywords of draft 2020-12 in use).

    A keyword that it does not know is an error of the test.
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema

    def problems(self, value: Any) -> list[str]:
        return list(self._check(value, self._root, "$"))

    def _check(self, value: Any, schema: Any, at: str) -> Iterator[str]:
        if isinstance(schema, bool):
            if not schema:
                yield f"{at}: nothing may stand here"
            return
        for keyword, wanted in schema.items():
            if keyword not in _ANNOTATIONS:
                yield from getattr(self, "_" + keyword.replace("$", ""))(value, wanted, schema, at)

    def _holds(self, value: Any, schema: Any) -> bool:
        return not list(self._check(value, schema, ""))

    def _ref(self, value: Any, wanted: str, _: Any, at: str) -> Iterator[str]:
        yield from self._check(value, self._root["$defs"][wanted.removeprefix("#/$defs/")], at)

    def _type(self, value: Any, wanted: Any, _: Any, at: str) -> Iterator[str]:
        names = [wanted] if isinstance(wanted, str) else wanted
        if not any(
            isinstance(value, _TYPES[name]) and not (isinstance(value, bool) and name != "boolean") for name in names
        ):
            yield f"{at}: {value!r} is not of type {wanted}"

    def _properties(self, value: Any, wanted: dict[str, Any], _: Any, at: str) -> Iterator[str]:
        if isinstance(value, dict):
            for key in wanted.keys() & value.keys():
                yield from self._check(value[key], wanted[key], f"{at}.{key}")

    def _additionalProperties(self, value: Any, wanted: Any, schema: Any, at: str) -> Iterator[str]:  # noqa: N802
        if isinstance(value, dict):
            for key in value.keys() - schema.get("properties", {}).keys():
                yield from self._check(value[key], wanted, f"{at}.{key}")

    def _propertyNames(self, value: Any, wanted: Any, _: Any, at: str) -> Iterator[str]:  # noqa: N802
        for key in value if isinstance(value, dict) else ():
            yield from self._check(key, wanted, f"{at}.{key}")

    def _required(self, value: Any, wanted: list[str], _: Any, at: str) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (f"{at}: {key} is missing" for key in wanted if key not in value)

    def _anyOf(self, value: Any, wanted: list[Any], _: Any, at: str) -> Iterator[str]:  # noqa: N802
        if not any(self._holds(value, one) for one in wanted):
            yield f"{at}: {value!r} is none of the alternatives"

    def _oneOf(self, value: Any, wanted: list[Any], _: Any, at: str) -> Iterator[str]:  # noqa: N802
        if sum(self._holds(value, one) for one in wanted) != 1:
            yield f"{at}: {value!r} is not exactly one of the alternatives"

    def _not(self, value: Any, wanted: Any, _: Any, at: str) -> Iterator[str]:
        if self._holds(value, wanted):
            yield f"{at}: {value!r} is excluded"

    def _if(self, value: Any, wanted: Any, schema: Any, at: str) -> Iterator[str]:
        if self._holds(value, wanted):
            yield from self._check(value, schema["then"], at)

    def _enum(self, value: Any, wanted: list[Any], _: Any, at: str) -> Iterator[str]:
        if value not in wanted:
            yield f"{at}: {value!r} is not in {wanted}"

    def _const(self, value: Any, wanted: Any, _: Any, at: str) -> Iterator[str]:
        if value != wanted:
            yield f"{at}: {value!r} is not {wanted!r}"

    def _items(self, value: Any, wanted: Any, _: Any, at: str) -> Iterator[str]:
        if isinstance(value, list):
            for position, one in enumerate(value):
                yield from self._check(one, wanted, f"{at}[{position}]")

    def _pattern(self, value: Any, wanted: str, _: Any, at: str) -> Iterator[str]:
        if isinstance(value, str) and not re.search(wanted, value):
            yield f"{at}: {value!r} does not match {wanted}"

    def _bound(self, value: Any, holds: bool, at: str, words: str) -> Iterator[str]:
        if not holds:
            yield f"{at}: {value!r} is not {words}"

    def _minimum(self, value: Any, wanted: float, _: Any, at: str) -> Iterator[str]:
        return self._bound(value, not isinstance(value, (int, float)) or value >= wanted, at, f">= {wanted}")

    def _maximum(self, value: Any, wanted: float, _: Any, at: str) -> Iterator[str]:
        return self._bound(value, not isinstance(value, (int, float)) or value <= wanted, at, f"<= {wanted}")

    def _exclusiveMinimum(self, value: Any, wanted: float, _: Any, at: str) -> Iterator[str]:  # noqa: N802
        return self._bound(value, not isinstance(value, (int, float)) or value > wanted, at, f"> {wanted}")

    def _minLength(self, value: Any, wanted: int, _: Any, at: str) -> Iterator[str]:  # noqa: N802
        return self._bound(value, not isinstance(value, str) or len(value) >= wanted, at, f"at least {wanted} long")

    def _minItems(self, value: Any, wanted: int, _: Any, at: str) -> Iterator[str]:  # noqa: N802
        return self._bound(value, not isinstance(value, list) or len(value) >= wanted, at, f"at least {wanted} items")

    def _maxItems(self, value: Any, wanted: int, _: Any, at: str) -> Iterator[str]:  # noqa: N802
        return self._bound(value, not isinstance(value, list) or len(value) <= wanted, at, f"at most {wanted} items")


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_file_is_valid(kind: str) -> None:
    oracle = Oracle(schema_for(kind))
    entries = Catalogue().entries(kind)
    assert entries
    for entry in entries:
        assert oracle.problems(read_file(entry.path).data) == [], entry.path


@pytest.mark.parametrize("kind", template_kinds())
def test_every_template_is_valid(kind: str) -> None:
    assert Oracle(schema_for(kind)).problems(read_text(template(kind)).data) == []


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
    assert Oracle(schema_for(kind)).problems(read_text(text).data)


def test_a_file_that_extends_another_may_leave_things_out() -> None:
    oracle = Oracle(schema_for("interconnect"))
    data: dict[str, Any] = {"kind": "interconnect", "name": "x"}
    assert oracle.problems(data)
    assert oracle.problems({**data, "extends": "y"}) == []
    assert oracle.problems({**data, "extends": "y", "clas": "host"})


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
