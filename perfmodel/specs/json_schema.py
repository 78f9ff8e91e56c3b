"""JSON Schema of every kind of file, for editors (``perfmodel specs schema KIND``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perfmodel.specs.axes import WITH_AXES
from perfmodel.specs.axes_schema import with_axes
from perfmodel.specs.kinds import KINDS, kind_of
from perfmodel.specs.plain import is_list, is_mapping

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_PARTIAL = "Partial"
_QUANTITY = "Quantity_"
_ALWAYS_NEEDED = ("kind", "name")
#: Kind of file whose values may be axes.
_WITH_AXES = "scenario"


def schema_for(kind: str, *, axes: bool = True) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of files of one kind.

    A file that ``extends`` another may leave out what the other says; without ``extends`` the needed keys
    are required.

    Parameters
    ----------
    kind
        A kind of file.
    axes
        Also take the lists and ranges of a search, where the kind may have them.

    Raises
    ------
    UsageError
        No such kind.
    """
    complete = kind_of(kind).load_model().model_json_schema(by_alias=True, mode="validation")
    complete["properties"]["extends"] = {
        "type": "string",
        "description": f"name or path of another {kind}; merged deeply",
    }
    definitions: dict[str, Any] = complete.pop("$defs", {})
    complete, definitions, quantities = _hoisted(complete, definitions)
    renamed = json.loads(
        json.dumps({"top": complete, "defs": definitions})
        .replace("#/$defs/", f"#/$defs/{_PARTIAL}")
        .replace(f"{_PARTIAL}{_QUANTITY}", _QUANTITY)
    )
    partial = _relaxed(renamed["top"])
    partial_definitions = {f"{_PARTIAL}{name}": _relaxed(one) for name, one in renamed["defs"].items()}
    varied = axes and kind == _WITH_AXES
    if varied:
        partial, partial_definitions = with_axes(partial, partial_definitions)
    needed = [name for name in _ALWAYS_NEEDED if name in complete.get("required", ())]
    schema: dict[str, Any] = {
        "$schema": DRAFT,
        "title": f"perfmodel {kind}",
        **{key: value for key, value in partial.items() if key != "title"},
        "required": needed,
        **_completeness(complete, varied=varied),
        "$defs": {**definitions, **partial_definitions, "Complete": complete, **quantities},
    }
    return schema


def _completeness(complete: Mapping[str, Any], *, varied: bool) -> dict[str, Any]:
    """What a file must have that extends no other; the values of a search are lists and ranges as well."""
    whole = {"not": {"required": ["extends"]}}
    if not varied:
        return {"if": whole, "then": {"$ref": "#/$defs/Complete"}}
    searches = {"properties": {"question": {"enum": list(WITH_AXES)}}, "required": ["question"]}
    return {
        "if": whole,
        "then": {"if": searches, "then": {"required": complete["required"]}, "else": {"$ref": "#/$defs/Complete"}},
    }


def _hoisted(top: Any, definitions: Any) -> tuple[Any, Any, dict[str, Any]]:
    """Quantities of one unit written once; returns the top, the definitions and the quantities."""
    quantities: dict[str, Any] = {}

    def walk(node: Any) -> Any:
        if is_list(node):
            return [walk(value) for value in node]
        if not is_mapping(node):
            return node
        items: Mapping[str, Any] = node
        alternatives = items.get("anyOf", [{}])
        last = alternatives[-1]
        if len(alternatives) == 2 and set(last.get("properties", ())) >= {"value", "basis", "low"}:
            name = f"{_QUANTITY}{re.sub(r'[^A-Za-z0-9]+', '_', alternatives[0]['description'])}"
            quantities[name] = {"anyOf": alternatives}
            rest = {key: value for key, value in items.items() if key not in ("anyOf", "title")}
            return {**rest, "$ref": f"#/$defs/{name}"}
        return {key: walk(value) for key, value in items.items()}

    return walk(top), walk(definitions), quantities


def _relaxed(node: Any) -> Any:
    """A copy without required keys (a number with its own source still needs its value)."""
    if is_mapping(node):
        items: Mapping[str, Any] = node
        return {
            key: _relaxed(value)
            for key, value in items.items()
            if not (key == "required" and is_list(value) and value != ["value"])
        }
    if is_list(node):
        return [_relaxed(value) for value in node]
    return node


def schema_text(kind: str) -> str:
    """The schema as text, the same on every run."""
    return json.dumps(schema_for(kind), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write_schemas(folder: Path) -> list[Path]:
    """Write ``KIND.schema.json`` for every kind into a folder (made when missing); returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for kind in KINDS:
        path = folder / f"{kind}.schema.json"
        path.write_text(schema_text(kind), encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    import sys

    write_schemas(Path(sys.argv[1]))
