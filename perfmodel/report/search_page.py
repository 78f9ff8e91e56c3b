"""The report of a search: its page first, then the pages of the best strategy."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfmodel.files import write_whole
from perfmodel.report.display import count, key_quantity, label_of_key, quantity
from perfmodel.report.html_parts import figure_html, list_html, table_html, text
from perfmodel.report.page import details, document, fragment, result_sections, sentence_html
from perfmodel.report.plot_tornado import Bar
from perfmodel.report.search_tables import search_tables
from perfmodel.report.search_words import funnel_words, search_sentence, wanted_words
from perfmodel.study.search.result import SearchResult

if TYPE_CHECKING:
    import plotly.graph_objects as go

#: Columns of text that a table may take on the page; wider ones scroll.
_TABLE_WIDTH = 130
_FIGURES = ("front", "choices", "scaling", "sweep", "heatmap", "tornado")


def search_figures(search: SearchResult, bars: Sequence[Bar] = ()) -> dict[str, go.Figure]:
    """The figures of the search page that apply: ``front``, ``choices``, ``scaling``, ``sweep``, ``heatmap`` and
    ``tornado``.

    Parameters
    ----------
    search
        The search to draw.
    bars
        Sensitivities of the first objective of the best strategy: ``(name of an input, objective at its low end,
        objective at its high end)``; none: no tornado.
    """
    from perfmodel.report import plot_search, plot_sweep

    if not search.feasible:
        return {}
    makers = {
        "front": plot_search.front_figure,
        "choices": plot_search.choices_figure,
        "scaling": plot_sweep.scaling_figure,
        "sweep": plot_sweep.sweep_figure,
        "heatmap": plot_sweep.heatmap_figure,
    }
    drawn = {name: maker(search) for name, maker in makers.items()} | {"tornado": _tornado(search, bars)}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _tornado(search: SearchResult, bars: Sequence[Bar]) -> go.Figure | None:
    from perfmodel.report.display import unit_of_key
    from perfmodel.report.plot_search import is_share
    from perfmodel.report.plot_tornado import tornado

    key = search.wanted.keys[0]
    unit = "%" if is_share(key) else unit_of_key(key)
    return tornado(bars, search.best[0].numbers[key], unit, label_of_key(key)) if bars else None


def figures(search: SearchResult, bars: Sequence[Bar] = ()) -> dict[str, go.Figure]:
    """Every figure by its name: those of the search, then those of the best strategy."""
    from perfmodel.report.plots import figures as figures_of_result

    return search_figures(search, bars) | figures_of_result(search.result)


def write_report(search: SearchResult, path: str | Path, bars: Sequence[Bar] = ()) -> None:
    """Write the report as one HTML file, whole or not at all; ``bars`` as in :func:`search_figures`.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    write_whole(path, render_page(search, bars))


def render_page(search: SearchResult, bars: Sequence[Bar] = ()) -> str:
    """The report as one HTML document."""
    drawn = figures(search, bars)
    (_, answer), *others = result_sections(search.result, drawn)
    first = "Best strategy" if search.feasible else "Least memory"
    sections = [("Search", _search_section(search, drawn)), (first, answer), *others]
    return document(search.space.resolved.name, sections, drawn, search, search.result.version)


def _search_section(search: SearchResult, drawn: dict[str, go.Figure]) -> str:
    sentence = sentence_html(search_sentence(search), feasible=search.feasible)
    facts = "".join(f"<p>{text(line)}</p>" for line in (wanted_words(search), funnel_words(search)))
    pictures = "".join(figure_html(name, drawn[name]) for name in _FIGURES if name in drawn)
    tables = "".join(table_html(table) for table in search_tables(search, _TABLE_WIDTH))
    return f'{sentence}{_cards(search)}<div class="facts">{facts}</div>{pictures}{tables}{_settings(search)}'


def _cards(search: SearchResult) -> str:
    """The objectives as large numbers, and how much was looked at."""
    found = search.found
    shown = [("candidates", count(found.enumerated)), ("that fit", count(found.feasible))]
    if search.wanted.bounds:
        shown.append(("that keep the limits", count(found.allowed)))
    shown.append(("search time", quantity(search.seconds, "s")))
    objectives = [(label_of_key(key), key_quantity(key, one.numbers[key])) for one in search.best[:1]
                  for key in search.wanted.keys]  # fmt: skip
    return f'<div class="cards">{"".join(_card(*one) for one in (*objectives, *shown))}</div>'


def _card(label: str, shown: str) -> str:
    number, _, unit = shown.partition(" ")
    return (
        f'<div class="card"><div class="label">{text(label)}</div><div class="number">{text(number)} '
        f"<small>{text(unit)}</small></div></div>"
    )


def _settings(search: SearchResult) -> str:
    """The options of a command that evaluates the best strategy alone."""
    if not search.best:
        return ""
    settings = {"question": "evaluate", **search.best[0].settings}
    lines = [f"--set {shlex.quote(f'{path}={_written(value)}')}" for path, value in settings.items()]
    items = "".join(f"<li><code>{text(line)}</code></li>" for line in lines)
    return f"<h3>Options of <code>perfmodel run</code> that evaluate the best strategy alone</h3><ul>{items}</ul>"


def _written(value: object) -> str:
    """A value as an override writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def to_html_fragment(search: SearchResult) -> str:
    """The answer sentence and the tables as HTML, for a notebook (no figures, no scripts)."""
    sentence = sentence_html(search_sentence(search), feasible=search.feasible)
    facts = list_html([wanted_words(search), funnel_words(search)])
    tables = "".join(table_html(table) for table in search_tables(search))
    return fragment(f"{sentence}{facts}{tables}{details(search.result)}")
