"""How numbers and names are written for people: prefixes, three significant digits, safe text."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from perfmodel.units import format_quantity

MISSING = "-"
_BINARY = ((2.0**50, "PiB"), (2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_DECIMAL = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"),
            (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))  # fmt: skip
_LARGE = ((1e12, " T"), (1e9, " G"), (1e6, " M"))
_UNSCALED = ("", "1", "USD", "kg", "%", "days", "kWh")

#: Result keys whose plain reading is not the key with its underscores removed.
LABELS = {
    "forward_s": "forward", "backward_s": "backward", "recompute_s": "recomputation",
    "tensor_communication_s": "tensor-parallel communication",
    "context_communication_s": "context-parallel communication",
    "expert_communication_s": "expert-parallel communication", "pipeline_communication_s": "pipeline communication",
    "data_communication_s": "data-parallel communication", "pipeline_bubble_s": "pipeline bubble",
    "optimizer_s": "optimizer", "offload_s": "transfers to and from the host",
    "host_bytes": "host memory", "host_capacity_bytes": "host memory available", "nvme_bytes": "storage of the host",
    "nvme_capacity_bytes": "storage of the host available",
    "offload_required_bandwidth": "bandwidth that would hide transfers",
    "overhead_s": "overhead", "step_s": "step time",
    "optimizer_bytes": "optimizer state", "kv_cache_bytes": "KV cache", "peak_bytes": "peak memory",
    "per_step_j": "energy per step", "per_token_j": "energy per token", "average_power_w": "average power",
    "peak_power_w": "peak power", "mfu": "MFU", "hfu": "HFU", "per_step_usd": "cost per step",
    "per_million_tokens_usd": "cost per million tokens", "per_step_kg": "carbon per step",
    "tokens_per_s": "tokens per second", "tokens_per_s_per_device": "tokens per second and device",
    "model_flop_per_token": "model FLOP per token", "ttft_s": "time to first token", "tpot_s": "time per output token",
}  # fmt: skip
#: Keys whose last part alone would be ambiguous.
_WHOLE_KEYS = {
    "run.tokens": "tokens of the run", "run.days": "duration of the run", "run.goodput": "goodput of the run",
    "measured.ratio": "measured / predicted", "measured.anchored.days": "duration of the run",
    "run.energy_kwh": "energy of the run", "run.usd": "cost of the run", "run.kg_co2e": "carbon of the run",
}  # fmt: skip
#: Unit by the ending of a result key, longest first.
_UNIT_ENDINGS = (
    ("flop_per_token", "FLOP/token"), ("tokens_per_s_per_device", "token/s"), ("tokens_per_s", "token/s"),
    ("_bytes_per_token", "B/token"), ("bytes_per_operation", "B"), ("_bytes", "B"), ("_s", "s"), ("_j", "J"),
    ("_w", "W"), ("_usd", "USD"), ("usd", "USD"), ("_kg", "kg"), ("kg_co2e", "kg"), ("_kwh", "kWh"), ("days", "days"),
    ("flop", "FLOP"), ("tokens", "token"), ("required_bandwidth", "B/s"),
)  # fmt: skip


def unit_of_key(key: str) -> str:
    """SI unit of a dotted result key, from its ending; empty for ratios, counts and words."""
    last = key.rsplit(".", 1)[-1]
    return next((unit for ending, unit in _UNIT_ENDINGS if last.endswith(ending)), "")


def label_of_key(key: str) -> str:
    """A result key in words: ``memory.breakdown.weights_bytes`` is ``weights``."""
    if key in _WHOLE_KEYS:
        return _WHOLE_KEYS[key]
    last = key.rsplit(".", 1)[-1]
    if last in LABELS:
        return LABELS[last]
    for ending in ("_bytes", "_usd", "_kwh", "_kg", "_s", "_j", "_w"):
        last = last.removesuffix(ending)
    return last.replace("_", " ")


def is_number(value: Any) -> TypeGuard[float]:
    """True for a finite number (bools and None are not numbers)."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return False
    try:
        return math.isfinite(value)
    except TypeError:
        return False


