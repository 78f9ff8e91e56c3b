"""Figures as data for a page of our own."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

_TOP_WITH_LEGEND, _TOP = 44, 14


def script_safe(json_text: str) -> str:
    """JSON that cannot end the script element it stands in."""
    escapes = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    return "".join(escapes.get(char, char) for char in json_text)


def figure_json(figure: go.Figure) -> tuple[str, str]:
    """Caption (as HTML) and data of a figure without its title, for a script element."""
    layout: Any = figure.layout
    caption = html.escape(html.unescape(str(layout.title.text or "").replace("<br>", " ")))
    copy = type(figure)(figure)
    top = _TOP_WITH_LEGEND if layout.showlegend else _TOP
    shrunk = (layout.height or 420) - (layout.margin.t or 0) + top
    copy.update_layout(title=None, margin_t=top, height=shrunk, template=None)
    return caption, script_safe(str(copy.to_json()))
