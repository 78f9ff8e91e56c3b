"""Searches for people: what the sentence, the tables and the figures say is what was found."""

from __future__ import annotations

import csv
import io
import json
import re
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest

import perfmodel as pm
from perfmodel.report.display import display_width
from perfmodel.report.plot_tornado import tornado
from perfmodel.report.search_page import figures, render_page, search_figures, to_html_fragment, write_report
from perfmodel.report.search_tables import best_rows, pareto_table, search_tables, sweep_table
from perfmodel.report.search_text import render_csv, render_text
from perfmodel.study.search import SearchResult

QUESTION: dict[str, Any] = {
    "kind": "scenario", "name": "search", "question": "search", "model": "llama-3.1-8b",
    "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64}, "software": "megatron-core",
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128},
    "strategy": {"tp": [1, 2, 4, 8], "pp": [1, 2, 4], "micro_batch": [1, 2], "zero": "auto", "recompute": "auto",
                 "sequence_parallel": True, "overlap": {"pipeline": "auto", "tensor": "auto"}},
}  # fmt: skip
SMALL = {**QUESTION, "strategy": {"tp": [2, 4], "pp": [1, 2], "sequence_parallel": True, "zero": 1}}
BANDWIDTH, CAPACITY = "cluster.accelerator.memory.bandwidth", "cluster.accelerator.memory.capacity"
RANGE = {"from": "1 TB/s", "to": "8 TB/s", "points": 4, "scale": "log"}


def ask(question: dict[str, Any], **overrides: Any) -> SearchResult:
    found = pm.load(question, overrides=overrides).run()
    assert isinstance(found, SearchResult)
    return found


@pytest.fixture(scope="module")
def one() -> SearchResult:
    return ask({**QUESTION, "top": 30})


