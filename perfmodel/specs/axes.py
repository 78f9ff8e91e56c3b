"""What a search varies: lists, ranges and ``auto`` where an evaluation has one value.

The axes are taken out of a scenario before it is checked. What is left has the first value of each (the strategy its
defaults), so that every single value is held to the same rules as in an evaluation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perfmodel.errors import SpecError, nearest
from perfmodel.specs import kinds
from perfmodel.specs.plain import is_list, is_mapping
from perfmodel.specs.problems import Problem, dotted, raise_problems
from perfmodel.specs.structure import Shape, child
from perfmodel.specs.yaml_reader import Document, KeyPath, Place
from perfmodel.units import UnitError, parse_unit

AUTO = "auto"
#: Axis of the sizes of a cluster.
DEVICES = "cluster.devices"
#: Questions that have axes.
WITH_AXES = ("search", "capacity")
#: Keys of a range.
RANGE_KEYS = {"from", "to", "points", "scale"}
SCALES = ("linear", "log")
MAXIMUM_POINTS = 100_000
#: Keys of a scenario that refer to specs of other kinds, and what of it an axis never is.
_REFERENCES = {"model": "model", "cluster": "cluster", "software": "software", "numerics": "numerics"}
NOT_VARIED = {"kind", "name", "title", "question", "objectives", "constraints", "top", "exhaustive", "vary", "until",
               "between", "goal", "published", "assumed", "measured", "note", "aliases", "provenance"}  # fmt: skip
_NUMBER = re.compile(r"\s*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*")


@dataclass(frozen=True)
class Axis:
    """One field that takes several values.

    Attributes
    ----------
    path
        Dotted path, as an override names it.
    values
        In the order in which they are tried; None: the values that make sense (``auto``).
    place
        Where it is said.
    """

    path: str
    values: tuple[Any, ...] | None
    place: Place


def take_axes(document: Document, overrides: Mapping[str, Any]) -> tuple[Document, dict[str, Any], tuple[Axis, ...]]:
    """Split a scenario into one with single values and the axes of its search.

    Returns
    -------
    tuple
        The document and the overrides with single values, and the axes in the order in which they are written.

    Raises
    ------
    SpecError
        A range or a list cannot be.
    """
    found: list[Axis] = []
    data = _walk(document, (), document.data, _scenario_shape(), found)
    single: dict[str, Any] = {}
    for path, value in overrides.items():
        if path.partition(".")[0] in NOT_VARIED:
            single[path] = value
            continue
        place, shape = Place(f"--set {path}"), _shape_of_path(path)
        axis = _axis(path, value, place, shape)
        found = [one for one in found if one.path != path and not one.path.startswith(f"{path}.")]
        if axis is None:
            inside = Document({}, {(): place})
            single[path] = _walk(inside, tuple(path.split(".")), value, shape, found) if is_mapping(value) else value
            continue
        found.append(axis)
        if not path.startswith("strategy.") and axis.values is not None:
            single[path] = _first(axis)
    return Document(data, document.places, document.path), single, tuple(found)


def _scenario_shape() -> Shape:
    return Shape(models=(kinds.kind_of("scenario").load_model(),))


def _walk(document: Document, path: KeyPath, value: Any, shape: Shape | None, found: list[Axis]) -> Any:
    """The value with single values instead of axes, which are added to ``found``."""
    # An unknown key is not an axis: checking the scenario says what is wrong with it.
    axis = _axis(dotted(path), value, document.place(path), shape) if path and shape is not None else None
    if axis is not None:
        found.append(axis)
        return _ABSENT if path[0] == "strategy" or axis.values is None else _first(axis)
    if not is_mapping(value):
        return value
    kept: dict[str, Any] = {}
    for key, one in value.items():
        if not path and key in NOT_VARIED:
            kept[key] = one
            continue
        below = _below(path, key, shape)
        single = _walk(document, (*path, key), one, below, found)
        if single is not _ABSENT:
            kept[key] = single
    return kept


_ABSENT = object()


def _first(axis: Axis) -> Any:
    """The first value; of a cluster without its sizes, where it has several."""
    first = (axis.values or (None,))[0]
    if axis.path == "cluster" and is_mapping(first) and not isinstance(first.get("devices", 0), int):
        return {key: one for key, one in first.items() if key != "devices"}
    return first


def _below(path: KeyPath, key: str, shape: Shape | None) -> Shape | None:
    if not path and key in _REFERENCES:
        return Shape(models=(kinds.kind_of(_REFERENCES[key]).load_model(),), is_text=True)
    if path and path[0] == "cluster" and key == "accelerator":
        return Shape(models=(kinds.kind_of("accelerator").load_model(),), is_text=True)
    return None if shape is None else child(shape, key)


def _shape_of_path(path: str) -> Shape | None:
    shape: Shape | None = _scenario_shape()
    done: KeyPath = ()
    for part in path.split("."):
        shape = Shape(models=(kinds.kind_of(part).load_model(),)) if not done and part == "accelerator" else _below(
            done, part, shape
        )  # fmt: skip
        done = (*done, part)
    return shape


def _axis(path: str, value: Any, place: Place, shape: Shape | None) -> Axis | None:
    """The axis that a value stands for; None for a single value."""
    if value == AUTO and (path.partition(".")[0] == "strategy" or path == DEVICES):
        return Axis(path, None, place)
    if is_mapping(value) and {"from", "to"} <= set(value):
        return Axis(path, tuple(_range(path, value, place)), place)
    if (
        path == "cluster.pools"
        or not is_list(value)
        or (shape is not None and shape.is_list and not _is_list_of_lists(value))
    ):
        return None
    if shape is not None and shape.is_open:
        return None
    if not value:
        raise_problems([Problem(place, path, "an empty list leaves nothing to search")])
    values = tuple(value)
    repeated = [one for i, one in enumerate(values) if one in values[:i]]
    if repeated:
        raise_problems([Problem(place, path, f"{repeated[0]!r} is listed twice")])
    return Axis(path, values, place)


def _is_list_of_lists(value: Sequence[Any]) -> bool:
    return bool(value) and all(is_list(one) for one in value)


def _range(path: str, value: Mapping[str, Any], place: Place) -> Iterator[Any]:
    """Values of ``{from, to, points, scale}`` with their unit."""
    unknown = [key for key in value if key not in RANGE_KEYS]
    if unknown:
        hint = nearest(unknown[0], RANGE_KEYS)
        raise_problems([Problem(place, path, f"a range has from, to, points and scale, not {unknown[0]!r}{hint}")])
    points, scale = value.get("points", 2), value.get("scale", "linear")
    if not isinstance(points, int) or not 2 <= points <= MAXIMUM_POINTS:
        raise_problems([Problem(place, path, f"points: expected a whole number from 2 to {MAXIMUM_POINTS}")])
    if scale not in SCALES:
        raise_problems([Problem(place, path, f"scale: expected linear or log, got {scale!r}")])
    (start, unit), (stop, other) = _end(path, value["from"], place), _end(path, value["to"], place)
    if bool(unit) != bool(other):
        without = value["to"] if unit else value["from"]
        raise_problems([Problem(place, path, f"{without!r} has no unit, and the other end of the range has one")])
    if unit != other:
        stop *= _factor(path, other, place) / _factor(path, unit, place)
    if stop <= start or (scale == "log" and start <= 0):
        wrong = "log needs a positive start" if start <= 0 and scale == "log" else "`to` must be larger than `from`"
        raise_problems([Problem(place, path, f"range from {value['from']} to {value['to']}: {wrong}")])
    for step in range(points):
        share = step / (points - 1)
        number = start * (stop / start) ** share if scale == "log" else start + share * (stop - start)
        number = stop if step == points - 1 else number
        yield f"{number!r} {unit}" if unit else _as_written(number)


def _end(path: str, value: Any, place: Place) -> tuple[float, str]:
    match = _NUMBER.fullmatch(str(value))
    if match is None:
        raise SpecError(f"{place}: {path}: expected a number with its unit at each end of a range, got {value!r}")
    return float(match.group(1).replace("_", "")), match.group(2)


def _factor(path: str, unit: str, place: Place) -> float:
    try:
        return parse_unit(unit).factor if unit else 1.0
    except UnitError as error:
        raise SpecError(f"{place}: {path}: {error}") from None


def _as_written(number: float) -> float | int:
    """Whole numbers as such: counts of devices or layers."""
    return int(number) if math.isclose(number, round(number), rel_tol=1e-12) else number


def refuse_axes(axes: Sequence[Axis], question: str) -> None:
    """Raise the error about lists in a question that has one value of everything."""
    if not axes:
        return
    raise_problems([
        Problem(
            one.place, one.path,
            f"several values belong to `question: search` (or capacity), not to `question: {question}`",
        )
        for one in axes
    ])  # fmt: skip
