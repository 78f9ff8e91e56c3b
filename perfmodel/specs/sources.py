"""Sources files: the key behind every ``source:`` and what it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from perfmodel.specs.quantities import SpecModel

#: Source keys that need no entry: the number was given by the question itself, or by nobody.
BUILTIN_SOURCES = frozenset({"user", "scenario", "assumed", "unstated"})


class SourceSpec(SpecModel):
    """One source: enough for a person to find the document again."""

    title: str
    kind: Literal[
        "datasheet",
        "paper",
        "repository",
        "documentation",
        "article",
        "measurement",
        "model-fit",
        "standard",
        "recalled",
    ]
    url: str = ""
    authors: str = ""
    year: int | None = None
    edition: str | int = ""
    accessed: str | int = ""
    licence: str = ""
    note: str = ""


class SourcesSpec(SpecModel):
    """A file of sources (``kind: sources``); a folder of specs may bring its own."""

    kind: Literal["sources"]
    name: str = "sources"
    sources: Mapping[str, SourceSpec]
