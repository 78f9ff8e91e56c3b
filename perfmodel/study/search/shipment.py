"""A search as it travels to other processes, and how they run its tasks.

A space is shipped whole, with the graphs and machines that were built for it: a worker needs none of the files behind
the scenario, and computes with exactly the numbers of whoever asked.
"""

from __future__ import annotations

import functools
import hashlib
import pickle
import platform
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import perfmodel
from perfmodel.errors import UsageError
from perfmodel.study.search.regions import SearchSpace
from perfmodel.study.search.walk import Found, Task, run_task
from perfmodel.study.search.wanted import Wanted

#: Searches that a worker keeps open.
_OPEN_AT_MOST = 4
_open: dict[str, tuple[SearchSpace, Wanted]] = {}
_lock = threading.Lock()


@dataclass(frozen=True)
class Shipment:
    """A search in bytes.

    Attributes
    ----------
    digest
        Hash of the content, by which a worker knows what it has opened.
    versions
        Of the programs that numbers depend on, where it was packed.
    """

    digest: str
    content: bytes
    versions: Mapping[str, str]


def versions() -> dict[str, str]:
    """Versions of the programs that the numbers of a search depend on.

    Between two releases, code changes and its version does not: the code counts too.
    """
    code = code_digest(Path(perfmodel.__file__).parent)
    return {"perfmodel": perfmodel.__version__, "code of perfmodel": code, "numpy": np.__version__}


@functools.cache
def code_digest(folder: Path) -> str:
    """Hash of the modules in a folder and below it, as they were when it was first asked for."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()[:12]


def packed(space: SearchSpace, wanted: Wanted) -> Shipment:
    """Pack a search.

    Raises
    ------
    UsageError
        The space holds something that only this process has.
    """
    try:
        # Costs that were looked up are known by the address of a problem, which is another one elsewhere.
        content = pickle.dumps((replace(space, recall=None, books={}, shelves={}), wanted))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UsageError(
            f"this search cannot leave the process, because a part of it has no name there ({error}); "
            "define it at the top of a module, or search with --engine local --workers 1"
        ) from None
    return Shipment(hashlib.sha256(content).hexdigest(), content, versions())


def run_shipped(shipment: Shipment, task: Task) -> Found:
    """Run a task of a shipped search.

    Raises
    ------
    UsageError
        Another version is installed here than where it was packed.
    """
    difference = version_difference(shipment.versions, versions())
    if difference:
        raise UsageError(f"the worker on {platform.node()} {difference}")
    return run_task(*_opened(shipment), task)


def version_difference(asked: Mapping[str, str], found: Mapping[str, str]) -> str:
    """``has perfmodel 1.0, but 1.1 asks; ...``; empty when there is no difference."""
    differing = [name for name in asked if asked[name] != found.get(name)]
    if not differing:
        return ""
    told = ", ".join(f"{name} {found.get(name, 'unknown')} (here: {asked[name]})" for name in differing)
    return f"has {told}; install the same versions everywhere, or results would not be the same"


def _opened(shipment: Shipment) -> tuple[SearchSpace, Wanted]:
    """The search of a shipment, opened once in a process."""
    with _lock:
        if shipment.digest not in _open:
            while len(_open) >= _OPEN_AT_MOST:
                del _open[next(iter(_open))]
            _open[shipment.digest] = pickle.loads(shipment.content)  # noqa: S301  (packed above, by who runs the worker)
        return _open[shipment.digest]
