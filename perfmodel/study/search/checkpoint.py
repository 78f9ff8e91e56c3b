"""What the tasks of a search found, in a folder: a search that was stopped goes on from there.

One Parquet file per task, which appears whole or not at all, and ``search.json``, which says whose files they are. A
task is finished when its file is there and its content is what was written: nothing has to be told apart from that.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from perfmodel.errors import MissingDependency, UsageError
from perfmodel.files import write_whole
from perfmodel.study.search.regions import SearchSpace
from perfmodel.study.search.shipment import versions
from perfmodel.study.search.walk import Found, Task
from perfmodel.study.search.wanted import Wanted
from perfmodel.study.search.work import Tell

SCHEMA = "perfmodel.checkpoint/1"
MANIFEST = "search.json"
_LOCK = "lock"
#: Key of the manifest -> what it is called in a message; in the order of the messages.
_WORDS = {
    "schema": "layout of the folder", "versions": "version", "scenario": "scenario", "axes": "what is varied",
    "sha256": "content of the scenario or of the specs behind it", "tasks": "number of tasks",
    "tasks_sha256": "division into tasks",
}  # fmt: skip
#: What differs wherever something else does.
_FOLLOWS = ("tasks", "tasks_sha256")


class Checkpoint:
    """The folder of one search, which one process at a time uses.

    Raises
    ------
    UsageError
        The folder belongs to another search or version, is in use, or cannot be written to.
    MissingDependency
        There is no pyarrow.
    """

    def __init__(self, folder: Path, space: SearchSpace, wanted: Wanted, tasks: Sequence[Task]) -> None:
        try:
            from perfmodel.study.search import found_files
        except ModuleNotFoundError as error:
            raise MissingDependency(
                f"--checkpoint needs {error.name}, which is not installed: pip install 'perfmodel[cluster]'"
            ) from None
        self._files = found_files
        self._folder, self._objectives = folder, len(wanted.objectives)
        self._manifest = manifest_of(space, tasks)
        self._search = _hash(self._manifest)
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self._folder)
        except OSError as error:
            raise UsageError(f"--checkpoint {self._folder}: cannot be used: {error.strerror or error}") from None
        with ExitStack() as stack:
            stack.enter_context(self._lock)
            self._claim()
            stack.pop_all()  # the lock stays until the search ends
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def _claim(self) -> None:
        """Write the manifest, or check that the one that is there is the same."""
        path = self._folder / MANIFEST
        if not path.exists():
            write_whole(path, json.dumps(self._manifest, indent=2) + "\n")
            return
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            there = None
        if not isinstance(there, dict):
            raise UsageError(
                f"--checkpoint {self._folder}: {MANIFEST} is not what a search has written; name another folder"
            )
        differences = manifest_differences(there, self._manifest)
        if differences:
            raise UsageError(
                f"--checkpoint {self._folder}: another search is kept there ({'; '.join(differences)}); "
                "name another folder, or remove this one"
            )

    def path_of(self, task: Task) -> Path:
        """File of a task."""
        return self._folder / f"region{task.region:04}-{task.start:012}-{task.stop:012}.parquet"

    def read(self, task: Task, tell: Tell) -> Found | None:
        """What a task found; None where it is not finished."""
        path = self.path_of(task)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            tell(f"{path}: cannot be read ({error.strerror or error}); this part is searched again")
            return None
        found = self._files.read_found(content, self._label(task), self._objectives)
        if found is None:
            tell(f"{path}: damaged; this part is searched again")
        return found

    def write(self, task: Task, found: Found) -> None:
        """Keep what a task found."""
        content = self._files.found_bytes(found, self._label(task))
        path = self.path_of(task)
        # One name per task: what a killed search left half-written is overwritten when its task runs again.
        temporary = path.with_suffix(".part")
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except OSError as error:
            raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from None

    def _label(self, task: Task) -> str:
        """Search and task that a file belongs to."""
        return f"{self._search} {task.region} {task.start} {task.stop}"


def manifest_of(space: SearchSpace, tasks: Sequence[Task]) -> dict[str, Any]:
    """What has to be the same for a task to find the same."""
    resolved = space.resolved
    return {
        "schema": SCHEMA,
        "versions": versions(),
        "scenario": resolved.name,
        "sha256": resolved.sha256,
        "axes": {
            axis.path: "auto" if axis.values is None else [_plain(value) for value in axis.values]
            for axis in resolved.axes
        },
        "tasks": len(tasks),
        "tasks_sha256": _hash([[task.region, task.start, task.stop] for task in tasks]),
    }


def _plain(value: Any) -> Any:
    """A value as JSON knows it, so that it compares equal when it is read again."""
    return json.loads(json.dumps(value, default=str))


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def manifest_differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What differs between two manifests, for people."""
    differing = [key for key in _WORDS if there.get(key) != here[key]]
    # Other axes make other tasks: that says nothing more.
    told = [key for key in differing if key not in _FOLLOWS] or differing
    return [_WORDS[key] + ("" if "sha256" in key else f": {_told(there.get(key), here[key])}") for key in told]


def _told(there: Any, here: Any) -> str:
    """The parts of two values that differ."""
    if isinstance(there, dict) and isinstance(here, dict):
        names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
        return ", ".join(f"{name} {_short(there.get(name))} there, {_short(here.get(name))} here" for name in names)
    return f"{_short(there)} there, {_short(here)} here"


def _short(value: Any) -> str:
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:28]}...{text[-28:]}"


def _locked(folder: Path) -> IO[str]:
    """An open file that no other process can lock until it is closed, or its process ends.

    Raises
    ------
    UsageError
        Another process holds it.
    """
    stream = (folder / _LOCK).open("a", encoding="utf-8")
    try:
        import fcntl
    except ImportError:  # not everywhere; two searches at once then overwrite each other's files with the same content
        return stream
    try:
        # Some network file systems know no locks.
        with suppress(io.UnsupportedOperation):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        raise UsageError(f"--checkpoint {folder}: another search is using this folder now") from None
    except OSError:
        pass
    return stream
