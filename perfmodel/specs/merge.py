"""``extends:``, the deep merge behind it, and the provenance of numbers that come from several files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from perfmodel.provenance import Sourced
from perfmodel.specs.plain import is_list, is_mapping
from perfmodel.specs.structure import Shape, child
from perfmodel.specs.yaml_reader import Document, KeyPath, Place

#: Keys of the base that describe the file, not the thing: they are not inherited.
NOT_INHERITED = ("extends", "aliases", "provenance")
#: Source of a number that nobody sourced; its basis is ``assumed``.
UNSTATED = {"source": "unstated", "basis": "assumed"}
#: Source of a number in a scenario, and of one that was set on the command line.
OF_SCENARIO = {"source": "scenario", "basis": "user"}
OF_USER = {"source": "user", "basis": "user"}


def merge(base: Document, over: Document) -> Document:
    """``over`` on top of ``base``: mappings merge key by key, everything else (lists too) replaces.

    A number with its own source (a mapping with ``value``) replaces as a whole.
    """
    places: dict[KeyPath, Place] = dict(over.places)
    kept = {key: value for key, value in base.data.items() if key not in NOT_INHERITED}
    data = _merge(kept, over.data, (), base.places, places)
    data.pop("extends", None)
    return Document(data, places, over.path)


def _merge(
    base: Mapping[str, Any], over: Mapping[str, Any], path: KeyPath,
    base_places: Mapping[KeyPath, Place], places: dict[KeyPath, Place],
) -> dict[str, Any]:  # fmt: skip
    result: dict[str, Any] = {}
    for key, value in base.items():
        here = (*path, key)
        if key not in over:
            result[key] = value
            _copy_places(value, here, base_places, places)
        elif is_mapping(value) and is_mapping(over[key]) and "value" not in over[key]:
            result[key] = _merge(value, over[key], here, base_places, places)
        else:
            result[key] = over[key]
    return result | {key: value for key, value in over.items() if key not in base}


def _copy_places(value: Any, path: KeyPath, base_places: Mapping[KeyPath, Place], places: dict[KeyPath, Place]) -> None:
    if path in base_places:
        places[path] = base_places[path]
    parts = value.items() if is_mapping(value) else enumerate(value) if is_list(value) else ()
    for key, one in parts:
        _copy_places(one, (*path, key), base_places, places)


def attach_provenance(document: Document, model: type[BaseModel], default: Mapping[str, Any] = UNSTATED) -> Document:
    """Write the provenance of the file into each of its numbers, so that a merge cannot change it."""
    data = attach(document.data, Shape(models=(model,)), default)
    return Document(data, document.places, document.path)


def attach(value: Any, shape: Shape | None, default: Mapping[str, Any]) -> Any:
    """The value with ``source`` and ``basis`` in each of its numbers that has none."""
    if shape is None or isinstance(value, Sourced):
        return value
    if shape.unit is not None and not is_list(value) and not isinstance(value, bool) and value is not None:
        if not is_mapping(value):
            return {"value": value, **default}
        return value if "source" in value or "basis" in value or "value" not in value else {**value, **default}
    if is_mapping(value):
        own = value.get("provenance")
        if is_mapping(own) and {"source", "basis"} <= set(own):
            default = {"source": own["source"], "basis": own["basis"]}
        return {
            key: one if key == "provenance" else attach(one, child(shape, key), default) for key, one in value.items()
        }
    if is_list(value):
        return [attach(one, child(shape, position), default) for position, one in enumerate(value)]
    return value
