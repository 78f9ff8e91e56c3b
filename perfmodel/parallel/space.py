"""The space of plans of a search: a product of axes, walked in blocks of whole columns.

Sizes that rules tie to each other (``tp``, ``pp``, ``micro_batch`` ...) are *rows*: their combinations are enumerated
and most are dropped. Switches (``zero``, ``recompute``, overlaps ...) go with every row: they are axes of their own,
and arrays over plans have one dimension for each of them, the rows being the last. What does not depend on a switch is
then computed once for all of its values, by the rules of broadcasting and without a line of code about it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.parallel.plan import Counts, Plan

#: Rows in the order in which they vary, the slowest first: those that operators see stay together.
ROW_AXES = (
    "devices", "tp", "tp_rows", "tp_blocks", "tp_column_first", "cp", "ep", "etp", "micro_batch", "pp",
    "virtual_stages", "dp_replicate",
)  # fmt: skip
#: Columns that go with every row.
SWITCH_COLUMNS = (
    "recompute", "recompute_fraction", "zero", "sequence_parallel", "tensor_overlap", "expert_overlap",
    "pipeline_overlap", "data_overlap",
)  # fmt: skip
#: The neutral value of rows that a space does not name.
_NEUTRAL = {"tp_blocks": 0, "tp_column_first": 0}


@dataclass(frozen=True)
class Switch:
    """One axis of a space that goes with every row: columns that vary together."""

    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True)
class PlanSpace:
    """A product of plan columns.

    Attributes
    ----------
    rows
        Values by row axis (:data:`ROW_AXES`); an absent axis has its neutral value.
    switches
        Axes that go with every row.
    global_batch
        Sequences per step.
    structure
        Fields of :class:`~perfmodel.parallel.plan.Plan` that are not columns.

    Notes
    -----
    Candidate ``i`` is row ``i // switch_count`` with the switches ``i % switch_count``, both numbered with the last
    axis varying fastest. The order is the order of ties, so that a search always gives the same answer.
    """

    rows: Mapping[str, Counts]
    switches: tuple[Switch, ...]
    global_batch: int
    structure: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @functools.cached_property
    def row_axes(self) -> tuple[str, ...]:
        """Axes with more than nothing to choose from, slowest first."""
        return tuple(name for name in ROW_AXES if name in self.rows)

    @property
    def row_count(self) -> int:
        """Combinations of the rows, possible or not."""
        return math.prod(len(self.rows[name]) for name in self.row_axes)

    @property
    def switch_shape(self) -> tuple[int, ...]:
        """Length of every switch axis."""
        return tuple(len(one) for one in self.switches)

    @property
    def switch_count(self) -> int:
        """Combinations of the switches."""
        return math.prod(self.switch_shape)

    def __len__(self) -> int:
        return self.row_count * self.switch_count

    def row_columns(self, index: NDArray[np.int64]) -> dict[str, Counts]:
        """Columns of the given rows; ``dp_shard`` and ``num_microbatches`` follow (rounded down where not whole)."""
        columns: dict[str, Counts] = {}
        rest = index
        for name in reversed(self.row_axes):
            values = self.rows[name]
            rest, digit = np.divmod(rest, len(values))
            columns[name] = values[digit]
        one = np.ones_like(index)
        for name in ROW_AXES:
            columns.setdefault(name, one * _NEUTRAL.get(name, 1))
        dp = columns["devices"] // (columns["tp"] * columns["cp"] * columns["pp"])
        columns["dp_shard"] = dp // columns["dp_replicate"]
        columns["num_microbatches"] = self.global_batch // np.maximum(dp * columns["micro_batch"], 1)
        return columns

    def plan_of_rows(self, columns: Mapping[str, Counts], switches: Mapping[str, Any] | None = None) -> Plan:
        """A plan per row (columns of one length), with one value of every switch."""
        chosen = self._first_switches() | dict(switches or {})
        return self._plan({name: column for name, column in columns.items() if name != "devices"} | chosen)

    def _first_switches(self) -> dict[str, Any]:
        return {name: values[0] for one in self.switches for name, values in one.columns.items()}

    def _plan(self, columns: Mapping[str, Any]) -> Plan:
        return Plan.from_columns(columns, **self.structure)

    def block(self, columns: Mapping[str, Counts]) -> Plan:
        """All candidates of some rows: columns of shape ``(*switch_shape, rows)``, 1 where constant."""
        dimensions = len(self.switches) + 1
        shaped = {name: column.reshape((1,) * (dimensions - 1) + (-1,)) for name, column in columns.items()}
        for position, one in enumerate(self.switches):
            shape = [1] * dimensions
            shape[position] = len(one)
            shaped |= {name: values.reshape(shape) for name, values in one.columns.items()}
        return Plan.of_shaped({name: column for name, column in shaped.items() if name != "devices"}, **self.structure)

    def switch_values(self, switch: int) -> dict[str, Any]:
        """Value of every switch column of one combination of switches."""
        digits = np.unravel_index(switch, self.switch_shape) if self.switches else ()
        return {
            name: values[digit]
            for one, digit in zip(self.switches, digits, strict=True)
            for name, values in one.columns.items()
        }

    def plans(self, index: Sequence[int] | NDArray[np.int64]) -> Plan:
        """The plans of the given candidates, one per entry."""
        rows, switch = np.divmod(np.asarray(index, dtype=np.int64), self.switch_count)
        columns: dict[str, Any] = {k: v for k, v in self.row_columns(rows).items() if k != "devices"}
        digits = np.unravel_index(switch, self.switch_shape) if self.switches else ()
        for one, digit in zip(self.switches, digits, strict=True):
            columns |= {name: values[digit] for name, values in one.columns.items()}
        return self._plan(columns)


def chunks(count: int, length: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most ``length`` that cover ``range(count)``."""
    for start in range(0, count, length):
        yield start, min(start + length, count)
