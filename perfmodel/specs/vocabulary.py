"""Vocabularies: what the free text of a table of measurements means in the words of the catalogue.

Tables of published runs name devices, frameworks and precisions in words of their own. A vocabulary says,
once and for all rows, which accelerator, software stack, numerics or policy is meant. Patterns match as in a shell,
without regard to case; the first match wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Literal, TypeVar

from pydantic import Field

from perfmodel.specs.base import FileSpec, SpecModel, SwitchField, WholeField


class Phrase(SpecModel):
    """One entry: a pattern of the column's text, and further columns that must hold a given text.

    Attributes
    ----------
    match
        Shell pattern of the text.
    where
        Column -> pattern; all must match.
    note
        Why.
    """

    match: str
    where: Mapping[str, str] = Field(default_factory=dict)
    note: str = ""

    def means(self, text: str, row: Mapping[str, str]) -> bool:
        """The entry is about this text of this row."""
        return matches(self.match, text) and all(
            matches(pattern, row.get(column, "")) for column, pattern in self.where.items()
        )


def matches(pattern: str, text: str) -> bool:
    """Shell pattern, without regard to case."""
    return fnmatchcase(text.lower(), pattern.lower())


class FrameworkPhrase(Phrase):
    """A software stack; ``dropout``: models are trained with dropout where nothing else is said."""

    software: str
    dropout: SwitchField = False


class NumericsPhrase(Phrase):
    """A precision recipe."""

    numerics: str


class ShardingPhrase(Phrase):
    """A ZeRO level."""

    zero: Literal[0, 1, 2, 3]


class RecomputePhrase(Phrase):
    """A recompute policy of the stack."""

    policy: str


class ModelPhrase(Phrase):
    """A model of the catalogue whose architecture the row's columns do not describe completely."""

    model: str


class DeviceEntry(SpecModel):
    """A device of the table.

    Attributes
    ----------
    accelerator
        Of the catalogue.
    cluster
        Whose tiers join the devices where the row says nothing else.
    domain
        Devices of the innermost tier; None: those of a node, as the row says.
    """

    accelerator: str
    cluster: str
    domain: WholeField | None = None


class SystemPhrase(Phrase):
    """A system of a table of collectives: the words of its device, and what is known about it.

    Attributes
    ----------
    cluster
        Of the catalogue: its tiers are the network.
    unsupported, incomplete
        Why rows of the system cannot be predicted.
    """

    cluster: str = ""
    unsupported: str = ""
    incomplete: str = ""


class LibraryPhrase(Phrase):
    """A collective library: entry under the ``libraries`` of an interconnect; empty: the usual one of the link."""

    library: str = ""
    unsupported: str = ""


AnyPhrase = TypeVar("AnyPhrase", bound=Phrase)


class VocabularySpec(FileSpec):
    """The words of one kind of table (``kind: vocabulary``)."""

    kind: Literal["vocabulary"]
    devices: Mapping[str, DeviceEntry] = Field(default_factory=dict)
    frameworks: tuple[FrameworkPhrase, ...] = ()
    numerics: tuple[NumericsPhrase, ...] = ()
    sharding: tuple[ShardingPhrase, ...] = ()
    recompute: tuple[RecomputePhrase, ...] = ()
    models: tuple[ModelPhrase, ...] = ()
    systems: tuple[SystemPhrase, ...] = ()
    libraries: tuple[LibraryPhrase, ...] = ()
    operations: Mapping[str, str] = Field(default_factory=dict)


def first_match(phrases: tuple[AnyPhrase, ...], text: str, row: Mapping[str, str]) -> AnyPhrase | None:
    """The first entry that is about this text, or None."""
    return next((phrase for phrase in phrases if phrase.means(text, row)), None)
