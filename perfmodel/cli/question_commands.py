"""The commands that answer questions: run, estimate, explain, compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfmodel.cli import engine_options, options
from perfmodel.cli.answers import Answer, answer_of, render, result_of
from perfmodel.cli.engine_options import NO_ENGINE_OPTIONS, EngineOptions
from perfmodel.cli.options import OutputFormat, TextFormat
from perfmodel.cli.output import check_targets, note, staged_files, table_width, use_colour, write_answer, write_text
from perfmodel.cli.progress import progress_line
from perfmodel.cli.tables import render_columns
from perfmodel.cli.thresholds import Threshold, exceeded, parse_thresholds
from perfmodel.cli.why_not_command import explain_search, search_of
from perfmodel.errors import UsageError

if TYPE_CHECKING:
    from perfmodel.engine.result import Result
    from perfmodel.study.compare import Comparison

#: Exit codes (interface page, section 1).
EXIT_INFEASIBLE = 1
EXIT_THRESHOLD = 3

Plan = Annotated[
    str | None,
    typer.Option(
        "--plan", metavar="tp=8,pp=4", help="Another plan than the scenario's: strategy fields, separated by commas."
    ),
]
Target = Annotated[
    str | None,
    typer.Argument(
        metavar="OPERATOR", help="An operator or a dotted result key; without it, time.step_s.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    for command in (run, explain, compare):
        app.command()(command)


def run(
    scenario: options.Scenario,
    overrides: options.Overrides = [],
    output_format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
    report: options.Report = None,
    trace: options.Trace = None,
    specs: options.SpecFolders = [],
    fail_above: options.FailAbove = [],
    sensitivity: options.Sensitivity = False,
    quiet: options.Quiet = False,
    engine: engine_options.Engine = None,
    scheduler: engine_options.Scheduler = None,
    workers: engine_options.Workers = None,
    checkpoint: engine_options.CheckpointFolder = None,
) -> None:
    """Answer the question of a scenario."""
    searching = EngineOptions(engine, scheduler, workers, checkpoint)
    delivery = Delivery(output_format, output, report, trace, tuple(parse_thresholds(fail_above)), quiet=quiet)
    check_targets(output, report, trace, inputs=[scenario])
    answer = _answer(scenario, overrides, specs, searching, quiet=quiet)
    if sensitivity:
        answer = _with_sensitivities(answer, scenario, overrides, specs)
    deliver(answer, delivery, texts={})


def explain(
    scenario: options.Scenario,
    operator: Target = None,
    plan: Plan = None,
    overrides: options.Overrides = [],
    output_format: Annotated[
        TextFormat, typer.Option("--format", help="How to write the derivation.")
    ] = TextFormat.TABLE,
    output: options.Output = None,
    specs: options.SpecFolders = [],
    quiet: options.Quiet = False,
) -> None:
    """Show how a number came about: formulas, values, units, sources; with --plan, why another plan loses."""
    check_targets(output, inputs=[scenario])
    changed = _plan_overrides(plan)
    searched = search_of(scenario, overrides, specs)
    if searched is not None:
        text, feasible = explain_search(searched, changed, operator, output_format, output, quiet=quiet)
        write_answer(text, output)
        if not feasible:
            raise typer.Exit(EXIT_INFEASIBLE)
        return
    result = result_of(_answer(scenario, [*overrides, *changed], specs, quiet=quiet))
    if operator is not None or (result.feasible and not changed):
        text = _render_derivation(result.explain(operator), output_format, output)
    else:
        from perfmodel.study.compare import compare as compare_results

        named = replace(result, scenario={**result.scenario, "name": f"{result.scenario['name']} with {plan}"})
        results = [result_of(_answer(scenario, overrides, specs, quiet=quiet)), named] if changed else [result]
        text = _render_comparison(compare_results(results), OutputFormat(output_format), output)
    write_answer(text, output)
    _note_warnings(result, quiet=quiet)
    if not result.feasible:
        raise typer.Exit(EXIT_INFEASIBLE)


def _render_derivation(derivation: Any, output_format: TextFormat, output: Path | None) -> str:
    from perfmodel.report import render_derivation, render_derivation_json

    if output_format is TextFormat.JSON:
        return render_derivation_json(derivation)
    return render_derivation(derivation, width=table_width(output), colour=use_colour(output))


def compare(
    scenarios: options.Scenarios,
    overrides: options.Overrides = [],
    output_format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
    specs: options.SpecFolders = [],
    quiet: options.Quiet = False,
) -> None:
    """Put scenarios side by side, largest differences first."""
    from perfmodel.study.compare import compare as compare_results

    if len(scenarios) < 2:
        raise UsageError("compare needs two scenarios or more")
    check_targets(output, inputs=scenarios)
    comparison = compare_results([result_of(_answer(one, overrides, specs, quiet=quiet)) for one in scenarios])
    write_answer(_render_comparison(comparison, output_format, output), output)
    for result in comparison.results:
        _note_warnings(result, quiet=quiet or output_format is OutputFormat.TABLE)
    if not comparison.feasible:
        raise typer.Exit(EXIT_INFEASIBLE)


def _render_comparison(comparison: Comparison, output_format: OutputFormat, output: Path | None) -> str:
    if output_format is OutputFormat.JSON:
        return comparison.to_json()
    if output_format is OutputFormat.CSV:
        return render_columns([result.to_dict() for result in comparison.results])
    from perfmodel.report import render_compare

    return render_compare(
        comparison.results,
        probabilities=comparison.probabilities,
        width=table_width(output),
        colour=use_colour(output),
    )


def _answer(
    scenario: str,
    overrides: list[str],
    specs: list[Path],
    searching: EngineOptions = NO_ENGINE_OPTIONS,
    *,
    quiet: bool = False,
) -> Answer:
    from perfmodel.specs.catalogue import Catalogue
    from perfmodel.specs.resolve import load_scenario

    resolved = load_scenario(scenario, Catalogue(specs), overrides)
    searching.refuse_unless_search(resolved)
    with progress_line(quiet=quiet) as progress:
        return answer_of(resolved, progress, lambda: searching.work(quiet=quiet))


def _with_sensitivities(answer: Answer, scenario: str, overrides: list[str], specs: list[Path]) -> Answer:
    from perfmodel.specs.catalogue import Catalogue
    from perfmodel.specs.resolve import load_scenario
    from perfmodel.study.sensitivity import with_sensitivities

    return with_sensitivities(answer, load_scenario(scenario, Catalogue(specs), overrides))


def _plan_overrides(plan: str | None) -> list[str]:
    """``tp=8,pp=4`` as overrides of the strategy."""
    parts = [part.strip() for part in (plan or "").split(",") if part.strip()]
    for part in parts:
        if "=" not in part:
            raise UsageError(f"--plan {plan!r}: expected fields as in tp=8,pp=4; {part!r} has no value")
    return [f"strategy.{part}" for part in parts]


@dataclass(frozen=True)
class Delivery:
    """Where an answer goes, and which numbers must not be exceeded."""

    output_format: OutputFormat
    output: Path | None
    report: Path | None
    trace: Path | None
    thresholds: tuple[Threshold, ...]
    quiet: bool


def deliver(answer: Answer, delivery: Delivery, texts: Mapping[Path, str]) -> None:
    """Write everything that was asked for, then leave with the exit code that the answer has.

    Parameters
    ----------
    answer
        The answer.
    delivery
        Where it goes.
    texts
        Other files to write along with it, by their path.
    """
    above = exceeded(answer, delivery.thresholds)
    text = render(answer, delivery.output_format, delivery.output)
    with staged_files() as files:
        for path, content in texts.items():
            files.write(path, content)
        if delivery.output is not None:
            files.write(delivery.output, text)
        if delivery.report is not None:
            answer.report(files.path_for(delivery.report))
        if delivery.trace is not None:
            from perfmodel.report import write_trace

            write_trace(result_of(answer), files.path_for(delivery.trace))
    if delivery.output is None:
        write_text(text)
    _note_reasons(answer, delivery)
    _note_warnings(result_of(answer), quiet=delivery.quiet or delivery.output_format is OutputFormat.TABLE)
    for sentence in above:
        note(f"threshold: {sentence}")
    if not answer.feasible:
        raise typer.Exit(EXIT_INFEASIBLE)
    if above:
        raise typer.Exit(EXIT_THRESHOLD)


def _note_reasons(answer: Answer, delivery: Delivery) -> None:
    """Why nothing is feasible, where the answer is a list of candidates that has no place for it."""
    if delivery.output_format is OutputFormat.CSV and answer is not result_of(answer):
        for reason in answer.reasons:
            note(f"infeasible: {reason}", quiet=delivery.quiet)


def _note_warnings(result: Result, *, quiet: bool) -> None:
    """Warnings of a result on the standard error stream (a table has them already)."""
    for warning in () if quiet else result.warnings:
        if warning.severity == "warning":
            note(f"warning: {warning.path + ': ' if warning.path else ''}{warning.message}")
