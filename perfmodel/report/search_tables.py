"""The tables of a search: the best strategies, the Pareto front, the best of every point of a sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from perfmodel.report.display import (
    MISSING,
    clean,
    column,
    display_width,
    is_number,
    scale,
    signed_percent,
    unit_of_key,
)
from perfmodel.report.search_words import (
    other_choices,
    recompute_words,
    setting_label,
    setting_value,
    short_label,
    varied_axes,
)
from perfmodel.report.table import Table
from perfmodel.study.search.result import Entry, SearchResult

#: Rows of a table for people; the JSON and the CSV have all of them.
MOST_ROWS = 12
_MOST_SWEPT = 40
_GAP = 2
_UTILISATIONS = ("mfu", "hfu", "goodput")
#: Plan key -> header, in the order of the columns; the last ones go first where there is no room.
_PLAN_HEADERS = {
    "tp": "tp", "cp": "cp", "pp": "pp", "dp": "dp", "ep": "ep", "etp": "etp", "micro_batch": "micro",
    "virtual_stages": "virtual", "zero": "zero", "recompute": "recompute", "sequence_parallel": "seq",
    "dp_replicate": "replicas", "tensor_overlap": "hide tp", "expert_overlap": "hide ep",
    "pipeline_overlap": "hide pp", "data_overlap": "hide dp",
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Candidates that cost the same and differ in all combinations of some choices: one row of a table."""

    ranks: tuple[int, ...]
    entries: tuple[Entry, ...]

    @property
    def rank(self) -> str:
        first, last = self.ranks[0], self.ranks[-1]
        return str(first) if first == last else f"{first}-{last}"


@dataclass(frozen=True)
class _Column:
    """A column of choices: its header and the cell of an entry."""

    header: str
    cell: Callable[[Entry], str]

    def values(self, entries: Iterable[Entry]) -> list[str]:
        return list(dict.fromkeys(self.cell(entry) for entry in entries))

    def joined(self, row: Row) -> str:
        """The values of all candidates of a row."""
        values = self.values(row.entries)
        return "either" if set(values) == {"yes", "no"} else "/".join(values)


def choice_columns(search: SearchResult, entries: Sequence[Entry]) -> list[_Column]:
    """What the candidates chose: places of a sweep, the plan, and what no plan states."""
    swept = [_setting(path) for path in varied_axes(search)]
    plan = [_Column(header, _plan_cell(name)) for name, header in _PLAN_HEADERS.items()]
    more = [_setting(path) for path in dict.fromkeys(path for entry in entries for path in other_choices(entry))]
    return [*swept, *plan[:10], *more, *plan[10:]]


def _setting(path: str) -> _Column:
    def cell(entry: Entry) -> str:
        return setting_value(entry.settings[path]) if path in entry.settings else MISSING

    return _Column(setting_label(path), cell)


def _plan_cell(name: str) -> Callable[[Entry], str]:
    def cell(entry: Entry) -> str:
        if name == "recompute":
            return recompute_words(entry.plan)
        value = entry.plan.get(name, True if name.endswith("_overlap") else MISSING)
        return ("no", "yes")[value] if isinstance(value, bool) else clean(value)

    return cell


def number_keys(search: SearchResult) -> list[str]:
    """Result keys that the tables show: objectives, the headline, and what is limited."""
    limited = [one.key for one in search.wanted.bounds if one.column is None]
    keys = (*search.wanted.keys, "time.step_s", "metrics.mfu", "memory.peak_bytes", *limited)
    return list(dict.fromkeys(keys))


def folded(entries: Sequence[Entry], columns: Sequence[_Column], keys: Sequence[str]) -> list[Row]:
    """Rows of candidates; neighbours that cost the same are one row where they are all combinations of choices."""
    groups: list[list[int]] = []
    for at, entry in enumerate(entries):
        same = groups and all(entries[groups[-1][0]].numbers.get(key) == entry.numbers.get(key) for key in keys)
        if same:
            groups[-1].append(at)
        else:
            groups.append([at])
    rows: list[Row] = []
    for group in groups:
        members = [entries[at] for at in group]
        combinations = math.prod(len(column.values(members)) for column in columns)
        parts = [group] if combinations == len(group) else [[at] for at in group]
        rows += [Row(tuple(at + 1 for at in part), tuple(entries[at] for at in part)) for part in parts]
    return rows


def best_table(search: SearchResult, width: int = 100) -> Table | None:
    """The best strategies by the first objective, with the choices in which they differ."""
    title = "The best strategy" if len(search.best) == 1 else f"The best {len(search.best)} strategies"
    return _table(search, search.best, title, width, versus=True)


def pareto_table(search: SearchResult, width: int = 100) -> Table | None:
    """The strategies that no other one beats in all objectives."""
    words = " and ".join(short_label(key) for key in search.wanted.keys)
    return _table(search, search.pareto, f"Pareto front of {words}: {len(search.pareto)} strategies", width)


