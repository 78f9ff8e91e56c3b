"""Options that several commands share, declared once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class OutputFormat(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class TextFormat(StrEnum):
    """How a derivation is written."""

    TABLE = "table"
    JSON = "json"


def _file_or_standard_output(value: Path | None) -> Path | None:
    return None if value == Path("-") else value


Scenario = Annotated[str, typer.Argument(metavar="SCENARIO", help="A scenario file or the name of a shipped scenario.")]
Scenarios = Annotated[
    list[str], typer.Argument(metavar="SCENARIO...", help="Two or more scenario files or names of shipped scenarios.")
]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Override a field, for example strategy.tp=4; repeatable.",
        show_default=False,
    ),
]
SpecFolders = Annotated[
    list[Path],
    typer.Option(
        "--specs", metavar="DIR", help="A folder of your own specs, searched first; repeatable.", show_default=False
    ),
]
Format = Annotated[OutputFormat, typer.Option("--format", help="How to write the answer.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        metavar="FILE",
        help="Write the answer to a file instead of the standard output (which - names too).",
        callback=_file_or_standard_output,
    ),
]
Report = Annotated[Path | None, typer.Option("--report", metavar="FILE.html", help="Write the one-file report.")]
Trace = Annotated[
    Path | None, typer.Option("--trace", metavar="FILE.json", help="Write the pipeline timeline for a trace viewer.")
]
FailAbove = Annotated[
    list[str],
    typer.Option(
        "--fail-above",
        metavar="KEY=NUMBER",
        help="Exit with 3 when a result key is above a number, for example time.step_s=5; repeatable.",
        show_default=False,
    ),
]
Conditions = Annotated[
    list[str],
    typer.Option("--where", metavar="COLUMN=VALUE", help="Only rows with this value; repeatable.", show_default=False),
]
Sensitivity = Annotated[
    bool, typer.Option("--sensitivity", help="Show which number of the specs moves the answer most.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No warnings, notes and progress on the standard error stream.")]
