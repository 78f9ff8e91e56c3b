"""Where answers go: the standard output, and files that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import typer

from perfmodel.errors import UsageError

#: Exit code of a process whose reader went away (128 + SIGPIPE), as shells report it.
EXIT_BROKEN_PIPE = 141

#: Widest table.
MAXIMUM_WIDTH = 100
_MINIMUM_WIDTH = 60


def write_text(text: str) -> None:
    """Write text to the standard output; leave quietly when its reader went away (``| head``)."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more when it ends; give it somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(EXIT_BROKEN_PIPE) from None
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise UsageError(f"cannot write to the standard output: {error.strerror or error}") from error


def note(message: str, *, quiet: bool = False) -> None:
    """Write one line to the standard error stream."""
    if not quiet:
        sys.stderr.write(message + "\n")


def use_colour(output: Path | None) -> bool:
    """Whether the answer may be coloured: only on a terminal, and never when ``NO_COLOR`` is set."""
    return (
        output is None and sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def table_width(output: Path | None) -> int:
    """Columns that a table may take: those of the terminal, at most :data:`MAXIMUM_WIDTH`."""
    if output is not None or not sys.stdout.isatty():
        return MAXIMUM_WIDTH
    return max(_MINIMUM_WIDTH, min(MAXIMUM_WIDTH, shutil.get_terminal_size().columns))


def check_targets(*targets: Path | None, inputs: Sequence[str] = ()) -> None:
    """Refuse files that cannot be written before any work is done.

    Raises
    ------
    UsageError
        A folder does not exist, a target is a folder, two targets are the same file, or one is an input.
    """
    sources = {Path(one).resolve() for one in inputs}
    named = [target for target in targets if target is not None]
    for target in named:
        if target.is_dir():
            raise UsageError(f"cannot write {target}: it is a folder")
        if not target.parent.is_dir():
            raise UsageError(f"cannot write {target}: the folder {target.parent} does not exist")
        if target.resolve() in sources:
            raise UsageError(f"cannot write {target}: it is the file that was asked about")
    if len({target.resolve() for target in named}) < len(named):
        raise UsageError(f"one file is named for two outputs: {', '.join(map(str, named))}")


class StagedFiles:
    """Files written beside their targets and moved there together."""

    def __init__(self) -> None:
        self._moves: list[tuple[Path, Path]] = []

    def path_for(self, target: Path) -> Path:
        """Where to write what shall become ``target``; the name keeps its suffix."""
        if target.exists() and not target.is_file():
            return target  # a device or a pipe is written as it is
        staged = target.with_name(f".{os.getpid()}.{target.name}")
        self._moves.append((staged, target))
        return staged

    def write(self, target: Path, text: str) -> None:
        """Stage a text file."""
        self.path_for(target).write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")

    def commit(self) -> None:
        """Move every staged file to its target."""
        for staged, target in self._moves:
            staged.replace(target)

    def discard(self) -> None:
        """Remove what was staged and not moved."""
        for staged, _ in self._moves:
            staged.unlink(missing_ok=True)


@contextmanager
def staged_files() -> Iterator[StagedFiles]:
    """All files or none: they appear when the block ends without an error.

    Raises
    ------
    UsageError
        A file cannot be written.
    """
    files = StagedFiles()
    try:
        yield files
        files.commit()
    except OSError as error:
        raise UsageError(f"cannot write {error.filename or 'the output'}: {error.strerror or error}") from error
    finally:
        files.discard()


def write_answer(text: str, output: Path | None) -> None:
    """Write an answer to the standard output, or to a file that appears whole."""
    if output is None:
        write_text(text)
        return
    with staged_files() as files:
        files.write(output, text)
