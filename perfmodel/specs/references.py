"""References of a scenario: where each override belongs, and the document behind a name, path or mapping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from perfmodel.errors import SpecError, UsageError, nearest
from perfmodel.specs import kinds
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.overrides import Override, apply_overrides
from perfmodel.specs.plain import is_list, is_mapping
from perfmodel.specs.problems import Problem, dotted, raise_problems, value_at
from perfmodel.specs.quantities import SpecModel
from perfmodel.specs.yaml_reader import Document, KeyPath

#: Keys of a scenario that refer to another spec.
REFERENCES = ("model", "cluster", "software", "numerics")
#: Names of resolved parts by which results call their numbers; they may be set under these names too.
PARTS = ("accelerator", "interconnects", "efficiency_class")
#: Keys of a mapping that refers to a spec instead of being one.
_POINTER_KEYS = {"name", "path"}
_CLUSTER_KEYS = {"name", "path", "devices"}
#: A cluster with one of these is written out in place.
_CLUSTER_CONTENT = {"accelerator", "tiers", "extends"}


def route(overrides: Sequence[Override]) -> dict[str, list[Override]]:
    """Sort overrides by the document that they concern.

    Returns
    -------
    dict
        Keys ``scenario``, the :data:`REFERENCES` and the :data:`PARTS`; ``rest`` of each override is
        relative to that document.
    """
    routes: dict[str, list[Override]] = {name: [] for name in ("scenario", *REFERENCES, *PARTS)}
    for override in overrides:
        parts = list(override.rest)
        if len(parts) > 2 and parts[0] == "cluster" and parts[1] == "accelerator":
            parts = parts[1:]
        root, below = parts[0], parts[1:]
        if root == "accelerator" and not below:
            root, below = "cluster", ["accelerator"]
        if (root in PARTS and below) or (
            root in REFERENCES and below and not (root == "cluster" and below[0] in _CLUSTER_KEYS)
        ):
            routes[root].append(replace(override, rest=tuple(below)))
        else:
            routes["scenario"].append(replace(override, rest=(root, *below)))
    return routes


def spelled_out(document: Document, overrides: Sequence[Override]) -> Document:
    """Short forms written out where an override reaches into them (``cluster: name``, ``recompute: name``)."""
    data = dict(document.data)
    if isinstance(data.get("cluster"), str) and any(
        one.rest[0] == "cluster" and len(one.rest) > 1 for one in overrides
    ):
        key = "path" if str(data["cluster"]).endswith((".yaml", ".yml")) else "name"
        data["cluster"] = {key: data["cluster"]}
    strategy = data.get("strategy")
    reaches = any(one.rest[:2] == ("strategy", "recompute") and len(one.rest) > 2 for one in overrides)
    if is_mapping(strategy) and isinstance(strategy.get("recompute"), str) and reaches:  # pyright: ignore[reportUnknownMemberType]
        data["strategy"] = {**strategy, "recompute": {"policy": strategy["recompute"]}}
    return Document(data, document.places, document.path)


@dataclass(frozen=True, slots=True)
class Target:
    """What a reference points at: a file of the catalogue, or a mapping in place."""

    document: Document
    path: Path | None  # of the file; None for a mapping in place

    @property
    def inline(self) -> bool:
        return self.path is None


def target_of(catalogue: Catalogue, kind: str, holder: Document, at: KeyPath) -> Target:
    """The document behind the reference that stands at a path of a document.

    Raises
    ------
    SpecError
        Not found, not a reference, or its file is malformed; the message says where the reference stands.
    """
    value = value_at(holder.data, at)
    if is_mapping(value):
        pointer = _pointer(kind, value, holder, at)
        if pointer is None:
            return Target(catalogue.inline_document(kind, part_of(holder, at)), None)
        value = pointer
    if not isinstance(value, (str, Path)) or not str(value):
        raise_problems([Problem(holder.place(at), dotted(at), f"expected the name or path of a {kind}, got {value!r}")])
    try:
        path = catalogue.find(kind, value, holder.path)
    except SpecError as error:
        raise SpecError(f"{holder.place(at)}: {dotted(at)}: {error}") from None
    return Target(catalogue.document(kind, path), path)


def _pointer(kind: str, value: Mapping[str, Any], holder: Document, at: KeyPath) -> str | None:
    """The name or path in a mapping that only points, or None when the mapping is the spec itself."""
    keys = set(value)
    if kind == "cluster":
        if "pools" in keys:
            raise UsageError(
                f"{holder.place((*at, 'pools'))}: cluster.pools: several kinds of device in one scenario come later"
            )
        if keys & _CLUSTER_CONTENT:
            return None
        unknown = sorted(keys - _CLUSTER_KEYS)
        problems = [_not_a_pointer_key(key, holder, at) for key in unknown]
        raise_problems(problems)
    elif not keys <= _POINTER_KEYS:
        return None
    if {"name", "path"} <= keys or not keys & _POINTER_KEYS:
        raise_problems([Problem(holder.place(at), dotted(at), f"expected `name` or `path` of a {kind} (one of them)")])
    return str(value.get("path", value.get("name")))


def _not_a_pointer_key(key: str, holder: Document, at: KeyPath) -> Problem:
    allowed = ", ".join(sorted(_CLUSTER_KEYS))
    hint = nearest(key, _CLUSTER_KEYS)
    what = f"unknown key {key!r}; allowed: {allowed}, or a whole cluster (with accelerator and tiers){hint}"
    return Problem(holder.place((*at, key)), dotted((*at, key)), what)


def part_of(holder: Document, at: KeyPath) -> Document:
    """A mapping inside a document as a document of its own; its places stay those of the file."""
    size = len(at)
    places = {path[size:]: place for path, place in holder.places.items() if path[:size] == at}
    places.setdefault((), holder.place(at))
    return Document(value_at(holder.data, at), places, holder.path)


def build_target(catalogue: Catalogue, kind: str, target: Target, overrides: Sequence[Override]) -> SpecModel:
    """The checked spec of a target, with overrides applied; files without overrides are checked once."""
    if target.path is not None and not overrides:
        return catalogue.load_file(kind, target.path)
    edited = edit(kind, target.document, overrides)
    return catalogue.build(kind, edited, inline=target.inline)


def edit(kind: str, document: Document, overrides: Sequence[Override]) -> Document:
    """A document with overrides applied."""
    return apply_overrides(document, kinds.kind_of(kind).load_model(), overrides) if overrides else document


def tier_overrides(cluster: Document, overrides: Sequence[Override]) -> tuple[list[Override], list[Override]]:
    """Split the overrides of a cluster: its own, and those of the interconnects that its tiers name."""
    own: list[Override] = []
    links: list[Override] = []
    tiers = value_at(cluster.data, ("tiers",))
    items: list[Any] = list(tiers) if is_list(tiers) else []
    by_name = {str(one.get("name")): one for one in items if is_mapping(one)}
    for override in overrides:
        rest = override.rest
        tier = by_name.get(rest[1]) if len(rest) > 3 and rest[0] == "tiers" and rest[2] == "interconnect" else None
        if tier is not None and isinstance(tier.get("interconnect"), str):
            links.append(replace(override, rest=(tier["interconnect"], *rest[3:])))
        else:
            own.append(override)
    return own, links
