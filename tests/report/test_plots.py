"""The figures: titles state numbers of the result, bars add up, meanings keep their colours."""

import re
from itertools import pairwise

import pytest

from perfmodel.parallel.schedule import replay
from perfmodel.report import figures
from perfmodel.report.palette import MEANINGS, MEMORY_PARTS, luminance
from perfmodel.report.plot_pipeline import _window

from_result = {
    "waterfall": ("6.31 s", "12.0 s", "2.76 s", "1.45 s"),
    "breakdown": ("76 %", "12 %", "8.8 %"),
    "operators": ("72 %",),
    "roofline": ("95 %", "75 %"),
    "memory": ("67.3 of 78 GiB", "69 %"),
    "communication": ("1.45 s", "3.11 s", "12 %", "77 %"),
    "pipeline": ("32 micro-batches", "16 stages", "1.05 s"),
    "energy": ("84.1 MJ", "35 %", "5.01 J"),
}


def title(figure):
    return figure.layout.title.text.replace("<br>", " ").replace("\xa0", " ")


def test_every_figure_of_a_training_step_is_there(drawn):
    assert set(drawn) == set(from_result)


@pytest.mark.parametrize("name", from_result)
def test_titles_state_the_finding_with_numbers(name, drawn):
    for number in from_result[name]:
        assert number in title(drawn[name])


def test_axes_have_units(drawn):
    for name, figure in drawn.items():
        titles = [str(axis.title.text or "") for axis in (figure.layout.xaxis, figure.layout.yaxis)]
        assert any(re.search(r"\[.+\]", text) for text in titles), name


def test_at_most_seven_series_and_every_one_answers_the_pointer(drawn):
    for figure in drawn.values():
        assert len(figure.data) <= 7
        assert all(trace.hovertemplate for trace in figure.data)


def test_the_waterfall_ends_at_the_step(drawn):
    bars = drawn["waterfall"].data[0]
    assert sum(bars.x[:-1]) == pytest.approx(bars.x[-1], rel=1e-9)
    # Each bar starts where the one before ends.
    for at in range(1, len(bars.x) - 1):
        assert bars.base[at] == pytest.approx(bars.base[at - 1] + bars.x[at - 1])


def test_a_cause_that_saves_time_goes_down(make_result, result):
    first, second, *rest = result.waterfall
    saved = type(second)("overlap of kernels", -1.0, "efficiency")
    lost = type(second)("kernel efficiency", second.seconds + 1.0, "efficiency")
    bars = figures(make_result(waterfall=(first, lost, saved, *rest)))["waterfall"].data[0]
    assert bars.base[2] == pytest.approx(first.seconds + second.seconds)
    assert bars.x[2] == pytest.approx(1.0)


def test_bars_add_up_to_the_totals(result, drawn):
    assert sum(drawn["breakdown"].data[0].x) == pytest.approx(result.time["step_s"], rel=1e-9)
    assert sum(drawn["energy"].data[0].x) * 1e6 == pytest.approx(result.energy["per_step_j"], rel=1e-9)
    assert sum(drawn["operators"].data[0].x) == pytest.approx(100, rel=1e-9)
    stacked = sum(trace.x[0] for trace in drawn["memory"].data) * 2**30
    assert stacked == pytest.approx(result.memory["peak_bytes"], rel=1e-9)
    exposed, hidden = drawn["communication"].data
    assert sum(exposed.x) + sum(hidden.x) == pytest.approx(sum(row.time_s for row in result.communication) * 1e3)


def test_small_parts_of_the_memory_are_joined_and_still_add_up(make_result, result):
    parts = {f"part{at}_bytes": (at + 1) * 1e9 for at in range(12)}
    one = make_result(
        memory=dict(result.memory) | {"breakdown": parts, "peak_bytes": sum(parts.values())}, stages=result.stages[:1]
    )
    traces = figures(one)["memory"].data
    assert len(traces) == 7
    assert traces[-1].name == "other"
    assert sum(trace.x[0] for trace in traces) * 2**30 == pytest.approx(sum(parts.values()))


def test_no_point_lies_above_its_roof(result, drawn):
    figure = drawn["roofline"]
    best = max(result.roofs["bandwidths"].values())
    for trace in figure.data:
        if trace.mode == "markers":
            for intensity, rate in zip(trace.x, trace.y, strict=True):
                assert rate <= min(result.roofs["peaks"]["bf16"], intensity * best)


