"""Reads the code blocks of a page and runs them as a reader would.

- ```` ```yaml ```` whose first line is a comment with a path is written to that path.
- ```` ```python ```` blocks of a page run in order in one namespace.
- ```` ```console ```` lines that start with ``$ perfmodel`` run through the command line.
- What a block prints is compared with the lines that follow a command, or with the ```` ```text ```` block right
  after a Python block. A line ``...`` stands for any lines, ``...`` inside a line for any text. Runs of blanks are
  equal, and numbers may differ by :data:`TOLERANCE`: a refit of one efficiency must not make every page stale.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perfmodel.cli.main import main

#: Relative difference up to which a printed number is the number of the page.
TOLERANCE = 0.03
#: Shares and differences near zero: absolute difference of the printed number that is allowed.
SMALL = 0.6

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^# (\S+\.(?:yaml|json))\n")
_NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
_BARS = re.compile(r"[█▉▊▋▌▍▎▏]+")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    text: str
    line: int
    follows: bool  # nothing but blank lines between the block before and this one


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page in order."""
    found: list[Block] = []
    end = -1
    for match in _FENCE.finditer(page):
        follows = end >= 0 and not page[end : match.start()].strip()
        found.append(Block(match[1], match[2], page[: match.start()].count("\n") + 1, follows))
        end = match.end()
    return found


def run_page(page: str, folder: Path) -> Iterator[tuple[int, str, str]]:
    """Run every block of a page; yields (line, printed, expected) where the page shows what is printed.

    Parameters
    ----------
    page
        Markdown.
    folder
        Current folder; files of the page are written below it.
    """
    namespace: dict[str, Any] = {"__name__": "page"}
    every = blocks(page)
    for position, block in enumerate(every):
        named = _FILE.match(block.text)
        if block.language in {"yaml", "json"} and named:
            path = folder / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            printed = run_python(block, namespace)
            after = every[position + 1] if position + 1 < len(every) else None
            shown = after is not None and after.follows and after.language == "text"
            yield block.line, printed, after.text if shown and after is not None else "..."
        elif block.language == "console":
            for command, expected in commands(block.text):
                yield block.line, run_command(command, expected), expected or "..."


def run_python(block: Block, namespace: dict[str, Any]) -> str:
    """Run a block; its traceback names the line of the page."""
    source = "\n" * block.line + block.text
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(source, "page", "exec"), namespace)  # noqa: S102 - running the page is the test
    return printed.getvalue()


def commands(text: str) -> Iterator[tuple[str, str]]:
    """(command, expected lines) of a console block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command.strip(), expected


def run_command(command: str, expected: str) -> str:
    """Run a command; its exit code must be what the expected lines announce."""
    program, *arguments = shlex.split(command)
    if program != "perfmodel":
        return ""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(arguments)
        except SystemExit as stop:
            code = stop.code or 0
    if expected.startswith("error:") or " error:" in expected.partition("\n")[0]:
        wanted = 2
    elif expected.startswith("infeasible"):
        wanted = 1
    else:
        wanted = 0
    assert code == wanted, f"`{command}` left with {code}, the page announces {wanted}:\n{err.getvalue()}"
    return out.getvalue() + err.getvalue()


def same(printed: str, expected: str) -> bool:
    """Whether what was printed is what the page shows."""
    return _match(_lines(printed), _lines(expected))


def _lines(text: str) -> list[str]:
    return [" ".join(_BARS.sub("", line).split()) for line in text.splitlines() if line.strip()]


def _match(printed: list[str], expected: list[str]) -> bool:
    """Match lines; ``...`` alone on a line stands for any number of lines."""
    reachable = {0}
    for wanted in expected:
        if wanted == "...":
            reachable = set(range(min(reachable), len(printed) + 1)) if reachable else set()
        else:
            reachable = {at + 1 for at in reachable if at < len(printed) and same_line(printed[at], wanted)}
    return len(printed) in reachable


def same_line(printed: str, wanted: str) -> bool:
    """Match one line with ``...`` inside it and numbers within the tolerance."""
    pattern, numbers, end = "", [], 0
    for match in re.finditer(rf"\.\.\.|{_NUMBER.pattern}", wanted):
        pattern += re.escape(wanted[end : match.start()])
        if match[0] == "...":
            pattern += ".*"
        else:
            pattern += r"([-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)"
            numbers.append(_value(match[0]))
        end = match.end()
    found = re.fullmatch(pattern + re.escape(wanted[end:]), printed)
    return found is not None and all(
        _close(_value(one), other) for one, other in zip(found.groups(), numbers, strict=True)
    )


def _value(text: str) -> float:
    return float(text.replace(",", ""))


def _close(one: float, other: float) -> bool:
    if one == int(one) and other == int(other) and max(abs(one), abs(other)) < 100:  # a count: tp 8, 126 layers
        return one == other
    return abs(one - other) <= max(TOLERANCE * abs(other), SMALL if abs(other) < 10 else 0.0)
