"""``perfmodel run`` on a search: the same options and exit codes as for one plan."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from perfmodel.engine.result_schema import result_schema

TEXT = """kind: scenario
name: small search
question: search
model: llama-3.1-8b
cluster: {name: hgx-h100-ib-ndr, devices: 64}
software: megatron-core
workload: {kind: training, sequence_length: 8192, global_batch: 128}
strategy: {tp: [1, 2, 4], pp: [1, 2], sequence_parallel: true, zero: [1, 2], recompute: [none, full]}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "search.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return str(path)


def test_the_table_starts_with_the_answer_and_fits(run: Callable, scenario: str) -> None:
    outcome = run("run", scenario)
    assert (outcome.code, outcome.err) == (0, "")
    lines = outcome.out.splitlines()
    assert lines[0].startswith("TP ")
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("objectives", ["{}", "{time.step_s: min, memory.peak_bytes: min}"])
def test_json_keeps_to_the_schema(run: Callable, scenario: str, objectives: str) -> None:
    outcome = run("run", scenario, "--format", "json", "--quiet", "--set", f"objectives={objectives}")
    assert outcome.code == 0
    told = json.loads(outcome.out)
    assert [error.message for error in Draft202012Validator(result_schema()).iter_errors(told)] == []
    assert (told["question"], told["feasible"], told["reasons"]) == ("search", True, [])
    assert told["time"]["step_s"] == told["best"][0]["time"]["step_s"]
    assert told["candidates_feasible"] <= told["candidates_evaluated"] <= told["candidates_enumerated"]
    assert bool(told["pareto"]) == (objectives != "{}")
    del told["best"]
    assert [error.message for error in Draft202012Validator(result_schema()).iter_errors(told)]


def test_csv_has_a_row_per_entry(run: Callable, scenario: str) -> None:
    told = json.loads(run("run", scenario, "--format", "json", "--quiet").out)
    rows = list(csv.DictReader(io.StringIO(run("run", scenario, "--format", "csv", "--quiet").out)))
    best = [row for row in rows if row["list"] == "best"]
    assert [float(row["time.step_s"]) for row in best] == [one["time"]["step_s"] for one in told["best"]]


def test_the_answer_goes_to_files(run: Callable, scenario: str, tmp_path: Path) -> None:
    table, page, trace = (tmp_path / name for name in ("answer.csv", "page.html", "trace.json"))
    outcome = run(
        "run", scenario, "--format", "csv", "--output", str(table), "--report", str(page), "--trace", str(trace),
        "--quiet",
    )  # fmt: skip
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert table.read_text(encoding="utf-8").startswith("list,rank,")
    assert "<h2>1. Search</h2>" in page.read_text(encoding="utf-8")
    assert json.loads(trace.read_text(encoding="utf-8"))


def test_a_threshold_holds_for_the_best(run: Callable, scenario: str) -> None:
    assert run("run", scenario, "--quiet", "--fail-above", "time.step_s=1000").code == 0
    outcome = run("run", scenario, "--quiet", "--fail-above", "best.0.time.step_s=0.001")
    assert outcome.code == 3
    assert "threshold: best.0.time.step_s is" in outcome.err
    assert run("run", scenario, "--fail-above", "candidates_feasable=1").code == 2


@pytest.mark.parametrize("output_format", ["table", "json", "csv"])
def test_without_an_answer_it_is_one_and_says_why(run: Callable, scenario: str, output_format: str) -> None:
    outcome = run("run", scenario, "--set", "model=llama-3.1-405b", "--format", output_format)
    assert outcome.code == 1
    told = " ".join((outcome.err if output_format == "csv" else outcome.out).split())
    assert "possible candidates fits" in told
    if output_format == "json":
        answer = json.loads(outcome.out)
        assert answer["feasible"] is False
        assert (answer["best"], answer["sweep"]) == ([], [])


def test_a_key_that_is_none_is_bad_input(run: Callable, scenario: str) -> None:
    outcome = run("run", scenario, "--set", "objectives={time.step: min}")
    assert (outcome.code, outcome.out) == (2, "")
    assert "time.step_s" in outcome.err


def test_ctrl_c_leaves_with_130(run: Callable, scenario: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("perfmodel.study.search.work.run_task", interrupted)
    outcome = run("run", scenario)
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "interrupted\n")


def test_compare_takes_the_best_of_a_search(run: Callable, scenario: str) -> None:
    best = json.loads(run("run", scenario, "--format", "json", "--quiet").out)
    told = json.loads(run("compare", scenario, "llama3.1-8b-128-h100", "--format", "json", "--quiet").out)
    assert told["results"][0]["time"]["step_s"] == best["time"]["step_s"]