def test_the_area_of_a_point_is_its_share_of_time(drawn):
    sizes = [size for trace in drawn["roofline"].data if trace.mode == "markers" for size in trace.marker.size]
    # Operators without arithmetic (the embedding) have no place on a roofline.
    assert sum(sizes) == pytest.approx(1, abs=0.01)


def test_an_overfull_memory_says_so(infeasible):
    text = title(figures(infeasible)["memory"])
    assert text.startswith("It does not fit: stage 0 needs 114 of 78 GiB, 35.6 GiB too much")


def test_an_impossible_plan_has_no_figures(impossible):
    assert figures(impossible) == {}


def test_nothing_is_drawn_from_missing_numbers(make_result, result):
    one = make_result(energy=dict(result.energy) | {"per_step_j": None}, communication=(), roofs={}, schedule={})
    assert set(figures(one)) == {"waterfall", "breakdown", "operators", "memory"}


def test_the_fold_keeps_start_and_end_of_the_schedule(result):
    timeline = replay([0.1] * 16, [0.2] * 16, 64, 8, 0.001)
    window = _window(timeline.events, timeline.makespan)
    shown = [event for event in timeline.events if window.shows(event)]
    assert window.folded
    assert 800 <= len(shown) <= 1600
    assert timeline.events[0] in shown
    assert max(event.end for event in shown) == pytest.approx(timeline.makespan)
    # Places keep the order of times, and lengths outside the fold.
    assert window.place(window.tail) - window.place(window.head) == pytest.approx(window.gap)
    assert window.place(timeline.makespan) - window.place(window.tail) == pytest.approx(timeline.makespan - window.tail)


def test_a_short_schedule_is_shown_whole(make_result):
    schedule = {"pp": 4, "virtual_stages": 1, "num_microbatches": 8, "forward_s": [0.1] * 4, "backward_s": [0.2] * 4}
    figure = figures(make_result(schedule=schedule))["pipeline"]
    assert sum(len(trace.x) for trace in figure.data) == 4 * 8 * 2
    busy = sum(sum(trace.x) for trace in figure.data)
    assert busy == pytest.approx(4 * 8 * 0.3)
    # 1F1B on four stages: eight micro-batches and three that fill and drain.
    assert max(base + length for trace in figure.data for base, length in zip(trace.base, trace.x, strict=True)) == (
        pytest.approx((8 + 3) * 0.3)
    )


def test_meanings_differ_in_grey_or_in_pattern():
    shown = {"compute", "memory", "tensor", "data", "pipeline", "context", "expert", "bubble", "optimizer", "recompute"}
    looks = [MEANINGS[name] for name in sorted(shown)]
    for at, first in enumerate(looks):
        for second in looks[at + 1 :]:
            assert first.colour != second.colour
            assert first.pattern != second.pattern or abs(luminance(first.colour) - luminance(second.colour)) > 0.05


def test_neighbours_in_the_memory_stack_differ_in_grey_or_in_pattern():
    looks = list(MEMORY_PARTS.values())
    for first, second in pairwise(looks):
        assert first.pattern != second.pattern or abs(luminance(first.colour) - luminance(second.colour)) > 0.1


def test_names_from_files_are_text_for_plotly(make_result, result):
    from dataclasses import replace

    evil = "<a href='http://example.com'>x</a>%{x}"
    operators = tuple(replace(row, name=evil) for row in result.operators)
    one = make_result(operators=operators, memory=dict(result.memory) | {"peak_rank": evil}, waterfall=tuple(
        replace(row, name=evil) for row in result.waterfall), stages=())  # fmt: skip
    for figure in figures(one).values():
        assert "<a href" not in figure.to_json().replace("\\u003c", "<")
        assert "%{x}" not in "".join(str(trace.hovertemplate) for trace in figure.data)


def test_passes_side_by_side_share_their_lane(make_result):
    schedule = {
        "name": "dualpipe", "pp": 4, "virtual_stages": 1, "num_microbatches": 8,
        "forward_s": [1.0] * 4, "backward_s": [2.0] * 4, "weight_gradient_s": [1.0] * 4,
    }  # fmt: skip
    figure = figures(make_result(schedule=schedule))["pipeline"]
    bars = {one.name: one for one in figure.data}
    assert set(bars) == {"forward", "backward", "input gradient", "weight gradient"}
    assert "from both ends" in title(figure)
    halves = [width for one in bars.values() for width in one.width or () if width < 0.5]
    beside = [event for event in replay([1.0] * 4, [2.0] * 4, 8, schedule="dualpipe").events if event.beside]
    assert len(halves) == 2 * len(beside) > 0
