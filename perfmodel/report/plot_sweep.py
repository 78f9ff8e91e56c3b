"""The best strategy over what a search varies beside the strategy: devices, numbers of the machine, machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from perfmodel.report.display import count, key_quantity, label_of_key, percent, significant
from perfmodel.report.palette import CHOICES, SCALE, SERIES, WIDE_SCALE
from perfmodel.report.plot_search import axis_of, hover_of, is_share, wide_axis
from perfmodel.report.plot_style import INK, safe, style
from perfmodel.report.search_tables import in_order_of_axes
from perfmodel.report.search_words import setting_label, setting_value, split_quantity, strategy_words, varied_axes
from perfmodel.study.search.result import Entry, SearchResult

DEVICES = "cluster.devices"
_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
#: Cells of a heatmap up to which each carries its number.
_MOST_TEXTS = 150


def scaling_figure(search: SearchResult) -> go.Figure | None:
    """Step time of the best strategy against devices, with the line of a machine that loses nothing."""
    if DEVICES not in varied_axes(search):
        return None
    series = _series_by_place(search)
    if not series:
        return None
    steps = [one.numbers["time.step_s"] for group in series.values() for one in group]
    factor, title = axis_of("time.step_s", steps)
    figure = go.Figure()
    for at, (name, group) in enumerate(series.items()):
        figure.add_trace(
            go.Scatter(
                x=[_devices(one) for one in group], y=[one.numbers["time.step_s"] / factor for one in group],
                mode="lines+markers", name=name or "best strategy",
                line={"color": SERIES[at], "width": 2}, marker={"size": 9, "symbol": _SYMBOLS[at]},
                customdata=[f"<b>{count(_devices(one))} devices</b><br>{hover_of(search, one)}" for one in group],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )  # fmt: skip
    _add_ideal(figure, next(iter(series.values())), factor)
    ticks = sorted({_devices(one) for group in series.values() for one in group})
    figure.update_xaxes(title="devices [1]", type="log", tickvals=ticks, ticktext=[count(one) for one in ticks])
    figure.update_yaxes(title=title, **wide_axis([step / factor for step in steps]) or {"type": "log"})
    return style(figure, _scaling_title(series), height=430, legend=True)


def _devices(entry: Entry) -> int:
    return int(entry.plan["devices"])


def _series_by_place(search: SearchResult) -> dict[str, list[Entry]]:
    """Entries in the order of devices by what else is varied; the first few of those with two points or more."""
    others = [path for path in varied_axes(search) if path != DEVICES]
    series: dict[str, list[Entry]] = {}
    for entry in in_order_of_axes(search):
        told = [f"{setting_label(path)} {setting_value(entry.settings[path])}" for path in others]
        series.setdefault(safe(", ".join(told)), []).append(entry)
    ordered = {name: sorted(group, key=_devices) for name, group in series.items() if len(group) > 1}
    return dict(list(ordered.items())[: len(SERIES)])


def _add_ideal(figure: go.Figure, group: Sequence[Entry], factor: float) -> None:
    first, last = group[0], group[-1]
    ends = [_devices(first), _devices(last)]
    step = first.numbers["time.step_s"] / factor
    figure.add_trace(
        go.Scatter(
            x=ends, y=[step, step * ends[0] / ends[1]], mode="lines", name="ideal",
            line={"color": CHOICES["ideal"].colour, "width": 1.5, "dash": "dash"},
            hovertemplate="time that falls as devices are added<extra></extra>",
        )
    )  # fmt: skip


def _scaling_title(series: Mapping[str, Sequence[Entry]]) -> str:
    name, group = next(iter(series.items()))
    first, last = group[0], group[-1]
    more = _devices(last) / _devices(first)
    faster = first.numbers["time.step_s"] / last.numbers["time.step_s"]
    where = f"{name}: from" if name else "From"
    return (
        f"{where} {count(_devices(first))} to {count(_devices(last))} devices ({significant(more, 2)} times) the best "
        f"step gets {significant(faster)} times shorter: {percent(faster / more, 2)} of ideal scaling"
    )


def heatmap_figure(search: SearchResult) -> go.Figure | None:
    """The best first objective over two swept axes; the best over the others where there are more."""
    axes = {path: values for path, values in varied_axes(search).items() if path != DEVICES or _two(search)}
    if len(axes) < 2:
        return None
    (x_path, x_values), (y_path, y_values) = list(axes.items())[:2]
    key, best = search.wanted.keys[0], _best_of_cells(search, x_path, y_path)
    factor, title = axis_of(key, [one.numbers[key] for one in best.values()])
    cells = [[best.get((at, up)) for at in range(len(x_values))] for up in range(len(y_values))]
    less = search.wanted.objectives[0].sense == "min"
    texts = len(x_values) * len(y_values) <= _MOST_TEXTS
    figure = go.Figure(
        go.Heatmap(
            z=[[None if one is None else one.numbers[key] / factor for one in row] for row in cells],
            x=[safe(setting_value(value)) for value in x_values], y=[safe(setting_value(value)) for value in y_values],
            colorscale=SCALE if texts else WIDE_SCALE, textfont={"color": INK}, reversescale=less,
            xgap=1, ygap=1,
            colorbar={"title": {"text": title, "side": "right"}, "thickness": 14},
            text=[["" if one is None else significant(one.numbers[key] / factor) for one in row] for row in cells],
            texttemplate="%{text}" if texts else None,
            customdata=[["nothing fits" if one is None else hover_of(search, one) for one in row] for row in cells],
            hovertemplate="%{customdata}<extra></extra>", hoverongaps=True,
        )
    )  # fmt: skip
    figure.update_xaxes(title=safe(_axis_title(x_path, x_values)), type="category", showgrid=False)
    figure.update_yaxes(title=safe(_axis_title(y_path, y_values)), type="category", showgrid=False)
    return style(figure, _extremes_title(search), height=220 + 34 * max(len(y_values), 5))


def _two(search: SearchResult) -> bool:
    return len(varied_axes(search)) == 2


def _axis_title(path: str, values: Sequence[Any]) -> str:
    """The swept path; units stand beside the values where those are written with units."""
    parts = [split_quantity(value) for value in values]
    if any(unit for _, unit in parts):
        return setting_label(path)
    return f"{setting_label(path)} [{'name' if any(number is None for number, _ in parts) else '1'}]"


def _best_of_cells(search: SearchResult, x_path: str, y_path: str) -> dict[tuple[int, int], Entry]:
    """The first of every cell: the entries are in the order of the first objective."""
    axes = varied_axes(search)
    x_values, y_values = list(axes[x_path]), list(axes[y_path])
    best: dict[tuple[int, int], Entry] = {}
    for entry in search.bests:
        best.setdefault((x_values.index(entry.settings[x_path]), y_values.index(entry.settings[y_path])), entry)
    return best


def _extremes_title(search: SearchResult) -> str:
    key = search.wanted.keys[0]
    best, worst = search.bests[0], search.bests[-1]
    return (
        f"The best {label_of_key(key)} is {key_quantity(key, best.numbers[key])} at {_where(search, best)}, and "
        f"{key_quantity(key, worst.numbers[key])} at {_where(search, worst)}"
    )


def _where(search: SearchResult, entry: Entry) -> str:
    told = (f"{setting_label(path)} {setting_value(entry.settings[path])}" for path in varied_axes(search))
    return safe(", ".join(told))


def sweep_figure(search: SearchResult) -> go.Figure | None:
    """The best first objective along one swept axis: a line over numbers, points over names."""
    axes = varied_axes(search)
    if len(axes) != 1 or DEVICES in axes or len(search.bests) < 2:
        return None
    path, values = next(iter(axes.items()))
    key, entries = search.wanted.keys[0], in_order_of_axes(search)
    factor, title = axis_of(key, [one.numbers[key] for one in entries])
    numbers, x_title, places = _numeric_axis(path, [entry.settings[path] for entry in entries], values)
    figure = go.Figure(
        go.Scatter(
            x=places, y=[one.numbers[key] / factor for one in entries], name="best strategy",
            mode="lines+markers" if numbers else "markers", line={"color": SERIES[0], "width": 2},
            marker={"size": 9 if numbers else 13},
            customdata=[hover_of(search, one) for one in entries], hovertemplate="%{customdata}<extra></extra>",
        )
    )  # fmt: skip
    kind: dict[str, Any] = wide_axis(places) if numbers else {"type": "category"}
    figure.update_xaxes(title=safe(x_title), **kind)
    figure.update_yaxes(title=title, rangemode="tozero" if is_share(key) or not numbers else "normal")
    return style(figure, _sweep_title(search, entries), height=400)


def _numeric_axis(path: str, shown: Sequence[Any], values: Sequence[Any]) -> tuple[bool, str, list[Any]]:
    """Whether the axis is one of numbers in one unit, its title, and the places of the points."""
    parts = [split_quantity(value) for value in shown]
    units = {unit for _, unit in parts}
    if len(units) == 1 and all(number is not None for number, _ in parts):
        return True, f"{setting_label(path)} [{units.pop() or '1'}]", [number for number, _ in parts]
    return False, _axis_title(path, values), [safe(setting_value(value)) for value in shown]


def _sweep_title(search: SearchResult, entries: Sequence[Entry]) -> str:
    changes = sum(strategy_words(one) != strategy_words(other) for one, other in pairwise(entries))
    told = _extremes_title(search)
    if not changes:
        return f"{told}; one strategy is the best throughout"
    return f"{told}; the best strategy changes {'once' if changes == 1 else f'{changes} times'}"
