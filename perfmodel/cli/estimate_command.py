"""The command ``estimate``: a one-line question without a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfmodel.cli import options
from perfmodel.cli.options import OutputFormat
from perfmodel.cli.output import check_targets, note
from perfmodel.cli.progress import progress_line
from perfmodel.cli.question_commands import Delivery, deliver
from perfmodel.cli.thresholds import parse_thresholds
from perfmodel.errors import UsageError

Model = Annotated[str, typer.Option("--model", metavar="NAME", help="A model of the catalogue, or a file.")]
Accelerator = Annotated[str, typer.Option("--accelerator", metavar="NAME", help="An accelerator, or a file.")]
Devices = Annotated[str, typer.Option("--devices", metavar="COUNT", help="Devices to use, for example 1024.")]
SequenceLength = Annotated[str | None, typer.Option("--sequence-length", metavar="COUNT", help="Tokens per sequence.")]
GlobalBatch = Annotated[str | None, typer.Option("--global-batch", metavar="COUNT", help="Sequences per step.")]
Tokens = Annotated[
    str | None, typer.Option("--tokens", metavar="COUNT", help="Tokens of the whole run, for example 15T.")
]
Numerics = Annotated[str, typer.Option("--numerics", metavar="NAME", help="Number formats.")]
Software = Annotated[str, typer.Option("--software", metavar="NAME", help="Software stack.")]
Save = Annotated[Path | None, typer.Option("--save", metavar="FILE", help="Write the scenario to a file.")]


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(estimate)


def estimate(
    model: Model,
    accelerator: Accelerator,
    devices: Devices,
    sequence_length: SequenceLength = None,
    global_batch: GlobalBatch = None,
    tokens: Tokens = None,
    numerics: Numerics = "bf16-mixed",
    software: Software = "megatron-core",
    save: Save = None,
    output_format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
    report: options.Report = None,
    trace: options.Trace = None,
    specs: options.SpecFolders = [],
    fail_above: options.FailAbove = [],
    quiet: options.Quiet = False,
) -> None:
    """Train a model on so many devices: picks a sensible strategy, says which and why, and answers."""
    from perfmodel.specs.catalogue import Catalogue
    from perfmodel.study.estimate import EstimateQuestion
    from perfmodel.study.estimate import estimate as pick

    delivery = Delivery(output_format, output, report, trace, tuple(parse_thresholds(fail_above)), quiet=quiet)
    check_targets(output, report, trace, save)
    sizes = {"devices": devices, "sequence_length": sequence_length, "global_batch": global_batch, "tokens": tokens}
    counts = {name: _count(name, text) for name, text in sizes.items() if text is not None}
    question = EstimateQuestion(model=model, accelerator=accelerator, software=software, numerics=numerics, **counts)
    with progress_line(quiet=quiet) as progress:
        answer = pick(question, Catalogue(specs), progress)
    for reason in answer.reasons:
        note(reason, quiet=quiet)
    deliver(answer.result, delivery, texts={} if save is None else {save: answer.to_yaml()})


def _count(name: str, text: str) -> int:
    """A whole number of at least 1, also as ``8k`` or ``15T``.

    Raises
    ------
    UsageError
        It is not.
    """
    from perfmodel.units import UnitError, parse_count

    option = f"--{name.replace('_', '-')}"
    try:
        number = parse_count(text)
    except UnitError as error:
        raise UsageError(f"{option}: {error}") from None
    if number < 1 or number != int(number):
        raise UsageError(f"{option} {text!r}: expected a whole number of at least 1")
    return int(number)
