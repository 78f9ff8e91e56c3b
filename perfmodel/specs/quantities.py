"""The base of every spec model, and the field types for numbers with a unit and a source.

A dimensional field is annotated ``bandwidth: BandwidthField`` (or ``Annotated[Sourced, quantity("B/s")]``).
In a file it is a string with a unit, or a mapping when the number has its own source::

    bandwidth: 3.35 TB/s
    bandwidth: {value: 3.35 TB/s, source: some-key, basis: vendor, low: 3 TB/s, high: 3.4 TB/s, note: "..."}

A mapping in a file may carry ``provenance: {source: KEY, basis: BASIS}``: the default for every number
inside it that does not name its own (the innermost wins). :func:`apply_provenance` fills it in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self, TypeGuard, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, PrivateAttr
from pydantic_core import PydanticCustomError, core_schema

from perfmodel.errors import nearest
from perfmodel.provenance import Basis, Sourced
from perfmodel.units import UnitError, parse_count, parse_quantity

#: Marks a number whose source was not given where it stands; replaced by :func:`apply_provenance`.
UNSOURCED = ""

#: Source of a number that says what stands behind it, but not where it is written.
UNSTATED = "unstated"

_MAPPING_KEYS = {"value", "source", "basis", "low", "high", "note"}


def _is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(value, Mapping)


def _is_sequence(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return isinstance(value, (list, tuple))


class quantity:  # noqa: N801 - reads as a function in annotations
    """Annotation of a :class:`~perfmodel.provenance.Sourced` field: the unit its text must have.

    ``positive`` numbers stand in a denominator: zero is refused.
    """

    def __init__(
        self, unit: str, *, minimum: float = 0.0, maximum: float = float("inf"), positive: bool = False
    ) -> None:
        self.unit = unit
        self.minimum = minimum
        self.maximum = maximum
        self.positive = positive

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._validate, serialization=core_schema.plain_serializer_function_ser_schema(_serialise)
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        scalar: dict[str, Any] = {"type": "string", "description": f"quantity of {self.unit}"}
        if self.unit == "1":
            scalar = {"type": ["number", "string"], "description": "pure number or percentage"}
        properties = {"value": scalar, "low": scalar, "high": scalar, "source": {"type": "string"},
                      "basis": {"enum": [str(one) for one in Basis]}, "note": {"type": "string"}}  # fmt: skip
        full = {"type": "object", "properties": properties, "required": ["value"], "additionalProperties": False}
        return {"anyOf": [scalar, full]}

    def _number(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise PydanticCustomError("quantity", "expected a quantity of {unit}, got {got}", self._context(value))
        if isinstance(value, str):
            try:
                number = parse_quantity(value, self.unit)
            except UnitError as error:
                raise PydanticCustomError("quantity", "{message}", {"message": str(error)}) from None
        elif self.unit == "1":
            number = float(value)
        else:
            raise PydanticCustomError(
                "quantity", "{got} has no unit; expected a quantity of {unit}", self._context(value)
            )
        if not math.isfinite(number):
            raise PydanticCustomError("range", "{got} is not finite", self._context(value))
        if self.positive and number <= 0.0:
            raise PydanticCustomError("range", "{got} must be larger than 0", self._context(value))
        if not self.minimum <= number <= self.maximum:
            raise PydanticCustomError(
                "range", "{got} is {allowed}", self._context(value) | {"allowed": self._allowed()}
            )
        return number

    def _allowed(self) -> str:
        unit = "" if self.unit == "1" else f" {self.unit}"
        if self.maximum == float("inf"):
            return f"below {self.minimum:g}{unit}"
        return f"outside {self.minimum:g} .. {self.maximum:g}{unit}"

    def _context(self, value: Any) -> dict[str, Any]:
        return {"unit": self.unit, "got": repr(value)}

    def _validate(self, value: Any) -> Sourced:
        if isinstance(value, Sourced):
            return value
        if not _is_mapping(value):
            return Sourced(self._number(value), self.unit, UNSOURCED, Basis.ASSUMED)
        unknown = set(value) - _MAPPING_KEYS
        if unknown or "value" not in value:
            context = {
                "keys": ", ".join(sorted(map(str, unknown))) or "no value",
                "allowed": ", ".join(sorted(_MAPPING_KEYS)),
            }
            raise PydanticCustomError("quantity", "a number may say {allowed}; got {keys}", context)
        number = self._number(value["value"])
        low, high = (self._number(value[key]) if key in value else None for key in ("low", "high"))
        if not (number if low is None else low) <= number <= (number if high is None else high):
            raise PydanticCustomError("range", "low, value and high must grow; got {got}", {"got": repr(dict(value))})
        # A number that states its basis only is told apart from one that states nothing and inherits both.
        source = value.get("source", UNSTATED if "basis" in value else UNSOURCED)
        if not isinstance(source, str):
            raise PydanticCustomError(
                "source", "source: expected a key of the sources file, got {got}", self._context(source)
            )
        return Sourced(number, self.unit, source, _basis(value), low=low, high=high, note=str(value.get("note", "")))


def _basis(value: Mapping[str, Any]) -> Basis:
    stated = value.get("basis", Basis.ASSUMED)
    try:
        return Basis(stated)
    except ValueError:
        names = [str(one) for one in Basis]
        context = {"got": repr(stated), "allowed": ", ".join(names) + nearest(str(stated), names)}
        raise PydanticCustomError("basis", "unknown basis {got}; allowed: {allowed}", context) from None


def _serialise(number: Sourced) -> dict[str, Any]:
    value = number.value.tolist() if hasattr(number.value, "tolist") else number.value
    written = {"value": f"{value!r} {number.unit}" if number.unit != "1" else value,
               "source": number.source, "basis": str(number.basis), "note": number.note}  # fmt: skip
    ranges = {
        name: f"{bound!r} {number.unit}"
        for name, bound in (("low", number.low), ("high", number.high))
        if bound is not None
    }
    return {key: one for key, one in (written | ranges).items() if one != ""}


def read_count(value: Any) -> int:
    """Read a whole number: ``8192``, ``8k``, ``15.6T``; raises ``PydanticCustomError`` with a message for people."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise PydanticCustomError("count", "expected a count, got {got}", {"got": repr(value)})
    try:
        number = parse_count(value) if isinstance(value, str) else float(value)
    except UnitError as error:
        raise PydanticCustomError("count", "{message}", {"message": str(error)}) from None
    if number != int(number) or number < 0:
        raise PydanticCustomError("count", "expected a whole number >= 0, got {got}", {"got": repr(value)})
    return int(number)


