"""The sizes of a machine: what each takes, and where the goal lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from perfmodel.report.capacity_text import sure_words
from perfmodel.report.display import count, key_quantity, label_of_key
from perfmodel.report.palette import CHOICES, MEANINGS
from perfmodel.report.plot_search import axis_of, wide_axis
from perfmodel.report.plot_style import safe, style
from perfmodel.report.search_words import strategy_words
from perfmodel.study.capacity import CapacityResult
from perfmodel.study.capacity.goal import DAYS, RATE
from perfmodel.study.capacity.result import Row
from perfmodel.study.capacity.words import goal_words, machine_words, stop_words

_COST = "run.usd"
_PANEL_HEIGHT = 260


def sizes_figure(found: CapacityResult) -> go.Figure | None:
    """Time (or rate) and cost of the best plan against devices, around the answer; None where there is no answer."""
    rows = [one for one in found.sizes if one.size.entry is not None]
    if found.chosen is None or len(rows) < 2:
        return None
    goal = found.goal
    limits = {DAYS: goal.days, RATE: goal.tokens_per_s or np.inf}
    keys = [key for key, limit in limits.items() if np.isfinite(limit)]
    keys += [_COST] if all(np.isfinite(one.size.value(_COST)) for one in rows) else []
    figure = make_subplots(rows=len(keys), shared_xaxes=True, vertical_spacing=0.09)
    for panel, key in enumerate(keys, 1):
        _draw(figure, panel, key, found, rows, limits.get(key, np.inf))
    ticks = [one.size.devices for one in rows]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[count(one) for one in ticks])
    figure.update_xaxes(title="devices [1]", row=len(keys))
    return style(figure, _title(found, found.chosen, rows), height=100 + _PANEL_HEIGHT * len(keys), legend=True)


def _draw(figure: go.Figure, panel: int, key: str, found: CapacityResult, rows: Sequence[Row], limit: float) -> None:
    factor, title = axis_of(key, [one.size.value(key) for one in rows])
    values = [one.size.value(key) / factor for one in rows]
    line = {"color": CHOICES["other"].colour, "width": 1.5}
    devices = [one.size.devices for one in rows]
    figure.add_trace(
        go.Scatter(x=devices, y=values, mode="lines", line=line, hoverinfo="skip", showlegend=False), row=panel, col=1
    )
    for name, look, symbol, size, group in _groups(found, rows):
        figure.add_trace(
            go.Scatter(
                x=[one.size.devices for one in group], y=[one.size.value(key) / factor for one in group],
                mode="markers", name=name, legendgroup=name, showlegend=panel == 1 and bool(group),
                marker={"color": CHOICES[look].colour, "symbol": symbol, "size": size,
                        "line": {"color": "white", "width": 1}},
                customdata=[_hover(one) for one in group], hovertemplate="%{customdata}<extra></extra>",
            ),
            row=panel, col=1,
        )  # fmt: skip
    if np.isfinite(limit):
        figure.add_trace(
            go.Scatter(
                x=[devices[0], devices[-1]], y=[limit / factor] * 2, mode="lines", name="the goal", legendgroup="goal",
                showlegend=panel == 1, line={"color": MEANINGS["limit"].colour, "width": 1.5, "dash": "dash"},
                hovertemplate=f"the goal: {safe(key_quantity(key, limit))}<extra></extra>",
            ),
            row=panel, col=1,
        )  # fmt: skip
    figure.update_yaxes(
        title=title, row=panel, **wide_axis([*values, *([limit / factor] if np.isfinite(limit) else [])])
    )


def _groups(found: CapacityResult, rows: Sequence[Row]) -> list[tuple[str, str, str, int, list[Row]]]:
    """Name, look, symbol and size of the markers of each kind of row."""
    chosen = [one for one in rows if found.chosen is not None and one.size == found.chosen.size]
    others = [one for one in rows if one not in chosen]
    return [
        ("meets the goal", "candidate", "circle", 9, [one for one in others if one.size.met]),
        ("does not", "other", "x", 9, [one for one in others if not one.size.met]),
        ("the answer", "chosen", "star", 17, chosen),
    ]


def _hover(row: Row) -> str:
    size, entry = row.size, row.size.entry
    shown = [key for key in (DAYS, RATE, _COST, "run.energy_kwh", "metrics.mfu") if np.isfinite(size.value(key))]
    lines = [
        f"<b>{safe(machine_words(size))}</b>",
        "" if entry is None else safe(strategy_words(entry)),
        *(f"{safe(label_of_key(key))} {safe(key_quantity(key, size.value(key)))}" for key in shown),
        f"meets the goal with probability {safe(sure_words(row))}",
        safe(stop_words(row.stops)),
    ]
    return "<br>".join(line for line in lines if line)


def _title(found: CapacityResult, chosen: Row, rows: Sequence[Row]) -> str:
    smaller = [one for one in rows if one.size.devices < chosen.size.devices]
    said = f"{machine_words(chosen.size)} meet the goal {goal_words(found.goal)}"
    return f"{said}; {count(smaller[-1].size.devices)} do not" if smaller and not smaller[-1].size.met else said
