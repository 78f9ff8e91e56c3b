"""Problems of a file, in words: where, which key, what is wrong, what was allowed, the nearest choice."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from perfmodel.errors import SpecError, nearest
from perfmodel.specs.plain import is_list, is_mapping
from perfmodel.specs.structure import Shape, shape_at
from perfmodel.specs.yaml_reader import Document, KeyPath, Place

#: Problems shown in one message; the rest is counted.
SHOWN = 8

_MAPPING = "a mapping (key: value)"
_TYPES = {
    "string": "text", "bool": "true or false", "int": "a whole number", "float": "a number",
    "list": "a list", "tuple": "a list", "sequence": "a list",
    "dict": _MAPPING, "mapping": _MAPPING, "model": _MAPPING, "model_attributes": _MAPPING,
}  # fmt: skip
_SCALAR_TYPES = {"string_type", "bool_type", "int_type", "float_type", "literal_error", "enum", "int_parsing",
                 "float_parsing", "quantity", "count", "list_type", "tuple_type", "int_from_float"}  # fmt: skip
_MAPPING_TYPES = {"model_type", "dict_type", "mapping_type", "model_attributes_type"}


#: How the validator starts a sentence of its own.
_SHOULD = re.compile(r"^(?:Input|Value|String|List|Tuple|Dictionary|Mapping) should (be|have|match)")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    place: Place
    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.path}: {self.what}" if self.path else f"{self.place}: {self.what}"


def dotted(path: KeyPath) -> str:
    """``("tiers", 0, "bandwidth")`` as ``tiers[0].bandwidth``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else (f".{part}" if text else part)
    return text


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise one :class:`SpecError` that lists the problems; nothing when there are none."""
    if not problems:
        return
    lines = [str(problem) for problem in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"... and {len(problems) - SHOWN} more")
    raise SpecError("\n".join(lines))


def problems_of(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Problem]:
    """The problems behind a validation error, without the words of the validator."""
    found: dict[KeyPath, list[Any]] = {}
    for detail in error.errors(include_url=False):
        missing = detail["type"] == "missing"
        found.setdefault(_data_path(detail["loc"], document.data, keep_last=missing), []).append(detail)
    problems: list[Problem] = []
    for path, details in found.items():
        words = _describe_all(path, details, found, document, model)
        if words:
            at = path[:-1] if details[0]["type"] == "missing" else path
            problems.append(Problem(document.place(at), dotted(path), words))
    # A misspelt key explains a missing one: it comes first.
    return sorted(problems, key=lambda problem: (problem.what.startswith("missing"), problem.place.line))


def _data_path(loc: Sequence[str | int], data: Any, *, keep_last: bool) -> KeyPath:
    """The part of a validator's location that exists in the file (it also names branches of unions)."""
    path: list[str | int] = []
    current = data
    for position, part in enumerate(loc):
        if has(current, part):
            current = value_at(current, (part,))
        elif not (keep_last and position == len(loc) - 1):
            continue
        path.append(part)
    return tuple(path)


def has(data: object, part: str | int) -> bool:
    """Whether a mapping has the key, or a list the position."""
    if is_mapping(data):
        return part in data
    return is_list(data) and isinstance(part, int) and part < len(data)


def value_at(data: Any, path: KeyPath) -> Any:
    """The value at a path of the data, or None."""
    for part in path:
        if is_mapping(data):
            data = data.get(str(part))
        elif is_list(data) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return None
    return data


def _describe_all(
    path: KeyPath, details: list[Any], found: Mapping[KeyPath, Any], document: Document, model: type[BaseModel]
) -> str:
    """One sentence for all complaints about one path (a union complains once per alternative)."""
    value = value_at(document.data, path)
    if is_mapping(value) and len(details) > 1:
        details = [detail for detail in details if detail["type"] not in _SCALAR_TYPES] or details
    deeper = any(len(other) > len(path) and other[: len(path)] == path for other in found)
    if is_mapping(value) and deeper and all(detail["type"] in _SCALAR_TYPES for detail in details):
        return ""
    if len(details) > 1 and not is_mapping(value):
        informative = [detail for detail in details if detail["type"] not in _MAPPING_TYPES]
        details = informative or details
    sentences = dict.fromkeys(_describe(path, detail, value, model) for detail in details)
    return "; or ".join(sentences)


