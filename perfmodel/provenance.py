"""Where numbers come from: sources, sourced values, and the traced operand behind ``explain``.

A :class:`Traced` operand carries a value together with the expression that made it. The equations are
written with operators and NumPy ufuncs only, so that the *unchanged* formula, called with traced
operands, yields the derivation (NumPy's ``__array_ufunc__`` and ``__array_function__`` protocols).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class Basis(StrEnum):
    """What stands behind an input number (interface page, section 3)."""

    VENDOR = "vendor"
    MEASURED = "measured"
    PAPER = "paper"
    DERIVED = "derived"
    RECALLED = "recalled"
    ASSUMED = "assumed"
    USER = "user"
    QUOTED = "quoted"


@dataclass(frozen=True, slots=True)
class Sourced:
    """A number with its unit, its origin and (where stated) its range.

    Attributes
    ----------
    value
        SI value: a float, or an array when the number is swept as a column.
    unit
        Symbol of the SI unit of ``value``.
    source
        Key of the sources file (or ``scenario``, ``user``).
    basis
        See :class:`Basis`.
    path
        Dotted path of the number, for example ``accelerator.memory.bandwidth``.
    low, high
        Stated range in SI, or None.
    """

    value: Any
    unit: str
    source: str
    basis: Basis
    path: str = ""
    low: float | None = None
    high: float | None = None
    note: str = ""

    def at(self, path: str) -> Sourced:
        return replace(self, path=path)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One step of a derivation: a leaf, an operation, or the call of an equation."""

    operation: str
    operands: tuple[Traced, ...] = ()
    names: tuple[str, ...] = ()
    label: str = ""
    unit: str = ""
    source: str = ""
    basis: str = ""
    reference: str = ""
    body: Traced | None = None

    @property
    def is_leaf(self) -> bool:
        return self.operation == "leaf"

    @property
    def is_call(self) -> bool:
        return self.operation == "call"


def _value(operand: Any) -> Any:
    return operand.value if isinstance(operand, Traced) else operand


def as_traced(operand: Any) -> Traced:
    """Wrap a plain number as an anonymous leaf; traced operands pass through."""
    if isinstance(operand, Traced):
        return operand
    return Traced(operand, Node("leaf"))


class TracedComparisonError(TypeError):
    """An equation branched on a value; it must use ``np.where`` instead."""


class Traced(NDArrayOperatorsMixin):
    """A value and how it was made. Raises wherever a formula would lose the trace."""

    __slots__ = ("node", "value")

    def __init__(self, value: Any, node: Node) -> None:
        self.value = value
        self.node = node

    @classmethod
    def leaf(cls, value: Any, label: str, unit: str = "", source: str = "", basis: str = "") -> Traced:
        return cls(value, Node("leaf", label=label, unit=unit, source=source, basis=basis))

    @classmethod
    def from_sourced(cls, number: Sourced) -> Traced:
        return cls.leaf(number.value, number.path, number.unit, number.source, str(number.basis))

    def named(self, label: str, unit: str = "") -> Traced:
        """The same value under a name of its own: a step that a person wants to see."""
        return Traced(self.value, Node("name", (self,), label=label, unit=unit))

    def trace_call(self, function: Callable[..., Any], reference: str, arguments: Mapping[str, Any]) -> Any:
        """Evaluate an equation and record it as one node with its body (see ``units.equation``)."""
        result = function(**arguments)
        names, operands = _flatten_arguments(arguments)
        node = Node("call", operands, names, label=function.__name__, reference=reference)
        return _wrap_result(result, node)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs:
            return NotImplemented
        value = ufunc(*(_value(operand) for operand in inputs))
        return Traced(value, Node(ufunc.__name__, tuple(as_traced(operand) for operand in inputs)))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func not in (np.where, np.clip, np.interp) or kwargs:
            return NotImplemented
        value = func(*(_value(operand) for operand in args))
        return Traced(value, Node(func.__name__, tuple(as_traced(operand) for operand in args)))

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise TracedComparisonError("a formula must not branch on a value or convert it; use np.where")

    __bool__ = _refuse
    __float__ = _refuse
    __int__ = _refuse
    __array__ = _refuse
    __iter__ = None  # type: ignore[assignment]

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"Traced({self.value!r}, {self.node.operation} {self.node.label})"

    def walk(self) -> Iterator[Traced]:
        """Every distinct node below (and including) this one, depth first."""
        seen: set[int] = set()
        stack: list[Traced] = [self]
        while stack:
            current = stack.pop()
            if id(current) in seen:
                continue
            seen.add(id(current))
            yield current
            stack.extend(reversed(current.node.operands))
            if current.node.body is not None:
                stack.append(current.node.body)


def _flatten_arguments(arguments: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[Traced, ...]]:
    names: list[str] = []
    operands: list[Traced] = []
    for name, argument in arguments.items():
        parts = argument if isinstance(argument, tuple) else (argument,)
        for position, part in enumerate(parts):
            if isinstance(part, (Traced, int, float, np.ndarray, np.generic)):
                names.append(name if len(parts) == 1 else f"{name}[{position}]")
                operands.append(as_traced(part))
    return tuple(names), tuple(operands)


def _wrap_result(result: Any, node: Node) -> Any:
    if isinstance(result, tuple):
        fields = getattr(result, "_fields", None)
        parts = [_wrap_result(part, node) for part in result]
        return type(result)(*parts) if fields else tuple(parts)
    body = as_traced(result)
    return Traced(body.value, replace(node, body=body))


@dataclass
class SourceUse:
    """One source and the numbers of a result that rest on it."""

    key: str
    basis: str
    used_for: list[str] = field(default_factory=list)
