"""The strategies of a search: which trade time against what, and what the best ones have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from perfmodel.report.display import (
    key_quantity,
    label_of_key,
    percent,
    scale,
    short_percent,
    significant,
    unit_of_key,
)
from perfmodel.report.palette import CHOICES
from perfmodel.report.plot_style import INK, safe, style
from perfmodel.report.search_tables import Row, best_rows, choice_columns
from perfmodel.report.search_words import headline_words, place_words, strategy_words
from perfmodel.study.search.result import Entry, SearchResult

#: Points that a figure draws: more are a cloud that says no more, in a file that opens slowly.
_MOST_POINTS = 600
_MOST_LINES = 40
#: Values that span this factor are drawn on a logarithmic axis.
_WIDE = 7.0
#: Choices that have an axis also where all of the best agree, and what is then not worth one.
_ALWAYS = {"tp": "1", "cp": "1", "pp": "1", "ep": "1", "micro": "", "zero": "", "recompute": ""}
_UTILISATIONS = ("mfu", "hfu", "goodput")


def is_share(key: str) -> bool:
    """The number is a fraction that people read as a percentage."""
    return key.rsplit(".", 1)[-1] in _UTILISATIONS or "mfu_variants" in key


def axis_of(key: str, values: Sequence[Any]) -> tuple[float, str]:
    """Factor and title of an axis of a result key: ``step time [s]``."""
    if is_share(key):
        return 0.01, f"{label_of_key(key)} [%]"
    factor, unit = scale(values, unit_of_key(key), binary=key.startswith("memory."))
    return factor, f"{label_of_key(key)} [{unit}]" if unit else label_of_key(key)


def wide_axis(values: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis with round ticks for values that span much; nothing for others."""
    low, high = min(values), max(values)
    if low <= 0 or high / low < _WIDE:
        return {}
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**exponent for exponent in exponents for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if low / 1.5 <= tick <= high * 1.5]
    return {"type": "log", "tickvals": shown, "ticktext": [f"{tick:,.12g}" for tick in shown]}


def hover_of(search: SearchResult, entry: Entry) -> str:
    """The strategy and its numbers, for the pointer."""
    lines = [place_words(search, entry), strategy_words(entry), headline_words(search, entry)]
    return "<br>".join(safe(line) for line in lines if line)


