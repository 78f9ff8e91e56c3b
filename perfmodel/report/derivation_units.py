"""Units of the steps of a derivation, from their inputs: what the equations do not state is inferred."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from perfmodel.provenance import Node, Traced
from perfmodel.units import BASE_SYMBOLS, EQUATIONS, UnitError, equation_units, parse_unit

_Exponents = tuple[float, ...]
_NONE: _Exponents = (0.0,) * len(BASE_SYMBOLS)
#: Operations whose result has the unit of their operands.
_KEEPS = (
    "add",
    "subtract",
    "maximum",
    "minimum",
    "clip",
    "where",
    "absolute",
    "negative",
    "ceil",
    "floor",
    "fmax",
    "fmin",
)
_SHOWN = (
    "s", "B", "FLOP", "J", "USD", "kg", "token", "B/s", "FLOP/s", "J/s", "1/s", "token/s", "FLOP/B", "J/FLOP", "J/B",
    "FLOP/token", "J/token", "USD/s", "USD/J", "kg/J",
)  # fmt: skip
_SYMBOLS = {tuple(float(one) for one in parse_unit(symbol).exponents): symbol for symbol in _SHOWN}


def equation_named(label: str) -> Callable[..., Any] | None:
    """The registered equation with this function name."""
    return next((function for name, function in EQUATIONS.items() if name.rsplit(".", 1)[-1] == label), None)


def operands_first(root: Traced, enters: Callable[[Traced], bool] = lambda _: True) -> Iterator[Traced]:
    """Every distinct step below a step, operands before what uses them (a loop: sums are deep)."""
    seen: set[int] = set()
    stack = [(root, False)]
    while stack:
        current, entered = stack.pop()
        if entered:
            yield current
        elif id(current.node) not in seen:
            seen.add(id(current.node))
            stack.append((current, True))
            if enters(current):
                stack.extend((operand, False) for operand in reversed(current.node.operands))


class Units:
    """Units of all steps of one derivation."""

    def __init__(self, root: Traced) -> None:
        self._known: dict[int, _Exponents | None] = {}
        self._stated: dict[int, str] = {}
        for traced in operands_first(root):
            self._known[id(traced.node)] = self._infer(traced)

    def of(self, traced: Traced) -> str:
        """Symbol of the unit of a step, empty where it has none or none is known."""
        if id(traced.node) not in self._known:
            return traced.node.unit
        exponents = self._known[id(traced.node)]
        return self._stated.get(id(traced.node)) or _SYMBOLS.get(exponents or _NONE, "")

    def _infer(self, traced: Traced) -> _Exponents | None:
        node = traced.node
        stated = _stated_unit(node)
        if stated is not None:
            self._stated[id(node)] = stated
            try:
                return tuple(float(one) for one in parse_unit(stated).exponents)
            except UnitError:
                return None
        operands = [self._known.get(id(operand.node)) for operand in node.operands]
        if node.operation in _KEEPS or node.operation == "name":
            choices = operands[1:] if node.operation == "where" else operands
            return next((one for one in choices if one is not None and any(one)), _NONE)
        return _combined(node, operands)


def _stated_unit(node: Node) -> str | None:
    """Unit that a node states itself, or that its equation declares."""
    if node.unit or node.is_leaf:
        return node.unit or "1"
    if not node.is_call:
        return None
    function = equation_named(node.label)
    declared = equation_units(function).get("return") if function is not None else None
    return declared.symbol if declared is not None else None


def _combined(node: Node, operands: list[_Exponents | None]) -> _Exponents | None:
    if any(one is None for one in operands):
        return None
    known = [one for one in operands if one is not None]
    if node.operation == "multiply":
        return tuple(a + b for a, b in zip(*known, strict=True))
    if node.operation in ("divide", "true_divide"):
        return tuple(a - b for a, b in zip(*known, strict=True))
    power = {"sqrt": 0.5, "cbrt": 1 / 3, "square": 2.0, "reciprocal": -1.0}.get(node.operation)
    if node.operation == "power":
        power = _constant(node.operands[1])
    if power is None:
        return _NONE
    return tuple(round(one * power, 9) for one in known[0])


def _constant(exponent: Traced) -> float | None:
    numbers = np.asarray(exponent.value, dtype=np.float64).ravel()
    return float(numbers[0]) if numbers.size == 1 else None
