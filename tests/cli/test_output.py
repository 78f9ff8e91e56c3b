"""Answers go where they were sent: whole, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from perfmodel.cli import output
from perfmodel.errors import UsageError


def test_a_file_has_what_the_stream_would_have(run: Callable, answer_with: Callable, tmp_path: Path) -> None:
    answer_with()
    printed = run("run", "any", "--format", "json").out
    target = tmp_path / "result.json"
    outcome = run("run", "any", "--format", "json", "--output", str(target))
    assert (outcome.code, outcome.out) == (0, "")
    assert target.read_text(encoding="utf-8") == printed
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_report_and_trace_come_with_the_answer(
    run: Callable, answer_with: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_with()
    monkeypatch.setattr("perfmodel.report.write_report", lambda _, path: path.write_text("<html>"), raising=False)
    monkeypatch.setattr("perfmodel.report.write_trace", lambda _, path: path.write_text("{}"), raising=False)
    page, timeline = tmp_path / "page.html", tmp_path / "trace.json"
    outcome = run("run", "any", "--format", "json", "--report", str(page), "--trace", str(timeline))
    assert json.loads(outcome.out)
    assert (page.read_text(), timeline.read_text()) == ("<html>", "{}")


def test_all_files_or_none(tmp_path: Path) -> None:
    (tmp_path / "first").write_text("old")

    def write_one_and_fail() -> None:
        with output.staged_files() as files:
            files.write(tmp_path / "first", "new")
            raise OSError(28, "no space left on device", "second")

    with pytest.raises(UsageError, match="cannot write second: no space left"):
        write_one_and_fail()
    assert (tmp_path / "first").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


@pytest.mark.parametrize("option", ["--output", "--report", "--trace"])
def test_a_target_that_cannot_be_written_is_refused_first(run: Callable, tmp_path: Path, option: str) -> None:
    for target, says in ((tmp_path / "no" / "file", "does not exist"), (tmp_path, "is a folder")):
        outcome = run("run", "no-such-scenario", option, str(target))
        assert outcome.code == 2
        assert says in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_two_outputs_in_one_file_are_refused(run: Callable, tmp_path: Path) -> None:
    target = str(tmp_path / "file")
    assert "two outputs" in run("run", "any", "--output", target, "--report", target).err


@pytest.mark.parametrize("option", ["--output", "--report", "--trace"])
def test_the_scenario_is_not_overwritten_by_its_answer(run: Callable, tmp_path: Path, option: str) -> None:
    scenario = tmp_path / "mine.yaml"
    scenario.write_text("kind: scenario")
    outcome = run("run", str(scenario), option, str(tmp_path / "." / "mine.yaml"))
    assert outcome.code == 2
    assert "it is the file that was asked about" in outcome.err
    assert scenario.read_text() == "kind: scenario"


def test_a_dash_is_the_standard_output(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run("run", "llama3.1-8b-128-h100", "--output", "-")
    assert outcome.code == 0
    assert "per step" in outcome.out
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told() -> None:
    command = f"{sys.executable} -m perfmodel specs list model > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write to the standard output: ")
    assert done.stderr.count("\n") == 1


def test_a_device_is_written_as_it_is() -> None:
    with output.staged_files() as files:
        assert files.path_for(Path("/dev/null")) == Path("/dev/null")


def test_init_does_not_overwrite(run: Callable, tmp_path: Path) -> None:
    target = tmp_path / "mine.yaml"
    assert run("init", "scenario", "--output", str(target)).code == 0
    first = target.read_text()
    target.write_text("mine")
    assert run("init", "scenario", "--output", str(target)).code == 2
    assert target.read_text() == "mine"
    assert run("init", "scenario", "--output", str(target), "--force").code == 0
    assert target.read_text() == first


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m perfmodel specs list model; echo $? >&2"
    done = subprocess.run(["bash", "-c", f"({command}) | head -n 1"], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr.strip() in {"0", "141"}


def test_colour_needs_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert not output.use_colour(None)  # captured, so not a terminal
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert output.use_colour(None)
    assert not output.use_colour(Path("file"))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.use_colour(None)


def test_a_table_fits_a_hundred_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert output.table_width(None) == 100
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "300")
    assert output.table_width(None) == 100
    monkeypatch.setenv("COLUMNS", "80")
    assert output.table_width(None) == 80
