"""Walking the declared structure of a spec: which keys a path allows, and which fields are numbers.

Used for the nearest-key hint of error messages, for ``--set`` and for the default provenance of files.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel

from perfmodel.specs.quantities import quantity
from perfmodel.specs.yaml_reader import KeyPath

Annotation: TypeAlias = Any


@dataclass(frozen=True)
class Shape:
    """What may stand at one path: the union of the declared alternatives.

    Attributes
    ----------
    models
        Mappings with declared keys.
    values
        Types of the values of mappings with free keys, and of the items of lists.
    unit
        Unit of the number, or None when it is not a number with a unit.
    limits
        Smallest and largest number that is allowed, in SI.
    choices
        Allowed texts, where they are declared.
    is_open
        Anything may stand here.
    is_free_mapping, is_list, is_text
        A mapping with free keys, a list, or a text (a name, for example) may stand here.
    """

    models: tuple[type[BaseModel], ...] = ()
    values: tuple[Annotation, ...] = ()
    unit: str | None = None
    choices: tuple[Any, ...] = ()
    is_open: bool = False
    is_free_mapping: bool = False
    is_list: bool = False
    is_text: bool = False
    limits: tuple[float, float] = (0.0, float("inf"))

    @property
    def keys(self) -> list[str]:
        """Declared keys, as they are written in a file."""
        return [key for model in self.models for key in _fields(model)]


@functools.cache
def _fields(model: type[BaseModel]) -> dict[str, Annotation]:
    """Key in a file -> annotation (with its metadata)."""
    result: dict[str, Annotation] = {}
    for name, info in model.model_fields.items():
        annotation: Any = info.annotation
        for extra in info.metadata:
            annotation = Annotated[annotation, extra]
        result[info.alias or name] = annotation
    return result


def shape_of(annotation: Annotation) -> Shape:
    """The shape that an annotation declares."""
    found = _Collector()
    found.add(annotation)
    return found.shape()


class _Collector:
    def __init__(self) -> None:
        self.models: list[type[BaseModel]] = []
        self.values: list[Annotation] = []
        self.choices: list[Any] = []
        self.unit: str | None = None
        self.limits = (0.0, float("inf"))
        self.is_open = self.is_free_mapping = self.is_list = self.is_text = False

    def shape(self) -> Shape:
        return Shape(
            tuple(self.models), tuple(self.values), self.unit, tuple(self.choices),
            self.is_open, self.is_free_mapping, self.is_list, self.is_text, self.limits,
        )  # fmt: skip

    def add(self, annotation: Annotation) -> None:
        origin, arguments = get_origin(annotation), get_args(annotation)
        if origin is Annotated:
            self._add_annotated(arguments)
        elif origin in (Union, types.UnionType):
            for argument in arguments:
                self.add(argument)
        elif origin is Literal:
            self.choices.extend(arguments)
        elif isinstance(origin, type) and issubclass(origin, Mapping):
            self.is_free_mapping = True
            self.values.append(arguments[1])
        elif isinstance(origin, type) and issubclass(origin, Sequence):
            self.is_list = True
            self.values.extend(argument for argument in arguments if argument is not Ellipsis)
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            self.models.append(annotation)
        elif annotation is Any:
            self.is_open = True
        elif annotation is str:
            self.is_text = True

    def _add_annotated(self, arguments: tuple[Any, ...]) -> None:
        for extra in arguments[1:]:
            if isinstance(extra, quantity):
                self.unit, self.limits = extra.unit, (extra.minimum, extra.maximum)
                return
        self.add(arguments[0])


@functools.lru_cache(maxsize=4096)
def shape_at(model: type[BaseModel], path: KeyPath) -> Shape | None:
    """The shape at a path below a model, or None when the path leaves what is declared."""
    shape = Shape(models=(model,))
    for part in path:
        below = child(shape, part)
        if below is None:
            return None
        shape = below
    return shape


def child(shape: Shape, part: str | int) -> Shape | None:
    """The shape one step further down."""
    annotations = [_fields(model)[str(part)] for model in shape.models if str(part) in _fields(model)]
    if not annotations and (shape.is_free_mapping or (shape.is_list and isinstance(part, int))):
        annotations = list(shape.values)
    if not annotations:
        return Shape(is_open=True) if shape.is_open else None
    found = _Collector()
    for annotation in annotations:
        found.add(annotation)
    return found.shape()
