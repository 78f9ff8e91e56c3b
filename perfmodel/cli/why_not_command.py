"""``explain`` of a search: why it does not answer with a plan, and where a number of its answer comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perfmodel.cli.options import TextFormat
from perfmodel.cli.output import table_width, use_colour
from perfmodel.cli.progress import progress_line

if TYPE_CHECKING:
    from perfmodel.specs.resolve import ResolvedScenario


def search_of(scenario: str, overrides: Sequence[str], specs: Sequence[Path]) -> ResolvedScenario | None:
    """The scenario where it is a search; None for every other question."""
    from perfmodel.specs.catalogue import Catalogue
    from perfmodel.specs.resolve import load_scenario

    resolved = load_scenario(scenario, Catalogue(specs), overrides)
    return resolved if resolved.scenario.question == "search" else None


def explain_search(
    resolved: ResolvedScenario,
    fields: Sequence[str],
    operator: str | None,
    output_format: TextFormat,
    output: Path | None,
    *,
    quiet: bool,
) -> tuple[str, bool]:
    """Text of the answer, and whether the plan can be.

    ``fields`` are overrides of the strategy, as ``strategy.tp=8``. Without them it is the best plan that is explained;
    with an operator or a result key, its derivation.
    """
    from perfmodel import report
    from perfmodel.specs.overrides import parse_overrides
    from perfmodel.study.search.why_not import why_not

    named = parse_overrides(fields)
    with progress_line(quiet=quiet) as progress:
        answer = why_not(resolved, named, progress)
    asked = operator is not None or not named
    if asked and answer.result is not None:
        derivation = answer.result.explain(operator)
        if output_format is TextFormat.JSON:
            return report.render_derivation_json(derivation), answer.feasible
        return (
            report.render_derivation(derivation, width=table_width(output), colour=use_colour(output)),
            answer.feasible,
        )
    if output_format is TextFormat.JSON:
        return report.render_why_not_json(answer), answer.feasible
    return report.render_why_not(answer, width=table_width(output), colour=use_colour(output)), answer.feasible