def significant(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits, no exponent between 1e-4 and 1e6; ``-`` for a missing one."""
    if not is_number(value):
        return MISSING
    if value == 0:
        return "0"
    magnitude = abs(value)
    if magnitude >= 1e15 or magnitude < 1e-4:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(magnitude) + 1e-12))
    return f"{value:,.{decimals}f}"


def count(value: Any) -> str:
    """A number of things: whole numbers without decimals."""
    if is_number(value) and float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return significant(value)


def percent(value: Any, digits: int = 3) -> str:
    """A fraction as a percentage with its sign: ``41.2 %``."""
    if not is_number(value):
        return MISSING
    scaled = value * 100
    if scaled != 0 and abs(scaled) < 0.01:
        return "<0.01 %" if scaled > 0 else ">-0.01 %"
    return f"{significant(scaled, digits)} %"


def short_percent(value: float) -> str:
    """A percentage for sentences: two digits are enough there (``11 %``, ``0.8 %``)."""
    return f"{significant(value * 100, 2)} %"


def signed_percent(value: Any) -> str:
    """A relative difference with its sign."""
    if not is_number(value):
        return MISSING
    return f"{'+' if value >= 0 else '-'}{significant(abs(value) * 100, 2)} %" if abs(value) >= 5e-5 else "0 %"


def quantity(value: Any, unit: str, digits: int = 3) -> str:
    """A value in SI with its unit and a prefix; bytes of memory use binary prefixes (see :func:`memory`)."""
    if not is_number(value):
        return MISSING
    if unit == "USD" and abs(value) >= 1e6:
        return f"{significant(value / 1e6, digits)} million USD"
    if unit == "kg" and abs(value) >= 1000:
        return f"{significant(value / 1000, digits)} t"
    if unit == "s" and abs(value) >= 2 * 3600:
        return duration(value)
    if unit in _UNSCALED:
        return f"{significant(value, digits)} {unit}".strip()
    if unit.startswith("token"):  # prefixes of SI do not go with words
        factor, prefix = next(((f, p) for f, p in _LARGE if abs(value) >= f * 0.9995), (1.0, ""))
        return f"{significant(value / factor, digits)}{prefix} {unit.replace('token', 'tokens', 1)}"
    return format_quantity(float(value), unit, digits)


def duration(seconds: float) -> str:
    """A long time in hours or days."""
    if seconds >= 2 * 86400:
        return f"{significant(seconds / 86400)} days"
    return f"{significant(seconds / 3600)} h"


def memory(value: Any, digits: int = 3) -> str:
    """Bytes held in a memory, with a binary prefix: ``72.4 GiB``."""
    if not is_number(value):
        return MISSING
    factor, unit = _binary_prefix(abs(value))
    return f"{significant(value / factor, digits)} {unit}"


def key_quantity(key: str, value: Any) -> str:
    """A result value as a person writes it, by its key."""
    if isinstance(value, str):
        return clean(value)
    last = key.rsplit(".", 1)[-1]
    if last in ("mfu", "hfu", "goodput") or "mfu_variants" in key:
        return percent(value)
    unit = unit_of_key(key)
    if unit == "kWh" and is_number(value):
        return quantity(value * 1000, "Wh")
    if unit == "B" and "communication_bytes" not in key and "traffic" not in key and "per_operation" not in key:
        return memory(value)
    return quantity(value, unit)


def _binary_prefix(largest: float) -> tuple[float, str]:
    return next(((factor, unit) for factor, unit in _BINARY if largest >= factor), _BINARY[-1])


def scale(values: Iterable[Any], unit: str, *, binary: bool = False) -> tuple[float, str]:
    """One factor and prefixed unit for a whole column: that of its largest magnitude."""
    largest = max((abs(value) for value in values if is_number(value)), default=0.0)
    if unit in _UNSCALED or largest == 0:
        return 1.0, unit
    if binary:
        return _binary_prefix(largest)
    factor, prefix = next(((f, p) for f, p in _DECIMAL if largest >= f * 0.9995), _DECIMAL[-1])
    if unit == "s" and factor > 1:  # nobody reads kiloseconds
        return 1.0, "s"
    return factor, f"{prefix}{unit}"


def column(values: Sequence[Any], factor: float) -> list[str]:
    """Cells of a column whose unit stands in the header."""
    return [_cell(value / factor) if is_number(value) else MISSING for value in values]


def _cell(scaled: float) -> str:
    if scaled == 0:
        return "0"
    if abs(scaled) < 0.001:
        return "<0.001" if scaled > 0 else ">-0.001"
    return significant(scaled)


def clean(text: Any) -> str:
    """Text from a file made safe for a terminal: one line, no control or direction characters."""
    kept = ("?" if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn") else char for char in str(text))
    return " ".join("".join(char if char != "\n" else " " for char in kept).split())


def unbroken(text: str) -> str:
    """Keep a number and its unit on one line (no-break spaces)."""
    return re.sub(r"(\d) (?=(?:%|[A-Za-zµ/]{1,10})(?:[ ,;:).]|$))", "\\1\xa0", text)


def display_width(text: str) -> int:
    """Terminal columns that a text takes (wide characters take two, combining ones none)."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1
        for char in text
    )


def clip(text: str, width: int) -> str:
    """Shorten a text to so many terminal columns, with an ellipsis at the end."""
    if display_width(text) <= width:
        return text
    kept = ""
    for char in text:
        if display_width(kept + char) > width - 1:
            break
        kept += char
    return kept + "…" if width > 0 else ""


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Pad a text to so many terminal columns."""
    space = " " * max(0, width - display_width(text))
    return space + text if right else text + space


def block_bar(fraction: Any, width: int) -> str:
    """A bar of block characters, in eighths of a character."""
    if not is_number(fraction) or fraction <= 0 or width <= 0:
        return ""
    eighths = max(1, round(min(1.0, fraction) * width * 8))
    return "█" * (eighths // 8) + ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")[eighths % 8]


def positive_numbers(values: Any) -> dict[str, float]:
    """The entries of a mapping that are numbers above zero."""
    return {str(key): float(value) for key, value in (values or {}).items() if is_number(value) and value > 0}
