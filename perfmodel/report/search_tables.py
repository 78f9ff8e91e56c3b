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
_FOLLOWS = "dp"
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
class ChoiceColumn:
    """A column of choices: its header and the cell of an entry."""

    header: str
    cell: Callable[[Entry], str]

    def values(self, entries: Iterable[Entry]) -> list[str]:
        return list(dict.fromkeys(self.cell(entry) for entry in entries))

    def joined(self, row: Row) -> str:
        """The values of all candidates of a row."""
        values = self.values(row.entries)
        return "either" if set(values) == {"yes", "no"} else "/".join(values)


def choice_columns(search: SearchResult, entries: Sequence[Entry]) -> list[ChoiceColumn]:
    """What the candidates chose: places of a sweep, the plan, and what no plan states."""
    swept = [_setting(path, values) for path, values in varied_axes(search).items()]
    plan = [ChoiceColumn(header, _plan_cell(name)) for name, header in _PLAN_HEADERS.items()]
    more = [_setting(path) for path in dict.fromkeys(path for entry in entries for path in other_choices(entry))]
    return [*swept, *plan[:10], *more, *plan[10:]]


def _setting(path: str, values: Sequence[Any] = ()) -> ChoiceColumn:
    def cell(entry: Entry) -> str:
        return setting_value(entry.settings[path], values) if path in entry.settings else MISSING

    return ChoiceColumn(setting_label(path), cell)


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


def folded(entries: Sequence[Entry], columns: Sequence[ChoiceColumn], keys: Sequence[str]) -> list[Row]:
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
    return _table(search, best_rows(search), choice_columns(search, search.best), title, width, versus=True)


def best_rows(search: SearchResult) -> list[Row]:
    """The best strategies; those that cost the same are one row where they are all combinations of choices."""
    return folded(search.best, choice_columns(search, search.best), number_keys(search))


def pareto_table(search: SearchResult, width: int = 100) -> Table | None:
    """The strategies that no other one beats in all objectives."""
    words = " and ".join(short_label(key) for key in search.wanted.keys)
    columns = choice_columns(search, search.pareto)
    rows = folded(search.pareto, columns, number_keys(search))
    several = f"Pareto front of {words}: {len(search.pareto)} strategies"
    return _table(search, rows, columns, several if len(rows) > 1 else f"One strategy is best in {words}", width)


def sweep_table(search: SearchResult, width: int = 100) -> Table | None:
    """The best strategy of every point of a sweep, of every machine and number of devices, in their order."""
    axes = varied_axes(search)
    if not axes or len(search.bests) < 2:
        return None
    words = ", ".join(setting_label(path) for path in axes)
    rows = [Row((at,), (entry,)) for at, entry in enumerate(in_order_of_axes(search), 1)]
    columns = choice_columns(search, search.bests)
    return _table(search, rows, columns, f"The best strategy by {words}", width, most=_MOST_SWEPT)


def in_order_of_axes(search: SearchResult) -> list[Entry]:
    """The best of every point, in the order in which the axes list their values."""
    axes = varied_axes(search)

    def place(entry: Entry) -> list[int]:
        return [list(values).index(entry.settings[path]) for path, values in axes.items() if path in entry.settings]

    return sorted(search.bests, key=place)


def _table(
    search: SearchResult, rows: Sequence[Row], columns: Sequence[ChoiceColumn], title: str, width: int,
    *, most: int = MOST_ROWS, versus: bool = False,
) -> Table | None:  # fmt: skip
    shown = rows[:most]
    if not shown:
        return None
    numbers = {key: _numbers(key, [row.entries[0].numbers.get(key) for row in shown]) for key in number_keys(search)}
    listed = list(numbers.values())
    if versus and len(shown) > 1:
        listed.insert(1, _versus(search, shown))
    told = _told(columns, shown)
    kept, left_out = _that_fit(told.differ, shown, listed, width)
    headers = ("", *(column.header for column in kept), *(header for header, _ in listed))
    cells = tuple(
        (row.rank, *(column.joined(row) for column in kept), *(cells[at] for _, cells in listed))
        for at, row in enumerate(shown)
    )
    return Table(title, headers, cells, notes=_notes(told, left_out, len(rows) - len(shown)))


@dataclass(frozen=True)
class _Told:
    """Columns of which the rows differ, header and value of those in which all agree, headers without an effect."""

    differ: tuple[ChoiceColumn, ...]
    common: tuple[tuple[str, str], ...]
    idle: tuple[str, ...]


def _told(columns: Sequence[ChoiceColumn], rows: Sequence[Row]) -> _Told:
    differ: list[ChoiceColumn] = []
    common: list[tuple[str, str]] = []
    idle: list[str] = []
    for one in columns:
        cells = {one.joined(row) for row in rows}
        values = one.values(entry for row in rows for entry in row.entries)
        if len(cells) > 1:
            differ.append(one)
        elif len(values) > 1:
            idle.append(one.header)
        elif len(rows) > 1 and _says(one.header, values[0]):
            common.append((one.header, values[0]))
    return _Told(tuple(differ), tuple(common), tuple(idle))


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
    columns: Sequence[ChoiceColumn], rows: Sequence[Row], numbers: Sequence[tuple[str, Sequence[str]]], width: int
) -> tuple[list[ChoiceColumn], list[ChoiceColumn]]:
    """Columns for which there is room, the first ones before the later ones, and the others.

    The data parallel size follows from the other sizes: it goes first.
    """

    def size(cells: Iterable[str]) -> int:
        return max(display_width(cell) for cell in cells) + _GAP

    room = width - size(row.rank for row in rows) - sum(size((header, *cells)) for header, cells in numbers)
    sizes = {one.header: size((one.header, *(one.joined(row) for row in rows))) for one in columns}
    kept = list(columns)
    while kept and sum(sizes[one.header] for one in kept) > room + _GAP:
        follows = next((one for one in kept if one.header == _FOLLOWS), kept[-1])
        kept.remove(follows)
    return kept, [one for one in columns if one not in kept]


def _notes(told: _Told, left_out: Sequence[ChoiceColumn], hidden: int) -> tuple[str, ...]:
    notes = [f"the same in all: {', '.join(f'{header} {value}' for header, value in told.common)}"] * bool(told.common)
    if told.idle:
        notes.append(f"makes no difference: {', '.join(told.idle)}")
    if left_out:
        names = ", ".join(column.header for column in left_out)
        notes.append(f"no room here for: {names} (in the JSON and CSV)")
    if hidden:
        notes.append(f"{hidden} more rows in the JSON and CSV")
    return tuple(notes)


def _says(header: str, value: str) -> bool:
    """A choice that is worth a word where all made it: no axis of one, nothing that every stack does."""
    trivial: Mapping[str, str] = dict.fromkeys(("cp", "ep", "etp", "virtual", "replicas"), "1")
    return value != trivial.get(header, "yes" if header.startswith("hide") else "")


def search_tables(search: SearchResult, width: int = 100) -> list[Table]:
    """Every table that applies."""
    makers = (best_table, pareto_table, sweep_table)
    return [table for table in (maker(search, width) for maker in makers) if table is not None]
