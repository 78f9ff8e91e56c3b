"""The command that scores predictions against a table of measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from perfmodel.cli import options
from perfmodel.cli.options import OutputFormat
from perfmodel.cli.output import check_targets, write_answer
from perfmodel.cli.progress import progress_line

Kind = Annotated[str, typer.Argument(metavar="KIND", help="Kind of table: training, collectives or kernels.")]
Table = Annotated[
    Path | None,
    typer.Argument(metavar="FILE.csv", help="Measurements; without it, the table that ships.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(validate)


def validate(
    kind: Kind,
    table: Table = None,
    where: options.Conditions = [],
    output_format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
    specs: options.SpecFolders = [],
    quiet: options.Quiet = False,
) -> None:
    """Predict every row of a table of measurements and score the predictions."""
    from perfmodel.specs.catalogue import Catalogue
    from perfmodel.study.validation.csv_lines import csv_lines
    from perfmodel.study.validation.kinds import known_kind
    from perfmodel.study.validation.kinds import validate as predict
    from perfmodel.study.validation.ranking import ranking
    from perfmodel.study.validation.scoring import summarise

    check_targets(output, inputs=[str(table)] if table is not None else [])
    with progress_line(quiet=quiet) as progress:
        lines = predict(kind, table, Catalogue(specs), where, progress)
    if output_format is OutputFormat.CSV:
        write_answer(csv_lines(lines), output)
        return
    document = summarise(kind, lines, known_kind(kind).main)
    if kind == "training":
        document["layouts"] = ranking([line for line in lines if line.quantity == known_kind(kind).main])
    if output_format is OutputFormat.JSON:
        write_answer(json.dumps(document, indent=2), output)
        return
    from perfmodel.report.validation_text import render_validation

    write_answer(render_validation(document, lines), output)
