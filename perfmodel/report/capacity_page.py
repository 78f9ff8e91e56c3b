"""The report of a capacity question: the sizes first, then the pages of the chosen point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from perfmodel.files import write_whole
from perfmodel.report.capacity_text import answer_lines, capacity_tables
from perfmodel.report.html_parts import figure_html, list_html, table_html, text
from perfmodel.report.page import details, document, fragment, result_sections, sentence_html
from perfmodel.study.capacity import CapacityResult

if TYPE_CHECKING:
    import plotly.graph_objects as go


def figures(found: CapacityResult) -> dict[str, go.Figure]:
    """Every figure by its name: ``sizes``, then those of the chosen point."""
    from perfmodel.report.plot_capacity import sizes_figure
    from perfmodel.report.plots import figures as figures_of_result

    drawn = sizes_figure(found)
    return ({} if drawn is None else {"sizes": drawn}) | figures_of_result(found.result)


def write_report(found: CapacityResult, path: str | Path) -> None:
    """Write the report as one HTML file, whole or not at all.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    write_whole(path, render_page(found))


def render_page(found: CapacityResult) -> str:
    """The report as one HTML document."""
    drawn = figures(found)
    (_, answer), *others = result_sections(found.result, drawn)
    picture = figure_html("sizes", drawn["sizes"]) if "sizes" in drawn else ""
    first, *facts = answer_lines(found)
    said = "".join(f"<p>{text(line)}</p>" for line in facts)
    tables = "".join(table_html(table) for table in capacity_tables(found))
    size = f'{sentence_html(first, feasible=found.feasible)}<div class="facts">{said}</div>{picture}{tables}'
    chosen = "Chosen point" if found.feasible else "Nearest plan"
    sections = [("Size", size), (chosen, answer), *others]
    return document(found.result.scenario.get("name"), sections, drawn, found, found.result.version)


def to_html_fragment(found: CapacityResult) -> str:
    """The answer and the tables as HTML, for a notebook (no figures, no scripts)."""
    first, *facts = answer_lines(found)
    tables = "".join(table_html(table) for table in capacity_tables(found))
    return fragment(f"{sentence_html(first, feasible=found.feasible)}{list_html(facts)}{tables}{details(found.result)}")
