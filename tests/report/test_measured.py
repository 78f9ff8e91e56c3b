"""A measured step in the table, the page and a comparison."""

from __future__ import annotations

import re

import pytest

import perfmodel as pm
from perfmodel.report import render_compare, render_csv, render_text
from perfmodel.report.display import display_width
from perfmodel.report.measured_table import measured_table
from perfmodel.report.page import render_page

EVIL = "<script>alert(1)</script>\x1b[31m"


@pytest.fixture(scope="module")
def scenario():
    return pm.load("llama3.1-405b-16384-h100")


@pytest.fixture(scope="module")
def anchored(scenario):
    return scenario.replace(measured={"mfu": "43 %", "at": {"cluster.devices": 8192}}).run()


@pytest.fixture(scope="module")
def profiled(scenario):
    return scenario.replace(measured={"step_time": "6.5 s", "breakdown": {"forward": "2 s"}}).run()


def test_without_a_measurement_there_is_no_table(scenario):
    plain = scenario.run()
    assert measured_table(plain) is None
    assert "Measured step" not in render_text(plain)


@pytest.mark.parametrize("name", ["anchored", "profiled"])
@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_the_table_fits(request, name, width):
    text = render_text(request.getfixturevalue(name), width=width)
    assert "Measured step" in text
    # Columns of numbers cannot be made narrower than what they say; below 80 they may stand out.
    if width >= 80:
        assert all(display_width(line) <= width for line in text.splitlines())


def test_the_terms_add_up_to_the_step_that_is_shown(profiled):
    table = measured_table(profiled)
    *terms, step = table.rows
    for at in (1, 2, 3):
        assert sum(float(row[at]) for row in terms) == pytest.approx(float(step[at]), abs=0.02)


def test_table_and_json_say_the_same(anchored):
    told = anchored.to_dict()["measured"]
    text = " ".join(render_text(anchored).split())
    assert f"{told['anchored']['step_s']:.2f} s per step (80 % interval {told['anchored']['p10']:.2f} s to" in text
    assert f"MFU {told['anchored']['mfu'] * 100:.1f} %" in text
    assert f"measured.anchored.step_s,{told['anchored']['step_s']!r},s" in render_csv(anchored)


def test_the_page_has_a_section_for_it(anchored, scenario):
    assert "Measured</h2>" in render_page(anchored)
    assert "Measured</h2>" not in render_page(scenario.run())
    # The card of the MFU shows what was published of this scenario, not what was measured elsewhere.
    cards = re.findall(r"<b>([\d.]+ %)</b> published", render_page(anchored))
    assert cards == ["41.0 %"]


def test_words_of_a_file_stay_words(scenario):
    measured = {"mfu": "43 %", "note": EVIL, "at": {"workload.tokens": "15T"}}
    result = scenario.replace(measured=measured).run()
    told = result.to_dict()["measured"] | {
        "at": {"cluster.devices": EVIL},
        "reasons": [EVIL],
        "terms": result.measured["terms"],
    }
    object.__setattr__(result, "measured", told)
    assert "\x1b" not in render_text(result)
    assert "<script>alert" not in render_page(result)


def test_a_comparison_shows_the_scaled_steps(anchored, profiled, scenario):
    text = render_compare([anchored, profiled])
    shown = text.split("Scaled by a measurement")[1].split("\n\n")[0]
    assert re.search(r"step time +6\.4\d s +6\.50 s", shown)
    assert "Scaled by a measurement" not in render_compare([scenario.run(), scenario.run()])
