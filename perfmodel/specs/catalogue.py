"""The catalogue: finds spec files by kind and name, resolves ``extends``, checks and loads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from perfmodel.errors import SpecError, UsageError, nearest
from perfmodel.provenance import Basis
from perfmodel.specs import kinds, merge
from perfmodel.specs.index import Entry, read_entry, yaml_files
from perfmodel.specs.problems import problems_of, raise_problems
from perfmodel.specs.quantities import Origin, Provenance, SpecModel, apply_provenance
from perfmodel.specs.yaml_reader import Document, Place, display, read_file

if TYPE_CHECKING:
    from perfmodel.specs.sources import SourceSpec, SourcesSpec

#: A catalogue name, a path, or the mapping itself.
Reference = str | Path | Mapping[str, Any]

_UNSTATED = Provenance(source="unstated", basis=Basis.ASSUMED)
_SCENARIO = Provenance(source="scenario", basis=Basis.USER)


class Catalogue:
    """Spec files of the user's folders (searched first) and those that ship with the package.

    Parameters
    ----------
    user_folders
        Folders with any layout: every YAML file below them is known by its ``kind`` and ``name``.

    Raises
    ------
    UsageError
        A folder does not exist.
    """

    def __init__(self, user_folders: Sequence[str | Path] = ()) -> None:
        self.user_folders = tuple(dict.fromkeys(Path(folder).resolve() for folder in user_folders))
        for folder in self.user_folders:
            if not folder.is_dir():
                raise UsageError(f"--specs {folder}: there is no such folder")
        self._user_entries: list[Entry] | None = None
        self._loaded: dict[tuple[str, Path, int], SpecModel] = {}
        self._sources: dict[str, SourceSpec] | None = None

    # -- listing ---------------------------------------------------------------------------------------

    def entries(self, kind: str) -> list[Entry]:
        """Every known file of a kind, user's first, without checking their content."""
        shipped = (read_entry(path, user=False) for path in self._shipped_files(kind))
        every = [*self._of_user(kind), *(entry for entry in shipped if entry is not None and entry.kind == kind)]
        distinct: dict[str, Entry] = {}
        for entry in every:
            distinct.setdefault(self._entry_key(kind, entry), entry)
        return list(distinct.values())

    def names(self, kind: str) -> list[str]:
        """Names by which :meth:`load` finds the files of a kind, sorted."""
        return sorted(self._entry_key(kind, entry) for entry in self.entries(kind))

    def sources(self) -> Mapping[str, SourceSpec]:
        """Every known source by its key; a user's file wins."""
        if self._sources is None:
            files = [*kinds.shipped_sources(), *(entry.path for entry in reversed(self._of_user("sources")))]
            found: dict[str, SourceSpec] = {}
            for path in files:
                found.update(cast("SourcesSpec", self.load_file("sources", path)).sources)
            self._sources = found
        return self._sources

    @staticmethod
    def _entry_key(kind: str, entry: Entry) -> str:
        return entry.path.stem if kind == "scenario" else entry.name

    def _of_user(self, kind: str) -> list[Entry]:
        if self._user_entries is None:
            files = (path for folder in self.user_folders for path in yaml_files(folder))
            self._user_entries = [entry for path in files if (entry := read_entry(path, user=True)) is not None]
        return [entry for entry in self._user_entries if entry.kind == kind]

    def _shipped_files(self, kind: str) -> list[Path]:
        if kind == "sources":
            return kinds.shipped_sources()
        return [path for folder in kinds.shipped_folders(kinds.kind_of(kind).folder) for path in yaml_files(folder)]

    # -- finding ---------------------------------------------------------------------------------------

    def find(self, kind: str, reference: str | Path, relative_to: Path | None = None) -> Path:
        """The file behind a name or a path.

        Parameters
        ----------
        kind
            Kind of file that is meant.
        reference
            A name, or a path (relative to the folder of ``relative_to``, then to the working folder).
        relative_to
            The file that holds the reference.

        Raises
        ------
        SpecError
            Nothing is found; the message names what comes nearest.
        """
        text = str(reference)
        if isinstance(reference, Path) or text.endswith((".yaml", ".yml", ".json")) or "/" in text or "\\" in text:
            found = self._find_path(kind, Path(text).expanduser(), relative_to)
        else:
            found = self._find_name(kind, text)
        if found is None:
            raise SpecError(_no_file(kind, text) or self._not_found(kind, text))
        return found

    def _find_path(self, kind: str, path: Path, relative_to: Path | None) -> Path | None:
        folders = [relative_to.parent] if relative_to is not None else []
        for folder in [*folders, Path(), *self.user_folders]:
            if (folder / path).is_file():
                return (folder / path).resolve()
        return self._find_shipped_path(kind, path)

    def _find_shipped_path(self, kind: str, path: Path) -> Path | None:
        """A path inside a shipped folder, with or without the folder's name and the suffix."""
        parts = path.parts[1:] if path.parts and path.parts[0] == "scenarios" else path.parts
        if path.is_absolute() or ".." in parts or not parts:
            return None
        relative = Path(*parts)
        for folder in kinds.shipped_folders(kinds.kind_of(kind).folder):
            for candidate in (folder / relative, folder / f"{relative}.yaml"):
                if candidate.is_file():
                    return candidate
        return None

    def _find_name(self, kind: str, name: str) -> Path | None:
        named = [entry.path for entry in self._of_user(kind) if entry.name == name]
        named = named or [entry.path for entry in self._of_user(kind) if entry.path.stem == name]
        if named:
            return self._only_one(kind, name, named)
        for folder in kinds.shipped_folders(kinds.kind_of(kind).folder):
            if (folder / f"{name}.yaml").is_file():
                return folder / f"{name}.yaml"
        matches = [entry.path for entry in self.entries(kind) if name in (*entry.aliases, entry.name, entry.path.stem)]
        if kind == "scenario" and len(matches) > 1:
            listed = ", ".join(display(path) for path in matches)
            raise SpecError(f"several scenarios are called {name!r}: {listed}; give a path")
        return matches[0] if matches else None

    def _only_one(self, kind: str, name: str, paths: list[Path]) -> Path:
        """The first of the files that share a name; two in one of the user's folders are an error."""
        folder = next(one for one in self.user_folders if paths[0].is_relative_to(one))
        same = [path for path in paths if path.is_relative_to(folder)]
        if len(same) > 1:
            listed = ", ".join(display(path) for path in same)
            raise SpecError(f"several files of {folder} hold the {kind} {name!r}: {listed}")
        return paths[0]

    def _not_found(self, kind: str, name: str) -> str:
        names = self.names(kind)
        aliases = {alias: entry.name for entry in self.entries(kind) for alias in entry.aliases}
        close = get_close_matches(name, [*names, *aliases], n=3, cutoff=0.5)
        hint = f"; nearest: {', '.join(dict.fromkeys(aliases.get(one, one) for one in close))}" if close else ""
        folders = ", ".join(str(folder) for folder in self.user_folders)
        searched = f" (also searched {folders})" if folders else ""
        return f"no {kind} {name!r}{hint}; {len(names)} are known{searched}: `perfmodel specs list {kind}` lists them"

    # -- loading ---------------------------------------------------------------------------------------

    def load(self, kind: str, reference: Reference, relative_to: Path | None = None) -> Any:
        """The checked spec behind a name, a path or an inline mapping.

        Returns
        -------
        SpecModel
            An instance of the kind's model; ``.origin`` says which file it came from, and every number
            in it knows its path, source and basis.

        Raises
        ------
        SpecError
            Not found, or the file says something that cannot be.
        """
        if isinstance(reference, Mapping):
            label = f"inline {kind}"
            data = {str(key): value for key, value in reference.items()}
            return self.build(
                kind, self.inline_document(kind, Document(data, {(): Place(label)}, relative_to)), inline=True
            )
        return self.load_file(kind, self.find(kind, reference, relative_to))

    def load_file(self, kind: str, path: Path) -> SpecModel:
        """Like :meth:`load` for a file that is known to exist."""
        version = path.stat().st_mtime_ns
        if (kind, path, version) not in self._loaded:
            self._loaded[kind, path, version] = self.build(kind, self.document(kind, path))
        return self._loaded[kind, path, version]

    def document(self, kind: str, path: Path) -> Document:
        """What a file says, with the files that it extends merged in.

        Raises
        ------
        SpecError
            Malformed, of another kind, or the chain of ``extends`` is a cycle.
        """
        if path.suffix == ".json" and kind == "model":
            return _import_hugging_face(path)
        document = read_file(path)
        says = document.data.get("kind")
        if says != kind:
            place = document.place(("kind",))
            told = f"the file is of kind {says!r}" if says is not None else "the file has no `kind:`"
            known = "" if says in kinds.KINDS else nearest(str(says), kinds.KINDS)
            raise SpecError(f"{place}: kind: {told}; expected {kind}{known}")
        return self.extended(kind, document)

    def inline_document(self, kind: str, document: Document) -> Document:
        """An inline mapping (it needs neither ``kind`` nor ``name``) with what it extends merged in."""
        completed = Document({"kind": kind, "name": "inline", **document.data}, document.places, document.path)
        return self.extended(kind, completed, own_default=merge.OF_SCENARIO)

    def extended(
        self,
        kind: str,
        document: Document,
        chain: tuple[Path, ...] = (),
        own_default: Mapping[str, Any] = merge.UNSTATED,
    ) -> Document:
        """A document with the files that it extends merged in; each number keeps its own file's provenance."""
        reference = document.data.get("extends")
        if reference is None:
            return document
        place = document.place(("extends",))
        if not isinstance(reference, str) or not reference:
            raise SpecError(f"{place}: extends: expected the name or path of another {kind}, got {reference!r}")
        try:
            path = self.find(kind, reference, document.path)
        except SpecError as error:
            raise SpecError(f"{place}: extends: {error}") from None
        inline = own_default is merge.OF_SCENARIO
        here = chain if document.path is None or inline else (*chain, document.path.resolve())
        if path.resolve() in here:
            names = " -> ".join(one.stem for one in (*here, path))
            raise SpecError(f"{place}: extends: a cycle: {names}")
        base_document = read_file(path)
        if base_document.data.get("kind") != kind:
            raise SpecError(f"{place}: extends: {display(path)} is not of kind {kind}")
        model = kinds.kind_of(kind).load_model()
        base = merge.attach_provenance(self.extended(kind, base_document, here), model)
        return merge.merge(base, merge.attach_provenance(document, model, own_default))

    def build(self, kind: str, document: Document, *, inline: bool = False) -> SpecModel:
        """Check a document and make the spec object.

        Raises
        ------
        SpecError
            One message with every problem, each with file, line, path and what was allowed.
        """
        model = kinds.kind_of(kind).load_model()
        data = {key: value for key, value in document.data.items() if key != "extends"}
        document = Document(data, document.places, document.path)
        try:
            spec = model.model_validate(data)
        except ValidationError as error:
            raise_problems(problems_of(error, document, model))
            raise SpecError(f"{document.place(())}: not a valid {kind}") from None
        default = _SCENARIO if inline or kind == "scenario" else _UNSTATED
        spec = apply_provenance(spec, "" if kind == "scenario" else kind, default)
        return spec.placed(self._origin(document, inline=inline))

    def _origin(self, document: Document, *, inline: bool) -> Origin:
        path = document.path
        label = str(document.place(())) if inline or path is None else display(path)
        shipped = path is not None and any(path.is_relative_to(root) for root in _shipped_roots())
        return Origin(path, label, user=inline or not shipped)

    # -- checking --------------------------------------------------------------------------------------

    def check(self, path: Path) -> list[SpecError]:
        """Everything that is wrong with a file, or with every YAML file below a folder."""
        from perfmodel.specs.checks import check_path  # it loads scenarios, which need a catalogue

        return check_path(self, path)


def _shipped_roots() -> list[Path]:
    return [folder for root in ("hardware_specs", "scenarios", "catalog") for folder in kinds.shipped_folders(root)]


def _import_hugging_face(path: Path) -> Document:
    """A Hugging Face ``config.json`` in place of a model spec."""
    from perfmodel.specs.hf_import import import_hugging_face

    spec = import_hugging_face(path)
    return Document(spec.model_dump(mode="json", exclude_none=True), {(): Place(display(path), 1)}, path)


def _no_file(kind: str, reference: str) -> str:
    """What is wrong with a path that leads to no file; empty for a name."""
    path = Path(reference).expanduser()
    if path.is_dir():
        return f"{reference} is a folder; expected a {kind} file or the name of a shipped {kind}"
    looks_like_a_path = (
        reference.endswith((".yaml", ".yml", ".json")) or path.is_absolute() or reference.startswith(".")
    )
    return (
        f"{reference} does not exist; expected a {kind} file or the name of a shipped {kind}"
        if looks_like_a_path
        else ""
    )
