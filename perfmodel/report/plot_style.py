"""Layout, hover and text shared by the figures."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from perfmodel.report.display import clean, unbroken
from perfmodel.report.palette import Look, luminance

INK = "#1f2933"
GRID = "#e3e7eb"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_TITLE_COLUMNS = 84
#: Fills lighter than this take dark lines.
_LIGHT = 0.5
_BAR_HEIGHT = 34
_FRAME_HEIGHT = 120
#: Lines over the colour: the colour carries the meaning, the lines survive printing in grey.
_PATTERN = {"fgopacity": 0.6, "solidity": 0.2, "size": 8}
#: Room to the right of a horizontal bar for its value, as a fraction of the longest bar.
VALUE_ROOM = 1.22


def safe(text: Any) -> str:
    """Text from a file for plotly, which reads a little HTML in its labels."""
    return html.escape(clean(text), quote=False)


def marker(look: Look) -> dict[str, Any]:
    """Fill of a bar: colour, and a pattern that survives printing in grey."""
    pattern = {"shape": look.pattern, "bgcolor": look.colour, "fgcolor": _line_colour(look), **_PATTERN}
    return {"color": look.colour, "pattern": pattern, "line": {"width": 0}}


def markers(looks: Iterable[Look]) -> dict[str, Any]:
    """As :func:`marker`, one look per bar.

    plotly ignores the background of a pattern where ``color`` is a list: the pattern carries the colours of all
    bars, and a solid bar has a pattern in its own colour.
    """
    listed = list(looks)
    pattern = {
        "shape": [look.pattern or "." for look in listed],
        "bgcolor": [look.colour for look in listed],
        "fgcolor": [_line_colour(look) if look.pattern else look.colour for look in listed],
        **_PATTERN,
    }
    return {"color": listed[0].colour if listed else INK, "pattern": pattern, "line": {"width": 0}}


def _line_colour(look: Look) -> str:
    """Lines that stand out from the fill."""
    return INK if luminance(look.colour) > _LIGHT else "#ffffff"


def style(figure: go.Figure, title: str, *, height: int = 420, legend: bool = False) -> go.Figure:
    """Apply the common look; the title states the finding and is wrapped for narrow places."""
    wrapped = textwrap.wrap(unbroken(title), _TITLE_COLUMNS)
    top = 36 + 22 * len(wrapped)
    figure.update_layout(
        title={
            "text": "<br>".join(wrapped),
            "x": 0,
            "xref": "paper",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 12},
            "font": {"size": 16, "color": INK},
        },
        font={"family": FONT, "size": 13, "color": INK},
        height=height,
        showlegend=legend,
        plot_bgcolor="white",
        paper_bgcolor="white",
        margin={"l": 10, "r": 20, "t": top, "b": 50},
        hovermode="closest",
        hoverlabel={"bgcolor": "white", "font": {"family": FONT, "size": 13, "color": INK}, "align": "left"},
        legend={
            "orientation": "h",
            "yanchor": "bottom",
            "y": 1.01,
            "x": 0,
            "xanchor": "left",
            "traceorder": "normal",
            "itemsizing": "constant",
        },
        bargap=0.28,
        barcornerradius=2,
    )
    figure.update_xaxes(gridcolor=GRID, zerolinecolor="#9aa5b1", automargin=True, title_standoff=8)
    figure.update_yaxes(gridcolor=GRID, zerolinecolor="#9aa5b1", automargin=True, ticklabelstandoff=6)
    return figure


def bar_figure(
    labels: Sequence[str],
    values: Sequence[float],
    looks: Sequence[Look],
    texts: Sequence[str],
    hovers: Sequence[str],
    axis: str,
) -> go.Figure:
    """Horizontal bars, the first on top, with the value written beside each."""
    figure = go.Figure(
        go.Bar(
            y=[safe(label) for label in labels],
            x=list(values),
            orientation="h",
            marker=markers(looks),
            text=list(texts),
            textposition="outside",
            cliponaxis=False,
            constraintext="none",
            customdata=list(hovers),
            hovertemplate="%{customdata}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)
    figure.update_xaxes(title=axis, range=[0, max([*values, 0.0]) * VALUE_ROOM or 1])
    return figure


def bars_height(count: int) -> int:
    """Height of a figure with so many horizontal bars [px]."""
    return _FRAME_HEIGHT + _BAR_HEIGHT * max(count, 2)
