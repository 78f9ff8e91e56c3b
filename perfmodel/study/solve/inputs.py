"""The input that a solution varies: its present value, its unit, whether it is whole, and where to look for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from perfmodel.engine.build import build_question
from perfmodel.errors import SpecError, nearest
from perfmodel.machine.columns import machine_path, swept_paths
from perfmodel.provenance import Sourced
from perfmodel.specs import kinds
from perfmodel.specs.axes import DEVICES
from perfmodel.specs.problems import Problem, raise_problems
from perfmodel.specs.quantities import read_count
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.specs.structure import Shape, child
from perfmodel.specs.yaml_reader import Place
from perfmodel.units import UnitError, parse_quantity

#: Looked for from a thousandth to a thousandfold of a number of the machine, and a 32nd to 32 times a whole number.
_MACHINE_SPAN, _WHOLE_SPAN = 1000.0, 32
#: First part of a path -> part of a resolved scenario.
_PARTS = ("model", "cluster", "accelerator", "software", "numerics", "efficiency_class", "interconnects")


@dataclass(frozen=True)
class Input:
    """What varies.

    Attributes
    ----------
    path
        As the scenario writes it.
    unit
        Of the values, SI; ``1`` for counts and ratios.
    whole
        Takes whole numbers only.
    lower, upper
        Ends of the interval in which a solution is looked for.
    column
        Path by which the machine knows the number; None where every value is a scenario of its own.
    """

    path: str
    unit: str
    whole: bool
    lower: float
    upper: float
    column: str | None = None

    def written(self, value: float) -> Any:
        """The value as a scenario writes it."""
        if self.whole:
            return round(value)
        return float(value) if self.unit == "1" else f"{float(value)!r} {self.unit}"

    @property
    def is_wide(self) -> bool:
        """The ends differ by orders of magnitude."""
        return self.lower > 0.0 and self.upper / self.lower > 20.0


def input_of(resolved: ResolvedScenario) -> Input:
    """The input that a scenario varies.

    Raises
    ------
    SpecError
        It is not a number of the scenario, or the interval cannot be.
    """
    path = str(resolved.scenario.vary)
    place = resolved.place("vary")
    machine = build_question(resolved.candidate()).problem.machine
    column = machine_path(path)
    known = set(swept_paths(machine))
    value = present_value(resolved, path)
    if value is None:  # not stated, but the machine has a number of that name: from a class
        value = next((one for one in machine.provenance.values() if one.path == column), None)
    shape = _shape(path) or (Shape() if column in known else None)
    unit = value.unit if isinstance(value, Sourced) else _unit(shape)
    if shape is None or not (unit or _is_count(value)):
        choices = known | {f"cluster.{one}" for one in known if one.startswith("accelerator.")} | _counts(resolved)
        what = f"{path!r} is not a number of this scenario{nearest(path, choices)}"
        raise_problems([Problem(place, "vary", what)])
    limits = (0.0, np.inf) if shape is None else shape.limits
    now = float(value.value if isinstance(value, Sourced) else value or 0.0)
    lower, upper = _interval(resolved, path, unit or "1", now, limits, whole=not unit)
    return Input(path, unit or "1", not unit, lower, upper, column if column in known else None)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _unit(shape: Shape | None) -> str:
    return "" if shape is None or shape.unit is None else shape.unit


def _shape(path: str) -> Shape | None:
    """What a scenario may say at a path, in the scenario or in the specs behind it."""
    parts = machine_path(path).split(".")
    root = {"efficiency_class": "efficiency", "interconnects": "interconnect"}.get(parts[0], parts[0])
    if path == DEVICES:
        return Shape()
    if parts[0] in _PARTS:
        parts = parts[2:] if parts[0] == "interconnects" else parts[1:]
        shape: Shape | None = Shape(models=(kinds.kind_of(root).load_model(),))
    else:
        shape = Shape(models=(kinds.kind_of("scenario").load_model(),))
    for part in parts:
        if shape is None:
            return None
        below = child(shape, part)
        shape = child(shape, 0) if below is None and shape.is_list else below
    return shape


def present_value(resolved: ResolvedScenario, path: str) -> Any:
    """The number that a scenario or a spec behind it has at a path; None where it says none."""
    if path == DEVICES:
        return resolved.devices
    parts = machine_path(path).split(".")
    current: Any = resolved if parts[0] in _PARTS else resolved.scenario
    while parts and current is not None:
        current, parts = _below(current, parts)
    return current


def _below(value: Any, parts: list[str]) -> tuple[Any, list[str]]:
    """One step down: an attribute, a key (which may hold dots), or an item of a list by name or position."""
    first = parts[0]
    if isinstance(value, Mapping):
        for used in range(len(parts), 0, -1):
            if ".".join(parts[:used]) in value:
                return value[".".join(parts[:used])], parts[used:]
        return None, []
    if isinstance(value, (list, tuple)):
        named = [one for one in value if getattr(one, "name", None) == first]
        at = int(first) if first.isdecimal() and int(first) < len(value) else None
        return (named[0] if named else None if at is None else value[at]), parts[1:]
    if isinstance(value, BaseModel):
        names = {info.alias or name: name for name, info in type(value).model_fields.items()}
        return getattr(value, names.get(first, ""), None), parts[1:]
    return getattr(value, first, None), parts[1:]


def _counts(resolved: ResolvedScenario) -> set[str]:
    """Whole numbers of the workload and the strategy, for hints."""
    found = {DEVICES, "model.layers"}
    for part in ("workload", "strategy"):
        spec = getattr(resolved.scenario, part)
        found |= {f"{part}.{name}" for name in type(spec).model_fields if _is_count(getattr(spec, name))}
    return found


def _interval(
    resolved: ResolvedScenario, path: str, unit: str, now: float, limits: tuple[float, float], *, whole: bool
) -> tuple[float, float]:
    stated = resolved.scenario.between
    if stated is None:
        lower, upper = _around(resolved, path, now, whole=whole)
        return max(lower, limits[0]), min(upper, limits[1])
    place = resolved.place("between")
    lower, upper = (_end(place, value, unit, whole=whole) for value in (stated.from_, stated.to))
    if not lower < upper:
        words = f"from {stated.from_} to {stated.to}: `to` must be larger than `from`"
        raise_problems([Problem(place, "between", words)])
    if lower < limits[0] or upper > limits[1]:
        words = f"{path} is allowed from {limits[0]:g} to {limits[1]:g}" + ("" if unit == "1" else f" {unit}")
        raise_problems([Problem(place, "between", words)])
    if whole and lower < 1.0:
        raise_problems([Problem(place, "between", f"{path} is a whole number of at least 1")])
    return lower, upper


def _end(place: Place, value: float | str, unit: str, *, whole: bool) -> float:
    try:
        if whole:
            return float(read_count(value))
        if isinstance(value, str):
            return parse_quantity(value, unit)
    except (UnitError, ValueError) as error:
        raise SpecError(f"{place}: between: {error}") from None
    if unit != "1":
        raise SpecError(f"{place}: between: {value:g} has no unit; expected a quantity of {unit}")
    return float(value)


def _around(resolved: ResolvedScenario, path: str, now: float, *, whole: bool) -> tuple[float, float]:
    """A wide interval around the present value."""
    if now <= 0.0:
        place = resolved.place("vary")
        what = f"{path} has no value here from which to start; say where to look with `between: {{from: ..., to: ...}}`"
        raise_problems([Problem(place, "vary", what)])
    if path == DEVICES:
        return 1.0, float(resolved.cluster.devices)
    if path.startswith("strategy.") and whole:
        return 1.0, float(resolved.devices)
    if whole:
        return float(max(1, int(now) // _WHOLE_SPAN)), float(int(now) * _WHOLE_SPAN)
    return now / _MACHINE_SPAN, now * _MACHINE_SPAN


def points_between(lower: float, upper: float, count: int, *, wide: bool) -> np.ndarray:
    """Values from end to end, the ends exact."""
    values = np.geomspace(lower, upper, count) if wide else np.linspace(lower, upper, count)
    values[0], values[-1] = lower, upper
    return values