@pytest.fixture(scope="module")
def front() -> SearchResult:
    return ask(
        QUESTION, objectives={"time.step_s": "min", "memory.peak_bytes": "min", "energy.per_token_j": "min"},
        constraints={"memory.peak_bytes": {"max": "70 GiB"}, "strategy.tp": {"max": "node"}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def scaling() -> SearchResult:
    return ask(SMALL, **{"cluster.devices": [32, 64, 128], "cluster.name": ["hgx-h100-ib-ndr", "hgx-h200-ib-ndr"]})


@pytest.fixture(scope="module")
def grid() -> SearchResult:
    return ask(SMALL, objectives={"metrics.mfu": "max"}, **{BANDWIDTH: RANGE, CAPACITY: ["20 GiB", "80 GiB"]})


@pytest.fixture(scope="module")
def line() -> SearchResult:
    return ask(SMALL, **{BANDWIDTH: RANGE})


@pytest.fixture(scope="module")
def nothing() -> SearchResult:
    return ask(SMALL, model="llama-3.1-405b")


def title(figure: go.Figure) -> str:
    layout: Any = figure.layout
    return layout.title.text.replace("<br>", " ").replace("\xa0", " ")


def number(pattern: str, text: str) -> float:
    match = re.search(pattern, " ".join(text.split()))
    assert match is not None, text
    return float(match[1].replace(",", ""))


# Text


def test_the_first_line_is_the_best_strategy_and_how_many_it_is_the_best_of(one):
    text = render_text(one)
    best = one.best[0]
    assert text.startswith(f"TP {best.plan['tp']}, ")
    assert number(r": ([\d.]+) s per step", text) == pytest.approx(best.numbers["time.step_s"], rel=5e-3)
    assert number(r"([\d.]+) % MFU", text) == pytest.approx(100 * best.numbers["metrics.mfu"], rel=5e-3)
    assert f"best of {one.found.feasible:,} that fit of {one.found.enumerated:,} candidates" in " ".join(text.split())


def test_every_line_fits_and_the_best_follows_in_detail(one, front, scaling, grid, line, nothing):
    for search in (one, front, scaling, grid, line, nothing):
        for width in (60, 100):
            text = render_text(search, width=width)
            assert max(display_width(part) for part in text.splitlines()) <= width
        assert "in detail" in text
        assert "Memory of the fullest device" in text
        assert "\x1b" not in text
        assert "\x1b[" in render_text(search, colour=True)


def test_strategies_that_cost_the_same_share_a_row(one):
    rows = best_rows(one)
    assert [rank for row in rows for rank in row.ranks] == list(range(1, len(one.best) + 1))
    assert any(len(row.entries) > 1 for row in rows)
    for row in rows:
        assert len({entry.numbers["time.step_s"] for entry in row.entries}) == 1
    assert "makes no difference: hide pp" in render_text(one)


def test_the_table_tells_rows_apart_by_what_they_chose(one):
    table = search_tables(one, 200)[0]
    at = table.headers.index("step s")
    assert len({row[1:at] for row in table.rows}) == len(table.rows)


def test_columns_without_room_are_named(front):
    narrow = search_tables(front, 70)[0]
    assert any("no room here for" in note for note in narrow.notes)


def test_limits_and_objectives_are_said(front):
    text = " ".join(render_text(front).split())
    assert "looked for the least step time, least peak memory and least energy per token" in text
    assert "with peak memory at most 70.0 GiB, tp at most 8" in text
    assert f"{front.found.allowed:,} that keep the limits" in text
    table = pareto_table(front)
    assert table is not None
    assert str(len(front.pareto)) in table.title


def test_the_sweep_has_a_row_per_point_in_the_order_of_the_axes(grid, scaling, one):
    table = sweep_table(grid)
    assert table is not None
    assert [row[1:3] for row in table.rows][:3] == [
        ("1 TB/s", "20 GiB"), ("1 TB/s", "80 GiB"), ("2 TB/s", "20 GiB"),
    ]  # fmt: skip
    assert len(table.rows) == len(grid.bests) == 8
    devices = sweep_table(scaling)
    assert devices is not None
    assert len(devices.rows) == 6
    assert sweep_table(one) is None


def test_without_an_answer_the_reasons_are_said(nothing):
    assert not nothing.feasible
    text = " ".join(render_text(nothing).split())
    assert text.startswith("infeasible: none of ")
    assert "the device offers" in text
    assert "The strategy that needs the least memory in detail" in text
    assert render_csv(nothing) == "list,rank\n"
    assert list(nothing.to_frame()) == ["list", "rank"]


# Rows


def test_csv_frame_and_json_have_the_same_entries(front):
    rows = list(csv.DictReader(io.StringIO(render_csv(front))))
    frame = front.to_frame()
    told = json.loads(front.to_json())
    assert isinstance(frame, pd.DataFrame)
    assert len(rows) == len(frame) == sum(len(told[name]) for name in ("best", "pareto", "sweep"))
    first = rows[0]
    assert (first["list"], first["rank"]) == ("best", "1")
    assert float(first["time.step_s"]) == told["best"][0]["time"]["step_s"] == frame["time.step_s"][0]
    assert int(first["strategy.tp"]) == told["best"][0]["settings"]["strategy.tp"]
    assert first["strategy.recompute.policy"] == told["best"][0]["plans"][0]["recompute"]


def test_the_settings_of_an_entry_are_its_scenario(one, scaling):
    for search, question in ((one, QUESTION), (scaling, SMALL)):
        for entry in (search.best[0], search.best[-1], search.bests[-1]):
            again = pm.load(question, overrides={"question": "evaluate", **entry.settings}).run()
            assert isinstance(again, pm.Result)
            assert again.time["step_s"] == entry.numbers["time.step_s"]


# Figures


def test_the_figures_that_apply_are_drawn(one, front, scaling, grid, line, nothing):
    assert set(search_figures(one)) == set(search_figures(front)) == {"front", "choices"}
    assert set(search_figures(scaling)) == {"front", "choices", "scaling", "heatmap"}
    assert set(search_figures(grid)) == {"front", "choices", "heatmap"}
    assert set(search_figures(line)) == {"front", "choices", "sweep"}
    assert search_figures(nothing) == {}
    assert {"front", "waterfall", "memory"} <= set(figures(one))


def test_figures_keep_the_rules(one, front, scaling, grid, line):
    for search in (one, front, scaling, grid, line):
        for name, figure in search_figures(search, [("a", 1.0, 2.0)]).items():
            assert len(figure.data) <= 7
            assert all(trace.hovertemplate for trace in figure.data)
            assert re.search(r"\d", title(figure)), name
            layout = figure.to_plotly_json()["layout"]
            told = json.dumps([layout["xaxis"], layout["yaxis"], figure.to_plotly_json()["data"][0].get("colorbar")])
            assert re.search(r"\[.+?\]", told), name


def test_the_chosen_point_is_the_best(front):
    figure = search_figures(front)["front"]
    others, chosen = figure.data
    best = front.best[0]
    assert list(chosen.y) == [pytest.approx(best.numbers["time.step_s"])]
    assert list(chosen.x) == [pytest.approx(best.numbers["memory.peak_bytes"] / 2**30)]
    assert len(others.x) == len(front.pareto) - 1
    assert f"TP {best.plan['tp']}" in chosen.customdata[0]


def test_parallel_coordinates_pass_through_what_each_chose(one):
    figure = search_figures(one)["choices"]
    others, best = figure.data
    axes = len(figure.layout.xaxis.tickvals)
    assert len(best.x) == axes + 1
    assert len(others.x) == (len(best_rows(one)) - 1) * (axes + 1)
    assert figure.layout.xaxis.ticktext[-1] == "step time [s]"
    assert best.y[axes - 1] == 0.0  # the least
    assert max(y for y in others.y if y is not None) == 1.0


def test_strong_scaling_is_held_against_the_ideal(scaling):
    figure = search_figures(scaling)["scaling"]
    first, second, ideal = figure.data
    assert list(first.x) == list(second.x) == [32, 64, 128]
    assert ideal.y[0] / ideal.y[1] == pytest.approx(4.0)
    faster = first.y[0] / first.y[-1]
    assert number(r"gets ([\d.]+) times shorter", title(figure)) == pytest.approx(faster, rel=5e-3)
    assert number(r"shorter: ([\d.]+) %", title(figure)) == pytest.approx(100 * faster / 4, rel=1e-2)


def test_cells_of_the_map_are_the_best_of_each_point(grid):
    cells = search_figures(grid)["heatmap"].data[0]
    assert list(cells.x) == ["1 TB/s", "2 TB/s", "4 TB/s", "8 TB/s"]
    assert list(cells.y) == ["20 GiB", "80 GiB"]
    values = {(e.settings[BANDWIDTH], e.settings[CAPACITY]): 100 * e.numbers["metrics.mfu"] for e in grid.bests}
    assert sorted(value for row in cells.z for value in row) == pytest.approx(sorted(values.values()))


def test_a_point_where_nothing_fits_is_an_empty_cell():
    search = ask(SMALL, **{BANDWIDTH: ["2 TB/s", "4 TB/s"], CAPACITY: ["4 GiB", "80 GiB"]})
    cells = search_figures(search)["heatmap"].data[0]
    assert [value is None for value in cells.z[0]] == [True, True]
    assert cells.customdata[0][0] == "nothing fits"
    assert all(value is not None for value in cells.z[1])


def test_a_line_over_numbers_has_their_unit(line):
    figure = search_figures(line)["sweep"]
    assert list(figure.data[0].x) == pytest.approx([1.0, 2.0, 4.0, 8.0])
    assert figure.layout.xaxis.title.text == "memory.bandwidth [TB/s]"
    assert figure.layout.xaxis.type == "log"


def test_machines_are_points_over_their_names():
    search = ask(
        SMALL, cluster=[{"name": "hgx-h100-ib-ndr", "devices": 64}, {"name": "hgx-a100-ib-hdr", "devices": 64}]
    )
    points = search_figures(search)["sweep"].data[0]
    assert points.mode == "markers"
    assert list(points.x) == ["hgx-h100-ib-ndr, devices 64", "hgx-a100-ib-hdr, devices 64"]


def test_a_tornado_is_sorted_and_reaches_from_the_base():
    bars = [("small", 9.9, 10.1), ("large", 7.0, 14.0), ("one-sided", 10.0, 12.0), ("unknown", float("nan"), 1.0)]
    figure = tornado(bars, 10.0, "s", "step time")
    assert figure is not None
    low, high = figure.data
    assert list(low.y) == ["large", "one-sided", "small"]
    for trace, at in ((low, 1), (high, 2)):
        ends = [start + length for start, length in zip([trace.base] * 3, trace.x, strict=True)]
        assert ends == pytest.approx([{bar[0]: bar for bar in bars}[name][at] for name in trace.y])
    assert title(figure) == "large moves step time most: 7.00 s to 14.0 s around 10.0 s"
    inside = tornado([("same side", 11.0, 12.0)], 10.0, "s")
    assert inside is not None
    assert [trace.text[0].strip() for trace in inside.data] == ["", "12.0 s"]
    assert tornado([], 10.0, "s") is None
    assert tornado([("a", 1.0, 2.0)], float("nan"), "s") is None
    share = tornado([("a", 0.3, 0.5)], 0.4, "%", "MFU")
    assert share is not None
    assert title(share) == "a moves MFU most: 30.0 % to 50.0 % around 40.0 %"


def test_sensitivities_have_their_place_on_the_page(one):
    bars = [("memory bandwidth", 2.0, 4.0)]
    assert 'id="figure-tornado"' in render_page(one, bars)
    assert 'id="figure-tornado"' not in render_page(one)


# Page


def test_the_search_comes_first_and_the_best_strategy_follows(one, tmp_path):
    path = tmp_path / "report.html"
    one.report(path)
    page = path.read_text(encoding="utf-8")
    headings = re.findall(r"<h2>\d+\. (.*?)</h2>", page)
    assert headings[:3] == ["Search", "Best strategy", "Time"]
    assert headings[-1] == "Assumptions"
    assert page.count('id="figure-') == len(one.figures())
    options = re.findall(r"<code>--set (.*?)</code>", page)
    assert options[0] == "question=evaluate"
    assert len(options) == 1 + len(one.best[0].settings)


def test_the_page_without_an_answer_says_why(nothing, tmp_path):
    path = tmp_path / "report.html"
    write_report(nothing, path)
    page = path.read_text(encoding="utf-8")
    assert "<strong>infeasible</strong>" in page
    assert re.findall(r"<h2>\d+\. (.*?)</h2>", page)[:2] == ["Search", "Least memory"]


def test_a_notebook_shows_sentence_and_tables(one):
    shown = one._repr_html_()
    assert shown == to_html_fragment(one)
    assert "<script" not in shown
    assert "The best 30 strategies" in shown


def test_names_from_files_are_text(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    search = ask({**SMALL, "name": evil, "cluster": [
        {"extends": "hgx-h100-ib-ndr", "name": evil, "devices": 64}, {"name": "hgx-h100-ib-ndr", "devices": 64},
    ]})  # fmt: skip
    page = render_page(search)
    assert "<img" not in page
    assert "\x1b" not in render_text(search)
    for figure in search_figures(search).values():
        assert "<img" not in figure.to_json().replace("\\u003c", "<")
    assert "<img" not in to_html_fragment(search)
