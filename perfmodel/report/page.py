"""The one-file report: works offline, fetches nothing, prints to A4."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from perfmodel.engine.result import Result
from perfmodel.files import write_whole
from perfmodel.report import content
from perfmodel.report.assumptions import assumptions_section
from perfmodel.report.display import is_number, key_quantity, label_of_key, signed_percent, unbroken
from perfmodel.report.html_parts import figure_html, list_html, table_html, text
from perfmodel.report.page_style import SCRIPT, STYLE
from perfmodel.report.sentence import answer_sentence, confidence, interval_of, memory_of_capacity

if TYPE_CHECKING:
    import plotly.graph_objects as go

# The page may use what is inside it and nothing else: a browser refuses every request.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
_CARDS = (
    "metrics.ttft_s",
    "metrics.tpot_s",
    "time.step_s",
    "metrics.mfu",
    "memory.peak_bytes",
    "energy.average_power_w",
    "metrics.tokens_per_s",
    "metrics.tokens_per_s_per_device",
    "energy.per_token_j",
    "money.per_million_tokens_usd",
    "run.days",
    "run.usd",
)
_Figures = Mapping[str, "go.Figure"]


def write_report(result: Result, path: str | Path) -> None:
    """Write the report as one HTML file, whole or not at all.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    write_whole(path, render_page(result))


def render_page(result: Result) -> str:
    """The report as one HTML document."""
    from perfmodel.report.plots import figures

    drawn = figures(result)
    return document(result.scenario.get("name"), result_sections(result, drawn), drawn, result, result.version)


class _Answered(Protocol):
    """What the last line of a page offers as JSON."""

    def to_json(self) -> str: ...


def result_sections(result: Result, drawn: _Figures) -> list[tuple[str, str]]:
    """Title and content of every page that applies."""
    made = [(title, make(result, drawn)) for title, make in _SECTIONS]
    return [(title, body) for title, body in made if body]


def document(
    name: str | None, sections: Sequence[tuple[str, str]], drawn: _Figures, answered: _Answered, version: str
) -> str:
    """One HTML document of some sections.

    Parameters
    ----------
    name
        Title of the document.
    sections
        Title and HTML of each.
    drawn
        The figures that the sections show.
    answered
        What can be saved as JSON.
    version
        Of the program.
    """
    title = text(name or "scenario")
    links = "".join(
        f'<li><a href="#{_anchor(title)}">{at}. {title}</a></li>' for at, (title, _) in enumerate(sections, 1)
    )
    bodies = "".join(
        f'<section id="{_anchor(title)}"><h2>{at}. {title}</h2>{body}</section>'
        for at, (title, body) in enumerate(sections, 1)
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>"
        f'<header><h1>{title}</h1></header><nav aria-label="Pages"><ol>{links}</ol></nav><main>{bodies}</main>'
        f"<footer>perfmodel {text(version)}. {_download(answered)}</footer>{_scripts(drawn)}</body></html>\n"
    )


def _scripts(drawn: _Figures) -> str:
    """plotly.js once, and the script that draws; nothing when there is no figure."""
    if not drawn:
        return ""
    from plotly.offline import get_plotlyjs

    return f"<script>{get_plotlyjs()}</script><script>{SCRIPT}</script>"


def _download(answered: _Answered) -> str:
    data = base64.b64encode(answered.to_json().encode()).decode()
    return f'<a download="result.json" href="data:application/json;base64,{data}">The result as JSON</a>'


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")


def to_html_fragment(result: Result) -> str:
    """The answer sentence and the tables as HTML, for a notebook (no figures, no scripts)."""
    return fragment(f"{_sentence(result)}{details(result)}")


def fragment(body: str) -> str:
    """HTML with the few styles that it needs in a notebook."""
    style = (
        ".pm td.bar span{display:block;height:.7em;background:#0072b2}.pm td.bar{width:10em}.pm .left{text-align:left}"
        ".pm .right{text-align:right}.pm h3{margin:1em 0 .3em}"
    )
    return f'<div class="pm"><style>{style}</style>{body}</div>'


def details(result: Result) -> str:
    """What it would take to fit, the tables and the warnings of a result."""
    tables = "".join(table_html(table) for table in content.all_tables(result))
    notes = list_html([line for line in content.uncertainty_lines(result) if line])
    warnings = "".join(f"<h3>{text(title)}</h3>{list_html(lines)}" for title, lines in content.warning_groups(result))
    shortfall = list_html(content.shortfall_lines(result)) if content.shortfall_lines(result) else ""
    return f"{shortfall}{tables}{notes}{warnings}"


def _sentence(result: Result) -> str:
    return sentence_html(answer_sentence(result), feasible=result.feasible)


