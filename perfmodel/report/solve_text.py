"""A solution as text for the terminal, and as CSV."""

from __future__ import annotations

import csv
import io

from perfmodel.report.display import clean, is_number, unit_of_key
from perfmodel.report.sentence import answer_sentence
from perfmodel.report.tables import detail_lines, numeric_leaves
from perfmodel.report.text_lines import NARROWEST, Style, wrap
from perfmodel.study.solve import SolveResult


def render_text(solved: SolveResult, *, width: int = 100, colour: bool = False) -> str:
    """The value in a sentence, where it was looked for, and the result there; as for one plan."""
    width = max(width, NARROWEST)
    style = Style(colour=colour)
    answer = answer_sentence(solved.result)
    first = clean(solved.sentence) if solved.feasible else answer
    lines = [style(line, "bold" if solved.feasible else "red") for line in wrap(first, width)]
    if solved.feasible:
        lines += wrap(answer, width)
    elif solved.sentence:
        lines += wrap(clean(solved.sentence), width)
    lines += [style(line, "dim") for line in wrap(clean(solved.looked), width)]
    return "\n".join([*lines, *detail_lines(solved.result, width, style)]) + "\n"


def render_csv(solved: SolveResult) -> str:
    """One line per key of the JSON object: ``key,value,unit`` in SI; empty for null."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("key", "value", "unit"))
    units = {"value": solved.varied.unit, "between.from": solved.varied.unit, "between.to": solved.varied.unit}
    for key, value in numeric_leaves(solved.to_dict()):
        unit = units.get(key, unit_of_key(key)) if is_number(value) else ""
        writer.writerow((key, "" if value is None else value, unit))
    return buffer.getvalue()
