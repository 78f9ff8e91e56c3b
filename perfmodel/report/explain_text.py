"""Derivations as text: every equation with its formula, its arguments and, below, where they come from.

Each step (an equation, a named intermediate, a long part of an expression) is written once and numbered;
later uses refer to the number. An input is given with its source where it first appears.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perfmodel.provenance import Traced
from perfmodel.report.derivation_units import Units, equation_named, operands_first
from perfmodel.report.display import clean, clip, display_width
from perfmodel.report.formula import math_of, symbols_of, to_text
from perfmodel.units import equation_units, format_quantity

_INFIX = {
    "add": "+", "subtract": "-", "multiply": "·", "divide": "/", "true_divide": "/", "power": "^", "floor_divide": "//",
    "greater": ">", "less": "<", "greater_equal": "≥", "less_equal": "≤", "equal": "=", "not_equal": "≠",
    "remainder": "mod", "logical_and": "and", "logical_or": "or",
}  # fmt: skip
_STRENGTH = {"+": 2, "-": 2, "·": 3, "/": 3, "//": 3, "mod": 3, "^": 4}
#: A part of an expression with more inputs and steps than this becomes a step of its own.
_LARGEST_PART = 6
_INDENT = 2
_DEEPEST_INDENT = 24


@dataclass
class _Writer:
    """State of one rendering: the numbers given so far, what was written, the lines."""

    width: int
    depth: int | None
    units: Units
    parts: set[int]
    numbers: dict[int, int] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    cut: bool = False

    def number(self, traced: Traced) -> int:
        return self.numbers.setdefault(id(traced.node), len(self.numbers) + 1)

    def is_step(self, traced: Traced) -> bool:
        return _has_name(traced) or id(traced.node) in self.parts

    def add(self, text: str, indent: int) -> None:
        space = " " * min(indent, _DEEPEST_INDENT)
        room = max(self.width - len(space), 20)
        for line in textwrap.wrap(text, room, subsequent_indent="    ", break_on_hyphens=False):
            self.lines.append(space + line if display_width(line) <= room else clip(space + line, self.width))

    def value(self, traced: Traced, declared: str = "") -> str:
        """A value with the declared unit, or else with the inferred one."""
        unit = declared if declared not in ("", "1") else self.units.of(traced)
        return value_text(traced.value, unit)

    def origin(self, leaf: Traced) -> str:
        """Source and basis of an input, the first time; nothing for a constant of a formula."""
        label = clean(leaf.node.label)
        if not label or label in self.given:
            return ""
        self.given.add(label)
        said = ", ".join(clean(part) for part in (leaf.node.basis, leaf.node.source) if part)
        return f" ({said})" if said else ""


def render_derivation(traced: Traced, *, depth: int | None = None, width: int = 100, colour: bool = False) -> str:
    """Write how a number came about, from the number down to the inputs.

    Parameters
    ----------
    traced
        The result of an evaluation with traced operands.
    depth
        Levels of steps to write below the first; None writes all.
    width
        Terminal columns.
    colour
        Write the numbers of the steps in bold.
    """
    writer = _Writer(max(width, 40), depth, Units(traced), _large_parts(traced))
    _write_step(writer, traced, 0)
    if writer.cut:
        writer.lines.append("Deeper steps are not shown.")
    text = "\n".join(writer.lines) + "\n"
    return _bold_numbers(text) if colour else text


def _large_parts(root: Traced) -> set[int]:
    """Nameless parts of expressions that are too large to read in a line."""
    sizes: dict[int, int] = {}
    parts: set[int] = set()
    for traced in operands_first(root):
        node = traced.node
        if node.is_leaf or _has_name(traced):
            sizes[id(node)] = 1
            continue
        total = 0
        for position, operand in enumerate(node.operands):
            size = sizes[id(operand.node)]
            # The run of a sum or product stays together, however long it is.
            same_run = position == 0 and operand.node.operation == node.operation
            if size > _LARGEST_PART and not same_run:
                parts.add(id(operand.node))
                size = 1
            total += size
        sizes[id(node)] = total
    return parts


def _has_name(traced: Traced) -> bool:
    return traced.node.is_call or traced.node.operation == "name"


def _bold_numbers(text: str) -> str:
    marked = []
    for line in text.splitlines():
        body = line.lstrip()
        number = body[: body.find("]") + 1]
        first = body.startswith("[") and number[1:-1].isdigit()
        marked.append(line.replace(number, f"\x1b[1m{number}\x1b[0m", 1) if first else line)
    return "\n".join(marked) + "\n"


def _write_step(writer: _Writer, traced: Traced, level: int) -> None:
    writer.written.add(id(traced.node))
    indent = level * _INDENT
    writer.add(f"[{writer.number(traced)}] {step_name(traced)} = {writer.value(traced)}", indent)
    write = _write_call if traced.node.is_call else _write_expression
    children = write(writer, traced, indent + 4)
    if writer.depth is not None and level >= writer.depth:
        writer.cut = writer.cut or bool(children)
        return
    for child in children:
        if id(child.node) not in writer.written:
            _write_step(writer, child, level + 1)


def _write_call(writer: _Writer, traced: Traced, indent: int) -> list[Traced]:
    """The formula of an equation, its reference, and its arguments; returns the steps below it."""
    node = traced.node
    function = equation_named(node.label)
    formulas = math_of(function) if function is not None else []
    for source in formulas:
        for line in to_text(source).splitlines():
            writer.add(line, indent)
    if not formulas and node.body is not None:
        writer.add(f"= {_infix(node.body, writer, 0)}", indent)
    if node.reference and node.reference not in writer.given:
        writer.given.add(node.reference)
        writer.add(f"after {clean(node.reference)}", indent)
    symbols = symbols_of(function) if function is not None else {}
    units = equation_units(function) if function is not None else {}
    children: list[Traced] = []
    for name, operand in zip(node.names, node.operands, strict=False):
        symbol = to_text(symbols[name]) if name in symbols else ""
        unit = units.get(name.split("[")[0])
        children += _write_argument(writer, name, symbol, operand, "" if unit is None else unit.symbol, indent)
    return children


def _write_argument(writer: _Writer, name: str, symbol: str, operand: Traced, unit: str, indent: int) -> list[Traced]:
    own = f"{symbol}: {name}" if symbol and symbol != name else name
    shown = f"{own} = {writer.value(operand, unit)}"
    if writer.is_step(operand):
        writer.add(f"{shown}  from [{writer.number(operand)}]", indent)
        return [operand]
    if operand.node.is_leaf:
        label = clean(operand.node.label)
        writer.add(f"{shown}  {label}{writer.origin(operand)}".rstrip(), indent)
        return []
    writer.add(f"{shown}  = {_infix(operand, writer, 0)}", indent)
    return _write_leaves(writer, operand, indent + 4)


def _write_expression(writer: _Writer, traced: Traced, indent: int) -> list[Traced]:
    """An expression in infix, then its inputs; returns the steps below it."""
    inner = traced.node.operands[0] if traced.node.operation == "name" else traced
    if inner is not traced and writer.is_step(inner):
        writer.add(f"= [{writer.number(inner)}] {step_name(inner)}", indent)
        return [inner]
    if inner.node.is_leaf:
        label = clean(inner.node.label)
        writer.add(f"an input{f', {label}' if label and inner is not traced else ''}{writer.origin(inner)}", indent)
        return []
    writer.add(f"= {_infix(inner, writer, 0)}", indent)
    return _write_leaves(writer, inner, indent + 2)


def _write_leaves(writer: _Writer, expression: Traced, indent: int) -> list[Traced]:
    """Give the values of the inputs of an expression; return the steps that it uses."""
    children: list[Traced] = []
    given: list[str] = []
    seen: set[int] = set()
    for part in _parts(writer, expression):
        if id(part.node) in seen:
            continue
        seen.add(id(part.node))
        if writer.is_step(part):
            children.append(part)
        elif part.node.label:
            given.append(f"{clean(part.node.label)} = {writer.value(part)}{writer.origin(part)}")
    if given:
        writer.add("with " + "; ".join(dict.fromkeys(given)), indent)
    return children


def _parts(writer: _Writer, expression: Traced) -> Iterator[Traced]:
    """Inputs and steps of an expression from left to right, without entering the steps."""
    stack = list(reversed(expression.node.operands))
    while stack:
        current = stack.pop()
        if current.node.is_leaf or writer.is_step(current):
            yield current
        else:
            stack.extend(reversed(current.node.operands))


def step_name(traced: Traced) -> str:
    """The name of a step for people."""
    return clean(traced.node.label) or ("value" if traced.node.is_leaf else "part")


def _infix(traced: Traced, writer: _Writer, outer: int) -> str:
    """An expression as people write it: names for inputs and steps, numbers for constants."""
    node = traced.node
    if outer and writer.is_step(traced):
        return f"[{writer.number(traced)}] {step_name(traced)}"
    if node.is_leaf:
        return clean(node.label) or value_text(traced.value, "")
    sign = _INFIX.get(node.operation)
    if sign and len(node.operands) == 2:
        said = _chain(traced, sign, writer)
        return f"({said})" if _STRENGTH.get(sign, 1) < outer else said
    if node.operation == "negative":
        return f"-{_infix(node.operands[0], writer, 4)}"
    return f"{node.operation}({', '.join(_infix(operand, writer, 1) for operand in node.operands)})"


def _chain(traced: Traced, sign: str, writer: _Writer) -> str:
    """A run of one sign, ``a + b + c``; a loop, because sums over operators are long."""
    strength = _STRENGTH.get(sign, 1)
    operation, rights, current = traced.node.operation, [], traced
    while current is traced or (current.node.operation == operation and sign != "^" and not writer.is_step(current)):
        if not _is_neutral(current.node.operands[1], sign):
            rights.append(_infix(current.node.operands[1], writer, strength + (sign in "-/^")))
        current = current.node.operands[0]
    if rights and sign in "+·" and _is_neutral(current, sign):
        return f" {sign} ".join(reversed(rights))
    first = _infix(current, writer, strength + (sign == "^"))
    return f" {sign} ".join([first, *reversed(rights)])


def _is_neutral(traced: Traced, sign: str) -> bool:
    """A constant that changes nothing: plus 0, times 1."""
    neutral = {"+": 0.0, "-": 0.0, "·": 1.0, "/": 1.0}.get(sign)
    constant = traced.node.is_leaf and not traced.node.label
    return constant and neutral is not None and bool(np.all(np.asarray(traced.value) == neutral))


def value_text(value: Any, unit: str) -> str:
    """A value with unit and four digits; the range of a longer column."""
    numbers = np.asarray(value, dtype=np.float64).ravel()
    symbol = {"J/s": "W", "1": "", "1/s": "Hz"}.get(unit, unit)
    if numbers.size == 0:
        return "-"
    if numbers.size == 1 or np.all(numbers == numbers[0]):
        return _number_text(float(numbers[0]), symbol)
    return f"{_number_text(float(numbers.min()), symbol)} to {_number_text(float(numbers.max()), symbol)}"


def _number_text(number: float, symbol: str) -> str:
    if symbol == "token":
        return f"{number:.6g} tokens"
    if not symbol or not np.isfinite(number):
        return f"{number:.6g} {symbol}".strip()
    return format_quantity(number, symbol, 4)


def derivation_dict(traced: Traced) -> dict[str, Any]:
    """The derivation as plain Python for JSON: ``root`` and ``steps`` by number, each step once.

    Values are SI; a step names its operation, its unit, its reference, its formula and its operands. An
    operand is a step number or, for an input, its own record.
    """
    numbers: dict[int, int] = {}
    order: list[Traced] = []
    stack = [traced]
    while stack:
        current = stack.pop()
        if id(current.node) in numbers or current.node.is_leaf:
            continue
        numbers[id(current.node)] = len(order) + 1
        order.append(current)
        stack.extend(reversed(current.node.operands))
    units = Units(traced)
    root = numbers.get(id(traced.node)) or _leaf_record(traced)
    steps = [_step_record(one, numbers, units) for one in order]
    return {"schema": "perfmodel.derivation/1", "root": root, "steps": steps}


def _step_record(traced: Traced, numbers: dict[int, int], units: Units) -> dict[str, Any]:
    node = traced.node
    function = equation_named(node.label) if node.is_call else None
    names = node.names or tuple("" for _ in node.operands)
    operands = [
        {"name": name, "value": numbers.get(id(operand.node)) or _leaf_record(operand)}
        if node.names
        else numbers.get(id(operand.node)) or _leaf_record(operand)
        for name, operand in zip(names, node.operands, strict=False)
    ]
    record = {"step": numbers[id(node)], "operation": node.operation, "name": node.label, "value": _plain(traced.value),
              "unit": units.of(traced), "operands": operands}  # fmt: skip
    if node.is_call:
        record |= {"reference": node.reference, "formula": math_of(function) if function is not None else []}
    return record


def _leaf_record(leaf: Traced) -> dict[str, Any]:
    node = leaf.node
    return {
        "name": node.label,
        "value": _plain(leaf.value),
        "unit": node.unit,
        "source": node.source,
        "basis": node.basis,
    }


def _plain(value: Any) -> Any:
    numbers = np.asarray(value, dtype=np.float64)
    listed = [number if np.isfinite(number) else None for number in numbers.ravel().tolist()]
    return listed[0] if len(listed) == 1 else listed


def render_derivation_json(traced: Traced) -> str:
    """The derivation as JSON."""
    return json.dumps(derivation_dict(traced), indent=2, allow_nan=False, ensure_ascii=False)
