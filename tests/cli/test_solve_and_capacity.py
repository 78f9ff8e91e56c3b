"""Solutions and capacity questions on the command line: exit codes, formats, files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

import perfmodel as pm
from perfmodel.cli.main import main
from perfmodel.engine.result_schema import result_schema

SOLVE = """
kind: scenario
name: how fast must memory be
question: solve
model: llama-3.1-8b
cluster: {name: hgx-h100-ib-ndr, devices: 64}
software: megatron-core
workload: {kind: training, sequence_length: 8192, global_batch: 128}
strategy: {tp: 2, zero: 1}
vary: cluster.accelerator.memory.bandwidth
until: {metrics.mfu: 0.4}
"""
CAPACITY = """
kind: scenario
name: how many
question: capacity
model: llama-3.1-8b
cluster: hgx-h100-ib-ndr
software: megatron-core
workload: {kind: training, sequence_length: 8192, global_batch: 512, tokens: 1T}
strategy: {tp: [1, 2], zero: 1}
goal: {deadline: 20 day}
"""


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


@pytest.fixture
def solve(tmp_path: Path) -> str:
    path = tmp_path / "solve.yaml"
    path.write_text(SOLVE)
    return str(path)


@pytest.fixture
def capacity(tmp_path: Path) -> str:
    path = tmp_path / "capacity.yaml"
    path.write_text(CAPACITY)
    return str(path)


def test_a_solution_is_a_sentence_and_the_tables_of_its_result(solve: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["run", solve], capsys)
    assert code == 0
    first = out.splitlines()[0]
    assert first.startswith("cluster.accelerator.memory.bandwidth = ")
    assert first.endswith("brings metrics.mfu to 40 %")
    assert "\nTime\n" in out
    assert "Traceback" not in err


def test_a_solution_as_json_and_csv(solve: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads(run(["run", solve, "--format", "json", "--quiet"], capsys)[1])
    assert (said["schema"], said["question"], said["feasible"]) == ("perfmodel.result/1", "solve", True)
    assert said["metrics"]["mfu"] == pytest.approx(0.4, rel=1e-9)
    rows = {row["key"]: row for row in csv.DictReader(io.StringIO(run(["run", solve, "--format", "csv"], capsys)[1]))}
    assert float(rows["value"]["value"]) == said["value"]
    assert rows["value"]["unit"] == "B/s"


def test_an_unattainable_target_leaves_with_1(solve: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["run", solve, "--set", "until={metrics.mfu: 0.99}"], capsys)
    assert code == 1
    assert out.startswith("infeasible: metrics.mfu = 99 % is not reached: it goes from ")


def test_bad_questions_leave_with_2_and_their_line(solve: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(solve)
    path.write_text(SOLVE.replace("memory.bandwidth", "memory.bandwith"))
    code, out, err = run(["run", solve], capsys)
    assert (code, out) == (2, "")
    assert "solve.yaml:10: vary: " in err
    assert len(err.strip().splitlines()) == 1
    path.write_text(SOLVE.replace("0.4", "4 J"))
    code, _, err = run(["run", solve], capsys)
    assert (code, "solve.yaml:11: until" in err) == (2, True)


def test_a_capacity_question_is_a_sentence_sizes_and_the_tables_of_the_answer(
    capacity: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(["run", capacity], capsys)
    assert code == 0
    assert "the fewest within 20 days" in " ".join(out.split())
    assert "\nSizes around the answer\n" in out
    assert "% sure with" in out
    assert "\nThe answer in detail\n" in out
    assert max(map(len, out.splitlines())) <= 100


def test_a_capacity_question_as_json_and_csv(capacity: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = json.loads(run(["run", capacity, "--format", "json", "--quiet"], capsys)[1])
    assert (said["question"], said["cluster"], said["feasible"]) == ("capacity", "hgx-h100-ib-ndr", True)
    assert said["plans"][0]["devices"] == said["devices"]
    assert said["run"]["days"] <= 20
    assert set(said["confidence"]) == {"80", "95"}
    rows = list(csv.DictReader(io.StringIO(run(["run", capacity, "--format", "csv", "--quiet"], capsys)[1])))
    assert rows[0]["list"] == "answer"
    assert int(rows[0]["devices"]) == said["devices"]


def test_a_goal_out_of_reach_leaves_with_1(capacity: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["run", capacity, "--set", "goal.deadline=1 h"], capsys)
    assert code == 1
    assert out.startswith("infeasible: no size of hgx-h100-ib-ndr meets the goal")


def test_contradicting_limits_leave_with_2_and_their_line(capacity: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(capacity).write_text(CAPACITY + "constraints:\n  run.days: {min: 30}\n")
    code, _, err = run(["run", capacity], capsys)
    assert code == 2
    assert "capacity.yaml:12: constraints.run.days: contradicts the goal" in err


def test_reports_and_thresholds(capacity: str, solve: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for scenario, words in ((capacity, "the fewest within"), (solve, "brings metrics.mfu to 40 %")):
        page = tmp_path / "page.html"
        code, _, err = run(["run", scenario, "--report", str(page), "--fail-above", "time.step_s=0.001"], capsys)
        assert code == 3
        assert "time.step_s is " in err
        assert words in page.read_text()


def test_the_report_of_a_capacity_question_has_its_sizes(
    capacity: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    code, out, _ = run(["run", capacity, "--report", str(page), "--quiet"], capsys)
    written = page.read_text()
    assert code == 0
    assert 'id="size"' in written
    assert 'id="chosen-point"' in written
    assert "Sizes around the answer" in written
    sizes = [line.split()[0] for line in out.split("Sizes around the answer")[1].splitlines()[2:4]]
    assert all(f">{one}<" in written for one in sizes)


def test_a_figure_of_sizes_shows_every_size_and_the_goal() -> None:
    found = pm.load(dict(YAML(typ="safe").load(CAPACITY))).run()
    drawn = found.figures()["sizes"]
    points = {x for trace in drawn.data if trace.mode == "markers" and trace.yaxis == "y" for x in trace.x}
    assert points == {row.size.devices for row in found.sizes if row.size.entry is not None}
    assert [set(trace.y) for trace in drawn.data if trace.name == "the goal"] == [{20.0}]
    star = next(trace for trace in drawn.data if trace.name == "the answer")
    assert (star.x[0], star.y[0]) == (found.chosen.size.devices, found.chosen.size.value("run.days"))


def problems(told: dict[str, Any]) -> list[str]:
    return [error.message for error in Draft202012Validator(result_schema()).iter_errors(told)]


@pytest.mark.parametrize("setting", ["goal.deadline=20 day", "goal.deadline=1 h"])
def test_json_of_a_capacity_question_keeps_to_the_schema(
    capacity: str, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads(run(["run", capacity, "--format", "json", "--quiet", "--set", setting], capsys)[1])
    assert problems(told) == []
    assert set(told["sizes"][0]) == set(result_schema()["allOf"][1]["then"]["properties"]["sizes"]["items"]["required"])
    for key in ("binding_constraint", "sizes", "confidence", "goal"):
        assert problems({name: value for name, value in told.items() if name != key}), key


@pytest.mark.parametrize(
    ("settings", "how"),
    [
        (["until={metrics.mfu: 0.4}"], "exact"),
        (["until={metrics.mfu: 0.99}"], None),
        (["vary=workload.global_batch", "until={time.step_s: 3.21 s}"], "largest"),
        (["vary=workload.global_batch", "until={metrics.mfu: 0.411}"], "smallest"),
    ],
)
def test_json_of_a_solution_keeps_to_the_schema(
    solve: str, settings: list[str], how: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [word for one in settings for word in ("--set", one)]
    told = json.loads(run(["run", solve, "--format", "json", "--quiet", *options], capsys)[1])
    assert told["meets_target"] == how
    assert problems(told) == []
    for key in ("value", "target", "between", "meets_target"):
        assert problems({name: value for name, value in told.items() if name != key}), key


def test_reasons_are_said_once(capacity: str, capsys: pytest.CaptureFixture[str]) -> None:
    prices = "pricing=[{kind: cloud, device_hour: 2 USD}, {kind: cloud, device_hour: 3 USD}]"
    code, out, _ = run(["run", capacity, "--set", "goal.deadline=1 h", "--set", prices], capsys)
    assert code == 1
    assert " ".join(out.split()).count("no size of hgx-h100-ib-ndr meets the goal") == 1