class _Count:
    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(read_count)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^[\d._eE]+[kKMBGT]?$"}]}


#: A whole number; also ``8k``, ``405B``, ``15.6T`` (powers of 1000).
CountField = Annotated[int, _Count()]
TimeField = Annotated[Sourced, quantity("s")]
BytesField = Annotated[Sourced, quantity("B")]
BandwidthField = Annotated[Sourced, quantity("B/s", positive=True)]
FlopRateField = Annotated[Sourced, quantity("FLOP/s", positive=True)]
FrequencyField = Annotated[Sourced, quantity("1/s", positive=True)]
DurationField = Annotated[Sourced, quantity("s", positive=True)]
PowerField = Annotated[Sourced, quantity("W")]
PositivePowerField = Annotated[Sourced, quantity("W", positive=True)]
RatioField = Annotated[Sourced, quantity("1")]
PositiveRatioField = Annotated[Sourced, quantity("1", positive=True)]
FractionField = Annotated[Sourced, quantity("1", maximum=1.0)]
PositiveFractionField = Annotated[Sourced, quantity("1", maximum=1.0, positive=True)]
EnergyPerFlopField = Annotated[Sourced, quantity("J/FLOP")]
EnergyPerByteField = Annotated[Sourced, quantity("J/B")]
MoneyField = Annotated[Sourced, quantity("USD")]
MoneyRateField = Annotated[Sourced, quantity("USD/s")]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a loaded spec came from.

    Attributes
    ----------
    path
        The file, or None for an inline mapping without a file.
    label
        What a person sees: the file (relative where short), or ``inline in FILE``.
    user
        The file is not one that ships with the package.
    """

    path: Path | None
    label: str
    user: bool = True

    def __str__(self) -> str:
        return self.label


class SpecModel(BaseModel):
    """Frozen, closed (unknown keys are errors), and safe to hash by identity."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True, populate_by_name=True)

    _origin: Origin | None = PrivateAttr(default=None)

    @property
    def origin(self) -> Origin | None:
        """The file that the spec came from; None for a part of a spec and for one made in Python."""
        return self._origin

    def placed(self, origin: Origin) -> Self:
        """A copy that knows where it came from."""
        copy = self.model_copy()
        copy._origin = origin  # noqa: SLF001 - of a copy of this very object
        return copy


class Provenance(SpecModel):
    """Default source and basis of the numbers in the mapping where it stands."""

    source: str
    basis: Basis


_Model = TypeVar("_Model", bound=BaseModel)


def apply_provenance(model: _Model, path: str = "", default: Provenance | None = None) -> _Model:
    """Give every number its dotted path, and the nearest enclosing provenance where it has none."""
    own = getattr(model, "provenance", None)
    inherited = own if isinstance(own, Provenance) else default
    changes = {
        name: _apply(getattr(model, name), f"{path}.{name}" if path else name, inherited)
        for name in type(model).model_fields
        if name != "provenance" and getattr(model, name) is not None
    }
    return model.model_copy(update=changes)


def _apply(value: Any, path: str, default: Provenance | None) -> Any:
    if isinstance(value, Sourced):
        if value.source != UNSOURCED or default is None:
            return value.at(path)
        return replace(value, source=default.source, basis=default.basis, path=path)
    if isinstance(value, BaseModel):
        return apply_provenance(value, path, default)
    if _is_mapping(value):
        return {key: _apply(one, f"{path}.{key}", default) for key, one in value.items()}
    if _is_sequence(value):
        named = [getattr(one, "name", None) or str(position) for position, one in enumerate(value)]
        return type(value)(_apply(one, f"{path}.{name}", default) for one, name in zip(value, named, strict=True))
    return value
