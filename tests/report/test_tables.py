"""The text tables: what they say agrees with the result, whatever the result holds."""

import csv
import io
import json
import re
from dataclasses import replace

import pytest

from perfmodel.engine.result import ResultWarning
from perfmodel.report import render_compare, render_csv, render_text
from perfmodel.report.content import energy_table, memory_table, time_table
from perfmodel.report.display import block_bar, display_width, memory, percent, quantity, significant
from perfmodel.report.sentence import answer_sentence, bound_shares

NASTY = "</script>\x1b[31m\nname\twith 漢字漢字漢字 and \u202e reversed " + "x" * 300


def numbers_of(text):
    return [float(found.replace(",", "")) for found in re.findall(r"-?\d[\d,]*\.?\d*", text)]


@pytest.mark.parametrize("table_of", [time_table, memory_table, energy_table])
def test_the_rows_of_a_table_add_up_to_its_total(table_of, result):
    table = table_of(result)
    parts = [numbers_of(row[1])[0] for row in table.rows[: -table.totals]]
    total = numbers_of(table.rows[-table.totals][1])[0]
    # Each cell is rounded to three digits.
    assert sum(parts) == pytest.approx(total, rel=5e-3)
    shares = [numbers_of(row[-1])[0] for row in table.rows[: -table.totals]]
    assert sum(shares) == pytest.approx(100, abs=0.3)


@pytest.mark.parametrize("table_of", [time_table, memory_table, energy_table])
def test_parts_are_listed_largest_first_and_bars_follow_the_shares(table_of, result):
    table = table_of(result)
    bars = [bar for bar in table.bars if bar is not None]
    assert bars == sorted(bars, reverse=True)
    assert bars[0] == pytest.approx(numbers_of(table.rows[0][-1])[0] / 100, rel=5e-3)


def test_the_first_line_is_the_answer(result):
    first = render_text(result, width=200).splitlines()[0]
    assert first.startswith("12.0 s per step, 44.3 % MFU, 67.3 of 78 GiB, 7.01 MW; compute-bound")
    assert "9.3 % exposed tensor-parallel communication" in first


def test_an_infeasible_answer_starts_with_its_reason(infeasible, impossible):
    assert render_text(infeasible, width=200).startswith("infeasible: memory: 113.6 GiB needed on stage 0")
    assert render_text(impossible).startswith("infeasible: tp = 7 does not divide the 128 attention heads")
    assert "What it would take to fit" in render_text(infeasible)
    assert "What it would take to fit" not in render_text(impossible)


def test_what_it_would_take_to_fit_is_the_difference(infeasible):
    text = render_text(infeasible)
    over = infeasible.memory["peak_bytes"] - infeasible.memory["capacity_bytes"]
    assert f"{memory(over)} too much" in text


def test_what_limits_the_step_is_the_largest_share(result, make_result):
    shares = bound_shares(result)
    assert sum(shares.values()) == pytest.approx(1, rel=1e-6)
    assert next(iter(shares)) == "compute"
    breakdown = dict.fromkeys(result.time["breakdown"], 0.0) | {"forward_s": 2.0, "data_communication_s": 10.0}
    assert "communication-bound" in answer_sentence(make_result(time=dict(result.time) | {"breakdown": breakdown}))


def nasty(make_result):
    base = make_result()
    operators = tuple(replace(row, name=NASTY, bound=NASTY, data_type=NASTY) for row in base.operators)
    communication = tuple(
        replace(row, group=NASTY, name=NASTY, binding_tier=NASTY, tiers=(NASTY,)) for row in base.communication
    )
    return make_result(
        scenario={"name": NASTY, "sha256": NASTY},
        operators=operators,
        communication=communication,
        describe=(NASTY,) * 4,
        stages=tuple(replace(row, name=NASTY) for row in base.stages),
        plans=({"role": NASTY},),
        published=tuple(replace(row, source=NASTY, note=NASTY) for row in base.published),
        inputs=tuple(replace(one, path=NASTY, source=NASTY, note=NASTY) for one in base.inputs),
        waterfall=tuple(replace(row, name=NASTY) for row in base.waterfall),
        warner=lambda: (ResultWarning("assumed-number", "info", NASTY, NASTY, 0.5),),
        memory=dict(base.memory) | {"peak_rank": NASTY},
        version=NASTY,
    )


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_no_line_is_wider_than_asked(width, result, infeasible, impossible, make_result):
    for one in (result, infeasible, impossible, nasty(make_result)):
        for line in render_text(one, width=width).splitlines():
            assert display_width(line) <= width, line
        for line in render_compare([result, one, result], width=width).splitlines():
            assert display_width(line) <= width, line


def test_text_from_files_cannot_steer_the_terminal(make_result):
    text = render_text(nasty(make_result))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)


def test_colours_only_when_asked(result):
    assert "\x1b[" not in render_text(result)
    coloured = render_text(result, colour=True)
    assert "\x1b[1m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == render_text(result)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e9, 1e20])
