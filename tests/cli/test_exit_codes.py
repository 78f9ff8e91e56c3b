"""Exit codes and streams are what scripts rely on (0 answered, 1 infeasible, 2 bad input, 3 above a threshold)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from perfmodel.errors import PerfmodelError, SpecError


def test_an_answer_is_zero_and_json_is_the_result(run: Callable, answer_with: Callable) -> None:
    result = answer_with()
    outcome = run("run", "any", "--format", "json")
    assert outcome.code == 0
    assert json.loads(outcome.out) == json.loads(result.to_json())


def test_warnings_go_to_the_error_stream_and_information_does_not(run: Callable, answer_with: Callable) -> None:
    answer_with()
    outcome = run("run", "any", "--format", "json")
    assert outcome.err == "warning: pricing: no price is known\n"
    assert run("run", "any", "--format", "json", "--quiet").err == ""


def test_an_infeasible_plan_is_one_and_still_answered(run: Callable, answer_with: Callable) -> None:
    answer_with(feasible=False, reasons=("memory: 90 of 80 GiB",))
    outcome = run("run", "any", "--format", "json")
    assert outcome.code == 1
    assert json.loads(outcome.out)["reasons"] == ["memory: 90 of 80 GiB"]


@pytest.mark.parametrize(
    ("threshold", "code"),
    [
        ("time.step_s=3.9", 3),
        ("time.step_s=4", 0),  # not above
        ("time.step_s=4.1", 0),
        ("memory.peak_bytes=59e9", 3),
        ("plans.0.tp=7", 3),
    ],
)
def test_a_threshold_is_compared_in_si_units(run: Callable, answer_with: Callable, threshold: str, code: int) -> None:
    answer_with()
    outcome = run("run", "any", "--format", "json", "--fail-above", threshold)
    assert outcome.code == code
    assert json.loads(outcome.out)["time"]["step_s"] == 4.0
    assert ("threshold:" in outcome.err) == (code == 3)


def test_one_of_several_thresholds_is_enough(run: Callable, answer_with: Callable) -> None:
    answer_with()
    assert (
        run("run", "any", "--fail-above", "time.step_s=9", "--fail-above", "metrics.mfu=0.3", "--format", "json").code
        == 3
    )


def test_infeasible_comes_before_thresholds(run: Callable, answer_with: Callable) -> None:
    answer_with(feasible=False, reasons=("no",))
    assert run("run", "any", "--fail-above", "time.step_s=1", "--format", "json").code == 1


@pytest.mark.parametrize(
    ("threshold", "says"),
    [
        ("time.step_s", "KEY=NUMBER"),
        ("time.step_s=fast", "KEY=NUMBER"),
        ("time.step_s=nan", "KEY=NUMBER"),
        ("=4", "KEY=NUMBER"),
        ("time.steps=4", "did you mean 'time.step_s'"),
        ("scenario.name=4", "no number"),
        ("feasible=0", "no number"),
        ("money.per_step_usd=4", "not known"),
    ],
)
def test_a_threshold_that_cannot_be_checked_is_bad_usage(
    run: Callable, answer_with: Callable, threshold: str, says: str
) -> None:
    answer_with()
    outcome = run("run", "any", "--format", "json", "--fail-above", threshold)
    assert outcome.code == 2
    assert says in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ("run",),
        ("no-such-verb",),
        ("run", "any", "--format", "xml"),
        ("run", "any", "--no-such-option"),
        ("compare", "only-one"),
        ("explain", "any", "--plan", "tp"),
        ("run", "no-such-scenario"),
        ("run", "no/such/file.yaml"),
        ("run", "any", "--specs", "no-such-folder"),
        ("init", "no-such-kind"),
        ("specs", "list", "no-such-kind"),
        ("specs", "show", "no-such-name"),
        ("specs", "check", "no-such-file.yaml"),
        ("specs", "schema", "no-such-kind"),
        ("import-model", "no-such-file.json"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_two_with_a_message_and_no_traceback(run: Callable, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.err.strip()
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def test_an_error_of_the_user_is_one_message(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise SpecError("scenario.yaml:3: strategy.tp: expected a count")

    monkeypatch.setattr("perfmodel.cli.question_commands._answer", refuse)
    outcome = run("run", "any")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "error: scenario.yaml:3: strategy.tp: expected a count\n"


def test_an_error_of_ours_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    from perfmodel.cli.main import main

    class Bug(RuntimeError):
        """Not an error of the user."""

    def fail(*_: object, **__: object) -> None:
        raise Bug

    assert not issubclass(Bug, PerfmodelError)
    monkeypatch.setattr("perfmodel.cli.question_commands._answer", fail)
    with pytest.raises(Bug):
        main(["run", "any"])


def test_ctrl_c_leaves_with_130(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("perfmodel.cli.question_commands._answer", interrupt)
    outcome = run("run", "any")
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "interrupted\n")


def test_nothing_is_written_when_the_input_is_bad(run: Callable, answer_with: Callable, tmp_path: Path) -> None:
    answer_with()
    target = tmp_path / "result.json"
    outcome = run("run", "any", "--format", "json", "--output", str(target), "--fail-above", "no.such.key=1")
    assert outcome.code == 2
    assert list(tmp_path.iterdir()) == []
