"""The command that fits efficiency numbers to measurements and writes a spec."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from perfmodel.cli import options
from perfmodel.cli.output import check_targets, note, write_answer
from perfmodel.cli.progress import progress_line

Kind = Annotated[str, typer.Argument(metavar="KIND", help="Kind of table: training, collectives or kernels.")]
Table = Annotated[Path, typer.Argument(metavar="FILE.csv", help="Measurements, as `perfmodel validate` takes them.")]
Accelerator = Annotated[str, typer.Option("--accelerator", metavar="NAME", help="Whose numbers are fitted.")]
Software = Annotated[str, typer.Option("--software", metavar="NAME", help="The stack that ran; the spec extends it.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(calibrate)


def calibrate(
    kind: Kind,
    table: Table,
    accelerator: Accelerator,
    software: Software,
    where: options.Conditions = [],
    output: options.Output = None,
    specs: options.SpecFolders = [],
    quiet: options.Quiet = False,
) -> None:
    """Fit the efficiency numbers of a stack on an accelerator to measurements, and write them as a spec."""
    from perfmodel.specs.catalogue import Catalogue
    from perfmodel.specs.writer import to_yaml
    from perfmodel.study.calibration.kinds import calibrate as fit
    from perfmodel.study.validation.kinds import known_kind
    from perfmodel.study.validation.tables import matching, read_table

    check_targets(output, inputs=[str(table)])
    rows = matching(read_table(table, known_kind(kind).needed), where)
    with progress_line(quiet=quiet) as progress:
        found = fit(kind, [row for _, row in rows], accelerator, software, Catalogue(specs), progress)
    write_answer(to_yaml(found.spec), output)
    for line in found.report:
        note(line, quiet=quiet)
