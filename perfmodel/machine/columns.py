"""Hardware sweeps: a machine with some of its stated numbers as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from perfmodel.errors import UsageError, nearest
from perfmodel.machine.machine import Machine
from perfmodel.provenance import Basis, Sourced
from perfmodel.units import Numeric

#: Source of numbers that nobody can change: seconds in an hour.
_DEFINITION = "definition"


def machine_path(path: str) -> str:
    """The path by which a machine knows a number of a scenario."""
    return path.removeprefix("cluster.") if path.startswith("cluster.accelerator.") else path


def swept_paths(machine: Machine) -> tuple[str, ...]:
    """Spec paths that :func:`with_columns` accepts, sorted."""
    stated = {number.path for number in machine.provenance.values()}
    factors = {factor.path for group in machine.derived.values() for factor in group}
    return tuple(sorted(stated | factors))


def stated_numbers(machine: Machine) -> dict[str, Sourced]:
    """Every number that a spec states and the machine uses, by path, in the unit in which the spec states it.

    A leaf that is a product of stated numbers (a bandwidth over its oversubscription) is not among them, its factors
    are: what :func:`with_columns` takes for a path is a value of the number here.
    """
    factors = {factor.path: factor.number for group in machine.derived.values() for factor in group}
    direct = {number.path: number for leaf, number in machine.provenance.items() if leaf not in machine.derived}
    found = direct | factors
    return {path: found[path] for path in sorted(found) if path and found[path].source != _DEFINITION}


def moved_one_by_one(values: Mapping[str, Sequence[float]], at_rest: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Columns in which one number alone differs from rest in each row: first all values of the first number, and so on.

    Parameters
    ----------
    values
        By path, what a number is moved to.
    at_rest
        By path, its value in all other rows; the last row has every number at rest.
    """
    rows = sum(len(moved) for moved in values.values()) + 1
    columns: dict[str, np.ndarray] = {}
    start = 0
    for path, moved in values.items():
        columns[path] = np.full(rows, float(at_rest[path]))
        columns[path][start : start + len(moved)] = moved
        start += len(moved)
    return columns


def with_columns(machine: Machine, columns: Mapping[str, Numeric], source: str = "scenario") -> Machine:
    """The same machine with numbers of its specs replaced by columns (or by other numbers).

    Parameters
    ----------
    machine
        From :func:`perfmodel.machine.resolve.resolve`.
    columns
        Spec path, such as ``accelerator.memory.bandwidth``, to values in SI. Every leaf that came from
        the path is replaced, and every leaf derived from it (a tier bandwidth over its oversubscription,
        an idle power as a fraction of the TDP) is scaled. The name of a leaf itself
        (``matmul.bf16.plateau``) replaces that leaf alone, wherever its number came from.
    source
        Recorded as the source of the new numbers; their basis is ``user``.

    Raises
    ------
    UsageError
        No number of the machine came from a path.
    """
    known = swept_paths(machine)
    for path in columns:
        if path not in known and path not in machine.provenance:
            raise UsageError(f"no number of this machine comes from {path!r}{nearest(path, known)}")
    provenance = dict(machine.provenance)
    for leaf, number in machine.provenance.items():
        changed = _change(machine, leaf, number, columns)
        if changed is not None:
            provenance[leaf] = replace(number, value=changed, source=source, basis=Basis.USER, low=None, high=None)
    return replace(_fill(machine, "", provenance), provenance=provenance)


def _change(machine: Machine, leaf: str, number: Sourced, columns: Mapping[str, Numeric]) -> Numeric | None:
    """The new value of a leaf, or None when no column concerns it."""
    if leaf in columns:
        return columns[leaf]
    factors = [factor for factor in machine.derived.get(leaf, ()) if factor.path in columns]
    if factors:
        value = number.value
        for factor in factors:
            value = value * (np.asarray(columns[factor.path]) / factor.value) ** factor.power
        return value
    return columns.get(number.path)


def _fill(group: Any, prefix: str, provenance: Mapping[str, Sourced]) -> Any:
    """Replace the leaves of a parameter tree by the values of their provenance."""
    changes: dict[str, Any] = {}
    for item in fields(group):
        value, path = getattr(group, item.name), f"{prefix}{item.name}"
        if item.name in ("provenance", "derived"):
            continue
        if isinstance(value, Mapping):
            changes[item.name] = {key: _fill_one(one, f"{path}.{key}", provenance) for key, one in value.items()}
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            changes[item.name] = tuple(_fill(one, f"{path}.{one.name}.", provenance) for one in value)
        else:
            changes[item.name] = _fill_one(value, path, provenance)
    return replace(group, **changes)


def _fill_one(value: Any, path: str, provenance: Mapping[str, Sourced]) -> Any:
    if is_dataclass(value):
        return _fill(value, f"{path}.", provenance)
    return provenance[path].value if path in provenance else value