def front_figure(search: SearchResult) -> go.Figure | None:
    """The first objective against the second, or against memory where there is one only, with the chosen point."""
    keys = [*search.wanted.keys]
    several = len(keys) > 1
    across = keys[1] if several else "memory.peak_bytes"
    entries = list(search.pareto or search.best)
    if len(entries) < 2 or keys[0] == across:
        return None
    entries = _thinned(entries)
    x_factor, x_title = axis_of(across, [one.numbers[across] for one in entries])
    y_factor, y_title = axis_of(keys[0], [one.numbers[keys[0]] for one in entries])
    figure = go.Figure()
    chosen = search.best[0]
    others = [entry for entry in entries if entry.settings != chosen.settings]
    groups = (
        ("on the Pareto front" if several else f"others of the best {len(entries)}", others, "candidate", "circle", 9),
        ("best by the first objective" if several else "best", [chosen], "chosen", "star", 17),
    )
    for name, group, look, symbol, size in groups:
        figure.add_trace(
            go.Scatter(
                x=[one.numbers[across] / x_factor for one in group],
                y=[one.numbers[keys[0]] / y_factor for one in group], mode="markers", name=name,
                marker={"color": CHOICES[look].colour, "symbol": symbol, "size": size,
                        "line": {"color": "white", "width": 1}},
                customdata=[hover_of(search, one) for one in group], hovertemplate="%{customdata}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(
        title=f"{x_title}{_better(search, across)}", **wide_axis([one.numbers[across] / x_factor for one in entries])
    )
    figure.update_yaxes(
        title=f"{y_title}{_better(search, keys[0])}", **wide_axis([one.numbers[keys[0]] / y_factor for one in entries])
    )
    title = _front_title(search, across) if several else _memory_title(search)
    return style(figure, title, height=430, legend=True)


def _better(search: SearchResult, key: str) -> str:
    senses = {one.key: one.sense for one in search.wanted.objectives}
    return {"min": ", less is better", "max": ", more is better"}.get(senses.get(key, ""), "")


def _thinned(entries: list[Entry]) -> list[Entry]:
    """Evenly spaced entries, the first and the last among them."""
    if len(entries) <= _MOST_POINTS:
        return entries
    step = (len(entries) - 1) / (_MOST_POINTS - 1)
    return [entries[round(at * step)] for at in range(_MOST_POINTS)]


def _front_title(search: SearchResult, across: str) -> str:
    first = search.wanted.objectives[0].key
    best, last = search.pareto[0], search.pareto[-1]
    front = len(search.pareto)
    told = f"{front} strategies are on the Pareto front: the best has {label_of_key(first)} "
    told += f"{key_quantity(first, best.numbers[first])} at {key_quantity(across, best.numbers[across])}"
    if front == 1 or best.numbers[across] == last.numbers[across]:
        return told
    return (
        f"{told}, the other end {key_quantity(first, last.numbers[first])} at "
        f"{key_quantity(across, last.numbers[across])}"
    )


def _memory_title(search: SearchResult) -> str:
    key = search.wanted.keys[0]
    best = search.best[0]
    lean = min(search.best, key=lambda one: one.numbers["memory.peak_bytes"])
    held = key_quantity("memory.peak_bytes", best.numbers["memory.peak_bytes"])
    told = f"The best strategy needs {held} of memory"
    if lean.numbers["memory.peak_bytes"] >= best.numbers["memory.peak_bytes"]:
        return f"{told}; none of the best {len(search.best)} needs less"
    less = key_quantity("memory.peak_bytes", lean.numbers["memory.peak_bytes"])
    cost = lean.numbers[key] / best.numbers[key] - 1 if best.numbers[key] else 0.0
    return f"{told}; {less} would do at {short_percent(abs(cost))} {'more' if cost > 0 else 'less'} {label_of_key(key)}"


def choices_figure(search: SearchResult) -> go.Figure | None:
    """Parallel coordinates: one line per strategy, through what it chose to what it costs."""
    rows = best_rows(search)[:_MOST_LINES]
    axes = _choice_axes(search, rows) if len(rows) > 1 else []
    if not axes:
        return None
    key = search.wanted.keys[0]
    costs = _heights([row.entries[0].numbers[key] for row in rows])
    places = [[values.index(cell) / max(len(values) - 1, 1) for cell in cells] for _, cells, values in axes] + [costs]
    figure = go.Figure()
    others = ("others of the best", range(1, len(rows)), "other", 1.5)
    for name, numbers, look, width in (others, ("best", range(1), "chosen", 4)):
        xs, ys, hovers = _lines(search, rows, numbers, places)
        figure.add_trace(
            go.Scatter(
                x=xs, y=ys, mode="lines+markers", name=name, line={"color": CHOICES[look].colour, "width": width},
                marker={"size": 6 + width}, customdata=hovers, hovertemplate="%{customdata}<extra></extra>",
                connectgaps=False,
            )
        )  # fmt: skip
    _label_axes(figure, axes, key, [row.entries[0].numbers[key] for row in rows])
    return style(figure, _choices_title(search, rows, axes), height=440, legend=True)


_Axis = tuple[str, list[str], list[str]]


def _choice_axes(search: SearchResult, rows: Sequence[Row]) -> list[_Axis]:
    """Header, cell of every row, and the different cells in order; none where nothing differs."""
    found: list[_Axis] = []
    differ = False
    for column in choice_columns(search, search.best):
        cells = [column.joined(row) for row in rows]
        values = sorted(set(cells), key=_in_order)
        differ |= len(values) > 1
        if len(values) > 1 or values[0] != _ALWAYS.get(column.header, values[0]):
            found.append((column.header, cells, values))
    return found if differ else []


def _in_order(cell: str) -> tuple[int, float, str]:
    number = cell.replace(",", "").split(" ")[0]
    return (0, float(number), cell) if number.replace(".", "", 1).isdigit() else (1, 0.0, cell)


def _heights(values: Sequence[float]) -> list[float]:
    low, high = min(values), max(values)
    return [(value - low) / (high - low) if high > low else 0.0 for value in values]


def _lines(
    search: SearchResult, rows: Sequence[Row], numbers: range, places: Sequence[Sequence[float]]
) -> tuple[list[float | None], list[float | None], list[str]]:
    """Points of several lines, with a gap after each."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    hovers: list[str] = []
    for row in numbers:
        xs += [*range(len(places)), None]
        ys += [*(place[row] for place in places), None]
        hovers += [hover_of(search, rows[row].entries[0])] * (len(places) + 1)
    return xs, ys, hovers


def _label_axes(figure: go.Figure, axes: Sequence[_Axis], key: str, numbers: Sequence[float]) -> None:
    """A vertical line per axis, with its values beside it."""
    factor, title = axis_of(key, numbers)
    ends = sorted({min(numbers), max(numbers)})
    cost = [(significant(value / factor, 4), at) for value, at in zip(ends, (0.0, 1.0), strict=False)]
    labels = [[(value, at / max(len(values) - 1, 1)) for at, value in enumerate(values)] for _, _, values in axes] + [
        cost
    ]
    for x, marks in enumerate(labels):
        figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, line={"color": "#9aa5b1", "width": 1}, layer="below")
        for words, y in marks:
            figure.add_annotation(
                x=x, y=y, text=safe(words), showarrow=False, xanchor="left", xshift=9, yshift=9,
                font={"size": 12, "color": INK}, bgcolor="rgba(255,255,255,0.8)",
            )  # fmt: skip
    names = [safe(header).replace(".", ".<br>").replace(" ", "<br>") for header, _, _ in axes] + [safe(title)]
    figure.update_xaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[-0.3, len(names) - 0.35], showgrid=False,
        zeroline=False, tickangle=0, ticklabeloverflow="allow",
    )  # fmt: skip
    figure.update_yaxes(visible=False, range=[-0.08, 1.12])


def _choices_title(search: SearchResult, rows: Sequence[Row], axes: Sequence[_Axis]) -> str:
    key = search.wanted.keys[0]
    first, last = rows[0].entries[0].numbers[key], rows[-1].entries[0].numbers[key]
    apart = percent(abs(last / first - 1), 2) if first else "0 %"
    told = f"The best {len(rows)} strategies are within {apart} of each other in {label_of_key(key)}"
    agreed = [f"{header} {values[0]}" for header, _, values in axes if len(values) == 1]
    differ = [header for header, _, values in axes if len(values) > 1]
    said = f"; all have {safe(', '.join(agreed))}" if agreed else ""
    return f"{told}{said}; they differ in {safe(', '.join(differ))}"
