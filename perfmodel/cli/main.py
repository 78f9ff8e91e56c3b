"""The command ``perfmodel``: parses, calls, prints. It knows no physics and decides nothing.

Heavy modules are imported inside the commands, so that ``perfmodel --help`` stays quick.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import perfmodel
from perfmodel.cli import calibrate_command, catalogue_commands, estimate_command, question_commands, validate_command
from perfmodel.errors import PerfmodelError

#: Exit codes (interface page, section 1).
EXIT_BAD_INPUT = 2
#: Of a process that was interrupted (128 + SIGINT), as shells report it.
EXIT_INTERRUPTED = 130


class Commands(TyperGroup):
    """The commands; Ctrl-C ends any of them with one line."""

    def invoke(self, ctx: typer.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    name="perfmodel",
    cls=Commands,
    help="Time, memory, energy and money of large language models on real and future machines, "
    "with the source of every number.",
    epilog="A SCENARIO is a file or the name of a shipped scenario. Exit codes: 0 answered, 1 the plan is infeasible, "
    "2 bad usage or input, 3 a threshold of --fail-above was exceeded, 130 interrupted.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"perfmodel {perfmodel.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Answer questions about a model, a machine and a plan."""


question_commands.register(app)
estimate_command.register(app)
validate_command.register(app)
calibrate_command.register(app)
catalogue_commands.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Parameters
    ----------
    arguments
        Words after the program's name; None takes them from the process.
    """
    try:
        app(arguments, prog_name="perfmodel")
    except PerfmodelError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(EXIT_BAD_INPUT)