def sentence_html(sentence: str, *, feasible: bool) -> str:
    """The answer in a sentence; one without an answer stands out."""
    said = unbroken(text(sentence))
    if feasible:
        return f'<p class="sentence">{said}</p>'
    return f'<p class="sentence infeasible"><strong>infeasible</strong>{said.removeprefix("infeasible")}</p>'


def _answer(result: Result, _: _Figures) -> str:
    cards = "".join(_card(result, key) for key in _CARDS if is_number(_value(result, key)))
    basis, meaning = confidence(result)
    facts = [f"<p>{text(line)}</p>" for line in result.describe]
    sure = (
        f"<p><b>Confidence: {text(basis)}</b>{f' ({text(meaning)})' if meaning else ''}. {_expected_error(result)}</p>"
    )
    published = content.published_table(result)
    return (
        f'{_sentence(result)}<div class="cards">{cards}</div><div class="facts">{"".join(facts)}</div>'
        f"{sure if result.uncertainty else ''}{_effects(result)}{table_html(published) if published else ''}"
    )


def _value(result: Result, key: str) -> object:
    """A value two levels deep, or None."""
    group, name = key.split(".")
    return getattr(result, group).get(name)


def _card(result: Result, key: str) -> str:
    value = _value(result, key)
    asides = [
        f"<b>{text(key_quantity(key, row.value))}</b> published "
        f"({text(signed_percent(row.predicted / row.value - 1 if row.value else None))})"
        for row in result.published
        if row.key == key and not row.at
    ]
    between = interval_of(result, key)
    asides += [f"80 % interval {text(between)}"] if between else []
    shown = key_quantity(key, value)
    if key == "memory.peak_bytes" and is_number(value):
        shown = memory_of_capacity(float(value), result.memory.get("capacity_bytes"))
    number, _, unit = shown.rpartition(" ") if " of " in shown else shown.partition(" ")
    asides_html = "".join(f'<div class="aside">{aside}</div>' for aside in asides)
    label = label_of_key(key).replace("tokens per second and device", "throughput per device")
    return (
        f'<div class="card"><div class="label">{text(label)}</div><div class="number">{text(number)} '
        f"<small>{text(unit)}</small></div>{asides_html}</div>"
    )


def _expected_error(result: Result) -> str:
    stated = result.uncertainty.get("time.step_s") or {}
    p10, p50, p90 = (stated.get(name) for name in ("p10", "p50", "p90"))
    if not (is_number(p10) and is_number(p50) and is_number(p90) and p50):
        return ""
    low, high = signed_percent(p10 / p50 - 1), signed_percent(p90 / p50 - 1)
    return f"In 8 of 10 cases the step time lies between {text(low)} and {text(high)} of the prediction."


def _effects(result: Result) -> str:
    counted = sum(len(lines) for _, lines in content.warning_groups(result))
    if not counted:
        return ""
    words = "1 warning stands" if counted == 1 else f"{counted} warnings stand"
    return f'<p class="note">{words} under <a href="#assumptions">Assumptions</a>.</p>'


def _tables_and_figures(
    names: tuple[str, ...], *tables: Callable[[Result], content.Table | None]
) -> Callable[[Result, _Figures], str]:
    """A section of the given figures followed by the given tables; empty when neither applies."""

    def make(result: Result, drawn: _Figures) -> str:
        pictures = "".join(figure_html(name, drawn[name]) for name in names if name in drawn)
        filled = [table for table in (table_of(result) for table_of in tables) if table is not None]
        return pictures + "".join(table_html(table) for table in filled)

    return make


def _memory(result: Result, drawn: _Figures) -> str:
    shortfall = content.shortfall_lines(result)
    told = (
        f'<div class="infeasible"><h3>What it would take to fit</h3>{list_html(shortfall)}</div>' if shortfall else ""
    )
    return told + _tables_and_figures(("memory",), content.memory_table)(result, drawn)


def _pipeline(result: Result, drawn: _Figures) -> str:
    body = _tables_and_figures(("pipeline",), content.stages_table)(result, drawn)
    note = (
        '<p class="note">Every micro-batch on every stage: write the trace with <code>--trace FILE.json</code> '
        "and open it in Perfetto.</p>"
    )
    return body + note if body else ""


def _assumptions(result: Result, _: _Figures) -> str:
    return assumptions_section(result)


_SECTIONS: tuple[tuple[str, Callable[[Result, _Figures], str]], ...] = (
    ("Answer", _answer),
    ("Time", _tables_and_figures(("waterfall", "breakdown", "operators"), content.time_table, content.speed_table)),
    ("Measured", _tables_and_figures((), content.measured_table)),
    ("Roofline", _tables_and_figures(("roofline",), content.operators_table)),
    ("Memory", _memory),
    ("Communication", _tables_and_figures(("communication",), content.communication_table)),
    ("Pipeline", _pipeline),
    ("Energy and money", _tables_and_figures(("energy", "money"), content.energy_table, content.money_table)),
    ("Assumptions", _assumptions),
)
