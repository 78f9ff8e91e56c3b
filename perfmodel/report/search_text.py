"""A search as text for the terminal, and as CSV."""

from __future__ import annotations

import csv
import io

from perfmodel.report.search_tables import search_tables
from perfmodel.report.search_words import funnel_words, search_sentence, wanted_words
from perfmodel.report.tables import detail_lines
from perfmodel.report.text_lines import NARROWEST, Style, table_lines, wrap
from perfmodel.study.search.result import SearchResult


def render_text(search: SearchResult, *, width: int = 100, colour: bool = False) -> str:
    """The answer sentence, the tables of the search, and the best strategy in detail; as for one plan."""
    width = max(width, NARROWEST)
    style = Style(colour=colour)
    lines = [style(line, "bold" if search.feasible else "red") for line in wrap(search_sentence(search), width)]
    for line in (wanted_words(search), funnel_words(search)):
        lines += [style(part, "dim") for part in wrap(line, width)]
    for table in search_tables(search, width):
        lines += ["", *table_lines(table, width, style)]
    heading = "The best strategy in detail" if search.feasible else "The strategy that needs the least memory in detail"
    lines += ["", style(heading, "bold"), *detail_lines(search.result, width, style)]
    return "\n".join(lines) + "\n"


def render_csv(search: SearchResult) -> str:
    """One line per entry: its list (best, pareto, sweep), its rank, what to set, the plan, every number in SI."""
    rows = search.rows()
    header = list(dict.fromkeys(["list", "rank", *(key for row in rows for key in row)]))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
