"""A search with some of its values named: what is left of its space, and what was never in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.errors import UsageError
from perfmodel.specs.plain import is_mapping
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.search.choices import FOLLOWS, LAYERS, RECOMPUTE, ROW_PATHS, SWITCH_PATHS
from perfmodel.study.search.regions import Region, SearchSpace

POLICY, FRACTION = f"{RECOMPUTE}.policy", f"{RECOMPUTE}.fraction"
SCHEDULE = "strategy.pipeline.schedule"
#: Short names of a plan whose path does not follow from them.
_SHORT = {
    "devices": "cluster.devices", "virtual_stages": "strategy.pipeline.virtual_stages", "schedule": SCHEDULE,
    "layers_per_stage": LAYERS,
}  # fmt: skip
#: Settings that candidates leave out where they have these values.
_LEFT_OUT = {"strategy.dp_replicate": 1} | {path: True for path in SWITCH_PATHS if ".overlap." in path}


@dataclass(frozen=True)
class Outside:
    """A value that no candidate of a search has.

    Attributes
    ----------
    path
        The field.
    value
        What was named.
    values
        What the candidates have there.
    listed
        The search varies the field; False: it has one value in all candidates.
    """

    path: str
    value: Any
    values: tuple[Any, ...]
    listed: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain Python."""
        return {"path": self.path, "value": self.value, "values": list(self.values), "listed": self.listed}


def named_paths(named: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted path from the names that a person uses: ``tp``, ``pipeline.schedule``, ``devices``.

    Raises
    ------
    UsageError
        A named column follows from others.
    """
    found: dict[str, Any] = {}
    for name, value in named.items():
        short = name.removeprefix("strategy.")
        if short in FOLLOWS:
            raise UsageError(f"{short} follows from {FOLLOWS[short]}: name those instead")
        own = name.startswith(("strategy.", "cluster."))
        found[_SHORT.get(short, name if own else f"strategy.{name}")] = value
    return found


def narrowed(resolved: ResolvedScenario, fixed: Mapping[str, Any]) -> ResolvedScenario:
    """The search with fields of the strategy fixed, by dotted path; a list of one value, so that it stays a search.

    Raises
    ------
    SpecError
        A path or a value is not possible.
    """
    return resolved.replace(**_as_axes(resolved, fixed))


def pinned(resolved: ResolvedScenario, settings: Mapping[str, Any], free: Mapping[str, Any]) -> ResolvedScenario:
    """The search around one of its candidates: everything as there, but for what is free.

    Parameters
    ----------
    settings
        Of the candidate, as :func:`~perfmodel.study.search.answer.settings_of` says.
    free
        ``auto`` or a list of values, by path.
    """
    axes = {axis.path for axis in resolved.axes}
    left_out = {path: value for path, value in _LEFT_OUT.items() if path in axes and path not in settings}
    kept = {path: value for path, value in (left_out | dict(settings)).items() if path not in free}
    freed = {path: value for path, value in free.items() if path != RECOMPUTE}
    if RECOMPUTE in free:
        freed |= {POLICY: free[RECOMPUTE], FRACTION: [1.0]} if _has_parts(resolved) else {RECOMPUTE: free[RECOMPUTE]}
    return resolved.replace(**_as_axes(resolved, kept), **freed)


def _as_axes(resolved: ResolvedScenario, fixed: Mapping[str, Any]) -> dict[str, Any]:
    axes: dict[str, Any] = {}
    for path, value in fixed.items():
        if path == RECOMPUTE and _has_parts(resolved):
            policy, fraction = recompute_pair(value)
            axes |= {POLICY: [policy], FRACTION: [fraction]}
        else:
            axes[path] = [value] if path.startswith("strategy.") and path != LAYERS else value
    return axes


def _has_parts(resolved: ResolvedScenario) -> bool:
    """The search varies the policy and the fraction of recomputation apart."""
    return any(axis.path in (POLICY, FRACTION) for axis in resolved.axes)


def recompute_pair(value: Any) -> tuple[str, float]:
    """Policy and fraction of one way of writing ``recompute``."""
    if is_mapping(value):
        return str(value.get("policy", "none")), float(value.get("fraction", 1.0))
    return str(value), 1.0


def outside(space: SearchSpace, fixed: Mapping[str, Any]) -> tuple[Outside, ...]:
    """Of values by path, those that no candidate has."""
    varied = {axis.path for axis in space.resolved.axes}
    found: list[Outside] = []
    for path, value in fixed.items():
        values = values_in(space, path)
        compared = [recompute_pair(one) for one in values] if path == RECOMPUTE else [_plain(one) for one in values]
        wanted = recompute_pair(value) if path == RECOMPUTE else _plain(value)
        if wanted not in compared:
            listed = len(values) > 1 or path in varied
            found.append(Outside(path, value, values, listed))
    return tuple(found)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def values_in(space: SearchSpace, path: str) -> tuple[Any, ...]:
    """Values that the candidates of a search have for a field, in their order."""
    values: dict[str, Any] = {}
    for region in space.regions:
        for value in _values_in_region(region, path):
            values.setdefault(repr(value), value)
    found = tuple(values.values())
    return tuple(sorted(found)) if path in ROW_PATHS else found


def _values_in_region(region: Region, path: str) -> list[Any]:
    if path in ROW_PATHS:
        return np.asarray(region.space.rows[ROW_PATHS[path]]).tolist()
    switches = {name: values for one in region.space.switches for name, values in one.columns.items()}
    if path in SWITCH_PATHS:
        numbers = switches[SWITCH_PATHS[path]].tolist()
        return numbers if path == "strategy.zero" else [bool(one) for one in numbers]
    if path in (RECOMPUTE, POLICY, FRACTION):
        return _recompute_values(region, switches, path)
    if path in region.sweep.paths:
        return [point[region.sweep.paths.index(path)] for point in region.sweep.written]
    if path in region.changes:
        return [region.changes[path]]
    return [region.question.plan.schedule] if path == SCHEDULE else [_stated(region.question.resolved, path)]


def _recompute_values(region: Region, switches: Mapping[str, Any], path: str) -> list[Any]:
    policies = region.space.structure["recompute_policies"]
    names = [policies[one] for one in switches["recompute"].tolist()]
    fractions = switches["recompute_fraction"].tolist()
    if path != RECOMPUTE:
        return names if path == POLICY else fractions
    pairs = zip(names, fractions, strict=True)
    return [name if part == 1.0 else {"policy": name, "fraction": part} for name, part in pairs]


def _stated(resolved: ResolvedScenario, path: str) -> Any:
    """What the scenario says, for a field that is neither a column nor varied."""
    value: Any = resolved.scenario
    for part in path.split("."):
        value = value.get(part) if is_mapping(value) else getattr(value, part, None)
    return list(value) if isinstance(value, tuple) else value
