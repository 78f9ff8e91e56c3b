"""Pieces of HTML: escaped text, tables, figures. Everything that comes from a file passes :func:`text`."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TYPE_CHECKING

from perfmodel.report.content import Table
from perfmodel.report.display import clean, is_number
from perfmodel.report.plot_data import figure_json

if TYPE_CHECKING:
    import plotly.graph_objects as go


def text(value: object) -> str:
    """Text made safe for HTML, also inside attributes."""
    return html.escape(clean(value), quote=True)


def table_html(table: Table, *, heading: bool = True) -> str:
    """A table, with bars beside the last column when it has shares."""
    head = "".join(_cell("th", header, _side(table, at)) for at, header in enumerate(table.headers))
    bars = bool(table.bars)
    body = []
    for position, row in enumerate(table.rows):
        cells = "".join(_cell("td", cell, _side(table, at)) for at, cell in enumerate(row))
        first_total = table.totals and position == len(table.rows) - table.totals
        fraction = table.bars[position] if bars else None
        cells += f'<td class="bar">{_bar(fraction)}</td>' if bars else ""
        body.append(f'<tr class="total">{cells}</tr>' if first_total else f"<tr>{cells}</tr>")
    title = f"<h3>{text(table.title)}</h3>" if heading else ""
    notes = "".join(f'<p class="note">{text(note)}</p>' for note in table.notes)
    head += '<th class="bar"></th>' if bars else ""
    rows = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    return f'{title}<div class="scroll"><table>{rows}</table></div>{notes}'


def _side(table: Table, at: int) -> str:
    return "left" if at in table.left else "right"


def _cell(tag: str, content: str, side: str) -> str:
    return f'<{tag} class="{side}">{text(content)}</{tag}>'


def _bar(fraction: float | None) -> str:
    if not is_number(fraction) or fraction is None or fraction <= 0:
        return ""
    return f'<span style="width:{min(1.0, fraction) * 100:.1f}%"></span>'


def list_html(items: Iterable[str]) -> str:
    """A list of texts."""
    return "<ul>" + "".join(f"<li>{text(item)}</li>" for item in items) + "</ul>"


def figure_html(name: str, figure: go.Figure) -> str:
    """A figure: its title as a caption that wraps, its data for the script at the end of the page."""
    caption, data = figure_json(figure)
    return (
        f'<figure id="figure-{name}"><figcaption>{caption}</figcaption>'
        f'<div class="plot" data-figure="{name}" role="img" aria-label="{caption}"></div>'
        f'<script type="application/json" id="data-{name}">{data}</script></figure>'
    )
