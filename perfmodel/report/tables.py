"""Text for the terminal: the answer, one table per question, comparisons, and CSV."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from perfmodel.engine.result import Result
from perfmodel.report.content import (
    Table,
    all_tables,
    plan_lines,
    shortfall_lines,
    uncertainty_lines,
    warning_groups,
)
from perfmodel.report.display import (
    MISSING,
    block_bar,
    clean,
    clip,
    display_width,
    is_number,
    key_quantity,
    label_of_key,
    pad,
    unit_of_key,
)
from perfmodel.report.sentence import answer_sentence

_CODES = {"bold": "1", "red": "31", "yellow": "33", "blue": "34", "dim": "2"}
_LONGEST_BAR = 30
_SHORTEST_BAR = 6
_NARROWEST = 40


class _Style:
    """ANSI colours when they were asked for."""

    def __init__(self, *, colour: bool) -> None:
        self.colour = colour

    def __call__(self, text: str, name: str) -> str:
        return f"\x1b[{_CODES[name]}m{text}\x1b[0m" if self.colour and text else text


def render_text(result: Result, *, width: int = 100, colour: bool = False) -> str:
    """The whole result as text: the answer sentence, one table per question, warnings last.

    Parameters
    ----------
    result
        The result to show.
    width
        Terminal columns that no line exceeds (at least 40).
    colour
        Use ANSI colours; the caller honours ``NO_COLOR`` and whether it is a terminal.
    """
    width = max(width, _NARROWEST)
    style = _Style(colour=colour)
    sentence = _wrap(answer_sentence(result), width)
    lines = [style(line, "bold" if result.feasible else "red") for line in sentence]
    for line in [*result.describe, *(f"plan: {plan}" for plan in plan_lines(result))]:
        lines += [style(part, "dim") for part in _wrap(clean(line), width)]
    for table in all_tables(result):
        lines += ["", *_table_lines(table, width, style)]
    shortfall = shortfall_lines(result)
    if shortfall:
        lines += ["", style("What it would take to fit", "bold")]
        lines += [part for line in shortfall for part in _wrap(line, width, "  ")]
    lines += [""] if uncertainty_lines(result) else []
    lines += [part for line in uncertainty_lines(result) for part in _wrap(line, width)]
    for title, messages in warning_groups(result):
        lines += ["", *(style(part, "yellow") for part in _wrap(title, width))]
        lines += [part for message in messages for part in _wrap(message, width, "  - ", "    ")]
    return "\n".join(lines) + "\n"


def table_text(table: Table, width: int, *, colour: bool = False) -> list[str]:
    """Lines of one table."""
    return list(_table_lines(table, max(width, _NARROWEST), _Style(colour=colour)))


def wrapped(text: str, width: int, *, first: str = "", style: str | None = None, colour: bool = False) -> list[str]:
    """Lines of one paragraph; ``style``: a name of :data:`_CODES`."""
    lines = _wrap(text, max(width, _NARROWEST), first)
    return lines if style is None else [_Style(colour=colour)(line, style) for line in lines]


def _wrap(text: str, width: int, first: str = "", later: str | None = None) -> list[str]:
    """Lines of at most ``width`` terminal columns; wide characters are counted as two."""
    later = " " * len(first) if later is None else later
    wide = display_width(text) > len(text)
    limit = width if not wide else max(width // 2, 8)
    return textwrap.wrap(text, limit, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def _table_lines(table: Table, width: int, style: _Style) -> Iterator[str]:
    columns = _fit(table, width)
    lengths = [max(display_width(row[at]) for row in (table.headers, *table.rows)) for at in range(len(table.headers))]
    lengths = [min(length, limit) for length, limit in zip(lengths, columns, strict=True)]
    used = sum(lengths) + 2 * (len(lengths) - 1)
    bar = min(_LONGEST_BAR, width - used - 2) if table.bars else 0
    yield from (style(part, "bold") for part in _wrap(table.title, width))
    yield style(_row(table.headers, lengths, table.left).rstrip(), "dim")
    for position, row in enumerate(table.rows):
        if table.totals and position == len(table.rows) - table.totals:
            yield style("-" * used, "dim")
        line = _row(row, lengths, table.left)
        fraction = table.bars[position] if table.bars else None
        bars = block_bar(fraction, bar) if bar >= _SHORTEST_BAR else ""
        yield line.rstrip() if not bars else f"{line}  {style(bars, 'blue')}"
    for note in table.notes:
        yield from (style(part, "dim") for part in _wrap(note, width, "  "))


def _fit(table: Table, width: int) -> list[int]:
    """Largest width of each column: text columns shrink (the widest first) until the table fits."""
    natural = [max(display_width(row[at]) for row in (table.headers, *table.rows)) for at in range(len(table.headers))]
    available = width - 2 * (len(natural) - 1)
    while sum(natural) > available:
        candidates = table.left if any(natural[at] > 8 for at in table.left) else range(len(natural))
        widest = max(candidates, key=lambda at: natural[at])
        if natural[widest] <= 1:
            break
        natural[widest] -= 1
    return natural


def _row(cells: Sequence[str], lengths: Sequence[int], left: Sequence[int]) -> str:
    return "  ".join(
        pad(clip(cell, length), length, right=at not in left)
        for at, (cell, length) in enumerate(zip(cells, lengths, strict=True))
    )


def numeric_leaves(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Every leaf of the JSON object with its dotted key (list positions are numbers)."""
    if isinstance(value, dict):
        for key, one in value.items():
            yield from numeric_leaves(one, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list):
        for position, one in enumerate(value):
            yield from numeric_leaves(one, f"{prefix}.{position}")
    else:
        yield prefix, value


