"""Checking files without running anything (``perfmodel specs check PATH``)."""

from __future__ import annotations

from pathlib import Path

from perfmodel.errors import PerfmodelError, SpecError, nearest
from perfmodel.specs import kinds
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.consistency import format_problems, source_warnings
from perfmodel.specs.index import yaml_files
from perfmodel.specs.numerics import NumericsSpec
from perfmodel.specs.problems import Problem, raise_problems
from perfmodel.specs.references import target_of
from perfmodel.specs.resolve import load_scenario
from perfmodel.specs.software import SoftwareSpec
from perfmodel.specs.yaml_reader import Document, KeyPath, display, read_file

#: References in a file, by its kind: (path, kind of what is referred to). Tiers of a cluster are added.
_REFERENCES: dict[str, tuple[tuple[KeyPath, str], ...]] = {
    "accelerator": ((("efficiency_class",), "efficiency"),),
    "cluster": ((("accelerator",), "accelerator"),),
}


def check_path(catalogue: Catalogue, path: Path) -> list[SpecError]:
    """Everything that is wrong with a file, or with every YAML file below a folder.

    Names may refer to files of the same folder. A scenario is checked with all that it refers to.
    """
    if not path.is_dir():
        return _errors(catalogue, path)
    files = list(yaml_files(path))
    if not files:
        return [SpecError(f"{display(path)}: no YAML files below this folder")]
    wider = Catalogue((*catalogue.user_folders, path))
    return [error for file in files for error in _errors(wider, file)]


def check_sources(catalogue: Catalogue, path: Path) -> list[str]:
    """A sentence for each source key in a file, or below a folder, that no sources file has."""
    folders = (*catalogue.user_folders, path if path.is_dir() else path.parent)
    wider = Catalogue(folders)
    sentences: list[str] = []
    for file in yaml_files(path) if path.is_dir() else [path]:
        kind = read_file(file).data.get("kind")
        if kind in kinds.KINDS and kind != "sources":
            spec = wider.load_file(str(kind), file.resolve())
            sentences += source_warnings(spec, display(file), wider.sources)
    return sentences


def _errors(catalogue: Catalogue, path: Path) -> list[SpecError]:
    try:
        _check_file(catalogue, path)
    except SpecError as error:
        return [error]
    except PerfmodelError as error:
        return [SpecError(f"{display(path)}: {error}")]
    return []


def _check_file(catalogue: Catalogue, path: Path) -> None:
    document = read_file(path)
    kind = document.data.get("kind")
    if not isinstance(kind, str) or kind not in kinds.KINDS:
        told = "missing" if kind is None else f"unknown kind {kind!r}"
        hint = "" if kind is None else nearest(str(kind), kinds.KINDS)
        problem = Problem(document.place(("kind",)), "kind", f"{told}; kinds: {', '.join(kinds.KINDS)}{hint}")
        raise_problems([problem])
        return
    if kind == "scenario":
        load_scenario(path.resolve(), catalogue)
        return
    spec = catalogue.load_file(kind, path)
    merged = catalogue.document(kind, path)
    if isinstance(spec, NumericsSpec):
        raise_problems(format_problems(spec, catalogue.load("formats", "formats"), merged))
    if isinstance(spec, SoftwareSpec):
        raise_problems(_library_problems(spec, catalogue, merged))
    for at, other in _references(kind, merged):
        target = target_of(catalogue, other, merged, at)
        if target.path is not None:
            catalogue.load_file(other, target.path)


def _library_problems(stack: SoftwareSpec, catalogue: Catalogue, document: Document) -> list[Problem]:
    """A collective library of a stack that no interconnect has numbers for."""
    if not stack.collectives:
        return []
    links = (catalogue.load_file("interconnect", entry.path) for entry in catalogue.entries("interconnect"))
    known = sorted({name for link in links for name in getattr(link, "libraries", {})})
    if stack.collectives in known:
        return []
    hint = nearest(stack.collectives, known)
    what = f"no interconnect has numbers of the library {stack.collectives!r}; there are {', '.join(known)}{hint}"
    return [Problem(document.place(("collectives",)), "collectives", what)]


def _references(kind: str, document: Document) -> list[tuple[KeyPath, str]]:
    found = [(at, other) for at, other in _REFERENCES.get(kind, ()) if at[0] in document.data]
    if kind == "cluster":
        count = len(document.data.get("tiers") or ())
        found += [(("tiers", position, "interconnect"), "interconnect") for position in range(count)]
    return found
