"""Options that say who does the work of a search, and where it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perfmodel.cli.output import note
from perfmodel.errors import UsageError

if TYPE_CHECKING:
    from perfmodel.specs.resolve import ResolvedScenario
    from perfmodel.study.search.work import Work


class EngineName(StrEnum):
    """Who runs the tasks of a search."""

    LOCAL = "local"
    DASK = "dask"


Engine = Annotated[
    EngineName | None,
    typer.Option(
        "--engine", help="Who runs a search: this machine, which is the default, or a Dask cluster.", show_default=False
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="Scheduler of the Dask cluster, for example tcp://host:8786."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Processes of a search on this machine; without it, one per idle processor when it is large.",
        show_default=False,
    ),
]
CheckpointFolder = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="DIR",
        help="Keep finished parts of a search in this folder; a search that was stopped goes on from there.",
    ),
]


@dataclass(frozen=True)
class EngineOptions:
    """What was asked for, options that were not given being None.

    Raises
    ------
    UsageError
        Options do not go together.
    """

    engine: EngineName | None = None
    scheduler: str | None = None
    workers: int | None = None
    checkpoint: Path | None = None

    def __post_init__(self) -> None:
        if self.engine is EngineName.DASK:
            if self.scheduler is None:
                raise UsageError("--engine dask needs --scheduler, for example --scheduler tcp://host:8786")
            if self.workers is not None:
                raise UsageError("--workers is for --engine local; the workers of a cluster are started with it")
        elif self.scheduler is not None:
            raise UsageError(f"--scheduler {self.scheduler} needs --engine dask")

    def refuse_unless_search(self, resolved: ResolvedScenario) -> None:
        """Options that would do nothing are a mistake.

        Raises
        ------
        UsageError
            The question is not a search, and some option was given.
        """
        given = [f"--{name}" for name, value in vars(self).items() if value is not None]
        question = resolved.scenario.question
        if given and question != "search":
            raise UsageError(f"{given[0]} is for `question: search`; this scenario has `question: {question}`")

    def work(self, *, quiet: bool) -> Work:
        """How the search is done."""
        from perfmodel.study.search.cluster import Cluster
        from perfmodel.study.search.processes import Processes
        from perfmodel.study.search.work import Work

        engine = Processes(self.workers) if self.scheduler is None else Cluster(self.scheduler)
        return Work(engine, self.checkpoint, lambda sentence: note(f"warning: {sentence}", quiet=quiet))


NO_ENGINE_OPTIONS = EngineOptions()
