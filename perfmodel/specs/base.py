"""What every spec file may say at its top: kind, name, title, aliases, default provenance."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, Strict

from perfmodel.specs.quantities import Origin, Provenance, SpecModel

__all__ = ["FileSpec", "Origin", "Provenance", "SpecModel", "SwitchField", "WholeField"]

#: ``true`` or ``false`` only: in YAML 1.2 ``no`` and ``off`` are text.
SwitchField = Annotated[bool, Strict()]
#: A whole number of at least 1.
WholeField = Annotated[int, Strict(), Field(ge=1)]


class FileSpec(SpecModel):
    """Base of the specs that have a file of their own; each adds its ``kind``.

    ``extends`` is resolved before validation.

    Attributes
    ----------
    name
        How other files refer to it (the stem of its file).
    title
        One line for people.
    aliases
        Other names for look-up; used only when no file has the name.
    provenance
        Default source and basis of the numbers in the file.
    note
        Free text.
    """

    name: Annotated[str, Field(min_length=1)]
    title: str = ""
    aliases: tuple[str, ...] = ()
    provenance: Provenance | None = None
    note: str = ""