def render_csv(result: Result) -> str:
    """The result as CSV, one line per key of the JSON object: ``key,value,unit`` in SI; empty for null."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("key", "value", "unit"))
    for key, value in numeric_leaves(result.to_dict()):
        unit = unit_of_key(key) if is_number(value) else ""
        writer.writerow((key, "" if value is None else value, unit))
    return buffer.getvalue()


_COMPARED = (
    (
        "Headline",
        (
            "time.step_s",
            "metrics.mfu",
            "memory.peak_bytes",
            "energy.average_power_w",
            "metrics.tokens_per_s",
            "energy.per_token_j",
            "money.per_million_tokens_usd",
            "run.days",
            "run.usd",
        ),
    ),
    ("Time", ("time.breakdown",)),
    (
        "Scaled by a measurement",
        ("measured.ratio", *(f"measured.anchored.{key}" for key in ("step_s", "tokens_per_s", "mfu", "days"))),
    ),
    ("Memory", ("memory.breakdown",)),
    ("Energy", ("energy.breakdown",)),
    ("Money and carbon", ("money", "carbon", "run")),
)


def compare_tables(results: Sequence[Result]) -> list[Table]:
    """Results side by side, differences to the first; parts with the largest difference first."""
    leaves = [{key: value for key, value in numeric_leaves(result.to_dict()) if is_number(value)} for result in results]
    tables, seen = [], set()
    for title, prefixes in _COMPARED:
        every = dict.fromkeys(key for found in leaves for key in found)
        keys = [key for key in every if _below(key, prefixes) and key not in seen]
        keys = [key for key in keys if any(found.get(key) for found in leaves)]
        seen.update(keys)
        if title == "Headline":
            keys = [key for key in prefixes if key in keys]
        else:
            keys.sort(key=lambda key: -_spread([found.get(key) for found in leaves]))
        rows = tuple((label_of_key(key), *_compared_cells([found.get(key) for found in leaves], key)) for key in keys)
        if rows:
            tables.append(Table(title, _compared_headers(len(results)), rows))
    return tables


def _below(key: str, prefixes: Sequence[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)


def _spread(values: Sequence[object]) -> float:
    numbers = [float(value) if is_number(value) else 0.0 for value in values]
    return max(numbers) - min(numbers)


def _compared_headers(count: int) -> tuple[str, ...]:
    names = [_letter(at) for at in range(count)]
    return ("figure", "A", *(header for name in names[1:] for header in (name, f"{name} vs A")))


def _compared_cells(values: Sequence[Any], key: str) -> Iterator[str]:
    first = values[0]
    for position, value in enumerate(values):
        yield key_quantity(key, value)
        if position:
            both = is_number(first) and is_number(value) and first != 0
            yield f"{(float(value) / float(first) - 1) * 100:+.1f} %" if both else MISSING


def render_compare(
    results: Sequence[Result],
    *,
    output_format: str = "table",
    probabilities: Sequence[float | None] = (),
    width: int = 100,
    colour: bool = False,
) -> str:
    """Results side by side: each answer, then differences of time, memory, energy and money, largest first.

    Parameters
    ----------
    results
        Two or more results; differences are relative to the first (A).
    output_format
        ``table`` (text), ``json`` or ``csv``.
    probabilities
        For each result after the first, the probability that A is faster than it (from the study room), or None.
    width, colour
        As in :func:`render_text`. More results than fit are shown in several blocks, each beside A.
    """
    if output_format != "table":
        return _compare_json(results, probabilities) if output_format == "json" else _compare_csv(results)
    width = max(width, _NARROWEST)
    style = _Style(colour=colour)
    lines = _compared_answers(results, probabilities, width, style)
    per_block = max(1, (width - 40) // 22)
    for start in range(1, len(results), per_block):
        block = list(range(start, min(start + per_block, len(results))))
        for table in compare_tables([results[0], *(results[at] for at in block)]):
            headers = [*table.headers[:2]]
            for at in block:
                headers += [_letter(at), f"{_letter(at)} vs A"]
            lines += ["", *_table_lines(Table(table.title, tuple(headers), table.rows), width, style)]
    return "\n".join(lines) + "\n"


def _letter(position: int) -> str:
    """A, B, ... Z, A1, B1, ..."""
    return chr(ord("A") + position % 26) + (str(position // 26) if position >= 26 else "")


def _compared_answers(
    results: Sequence[Result], probabilities: Sequence[float | None], width: int, style: _Style
) -> list[str]:
    lines: list[str] = []
    for position, result in enumerate(results):
        name = f"{_letter(position)}  {clean(result.scenario.get('name', ''))}"
        lines += [style(part, "bold") for part in _wrap(name, width)]
        lines += _wrap(answer_sentence(result), width, "   ")
    for position, probability in enumerate(probabilities, start=1):
        if probability is not None:
            lines.append(f"A is faster than {_letter(position)} with probability {probability:.2f}")
    return lines


def _differences(results: Sequence[Result]) -> dict[str, list[float | None]]:
    """Values of every compared key, in the order of the tables."""
    leaves = [{key: value for key, value in numeric_leaves(result.to_dict()) if is_number(value)} for result in results]
    every = dict.fromkeys(key for found in leaves for key in found)
    prefixes = [prefix for _, group in _COMPARED for prefix in group]
    kept = [key for key in every if _below(key, prefixes) and any(found.get(key) for found in leaves)]
    return {key: [found.get(key) for found in leaves] for key in kept}


def _compare_json(results: Sequence[Result], probabilities: Sequence[float | None]) -> str:
    compared = {
        "schema": "perfmodel.comparison/1",
        "scenarios": [dict(result.scenario) for result in results],
        "feasible": [result.feasible for result in results],
        "values": _differences(results),
        "probability_first_is_faster": list(probabilities),
    }
    return json.dumps(compared, indent=2, allow_nan=False)


def _compare_csv(results: Sequence[Result]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("key", "unit", *(_letter(at) for at in range(len(results)))))
    for key, values in _differences(results).items():
        writer.writerow((key, unit_of_key(key), *("" if value is None else value for value in values)))
    return buffer.getvalue()
