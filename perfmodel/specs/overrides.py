"""Setting one field by its dotted path (``--set path=value``), in the file's own words.

An override changes what the file says *before* it is checked, so it is held to the same rules; a number
that is set has the source and basis ``user``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from perfmodel.errors import SpecError, UsageError, nearest
from perfmodel.specs import merge
from perfmodel.specs.plain import is_list, is_mapping
from perfmodel.specs.problems import unknown_key
from perfmodel.specs.structure import Shape, child
from perfmodel.specs.yaml_reader import Document, KeyPath, Place, read_value

#: Positions in lists, as messages write them: ``tiers[0].bandwidth`` is ``tiers.0.bandwidth``.
_POSITION = re.compile(r"\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Override:
    """One field that is set.

    Attributes
    ----------
    path
        Dotted, as the person wrote it.
    value
        Plain value (a quantity as text, ``4 TB/s``), or a :class:`~perfmodel.provenance.Sourced`.
    rest
        What is left of the path below the document that it concerns.
    stated
        Where a file says it; None for the command line.
    """

    path: str
    value: Any
    rest: tuple[str, ...]
    stated: Place | None = None

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"--set {self.path}" if self.stated is None else f"{self.stated}: {self.path}"

    @property
    def place(self) -> Place:
        """Where the value was said, for messages."""
        if self.stated is not None:
            return self.stated
        shown = f"={self.value}" if isinstance(self.value, (str, int, float)) else ""
        return Place(f"--set {self.path}{shown}")


def parse_overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Read ``path=value`` texts; the value is read as YAML (``[1, 2]`` is a list, ``no`` is text).

    Raises
    ------
    UsageError
        There is no ``=`` or no path.
    SpecError
        The value is not YAML.
    """
    result: dict[str, Any] = {}
    for setting in settings:
        path, separator, value = setting.partition("=")
        if not separator or not path.strip():
            raise UsageError(f"--set {setting}: expected path=value, for example --set strategy.tp=4")
        result[path.strip()] = read_value(value.strip(), f"--set {setting}")
    return result


def make_overrides(values: Mapping[str, Any], places: Mapping[str, Place] | None = None) -> tuple[Override, ...]:
    """Overrides from dotted paths and values.

    Parameters
    ----------
    places
        Where a file says each path; None for the command line.

    Raises
    ------
    UsageError
        A path has an empty part.
    """
    overrides: list[Override] = []
    for path, value in values.items():
        parts = tuple(_POSITION.sub(r".\1", path).split("."))
        override = Override(path, _plain(value), parts, (places or {}).get(path))
        if not all(parts):
            raise UsageError(f"{override.label}: an empty part in the path")
        overrides.append(override)
    return tuple(overrides)


def _plain(value: Any) -> Any:
    """NumPy scalars as Python numbers; everything else as it is."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def apply_overrides(document: Document, model: type[BaseModel], overrides: Sequence[Override]) -> Document:
    """The document with each override's ``rest`` set to its value.

    Raises
    ------
    SpecError
        A path leaves what the model declares; the message names the nearest key.
    """
    data: Any = document.data
    places = dict(document.places)
    for override in overrides:
        path, shape = _locate(override, data, Shape(models=(model,)))
        value = merge.attach(override.value, shape, merge.OF_USER)
        data = _with(data, path, value)
        for old in [one for one in places if one[: len(path)] == path]:
            del places[old]
        places[path] = override.place
    return Document(data, places, document.path)


def _locate(override: Override, data: Any, shape: Shape) -> tuple[KeyPath, Shape]:
    """The path in the data that the words mean, and what may stand there."""
    path: list[str | int] = []
    parts = override.rest
    while parts:
        key, used = _next_key(override, parts, data, shape)
        below = child(shape, key)
        if below is None:
            raise SpecError(f"{override.label}: {_unknown(str(key), data, shape)}")
        shape = below
        data = _step(data, key)
        path.append(key)
        parts = parts[used:]
    return tuple(path), shape


def _next_key(override: Override, parts: tuple[str, ...], data: Any, shape: Shape) -> tuple[str | int, int]:
    """The next key and how many dotted parts it takes (a key may hold dots itself)."""
    if is_list(data):
        return _item(override, parts[0], data), 1
    if is_mapping(data):
        for used in range(len(parts), 0, -1):
            if ".".join(parts[:used]) in data:
                return ".".join(parts[:used]), used
    if shape.unit is not None:
        raise SpecError(f"{override.label}: a number has no part {parts[0]!r}; set the number itself")
    return parts[0], 1


def _item(override: Override, part: str, items: Sequence[Any]) -> int:
    """Position of a list item by its number or its name."""
    names = [str(one.get("name", "")) for one in items if is_mapping(one)]
    if part in names:
        return names.index(part)
    if part.isdecimal() and int(part) < len(items):
        return int(part)
    known = ", ".join(name for name in names if name) or f"0 to {len(items) - 1}"
    raise SpecError(f"{override.label}: no item {part!r} in the list; items: {known}{nearest(part, names)}")


def _unknown(key: str, data: Any, shape: Shape) -> str:
    if not shape.keys and not shape.is_free_mapping:
        return f"there is nothing below; {key!r} is not known here"
    return unknown_key(key, shape, data.keys() if is_mapping(data) else ())


def _step(data: Any, key: str | int) -> Any:
    if is_mapping(data):
        return data.get(str(key))
    return data[key] if is_list(data) and isinstance(key, int) else None


def _with(data: Any, path: KeyPath, value: Any) -> Any:
    """A copy of the data with one value changed; mappings on the way are made where they are missing."""
    if not path:
        return value
    key = path[0]
    if is_list(data):
        return [_with(one, path[1:], value) if position == key else one for position, one in enumerate(data)]
    kept = dict(data) if is_mapping(data) else {}
    return {**kept, str(key): _with(kept.get(str(key)), path[1:], value)}
