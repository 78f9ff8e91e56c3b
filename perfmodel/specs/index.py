"""A cheap listing of spec files: the scalars at the top of each, without checking the rest."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from perfmodel.errors import SpecError, UsageError
from perfmodel.specs import yaml_reader
from perfmodel.specs.plain import is_list

#: Files looked at below one folder; more is taken for a folder given by mistake.
MAXIMUM_FILES = 5000

_TOP = re.compile(r"^([A-Za-z_][\w-]*)[ \t]*:[ \t]+(\S.*)$", re.MULTILINE)
_ALIASES = re.compile(r"^aliases[ \t]*:[ \t]*(?:\[([^\]]*)\]|((?:\n[ \t]*-[^\n]*)+))", re.MULTILINE)
_COMMENT = re.compile(r"\s+#.*$")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the catalogue.

    Attributes
    ----------
    kind, name, title, aliases
        As the file says; ``name`` is the stem when the file names nothing.
    path
        The file.
    user
        From a folder of the user.
    facts
        The other one-line values at the top of the file (vendor, year, status, family ...), as text.
    """

    kind: str
    name: str
    title: str
    path: Path
    aliases: tuple[str, ...]
    user: bool
    facts: Mapping[str, str]


def yaml_files(folder: Path) -> Iterator[Path]:
    """Every YAML file below a folder, sorted; links to folders are not followed.

    Raises
    ------
    UsageError
        There are more than :data:`MAXIMUM_FILES`.
    """
    count = 0
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.endswith((".yaml", ".yml")) or name.startswith("."):
                continue
            count += 1
            if count > MAXIMUM_FILES:
                raise UsageError(f"{folder}: more than {MAXIMUM_FILES} YAML files; name a folder that holds specs only")
            yield Path(parent, name)


_CACHE: dict[Path, tuple[tuple[int, int], Entry | None]] = {}


def read_entry(path: Path, *, user: bool) -> Entry | None:
    """The entry of one file, or None when it is not a spec (no ``kind``) or cannot be read."""
    try:
        status = path.stat()
        version = (status.st_mtime_ns, status.st_size)
        cached = _CACHE.get(path)
        if cached is not None and cached[0] == version:
            return cached[1]
        entry = _scan(path, path.read_bytes()[: yaml_reader.MAXIMUM_BYTES].decode("utf-8-sig", "replace"), user=user)
    except OSError:
        return None
    _CACHE[path] = (version, entry)
    return entry


def _scan(path: Path, text: str, *, user: bool) -> Entry | None:
    top = {match[1]: _plain(match[2]) for match in _TOP.finditer(text.replace("\r\n", "\n"))}
    aliases = _aliases(text)
    if "kind" not in top and text.lstrip().startswith("{"):
        top, aliases = _read_whole(path)
    if "kind" not in top:
        return None
    facts = {key: value for key, value in top.items() if value and value[0] not in "{[|>"}
    kind, name, title = facts.pop("kind", ""), facts.pop("name", path.stem), facts.pop("title", "")
    return Entry(kind, name, title, path, aliases, user, facts)


def _read_whole(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """The top of a file in flow style (``{kind: ..., name: ...}``)."""
    try:
        data = yaml_reader.read_file(path).data
    except SpecError:
        return {}, ()
    names = data.get("aliases")
    aliases = tuple(str(one) for one in names) if is_list(names) else ()
    return {key: str(value) for key, value in data.items() if not isinstance(value, (dict, list))}, aliases


def _plain(text: str) -> str:
    text = _COMMENT.sub("", text.strip()) if text[0] not in "'\"" else text.strip()
    if text[0] in "'\"" and text.count(text[0]) >= 2:
        return text[1 : text.rindex(text[0])]
    return text


def _aliases(text: str) -> tuple[str, ...]:
    match = _ALIASES.search(text)
    if match is None:
        return ()
    items = (
        match[1].split(",") if match[1] is not None else [line.strip()[1:] for line in match[2].strip().splitlines()]
    )
    return tuple(_plain(item.strip()) for item in items if item.strip())
