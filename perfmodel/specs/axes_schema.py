"""The JSON Schema of what a search varies: where a value stands, a list, a range or ``auto`` may stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from perfmodel.specs.axes import AUTO, MAXIMUM_POINTS, NOT_VARIED, RANGE_KEYS, SCALES
from perfmodel.specs.plain import is_list, is_mapping

Schema = dict[str, Any]
_REFERENCE = "#/$defs/"
_AXIS = {"$ref": f"{_REFERENCE}Axis"}
_END = {"type": ["number", "string"]}

#: Fields of a spec that say where a number comes from.
_ORIGIN = ("kind", "provenance", "source", "basis", "note")
#: Several values of one field.
AXIS: Schema = {
    "description": "of a search: several values of one field",
    "anyOf": [
        {"const": AUTO, "description": "values that make sense for the model and the machine"},
        {"type": "array", "minItems": 1, "description": "values to try"},
        {
            "type": "object",
            "description": "a range",
            "properties": {
                "from": _END,
                "to": _END,
                "points": {"type": "integer", "minimum": 2, "maximum": MAXIMUM_POINTS},
                "scale": {"enum": list(SCALES)},
            },
            "required": sorted(RANGE_KEYS - {"points", "scale"}),
            "additionalProperties": False,
        },
    ],
}


def with_axes(top: Schema, definitions: Mapping[str, Schema]) -> tuple[Schema, dict[str, Schema]]:
    """A schema of scenarios and its definitions, with axes in the places of values.

    Parameters
    ----------
    top
        Schema of the scenario; what a search never varies stays as it is.
    definitions
        Definitions that the schema refers to.
    """
    varied = {name: value for name, value in top["properties"].items() if name not in NOT_VARIED}
    reached: set[str] = set()
    waiting = list(_references(varied))
    while waiting:
        name = waiting.pop()
        if name in definitions and name not in reached:
            reached.add(name)
            waiting += _references(definitions[name])
    changed = {name: _varied(one) if name in reached else one for name, one in definitions.items()}
    properties = {name: _or_axis(value) if name in varied else value for name, value in top["properties"].items()}
    return {**top, "properties": properties}, {**changed, "Axis": AXIS}


def _references(node: Any) -> Iterator[str]:
    """Names of the definitions that a schema refers to."""
    if is_mapping(node):
        target = node.get("$ref")
        if isinstance(target, str):
            yield target.removeprefix(_REFERENCE)
        for value in node.values():
            yield from _references(value)
    elif is_list(node):
        for value in node:
            yield from _references(value)


def _varied(node: Any) -> Any:
    """A copy in which every property may be an axis."""
    if is_list(node):
        return [_varied(value) for value in node]
    if not is_mapping(node):
        return node
    return {
        key: {name: one if name in _ORIGIN else _or_axis(one) for name, one in value.items()}
        if key == "properties"
        else _varied(value)
        for key, value in node.items()
    }


def _or_axis(schema: Any) -> Schema:
    return {"anyOf": [_varied(schema), _AXIS]}
