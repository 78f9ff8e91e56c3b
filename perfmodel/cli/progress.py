"""One line on the standard error stream that says how far long work is.

It appears on a terminal only, after a second, and is gone before the answer is written. Commands wrap their work::

    with progress_line(quiet=quiet) as progress:
        found = search(question, progress)

and the work calls ``progress(what, done, total)`` as :class:`perfmodel.study.progress.Progress` says.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, TextIO

from perfmodel.study.progress import Progress, unseen

#: Seconds of work before anything is shown: most answers are there by then.
PATIENCE = 1.0
#: Seconds between two drawings: as fast as a person reads.
INTERVAL = 0.1
#: Share of the work, and seconds into it, before the rest is guessed: an earlier guess jumps.
_ENOUGH_SHARE, _ENOUGH_SECONDS = 0.05, 2.0


class _State(NamedTuple):
    """What was told last, and when this part of the work began."""

    what: str
    done: int
    total: int | None
    started: float


class ProgressLine:
    """Draws what it was told last on one line, over what it drew before.

    A thread draws, so that the line appears also while one long step is at work, and telling costs next to nothing.

    Parameters
    ----------
    stream
        A terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._state = _State("working", 0, None, time.monotonic())
        self._drawn = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._draw_until_ended, name="progress", daemon=True)
        self._thread.start()

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """Take note; see :class:`perfmodel.study.progress.Progress`."""
        last = self._state
        self._state = _State(what, done, total, last.started if what == last.what else time.monotonic())

    def close(self) -> None:
        """Draw no more, and leave the line as it was before."""
        self._ended.set()
        self._thread.join()
        if self._drawn:
            self._write("\r" + " " * self._drawn + "\r")

    def _draw_until_ended(self) -> None:
        wait = PATIENCE
        while not self._ended.wait(wait):
            self._draw()
            wait = INTERVAL

    def _draw(self) -> None:
        state = self._state
        text = progress_text(state.what, state.done, state.total, time.monotonic() - state.started)
        # One column stays free: a full line would wrap, and the return would not reach its start.
        text = text[: max(shutil.get_terminal_size().columns - 1, 1)]
        self._write("\r" + text.ljust(self._drawn))
        self._drawn = len(text)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # the terminal was closed; the work is worth more than its progress
            self._ended.set()


def progress_text(what: str, done: int, total: int | None, seconds: float) -> str:
    """For example ``rows predicted: 120 of 451 (27 %), about 12 s left``."""
    share = done / total if total else 0.0
    if _ENOUGH_SHARE <= share < 1.0 and seconds >= _ENOUGH_SECONDS:
        when = f"about {_duration(seconds * (1.0 - share) / share)} left"
    else:
        when = f"{_duration(seconds)} so far"
    if total:
        return f"{what}: {done} of {total} ({100 * done // total} %), {when}"
    return f"{what}: {done}, {when}" if done else f"{what}, {when}"


def _duration(seconds: float) -> str:
    if seconds < 90.0:
        return f"{max(round(seconds), 1)} s"
    return f"{round(seconds / 60.0)} min" if seconds < 5400.0 else f"{seconds / 3600.0:.1f} h"


@contextmanager
def progress_line(*, quiet: bool = False) -> Iterator[Progress]:
    """What work calls to tell how far it is; nothing is left of the line when the block ends, however it ends."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield unseen
        return
    line = ProgressLine(sys.stderr)
    try:
        yield line
    finally:
        line.close()
