"""Kinds of files: the model that checks each, and the folders where the shipped ones lie."""

from __future__ import annotations

import functools
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import perfmodel
from perfmodel.errors import UsageError, nearest
from perfmodel.specs.quantities import SpecModel


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file.

    Attributes
    ----------
    name
        The word in the file.
    model
        ``module:Class`` (imported when first needed).
    folder
        Shipped folder: ``hardware_specs/...`` or ``scenarios`` (data of the package or of the checkout), or
        ``catalog/...``.
    """

    name: str
    model: str
    folder: str

    def load_model(self) -> type[SpecModel]:
        """The class that checks a file of this kind."""
        return _load_model(self.model)


@functools.cache
def _load_model(reference: str) -> type[SpecModel]:
    module, _, name = reference.partition(":")
    return cast("type[SpecModel]", getattr(importlib.import_module(module), name))


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("accelerator", "perfmodel.specs.hardware:AcceleratorSpec", "hardware_specs/accelerators"),
        Kind("interconnect", "perfmodel.specs.hardware:InterconnectSpec", "hardware_specs/interconnects"),
        Kind("cluster", "perfmodel.specs.hardware:ClusterSpec", "hardware_specs/clusters"),
        Kind("efficiency", "perfmodel.specs.efficiency:EfficiencySpec", "catalog/efficiency"),
        Kind("software", "perfmodel.specs.software:SoftwareSpec", "catalog/software"),
        Kind("model", "perfmodel.specs.model:ModelSpec", "catalog/models"),
        Kind("numerics", "perfmodel.specs.numerics:NumericsSpec", "catalog/numerics"),
        Kind("formats", "perfmodel.specs.formats:FormatsSpec", "catalog/formats"),
        Kind("vocabulary", "perfmodel.specs.vocabulary:VocabularySpec", "catalog/vocabulary"),
        Kind("kernel-vocabulary", "perfmodel.specs.kernel_vocabulary:KernelVocabularySpec", "catalog/vocabulary"),
        Kind("scenario", "perfmodel.specs.scenario:Scenario", "scenarios"),
        Kind("sources", "perfmodel.specs.sources:SourcesSpec", ""),
    )
}


def kind_of(name: str) -> Kind:
    """The kind of that name.

    Raises
    ------
    UsageError
        There is none; the message lists them.
    """
    if name not in KINDS:
        raise UsageError(f"unknown kind {name!r}; kinds: {', '.join(KINDS)}{nearest(name, KINDS)}")
    return KINDS[name]


def package_folder() -> Path:
    """The folder of the installed package."""
    return Path(perfmodel.__file__).resolve().parent


def shipped_folders(folder: str) -> list[Path]:
    """Where a shipped folder lies: package data first, then the checkout."""
    package = package_folder()
    if folder.startswith("catalog"):
        candidates = [package / folder]
    else:
        candidates = [package / "_data" / folder, package.parent / folder]
    return [candidate for candidate in candidates if candidate.is_dir()]


def shipped_sources() -> list[Path]:
    """The sources files that ship with the package."""
    roots = [*shipped_folders("hardware_specs"), *shipped_folders("catalog"), *shipped_folders("scenarios")]
    return [path for root in roots for path in sorted(root.rglob("sources.yaml"))]
