"""Numbers of inputs and results in sentences of a study."""

from __future__ import annotations

from perfmodel.specs.scenario import key_unit
from perfmodel.units import format_quantity

#: Units that people write with other symbols.
_SYMBOLS = {"J/s": "W", "1/s": "Hz"}
_PREFIXED = ("B", "J", "W")


def shown(value: float, unit: str) -> str:
    """A number in SI with its unit."""
    if unit == "1":
        return plain(value)
    if unit == "s" and value >= 1.0:
        return f"{plain(value)} s"
    return format_quantity(value, _SYMBOLS.get(unit, unit), 4)


def shown_result(key: str, value: float) -> str:
    """A result in the unit of its key."""
    unit = key_unit(key)
    if key.endswith(("mfu", "hfu", "goodput")):
        return f"{plain(100.0 * value)} %"
    if unit in _PREFIXED or (unit == "s" and value < 1.0):
        return format_quantity(value, unit, 4)
    words = {"1": "", "day": " day" if value == 1.0 else " days"}.get(unit, f" {unit}")
    return f"{plain(value)}{words}"


def plain(value: float) -> str:
    """Four digits, thousands set apart."""
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"