def sweep_table(search: SearchResult, width: int = 100) -> Table | None:
    """The best strategy of every point of a sweep, of every machine and number of devices, in their order."""
    axes = varied_axes(search)
    if not axes or len(search.bests) < 2:
        return None
    words = ", ".join(setting_label(path) for path in axes)
    return _table(search, in_order_of_axes(search), f"The best strategy by {words}", width, most=_MOST_SWEPT)


def in_order_of_axes(search: SearchResult) -> list[Entry]:
    """The best of every point, in the order in which the axes list their values."""
    axes = varied_axes(search)

    def place(entry: Entry) -> list[int]:
        return [list(values).index(entry.settings[path]) for path, values in axes.items() if path in entry.settings]

    return sorted(search.bests, key=place)


def _table(
    search: SearchResult, entries: Sequence[Entry], title: str, width: int, *, most: int = MOST_ROWS,
    versus: bool = False,
) -> Table | None:  # fmt: skip
    if not entries:
        return None
    keys, columns = number_keys(search), choice_columns(search, entries)
    rows = folded(entries, columns, keys)
    shown = rows[:most]
    numbers = [_numbers(key, [row.entries[0].numbers.get(key) for row in shown]) for key in keys]
    if versus and len(shown) > 1:
        numbers.insert(1, _versus(search, shown))
    numbers = list({header: (header, cells) for header, cells in numbers}.values())
    differ = [column for column in columns if len(column.values(entries)) > 1]
    kept, left_out = _that_fit(differ, shown, numbers, width)
    headers = ("", *(column.header for column in kept), *(header for header, _ in numbers))
    cells = tuple(
        (row.rank, *(column.joined(row) for column in kept), *(cells[at] for _, cells in numbers))
        for at, row in enumerate(shown)
    )
    notes = _notes(columns, entries, left_out, len(rows) - len(shown))
    return Table(title, headers, cells, notes=notes)


def _versus(search: SearchResult, rows: Sequence[Row]) -> tuple[str, list[str]]:
    key = search.wanted.keys[0]
    first = rows[0].entries[0].numbers[key]
    cells = [signed_percent(row.entries[0].numbers[key] / first - 1) if first else MISSING for row in rows]
    return "vs best", ["", *cells[1:]]


def _numbers(key: str, values: Sequence[Any]) -> tuple[str, list[str]]:
    """Header with the unit, and cells."""
    label, unit = short_label(key), unit_of_key(key)
    if key.rsplit(".", 1)[-1] in _UTILISATIONS or "mfu_variants" in key:
        return f"{label} %", column([100 * value if is_number(value) else None for value in values], 1.0)
    factor, symbol = scale(values, unit, binary=key.startswith("memory."))
    return f"{label} {symbol}".strip(), column(values, factor)


def _that_fit(
    columns: Sequence[_Column], rows: Sequence[Row], numbers: Sequence[tuple[str, Sequence[str]]], width: int
) -> tuple[list[_Column], list[_Column]]:
    """Columns for which there is room, the first ones before the later ones, and the others."""

    def size(cells: Iterable[str]) -> int:
        return max(display_width(cell) for cell in cells) + _GAP

    left = width - size(row.rank for row in rows) - sum(size((header, *cells)) for header, cells in numbers)
    kept: list[_Column] = []
    for one in columns:
        left -= size((one.header, *(one.joined(row) for row in rows)))
        if left < 0:
            break
        kept.append(one)
    return kept, list(columns[len(kept) :])


def _notes(
    columns: Sequence[_Column], entries: Sequence[Entry], left_out: Sequence[_Column], hidden: int
) -> tuple[str, ...]:
    same = {column.header: column.values(entries) for column in columns}
    common = [f"{header} {values[0]}" for header, values in same.items() if len(values) == 1 and _says(header, values)]
    notes = [f"the same in all: {', '.join(common)}"] if common and len(entries) > 1 else []
    if left_out:
        names = ", ".join(column.header for column in left_out)
        notes.append(f"no room here for: {names} (in the JSON and CSV)")
    if hidden:
        notes.append(f"{hidden} more rows in the JSON and CSV")
    return tuple(notes)


def _says(header: str, values: Sequence[str]) -> bool:
    """A choice that is worth a word where all made it: no axis of one, nothing that every stack does."""
    trivial: Mapping[str, str] = dict.fromkeys(("cp", "ep", "etp", "virtual", "replicas"), "1")
    return values[0] != trivial.get(header, "yes" if header.startswith("hide") else "")


def search_tables(search: SearchResult, width: int = 100) -> list[Table]:
    """Every table that applies."""
    makers = (best_table, pareto_table, sweep_table)
    return [table for table in (maker(search, width) for maker in makers) if table is not None]