def _describe(path: KeyPath, detail: Any, value: Any, model: type[BaseModel]) -> str:
    kind: str = detail["type"]
    context: Mapping[str, Any] = detail.get("ctx", {})
    if kind == "missing":
        return f"missing; {_needed(shape_at(model, path))} is needed"
    if kind == "extra_forbidden":
        return unknown_key(str(path[-1]) if path else "", shape_at(model, path[:-1]))
    if kind in ("literal_error", "enum", "union_tag_invalid", "union_tag_not_found"):
        return _not_a_choice(kind, path, context, value, model)
    if kind.removesuffix("_type") in _TYPES and kind.endswith("_type"):
        return f"expected {_TYPES[kind.removesuffix('_type')]}{_keys_hint(shape_at(model, path))}, got {_short(value)}"
    message: str = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    said = _SHOULD.sub(r"must \1", message, count=1).replace(" after validation", "")
    return f"{said}, got {_short(value)}" if said != message else message


def _not_a_choice(kind: str, path: KeyPath, context: Mapping[str, Any], value: Any, model: type[BaseModel]) -> str:
    if kind.startswith("union_tag"):
        key = str(context.get("discriminator", "'kind'")).strip("'")
        choices = str(context.get("expected_tags", "")).replace("'", "")
        if kind == "union_tag_not_found":
            tags = [str(one) for part in getattr(shape_at(model, path), "models", ()) for one in _tags(part, key)]
            return f"missing; {key} is needed ({' or '.join(tags)})" if tags else f"missing; {key} is needed"
        tag = str(context.get("tag", value))
        return f"{key} {tag!r} is not known; allowed: {choices}{nearest(tag, choices.split(', '))}"
    choices = context.get("expected", "")
    shape = shape_at(model, path)
    names = [str(choice) for choice in shape.choices] if shape is not None else []
    allowed = ", ".join(names) if names else str(choices).replace("'", "").replace(" or ", ", ")
    return f"{_short(value)} is not allowed; allowed: {allowed}{nearest(str(value), names or allowed.split(', '))}"


def _tags(model: type[BaseModel], key: str) -> tuple[Any, ...]:
    shape = shape_at(model, (key,))
    return shape.choices if shape is not None else ()


def unknown_key(key: str, shape: Shape | None, more: Iterable[str] = ()) -> str:
    """``unknown key 'x'; allowed: ...; did you mean 'y'?``"""
    allowed = sorted({*(shape.keys if shape is not None else ()), *more})
    listed = f"; allowed: {', '.join(allowed)}" if allowed else ""
    return f"unknown key {key!r}{listed}{nearest(key, allowed)}"


def _needed(shape: Shape | None) -> str:
    if shape is None:
        return "a value"
    if shape.unit is not None:
        return "a number" if shape.unit == "1" else f"a quantity in {shape.unit}"
    if shape.choices:
        return f"one of {', '.join(str(choice) for choice in shape.choices)}"
    if shape.models or shape.is_free_mapping:
        return f"{'a name or ' if shape.is_text else ''}{_MAPPING}{_keys_hint(shape)}"
    return "a list" if shape.is_list else "a value"


def _keys_hint(shape: Shape | None) -> str:
    return f" with keys {', '.join(dict.fromkeys(shape.keys))}" if shape is not None and shape.keys else ""


def _short(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "nothing"
    if is_mapping(value):
        return f"a mapping with {', '.join(str(key) for key in list(value)[:4])}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
