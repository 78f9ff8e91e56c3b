"""Writing specs and scenarios as YAML."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from perfmodel.errors import SpecError
from perfmodel.files import write_whole
from perfmodel.specs.plain import is_list, is_mapping
from perfmodel.specs.quantities import SpecModel
from perfmodel.specs.yaml_reader import resolve_scalar
from perfmodel.units import UnitError, parse_quantity

#: Longest line that holds a list or mapping in brackets.
WIDTH = 110
#: Text that needs no quotes anywhere in a file; everything else gets them.
_PLAIN = re.compile(r"[A-Za-z0-9_/(][A-Za-z0-9_./()%+=-]*( [A-Za-z0-9_./()%+=-]+)*")
_ESCAPES = {'"': '\\"', "\\": "\\\\"}
_BINARY = ("Ki", "Mi", "Gi", "Ti")
_PREFIXES = ("", "k", "M", "G", "T", "P", "E", "m", "u", "n", "p", "f")
#: SI units that carry no prefix in print.
_UNPREFIXED = ("1", "USD", "kg", "1/s")


def exact_quantity(value: float, unit: str) -> str:
    """The shortest text with an SI prefix that reads back as exactly the same number.

    ``exact_quantity(3.35e12, "B/s")`` is ``3.35 TB/s``.
    """
    plain = f"{value!r} {unit}"
    if unit.startswith(_UNPREFIXED) or value == 0:
        return plain
    prefixes = (*_PREFIXES, *_BINARY) if unit == "B" else _PREFIXES
    candidates = [text for prefix in prefixes if (text := _scaled(value, f"{prefix}{unit}", unit)) is not None]
    return min(candidates, key=_clumsiness, default=plain)


def _clumsiness(text: str) -> int:
    """Characters of the number; numbers outside 1 .. 1000 count as longer."""
    number = text.split(" ", maxsplit=1)[0]
    return len(number) + (0 if 1 <= abs(float(number)) < 1000 else 2)


def _scaled(value: float, prefixed: str, unit: str) -> str | None:
    try:
        factor = parse_quantity(f"1 {prefixed}", unit)
    except UnitError:
        return None
    text = f"{value / factor:.15g} {prefixed}"
    return text if parse_quantity(text, unit) == value and "e" not in text.split(" ", maxsplit=1)[0] else None


def to_data(spec: SpecModel) -> dict[str, Any]:
    """What a file would say for a spec: only what differs from the defaults, numbers with their sources."""
    data = spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    head = {name: getattr(spec, name) for name in ("kind", "name") if hasattr(spec, name)}
    return {**head, **{key: _readable(value) for key, value in data.items() if key not in head}}


def _readable(value: Any) -> Any:
    if is_mapping(value):
        items: dict[str, Any] = {str(key): one for key, one in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        if {"value", "source", "basis"} <= set(items):
            numbers = {key: _readable_number(one) for key, one in items.items() if key in ("value", "low", "high")}
            return items | numbers
        return {key: _readable(one) for key, one in items.items()}
    if is_list(value):
        return [_readable(one) for one in value]
    return value


def _readable_number(written: Any) -> Any:
    if not isinstance(written, str) or " " not in written:
        return written
    number, _, unit = written.partition(" ")
    return exact_quantity(float(number), unit)


def to_yaml(data: Mapping[str, Any]) -> str:
    """YAML text of plain values; it reads back as the same values.

    Raises
    ------
    SpecError
        The values are not plain (text, numbers, truth values, None, lists, mappings).
    """
    return "".join(f"{line}\n" for line in _block(data, "")) or "{}\n"


def _block(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, one in value.items():
        yield from _entry(f"{indent}{_scalar(key)}:", one, indent)


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    """``head value`` on one line when the value is short, else below it."""
    line = f"{head} {_flow(value)}"
    short = len(line) <= WIDTH and not _is_deep(value)
    if short or not value or not (is_mapping(value) or is_list(value)):
        yield line
    elif is_mapping(value):
        yield head
        yield from _block(value, f"{indent}  ")
    else:
        yield head
        for one in value:
            yield from _entry(f"{indent}  -", one, f"{indent}    ")


def _is_deep(value: Any) -> bool:
    """Whether a list or mapping holds mappings that read better on lines of their own."""
    parts: Iterable[Any] = value.values() if is_mapping(value) else value if is_list(value) else ()
    return any(is_mapping(one) or is_list(one) for one in parts)


def _flow(value: Any) -> str:
    if is_mapping(value):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(_flow(one) for one in cast('list[Any]', value))}]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)) and math.isfinite(value):
        return repr(value)
    if not isinstance(value, str):
        raise SpecError(f"{value!r} cannot be written as YAML without loss")
    if _PLAIN.fullmatch(value) and resolve_scalar(value) == value:
        return value
    escaped = (_ESCAPES.get(sign) or (sign if sign.isprintable() else f"\\U{ord(sign):08x}") for sign in value)
    return f'"{"".join(escaped)}"'


def save(path: Path, spec: SpecModel | Mapping[str, Any], comment: str = "") -> None:
    """Write a spec (or the plain mapping of one) as YAML, with a comment at its top.

    Raises
    ------
    SpecError, UsageError
        The values cannot be written, or the file cannot.
    """
    data = to_data(spec) if isinstance(spec, SpecModel) else spec
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    write_whole(path, head + to_yaml(data))
