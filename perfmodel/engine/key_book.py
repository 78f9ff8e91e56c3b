"""Costs of the shard keys of many plans: every distinct key is costed once, on every hardware point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.composition import Interned, cost_plan_keys, key_columns
from perfmodel.engine.problem import Problem
from perfmodel.engine.section_costs import KeyCosts, SectionCosts, Sections
from perfmodel.machine.columns import with_columns
from perfmodel.parallel.plan import Plan

#: Keys times hardware points that are costed at a time: the arrays of all kernels together stay small.
CHUNK_KEYS = 8192


@dataclass(frozen=True)
class HardwarePoints:
    """Numbers of the machine that vary, by spec path: columns of length h that belong together."""

    columns: Mapping[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 1

    def spread(self, problem: Problem, shape: tuple[int, ...]) -> Problem:
        """The problem with these numbers as columns of a shape."""
        if not self.columns:
            return problem
        shaped = {path: values.reshape(shape) for path, values in self.columns.items()}
        return replace(problem, machine=with_columns(problem.machine, shaped))

    def taken(self, problem: Problem, points: NDArray[np.int64]) -> Problem:
        """The problem on the given points, one per row of a column of keys."""
        if not self.columns:
            return problem
        chosen = {path: values[points] for path, values in self.columns.items()}
        return replace(problem, machine=with_columns(problem.machine, chosen))


@dataclass(frozen=True)
class KeyBook:
    """Costs of shard keys, and where the key of a plan is.

    Attributes
    ----------
    values
        Distinct values of every column of the keys, sorted.
    codes
        Codes of the keys, sorted: numbers whose digits are the positions among the values.
    costs
        Sections of the keys on the first hardware point, then those on the second, and so on.
    """

    order: tuple[str, ...]
    values: tuple[NDArray[np.int64], ...]
    codes: NDArray[np.int64]
    points: int
    costs: KeyCosts

    @classmethod
    def of(
        cls, problem: Problem, plans: Sequence[Plan], points: HardwarePoints, other: KeyBook | None = None
    ) -> KeyBook:
        """Cost the keys of plans (tables of one column length each, alike but for their columns).

        ``other``: a book of the same problem with another order of the groups. A key says where the tensor and context
        groups lie: where all keys are the same, so are their costs. Groups of experts depend on more of the order.
        """
        columns = [key_columns(plan, problem.order, experts=problem.has_experts) for plan in plans]
        joined = [np.concatenate(one) for one in zip(*columns, strict=True)]
        values = tuple(np.unique(one) for one in joined)
        codes, first = np.unique(_codes(values, joined), return_index=True)
        if other is not None and not problem.has_experts and other.has_keys(values, codes):
            return replace(other, order=problem.order)
        representatives = _rows(plans, first)
        return cls(problem.order, values, codes, len(points), _costed(problem, representatives, points))

    def has_keys(self, values: Sequence[NDArray[np.int64]], codes: NDArray[np.int64]) -> bool:
        """These keys are those of the book."""
        columns = zip((*self.values, self.codes), (*values, codes), strict=True)
        return all(np.array_equal(own, one) for own, one in columns)

    def find(self, plan: Plan, *, experts: bool) -> NDArray[np.int64]:
        """Position of the key of every plan on every hardware point: shape ``(points, n)``."""
        codes = _codes(self.values, key_columns(plan, self.order, experts=experts))
        position = np.searchsorted(self.codes, codes)
        return position + len(self.codes) * np.arange(self.points, dtype=np.int64)[:, None]


def _codes(values: Sequence[NDArray[np.int64]], columns: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    code = np.zeros(max(len(column) for column in columns), dtype=np.int64)
    for known, column in zip(values, columns, strict=True):
        code = code * len(known) + np.searchsorted(known, column)
    return code


def _rows(plans: Sequence[Plan], rows: NDArray[np.int64]) -> Plan:
    """Plans of a list of tables by their position in all of them together."""
    ends = np.cumsum([len(plan) for plan in plans])
    table = np.searchsorted(ends, rows, side="right")
    parts = [plan.take(rows[table == number] - (ends[number] - len(plan))) for number, plan in enumerate(plans)]
    back = np.argsort(np.concatenate([np.flatnonzero(table == number) for number in range(len(plans))]))
    joined = {name: np.concatenate([part.columns()[name] for part in parts])[back] for name in plans[0].columns()}
    return replace(plans[0], **joined)


def _costed(problem: Problem, plan: Plan, points: HardwarePoints) -> KeyCosts:
    """Sections of all keys on all points, costed in chunks."""
    count = len(plan) * len(points)
    parts: list[KeyCosts] = []
    for start in range(0, count, CHUNK_KEYS):
        every = np.arange(start, min(start + CHUNK_KEYS, count), dtype=np.int64)
        point, key = np.divmod(every, len(plan))
        local = points.taken(problem, point)
        parts.append(cost_plan_keys(local, plan.take(key), Interned(np.arange(len(key)), np.arange(len(key)))))
    lengths = [min(CHUNK_KEYS, count - start) for start in range(0, count, CHUNK_KEYS)]
    policies = range(len(parts[0].sections))
    sections = tuple(_joined([part.sections[number] for part in parts], lengths) for number in policies)
    known: dict[int, Any] = {}  # policies share most of their columns
    compact = tuple(_compact(one, len(plan), len(points), known) for one in sections)
    return KeyCosts(_shared(compact), (), (), (), {}, len(points), len(plan))


def _compact(sections: Sections, keys: int, points: int, known: dict[int, Any]) -> Sections:
    """The sections with columns as short as their content: most of memory and energy is the same on all points."""

    def short(column: Any) -> Any:
        if id(column) not in known:
            known[id(column)] = _shortest(column, keys, points)
        return known[id(column)]

    def section(costs: SectionCosts) -> SectionCosts:
        return SectionCosts(**{item.name: short(getattr(costs, item.name)) for item in fields(SectionCosts)})

    leading = None if sections.leading is None else section(sections.leading)
    return Sections(section(sections.embedding), section(sections.layer), section(sections.head), leading)


def _shortest(column: Any, keys: int, points: int) -> Any:
    flat = np.reshape(column, -1)
    if np.all(flat == flat[0]):
        return float(flat[0])
    by_point = flat.reshape(points, keys)
    return by_point[0].copy() if points > 1 and np.all(by_point == by_point[0]) else column


def _joined(parts: Sequence[Sections], lengths: Sequence[int]) -> Sections:
    if len(parts) == 1:
        return parts[0]
    leading = None if parts[0].leading is None else _section([part.leading for part in parts], lengths)
    return Sections(
        _section([part.embedding for part in parts], lengths),
        _section([part.layer for part in parts], lengths),
        _section([part.head for part in parts], lengths),
        leading,
    )


def _section(parts: Iterable[SectionCosts | None], lengths: Sequence[int]) -> SectionCosts:
    several = [part for part in parts if part is not None]

    def column(name: str) -> Any:
        values = [getattr(part, name) for part in several]
        if all(np.size(value) == 1 for value in values):
            return values[0]
        return np.concatenate([np.broadcast_to(v, (n,)) for v, n in zip(values, lengths, strict=True)])

    return SectionCosts(**{item.name: column(item.name) for item in fields(SectionCosts)})


def _shared(sections: tuple[Sections, ...]) -> tuple[Sections, ...]:
    """The same object for the ends of every policy, which recompute nothing."""
    first = sections[0]
    return tuple(replace(one, embedding=first.embedding, head=first.head) for one in sections)
