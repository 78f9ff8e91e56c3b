"""The commands about specs: init, specs list|show|check|schema, import-model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfmodel.cli import options
from perfmodel.cli.options import OutputFormat, TextFormat
from perfmodel.cli.output import check_targets, note, table_width, write_answer
from perfmodel.cli.tables import render_rows
from perfmodel.errors import SpecError, UnsupportedOperator, UsageError

if TYPE_CHECKING:
    from perfmodel.specs.catalogue import Catalogue

#: Exit code of bad input (interface page, section 1).
EXIT_BAD_INPUT = 2

specs_app = typer.Typer(
    name="specs",
    help="The catalogue: models, machines, software, formats, scenarios.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Kind = Annotated[
    str, typer.Argument(metavar="KIND", help="A kind of file, for example scenario, model, accelerator or cluster.")
]
OptionalKind = Annotated[str | None, typer.Argument(metavar="KIND", help="Only this kind.", show_default=False)]
ShowFormat = Annotated[
    TextFormat, typer.Option("--format", help="The file as it is (table), or the checked spec (json).")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("init")(init)
    app.command("import-model")(import_model)
    for name, command in (("list", list_specs), ("show", show_spec), ("check", check_specs), ("schema", print_schema)):
        specs_app.command(name)(command)
    app.add_typer(specs_app)


def init(
    kind: Kind,
    output: options.Output = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
) -> None:
    """Write a commented scenario or spec to start from."""
    from perfmodel.specs.templates import template

    check_targets(output)
    if output is not None and output.exists() and not force:
        raise UsageError(f"{output} exists; add --force to overwrite it")
    write_answer(template(kind), output)


def import_model(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.json", help="A Hugging Face config.json.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Name of the model.")] = None,
    output: options.Output = None,
    quiet: options.Quiet = False,
) -> None:
    """Turn a Hugging Face config into a model spec, and count its parameters."""
    from perfmodel.specs.hf_import import import_hugging_face
    from perfmodel.specs.model_yaml import write_model_yaml
    from perfmodel.workload import build_graph

    check_targets(output)
    spec = import_hugging_face(config, name)
    try:
        counted = f"{build_graph(spec).parameter_count():,} parameters"
    except UnsupportedOperator as error:
        counted = f"parameters are not counted: {error}"
    write_answer(f"# {counted}\n{write_model_yaml(spec)}", output)
    note(f"{spec.name}: {counted}", quiet=quiet)


def list_specs(
    kind: OptionalKind = None,
    output_format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
    specs: options.SpecFolders = [],
) -> None:
    """List what the catalogue has."""
    from perfmodel.specs.kinds import KINDS, kind_of

    check_targets(output)
    catalogue = _catalogue(specs)
    wanted = [kind_of(kind).name] if kind is not None else [name for name in KINDS if name != "sources"]
    rows = [
        {
            "kind": entry.kind,
            "name": entry.path.stem if entry.kind == "scenario" else entry.name,
            "origin": "user" if entry.user else "shipped",
            "title": entry.title or (entry.name if entry.kind == "scenario" else ""),
            "aliases": list(entry.aliases),
        }
        for one in wanted
        for entry in catalogue.entries(one)
    ]
    write_answer(render_rows(rows, str(output_format), table_width(output)), output)


def show_spec(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of the catalogue, or KIND/NAME.")],
    output_format: ShowFormat = TextFormat.TABLE,
    output: options.Output = None,
    specs: options.SpecFolders = [],
) -> None:
    """Show one spec: what the file says, or with --format json what it means after checking."""
    check_targets(output)
    catalogue = _catalogue(specs)
    kind, path = _find(catalogue, name)
    if output_format is TextFormat.TABLE:
        write_answer(path.read_text(encoding="utf-8"), output)
        return
    spec = catalogue.load_file(kind, path)
    write_answer(json.dumps(spec.model_dump(mode="json", exclude_none=True), indent=2, ensure_ascii=False), output)


def check_specs(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, or folders with YAML files.")],
    specs: options.SpecFolders = [],
    quiet: options.Quiet = False,
) -> None:
    """Check files: every problem with its line, what was allowed and the nearest choice."""
    catalogue = _catalogue(specs)
    problems = [problem for path in paths for problem in catalogue.check(path)]
    for problem in problems:
        note(str(problem))
    if problems:
        raise typer.Exit(EXIT_BAD_INPUT)
    note("no problems", quiet=quiet)


def print_schema(kind: Kind, output: options.Output = None) -> None:
    """Print the JSON Schema of a kind of file, for editors."""
    from perfmodel.specs.json_schema import schema_for

    check_targets(output)
    schema: Any = schema_for(kind)
    write_answer(json.dumps(schema, indent=2, ensure_ascii=False), output)


def _catalogue(folders: list[Path]) -> Catalogue:
    from perfmodel.specs.catalogue import Catalogue

    return Catalogue(folders)


def _find(catalogue: Catalogue, name: str) -> tuple[str, Path]:
    """Kind and file of a name; ``KIND/NAME`` says which kind is meant.

    Raises
    ------
    UsageError
        Nothing has the name, or files of several kinds have it.
    """
    from perfmodel.specs.kinds import KINDS, kind_of

    prefix, _, rest = name.partition("/")
    if rest and prefix in KINDS:
        return kind_of(prefix).name, catalogue.find(prefix, rest)
    kinds = [kind for kind in KINDS if kind != "sources"]
    found = [(kind, path) for kind in kinds if (path := _find_or_none(catalogue, kind, name)) is not None]
    if len(found) > 1:
        raise UsageError(f"several kinds have {name!r}; say which: {', '.join(f'{kind}/{name}' for kind, _ in found)}")
    if not found:
        from perfmodel.errors import nearest

        known = [one for kind in kinds for one in catalogue.names(kind)]
        raise UsageError(f"nothing is called {name!r}{nearest(name, known)}; `perfmodel specs list` lists all names")
    return found[0]


def _find_or_none(catalogue: Catalogue, kind: str, name: str) -> Path | None:
    try:
        return catalogue.find(kind, name)
    except SpecError:
        return None