def test_extreme_values_keep_the_tables_readable(scale, result, make_result):
    breakdown = {key: value * scale for key, value in result.time["breakdown"].items()}
    energy = {key: value * scale for key, value in result.energy["breakdown"].items()}
    one = make_result(
        time={"step_s": sum(breakdown.values()), "breakdown": breakdown, "overlapped": {}},
        energy=dict(result.energy) | {"breakdown": energy, "per_step_j": sum(energy.values())},
    )
    text = render_text(one)
    assert all(display_width(line) <= 100 for line in text.splitlines())
    assert "50.2 %" in text


def test_missing_money_and_carbon_read_as_a_dash(result, make_result):
    one = make_result(
        money=dict.fromkeys(result.money),
        carbon=dict.fromkeys(result.carbon),
        run=dict(result.run) | {"usd": None, "kg_co2e": None, "goodput": None},
    )
    text = render_text(one)
    assert re.search(r"cost per step +-$", text, re.MULTILINE)
    assert re.search(r"carbon per step +-$", text, re.MULTILINE)
    assert "None" not in text
    assert "nan" not in text


def test_warnings_come_last_and_the_one_with_most_effect_first(result):
    text = render_text(result)
    assert text.index("Assumed numbers that matter") > text.index("80 % interval")
    assert text.index("tensor_exposed") < text.index("1 more that move it by less than 0.1 % each: cluster.power.host")
    assert "moves the step time by 2.1 %" in text


def test_the_interval_names_what_it_rests_on(result):
    text = " ".join(render_text(result).split())
    assert "step time 11.2 to 12.9 s" in text
    assert "calibrated (this accelerator and software stack were fitted" in text


def test_published_figures_stand_beside_the_prediction(result):
    line = next(line for line in render_text(result).splitlines() if line.startswith("MFU") and "43.0" in line)
    assert line.split()[:8] == ["MFU", "43.0", "%", "44.3", "%", "+2.9", "%", "llama3-paper"]


def test_the_csv_holds_every_leaf_of_the_json(result):
    rows = list(csv.DictReader(io.StringIO(render_csv(result))))
    found = {row["key"]: row for row in rows}
    tree = json.loads(result.to_json())
    assert float(found["time.step_s"]["value"]) == tree["time"]["step_s"]
    assert found["time.step_s"]["unit"] == "s"
    assert found["memory.peak_bytes"]["unit"] == "B"
    operators = [key for key in found if re.fullmatch(r"operators\.\d+\.time_s", key)]
    assert len(operators) == len(tree["operators"])
    breakdown = sum(float(row["value"]) for key, row in found.items() if key.startswith("time.breakdown."))
    assert breakdown == pytest.approx(tree["time"]["step_s"], rel=1e-9)


def test_a_comparison_shows_the_largest_difference_first(result, make_result):
    breakdown = dict(result.time["breakdown"]) | {"pipeline_bubble_s": 0.05, "overhead_s": 0.77}
    other = make_result(time=dict(result.time) | {"breakdown": breakdown, "step_s": sum(breakdown.values())})
    text = render_compare([result, other], probabilities=[0.25])
    section = text[text.index("\nTime\n") :].splitlines()[3:]
    assert section[0].startswith("pipeline bubble")
    assert section[1].startswith("overhead")
    assert "-95.2 %" in section[0]
    assert "A is faster than B with probability 0.25" in text


def test_a_comparison_as_data_holds_the_values_of_all(result, infeasible):
    compared = json.loads(render_compare([result, infeasible], output_format="json"))
    assert compared["values"]["memory.peak_bytes"] == [result.memory["peak_bytes"], infeasible.memory["peak_bytes"]]
    assert compared["feasible"] == [True, False]
    rows = list(csv.DictReader(io.StringIO(render_compare([result, infeasible], output_format="csv"))))
    row = next(row for row in rows if row["key"] == "memory.peak_bytes")
    assert float(row["B"]) == infeasible.memory["peak_bytes"]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (significant(12.0), "12.0"),
        (significant(0.0123), "0.0123"),
        (significant(1234567), "1,234,567"),
        (significant(0), "0"),
        (significant(None), "-"),
        (significant(float("nan")), "-"),
        (percent(0.412), "41.2 %"),
        (percent(None), "-"),
        (quantity(4.9e6, "W"), "4.90 MW"),
        (quantity(3.35e12, "B/s"), "3.35 TB/s"),
        (quantity(1.56e13, "token"), "15.6 T tokens"),
        (quantity(259200, "s"), "3.00 days"),
        (memory(80 * 2**30), "80.0 GiB"),
        (memory(None), "-"),
        (quantity(5.92e7, "USD"), "59.2 million USD"),
    ],
)
def test_numbers_are_written_with_three_digits_and_a_prefix(shown, expected):
    assert shown == expected


def test_a_bar_is_as_long_as_its_fraction():
    assert len(block_bar(1.0, 20)) == 20
    assert block_bar(0.5, 20) == "█" * 10
    assert block_bar(0.001, 20) == "▏"
    assert block_bar(None, 20) == block_bar(0.0, 20) == ""
