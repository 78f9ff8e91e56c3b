"""The one-file report: complete, self-contained, safe, whole."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from perfmodel.errors import UsageError
from perfmodel.files import write_whole
from perfmodel.report import to_html_fragment, write_report
from perfmodel.report.page import render_page

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
#: Attributes that make a browser fetch something.
FETCHING = {"src", "href", "srcset", "data", "poster", "action", "background"}


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.fetched, self.handlers, self.words, self._inside = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = [*self._inside, tag] if tag in ("script", "style") else self._inside
        self.fetched += [value for name, value in attrs if name in FETCHING]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag):
        if self._inside and self._inside[-1] == tag:
            self._inside = self._inside[:-1]

    def handle_data(self, data):
        if not self._inside:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).replace("\xa0", " ").split())


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


def test_pages_come_in_the_order_of_the_questions(page):
    headings = re.findall(r"<h2>\d+\. ([^<]+)</h2>", page)
    assert headings == [
        "Answer",
        "Time",
        "Roofline",
        "Memory",
        "Communication",
        "Pipeline",
        "Energy and money",
        "Assumptions",
    ]
    links = re.findall(r'<a href="#([^"]+)">\d', page)
    assert all(f'id="{link}"' in page for link in links)
    assert len(links) == len(headings)


def test_the_answer_shows_the_figures_beside_the_published_ones(page):
    text = read(page).text
    for shown in (
        "12.0 s",
        "44.3 %",
        "67.3 of 78 GiB",
        "7.01 MW",
        "43.0 % published (+2.9 %)",
        "11.6 s published (+3.4 %)",
        "80 % interval 11.2 to 12.9 s",
        "Confidence: calibrated",
        "between -6.7 % and +7.5 %",
    ):
        assert shown in text


def test_every_input_stands_with_unit_source_and_basis(page, result):
    text = read(page).text
    for number in result.inputs:
        assert number.path in text
        assert str(number.basis) in text
        assert result.sources_titles.get(number.source, number.source) in text
    assert "989.4 TFLOP/s" in text
    assert result.scenario["sha256"] in text


def test_formulas_are_rendered(page):
    assert page.count("<math") > 20
    assert "roofline.roofline_time" in page


def test_nothing_is_fetched(page):
    reader = read(page)
    assert all(value.startswith(("#", "data:")) for value in reader.fetched), reader.fetched
    assert "default-src 'none'" in page
    assert "@import" not in page.split("</style>")[0]
    assert "url(" not in page.split("</style>")[0]


def test_plotly_is_there_once(page):
    assert page.count("plotly.js v") == 1
    assert set(re.findall(r'data-figure="(\w+)"', page)) == {
        "waterfall",
        "breakdown",
        "operators",
        "roofline",
        "memory",
        "communication",
        "pipeline",
        "energy",
    }


def test_the_data_of_the_figures_is_valid_json(page):
    found = re.findall(r'<script type="application/json" id="data-\w+">(.*?)</script>', page, re.DOTALL)
    assert len(found) == 8
    for one in found:
        assert "<" not in one
        assert json.loads(one)["data"]


def evil(make_result):
    base = make_result()
    return make_result(
        scenario={"name": EVIL, "sha256": EVIL},
        describe=(EVIL,),
        version=EVIL,
        plans=({"role": EVIL},),
        operators=tuple(replace(row, name=EVIL, bound=EVIL, phase=EVIL, data_type=EVIL) for row in base.operators),
        communication=tuple(
            replace(row, group=EVIL, operation=EVIL, name=EVIL, binding_tier=EVIL) for row in base.communication
        ),
        stages=tuple(replace(row, name=EVIL) for row in base.stages),
        waterfall=tuple(replace(row, name=EVIL) for row in base.waterfall),
        published=tuple(replace(row, source=EVIL, note=EVIL) for row in base.published),
        inputs=tuple(replace(one, path=EVIL, source=EVIL, note=EVIL, unit="B") for one in base.inputs),
        memory=dict(base.memory) | {"peak_rank": EVIL},
        warner=lambda: tuple(replace(one, path=EVIL, message=EVIL) for one in base.warnings),
        roofs={"peaks": {EVIL: 989e12}, "bandwidths": {EVIL: 3.35e12}},
    )


def test_text_from_files_is_escaped_everywhere(make_result, page):
    shown = render_page(evil(make_result))
    assert "<script>alert" not in shown
    assert "<img" not in shown.replace(_plotly(shown), "")
    assert read(shown).tags.count("script") == read(page).tags.count("script")
    assert not read(shown).handlers
    assert EVIL in read(shown).text
    fragment = to_html_fragment(evil(make_result))
    assert "<script" not in fragment
    assert "<img" not in fragment


def _plotly(shown):
    return max(re.findall(r"<script>(.*?)</script>", shown, re.DOTALL), key=len)


def test_reasons_are_escaped_too(make_result):
    shown = render_page(make_result(feasible=False, reasons=(EVIL,)))
    assert "<script>alert" not in shown


def test_an_infeasible_page_says_what_it_would_take(infeasible):
    text = read(render_page(infeasible)).text
    assert "infeasible : memory: 113.6 GiB needed" in text
    assert "What it would take to fit" in text
    assert "35.6 GiB too much" in text


def test_an_impossible_plan_still_has_a_page(impossible):
    page = render_page(impossible)
    assert re.findall(r"<h2>\d+\. ([^<]+)</h2>", page) == ["Answer", "Assumptions"]
    assert "plotly.js" not in page
    assert "None" not in read(page).text


def test_missing_money_leaves_no_trace_of_none(make_result, result):
    one = make_result(
        money=dict.fromkeys(result.money), carbon=dict.fromkeys(result.carbon), run=dict.fromkeys(result.run)
    )
    text = read(render_page(one)).text
    assert "Energy and money" in text
    assert "None" not in text
    assert "nan" not in text.lower().split()


def test_the_same_result_gives_the_same_page(result, page):
    assert render_page(result) == page


def test_the_fragment_holds_the_answer_and_no_script(result):
    fragment = to_html_fragment(result)
    assert "12.0" in fragment
    assert "<script" not in fragment
    assert "tensor-parallel communication" in fragment


def test_a_file_is_written_whole(tmp_path, result):
    target = tmp_path / "report.html"
    write_report(result, target)
    assert target.read_text(encoding="utf-8").endswith("</html>\n")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "report.html"
    target.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(target, "new \ud800")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_missing_folder_is_an_error_for_people(tmp_path, result):
    with pytest.raises(UsageError, match="No such file or directory"):
        write_report(result, tmp_path / "nowhere" / "report.html")


def test_plotly_is_loaded_for_pictures_only():
    code = (
        "import sys; from perfmodel.report import render_text, render_csv, render_derivation, write_trace; "
        "sys.exit('plotly' in sys.modules or 'pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
