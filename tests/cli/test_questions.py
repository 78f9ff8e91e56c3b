"""The commands on shipped scenarios, end to end."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

SCENARIO = "llama3.1-8b-128-h100"


def test_json_has_every_key_of_the_interface(run: Callable) -> None:
    outcome = run("run", SCENARIO, "--format", "json", "--quiet")
    assert (outcome.code, outcome.err) == (0, "")
    told = json.loads(outcome.out)
    assert told["schema"] == "perfmodel.result/1"
    assert set(told) >= {
        "version", "scenario", "question", "workload", "feasible", "reasons", "plans", "time", "memory", "energy",
        "money", "carbon", "run", "metrics", "uncertainty", "operators", "warnings", "sources",
    }  # fmt: skip
    for total, parts in (("time.step_s", "time"), ("memory.peak_bytes", "memory"), ("energy.per_step_j", "energy")):
        group, key = total.split(".")
        assert sum(told[parts]["breakdown"].values()) == pytest.approx(told[group][key], rel=1e-9)


def test_csv_and_json_say_the_same(run: Callable) -> None:
    told = json.loads(run("run", SCENARIO, "--format", "json", "--quiet").out)
    rows = {
        row["key"]: row for row in csv.DictReader(io.StringIO(run("run", SCENARIO, "--format", "csv", "--quiet").out))
    }
    assert float(rows["time.step_s"]["value"]) == told["time"]["step_s"]
    assert rows["time.step_s"]["unit"] == "s"
    assert rows["memory.peak_rank"]["value"] == told["memory"]["peak_rank"]


def test_the_same_question_has_the_same_answer(run: Callable) -> None:
    assert run("run", SCENARIO, "--format", "json").out == run("run", SCENARIO, "--format", "json").out


def test_the_table_starts_with_the_answer_and_fits(run: Callable) -> None:
    outcome = run("run", SCENARIO)
    assert outcome.code == 0
    assert "per step" in outcome.out.splitlines()[0]
    assert max(len(line) for line in outcome.out.splitlines()) <= 100
    assert "\x1b" not in outcome.out


def test_a_path_and_a_name_are_the_same_scenario(run: Callable, checkout: Path) -> None:
    path = checkout / "scenarios" / "training" / f"{SCENARIO}.yaml"
    by_path, by_name = (json.loads(run("run", str(one), "--format", "json").out) for one in (path, SCENARIO))
    assert by_path == by_name


def test_an_override_changes_the_answer_and_has_the_basis_user(run: Callable) -> None:
    setting = "cluster.accelerator.memory.bandwidth=1 TB/s"
    slow = json.loads(run("run", SCENARIO, "--set", setting, "--format", "json", "--quiet").out)
    told = json.loads(run("run", SCENARIO, "--format", "json", "--quiet").out)
    assert slow["time"]["step_s"] > told["time"]["step_s"]
    assert slow["scenario"]["sha256"] != told["scenario"]["sha256"]
    assert any(
        "bandwidth" in path for source in slow["sources"] if source["basis"] == "user" for path in source["used_for"]
    )


def test_a_mistyped_override_names_the_nearest_field(run: Callable) -> None:
    outcome = run("run", SCENARIO, "--set", "strategy.micro_bach=2")
    assert outcome.code == 2
    assert "micro_batch" in outcome.err


def test_a_plan_that_cannot_be_is_one(run: Callable) -> None:
    outcome = run("run", SCENARIO, "--set", "strategy.tp=3", "--format", "json", "--quiet")
    assert outcome.code == 1
    told = json.loads(outcome.out)
    assert told["feasible"] is False
    assert any("attention heads" in reason for reason in told["reasons"])


def test_report_and_trace_are_written(run: Callable, tmp_path: Path) -> None:
    page, timeline = tmp_path / "page.html", tmp_path / "trace.json"
    assert run("run", SCENARIO, "--report", str(page), "--trace", str(timeline)).code == 0
    assert page.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html")
    assert json.loads(timeline.read_text(encoding="utf-8"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "trace.json"]


def test_explain_gives_the_number_of_the_result(run: Callable) -> None:
    told = json.loads(run("run", SCENARIO, "--format", "json", "--quiet").out)
    for key in (None, "memory.peak_bytes", "energy.per_step_j"):
        derivation = json.loads(run("explain", SCENARIO, *([key] if key else []), "--format", "json", "--quiet").out)
        value = next(step["value"] for step in derivation["steps"] if step["step"] == derivation["root"])
        group, _, name = (key or "time.step_s").partition(".")
        assert value == pytest.approx(told[group][name], rel=1e-12)


def test_explain_shows_formula_and_sources_of_an_operator(run: Callable) -> None:
    outcome = run("explain", SCENARIO, "mlp.down", "--quiet")
    assert outcome.code == 0
    for word in ("tile_loop_time", "nvidia-h100-datasheet", "vendor", "TFLOP/s"):
        assert word in outcome.out


def test_explain_says_why_a_plan_loses(run: Callable) -> None:
    slower = run("explain", SCENARIO, "--plan", "tp=4,pp=4", "--quiet")
    assert slower.code == 0
    assert "with tp=4,pp=4" in slower.out
    assert "A is faster than B with probability" in slower.out
    impossible = run("explain", SCENARIO, "--plan", "tp=3", "--quiet")
    assert impossible.code == 1
    assert "attention heads" in impossible.out


def test_explain_of_nothing_known_is_bad_usage(run: Callable) -> None:
    outcome = run("explain", SCENARIO, "no.such.operator")
    assert (outcome.code, outcome.out) == (2, "")
    assert "block.mlp.down" in outcome.err


def test_compare_puts_scenarios_side_by_side(run: Callable) -> None:
    other = "korthikanti-2022-22b-full"
    told = json.loads(run("compare", SCENARIO, other, "--format", "json", "--quiet").out)
    assert [one["scenario"]["name"] for one in told["results"]] == [SCENARIO, other]
    columns = list(csv.DictReader(io.StringIO(run("compare", SCENARIO, other, "--format", "csv", "--quiet").out)))
    times = next(row for row in columns if row["key"] == "time.step_s")
    assert float(times["scenario 2"]) == told["results"][1]["time"]["step_s"]


def test_estimate_answers_and_its_scenario_gives_the_same_answer(run: Callable, tmp_path: Path) -> None:
    question = ("--model", "llama-3.1-8b", "--accelerator", "h100-sxm5-80gb", "--devices", "64", "--tokens", "1T")
    saved = tmp_path / "picked.yaml"
    outcome = run("estimate", *question, "--format", "json", "--save", str(saved))
    assert outcome.code == 0
    assert "plan: tp=" in outcome.err
    picked = json.loads(outcome.out)
    again = json.loads(run("run", str(saved), "--format", "json", "--quiet").out)
    assert again["time"] == picked["time"]
    assert again["memory"] == picked["memory"]


def test_no_neighbour_of_the_picked_plan_is_faster(run: Callable, tmp_path: Path) -> None:
    saved = tmp_path / "picked.yaml"
    question = ("--model", "llama-3.1-70b", "--accelerator", "h100", "--devices", "128", "--save", str(saved))
    picked = json.loads(run("estimate", *question, "--format", "json", "--quiet").out)
    plan = picked["plans"][0]
    feasible = 0
    sizes = [(name, size) for name in ("tp", "pp", "micro_batch") for size in (plan[name] * 2, plan[name] // 2)]
    neighbours = [*sizes, ("zero", 1), ("zero", 3), ("recompute", "full")]
    for field, value in neighbours:
        if value == 0:
            continue
        other = json.loads(
            run("run", str(saved), "--set", f"strategy.{field}={value}", "--format", "json", "--quiet").out
        )
        if other["feasible"]:
            feasible += 1
            assert other["time"]["step_s"] >= picked["time"]["step_s"] * 0.998, (field, value)
    assert feasible >= 2


def test_estimate_says_when_nothing_fits(run: Callable) -> None:
    outcome = run(
        "estimate", "--model", "llama-3.1-405b", "--accelerator", "h100", "--devices", "8", "--format", "json"
    )
    assert outcome.code == 1
    assert "none of" in outcome.err
    assert any(reason.startswith("memory") for reason in json.loads(outcome.out)["reasons"])


@pytest.mark.parametrize("devices", ["0", "many", "2.5"])
def test_estimate_needs_a_count(run: Callable, devices: str) -> None:
    outcome = run("estimate", "--model", "llama-3.1-8b", "--accelerator", "h100", "--devices", devices)
    assert (outcome.code, outcome.out) == (2, "")
    assert "--devices" in outcome.err


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("cluster.accelerator.memory.bandwidth=0 TB/s", "must be larger than 0"),
        ("cluster.accelerator.memory.bandwidth=1e-300 TB/s", "too small or too large"),
        ("software.behaviour.fixed_overhead=1e308 s", "too small or too large"),
        ("software.behaviour.tensor_exposed=2", "outside 0 .. 1"),
        ("pricing={kind: cloud, device_hour: 2 USD, utilisation: 0}", "must be larger than 0"),
        ("measured={step_time: 0 s}", "must be larger than 0"),
    ],
)
def test_a_number_that_cannot_be_is_refused(run: Callable, override: str, says: str) -> None:
    outcome = run("run", "llama3.1-70b-64-h100", "--set", override)
    assert outcome.code == 2
    assert says in outcome.err
    assert override.split("=", maxsplit=1)[0] in outcome.err
    assert outcome.err.count("\n") == 1
    assert outcome.out == ""
