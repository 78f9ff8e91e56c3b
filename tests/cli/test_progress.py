"""Progress is for people: on a terminal, when work takes long, and gone when the answer is there."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from perfmodel.cli import progress
from perfmodel.cli.progress import ProgressLine, progress_line, progress_text
from perfmodel.study.progress import tracked, unseen


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> str:
        """What is on the line after all the returns."""
        line: list[str] = []
        for part in self.getvalue().split("\r"):
            line[: len(part)] = part
        return "".join(line).rstrip()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    # Not sys.stderr itself, which pytest replaces between the fixture and the test.
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    monkeypatch.setattr(progress, "INTERVAL", 0.005)
    return stream


def wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 20.0
    while not there():
        assert time.monotonic() < end, "nothing came"
        time.sleep(0.005)


def test_long_work_is_shown_and_leaves_nothing(terminal: Terminal) -> None:
    with progress_line() as told:
        told("rows predicted", 120, 451)
        wait_for(lambda: terminal.shown() != "")
        assert terminal.shown() == "rows predicted: 120 of 451 (26 %), 1 s so far"
        told("rows", 1)
        wait_for(lambda: terminal.shown().startswith("rows: 1"))
        assert terminal.shown() == "rows: 1, 1 s so far"  # nothing is left of the longer line
    assert terminal.shown() == ""
    assert "\n" not in terminal.getvalue()


def test_one_long_step_that_tells_nothing_is_shown_too(terminal: Terminal) -> None:
    with progress_line():
        wait_for(lambda: terminal.shown() != "")
        assert terminal.shown() == "working, 1 s so far"


def test_quick_work_shows_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 60.0)
    with progress_line() as told:
        told("rows", 1, 2)
    assert terminal.getvalue() == ""


def test_a_narrow_terminal_has_one_line(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "12")
    with progress_line() as told:
        told("rows predicted", 1, 2)
        wait_for(lambda: terminal.shown().startswith("rows"))
        assert terminal.shown() == "rows predic"


def test_the_line_goes_when_the_work_fails(terminal: Terminal) -> None:
    def fail() -> None:
        with progress_line() as told:
            told("rows", 1, 2)
            wait_for(lambda: terminal.shown() != "")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 (raised above)
        fail()
    assert terminal.shown() == ""


@pytest.mark.parametrize("case", ["pipe", "quiet", "dumb"])
def test_nobody_looks(terminal: Terminal, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    if case == "pipe":
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    if case == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    with progress_line(quiet=case == "quiet") as told:
        assert told is unseen
        told("rows", 1, 2)


def test_a_terminal_that_went_away_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(Terminal):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    line = ProgressLine(Closed())
    wait_for(line._ended.is_set)
    line("rows", 1, 2)
    line.close()
    assert not line._thread.is_alive()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("rows", 120, 451, 4.4), "rows: 120 of 451 (26 %), about 12 s left"),
        (("rows", 1, 451, 4.4), "rows: 1 of 451 (0 %), 4 s so far"),  # too early to guess
        (("rows", 100, 1000, 30.0), "rows: 100 of 1000 (10 %), about 4 min left"),
        (("rows", 100, 1000, 1000.0), "rows: 100 of 1000 (10 %), about 2.5 h left"),
        (("rows", 7, 7, 4.0), "rows: 7 of 7 (100 %), 4 s so far"),
        (("plans", 7, None, 4.0), "plans: 7, 4 s so far"),
        (("rows", 0, 0, 4.0), "rows, 4 s so far"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_text(arguments: tuple[str, int, int | None, float], text: str) -> None:
    assert progress_text(*arguments) == text


def test_items_are_told_as_they_are_finished() -> None:
    told: list[tuple[object, ...]] = []
    items = list(tracked("ab", "letters", lambda *what: told.append(what)))
    assert items == ["a", "b"]
    assert told == [("letters", 0, 2), ("letters", 1, 2), ("letters", 2, 2)]


@contextmanager
def on_a_terminal(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], bytes]]]:
    """The command with its errors on a terminal and its output in a pipe, and a reader of the terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "perfmodel", *arguments]
    environment = {**os.environ, "TERM": "xterm"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)

    def read() -> bytes:
        try:
            return os.read(ours, 4096)
        except OSError:  # the other end is closed
            return b""

    try:
        yield process, read
    finally:
        process.kill()
        process.communicate()
        os.close(ours)


def test_ctrl_c_in_the_middle_of_a_validation() -> None:
    with on_a_terminal("validate", "training") as (process, read):
        seen = b""
        while b"rows predicted: " not in seen:
            part = read()
            assert part, seen
            seen += part
        process.send_signal(signal.SIGINT)
        while part := read():
            seen += part
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert seen.endswith(b" \rinterrupted\r\n")
    assert seen.count(b"\n") == 1
