"""What the answers of all questions have in common for the command line, and how each becomes text."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from perfmodel.cli.options import OutputFormat
from perfmodel.cli.output import table_width, use_colour

if TYPE_CHECKING:
    from perfmodel.engine.result import Result
    from perfmodel.specs.resolve import ResolvedScenario
    from perfmodel.study.progress import Progress
    from perfmodel.study.search.work import Work

#: Question -> module that renders its answers (``render_text`` and ``render_csv``).
_RENDERERS = {
    "search": "perfmodel.report.search_text",
    "solve": "perfmodel.report.solve_text",
    "capacity": "perfmodel.report.capacity_text",
}
_OF_RESULTS = "perfmodel.report.tables"


class Answer(Protocol):
    """An answer: a :class:`~perfmodel.engine.result.Result`, or what has one in ``result``."""

    @property
    def question(self) -> str: ...
    @property
    def feasible(self) -> bool: ...
    @property
    def reasons(self) -> tuple[str, ...]: ...
    def to_dict(self) -> dict[str, Any]: ...
    def to_json(self) -> str: ...
    def report(self, path: str | Path) -> None: ...


def answer_of(resolved: ResolvedScenario, progress: Progress, work: Callable[[], Work]) -> Answer:
    """Answer the question of a scenario; ``work`` says who does that of a search."""
    if resolved.scenario.question == "search":
        from perfmodel.study.search import search

        return search(resolved, progress, work())
    if resolved.scenario.question != "evaluate":
        from perfmodel.study.questions import answer

        return answer(resolved, progress)
    from perfmodel.engine.evaluate import evaluate

    return evaluate(resolved)


def result_of(answer: Answer) -> Result:
    """The result of one plan behind an answer: of the best one, where several were looked at."""
    return cast("Result", getattr(answer, "result", answer))


def render(answer: Answer, output_format: OutputFormat, output: Path | None) -> str:
    """An answer as text in a format; a table fits the terminal."""
    if output_format is OutputFormat.JSON:
        return answer.to_json()
    module = importlib.import_module(_RENDERERS.get(answer.question, _OF_RESULTS))
    if output_format is OutputFormat.CSV:
        return module.render_csv(answer)
    return module.render_text(answer, width=table_width(output), colour=use_colour(output))
