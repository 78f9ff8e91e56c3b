"""Who does the work of a search, and where it is kept: the answer depends on neither."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from perfmodel.study.progress import Progress, tracked
from perfmodel.study.search.regions import SearchSpace
from perfmodel.study.search.walk import Found, Task, joined, run_task, task_candidates, tasks_of
from perfmodel.study.search.wanted import Wanted

if TYPE_CHECKING:
    from perfmodel.study.search.checkpoint import Checkpoint

#: Findings that are held apart before they are joined to one: a long search must not collect them all.
_HELD = 64

#: Takes a sentence for people.
Tell = Callable[[str], None]
#: What tasks found, in the order in which they ended.
Findings = Generator[tuple[Task, Found], None, None]


def untold(sentence: str) -> None:
    """A sentence that nobody reads."""


class Engine(Protocol):
    """Runs the tasks of a search."""

    def findings(self, space: SearchSpace, wanted: Wanted, tasks: Sequence[Task], waiting: Tell, /) -> Findings:
        """What every task finds, each once and in any order.

        Parameters
        ----------
        waiting
            Called with what is waited for, when no task can run yet.
        """
        ...


class Serial:
    """One task after the other, in this process."""

    def findings(self, space: SearchSpace, wanted: Wanted, tasks: Sequence[Task], _waiting: Tell, /) -> Findings:
        for task in tasks:
            yield task, run_task(space, wanted, task)


@dataclass(frozen=True)
class Work:
    """How a search is done.

    Attributes
    ----------
    engine
        Runs the tasks.
    checkpoint
        Folder in which what tasks found is kept, and from which it is read.
    tell
        Takes sentences about what is unusual: a file of the checkpoint that is damaged.
    """

    engine: Engine = field(default_factory=Serial)
    checkpoint: Path | None = None
    tell: Tell = untold


class _Total:
    """What was found so far."""

    def __init__(self, space: SearchSpace, wanted: Wanted) -> None:
        self._space, self._wanted = space, wanted
        self._held: list[Found] = []

    def add(self, found: Found) -> None:
        self._held.append(found)
        if len(self._held) == _HELD:
            self._held = [self.found()]

    def found(self) -> Found:
        return joined(self._space, self._wanted, self._held)


def found_by(work: Work, space: SearchSpace, wanted: Wanted, progress: Progress) -> Found:
    """Run the tasks of a search, without those that are in the checkpoint."""
    tasks, total = tasks_of(space, task_candidates(wanted)), _Total(space, wanted)
    with ExitStack() as stack:
        kept: Checkpoint | None = None
        what = "parts of the space searched"
        if work.checkpoint is not None:
            from perfmodel.study.search.checkpoint import Checkpoint

            kept = stack.enter_context(Checkpoint(work.checkpoint, space, wanted, tasks))
            left = _left(kept, tasks, total, work.tell, progress)
            what = f"{what} ({len(tasks) - len(left)} more were finished before)"
            tasks = left
        progress(what, 0, len(tasks))
        findings = work.engine.findings(space, wanted, tasks, lambda reason: progress(reason, 0))
        stack.enter_context(closing(findings))
        for done, (task, found) in enumerate(findings, start=1):
            if kept is not None:
                kept.write(task, found)
            total.add(found)
            progress(what, done, len(tasks))
    return total.found()


def _left(kept: Checkpoint, tasks: Sequence[Task], total: _Total, tell: Tell, progress: Progress) -> list[Task]:
    """Tasks that are still to be run; what the others found is added to the total."""
    left: list[Task] = []
    for task in tracked(tasks, "finished parts read", progress):
        found = kept.read(task, tell)
        if found is None:
            left.append(task)
        else:
            total.add(found)
    return left
