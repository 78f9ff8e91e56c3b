"""From a strategy (one scenario, or a table of a search) to plan columns: derive what is not stated.

``dp`` follows from the devices, ``num_microbatches`` from the global batch, the sharding of state from the
ZeRO stage. A stated number that contradicts the others is an error; numbers that merely do not divide make a
plan that ``rules.integer_rules`` rejects with a reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from perfmodel.errors import SpecError, UsageError, nearest
from perfmodel.parallel.plan import OVERLAPS, Counts, Plan


class Number(Protocol):
    """A number of a file, in SI."""

    @property
    def value(self) -> Any: ...


class PipelineChoice(Protocol):
    """The ``pipeline:`` block of a strategy."""

    @property
    def schedule_name(self) -> str: ...
    @property
    def virtual_stages(self) -> int: ...
    @property
    def embedding_and_head_as_layers(self) -> Any: ...
    @property
    def synchronous_update(self) -> Any: ...


class RecomputeChoice(Protocol):
    """The ``recompute:`` block: a policy, and the layers or the fraction of a stage that use it."""

    @property
    def policy(self) -> str: ...
    @property
    def blocks(self) -> int | None: ...
    @property
    def fraction(self) -> Number | None: ...


class GridChoice(Protocol):
    """The ``tp_grid:`` block."""

    @property
    def rows(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def neighbours(self) -> str: ...


class OverlapChoice(Protocol):
    """The ``overlap:`` block: switches."""

    @property
    def tensor(self) -> Any: ...
    @property
    def expert(self) -> Any: ...
    @property
    def pipeline(self) -> Any: ...
    @property
    def data(self) -> Any: ...


class Strategy(Protocol):
    """The ``strategy:`` block of a scenario, as ``perfmodel.specs.strategy`` reads it; None = not stated."""

    @property
    def pp(self) -> int: ...
    @property
    def sequence_parallel(self) -> Any: ...
    @property
    def recompute(self) -> RecomputeChoice: ...
    @property
    def pipeline(self) -> PipelineChoice: ...
    @property
    def tp_grid(self) -> GridChoice | None: ...
    @property
    def overlap(self) -> OverlapChoice: ...
    @property
    def stage_layers(self) -> tuple[int, ...] | None: ...


#: Attributes of a strategy that are plan columns of the same name; the others have a default or are derived.
_COLUMNS = ("tp", "cp", "pp", "ep", "etp", "micro_batch", "zero")
_OPTIONAL_COLUMNS = ("dp", "dp_replicate", "dp_shard", "num_microbatches")


def plan_from_strategy(
    strategy: Strategy,
    *,
    layers: int,
    global_batch: int,
    devices: int | None,
    recompute_policies: Sequence[str] = ("none",),
) -> Plan:
    """The one-row plan of a strategy.

    Parameters
    ----------
    strategy
        Parallel sizes and switches: a ``StrategySpec``.
    layers
        Repeating layers of the model (``recompute.blocks`` counts layers of a stage).
    global_batch
        Sequences per step.
    devices
        Devices to use, or None (then ``dp`` is stated, or 1).
    recompute_policies
        Names that ``strategy.recompute`` may take, in index order.

    Raises
    ------
    SpecError
        ``dp``, ``dp_replicate * dp_shard`` and the devices contradict each other; unknown policy.
    """
    pipeline = strategy.pipeline
    return plan_from_table(
        _stated_columns(strategy, layers, recompute_policies),
        global_batch=global_batch,
        devices=devices,
        recompute_policies=tuple(recompute_policies),
        layers_per_stage=strategy.stage_layers,
        embedding_and_head_as_layers=bool(pipeline.embedding_and_head_as_layers),
        schedule=pipeline.schedule_name,
        synchronous_update=bool(pipeline.synchronous_update),
    )


def _stated_columns(strategy: Strategy, layers: int, policies: Sequence[str]) -> dict[str, Any]:
    columns: dict[str, Any] = {name: getattr(strategy, name) for name in _COLUMNS}
    columns |= {name: getattr(strategy, name) for name in _OPTIONAL_COLUMNS if getattr(strategy, name) is not None}
    grid = strategy.tp_grid
    if grid is not None:
        columns |= {"tp_rows": grid.rows, "tp_blocks": grid.blocks, "tp_column_first": int(grid.neighbours == "column")}
    columns |= {name: int(getattr(strategy.overlap, name.removesuffix("_overlap"))) for name in OVERLAPS}
    return columns | {
        "sequence_parallel": int(strategy.sequence_parallel),
        "virtual_stages": strategy.pipeline.virtual_stages,
        "recompute": policy_index(strategy.recompute.policy, policies),
        "recompute_fraction": recompute_fraction(strategy.recompute, strategy.pp, layers),
    }


def recompute_fraction(recompute: RecomputeChoice, stages: int, layers: int) -> float:
    """Fraction of the layers of a stage that use the recompute policy: ``blocks`` of an even stage, or as stated.

    Raises
    ------
    SpecError
        A stage has fewer layers than ``blocks``.
    """
    if recompute.blocks is not None:
        largest = math.ceil(layers / stages)
        if recompute.blocks > largest:
            raise SpecError(f"strategy.recompute.blocks = {recompute.blocks}: a stage has at most {largest} layers")
        return min(1.0, recompute.blocks * stages / layers)
    return 1.0 if recompute.fraction is None else float(recompute.fraction.value)


def policy_index(name: str, policies: Sequence[str]) -> int:
    """Index of a recompute policy.

    Raises
    ------
    SpecError
        The software stack has no such policy.
    """
    if name not in policies:
        raise SpecError(f"strategy.recompute: {name!r} is not one of {', '.join(policies)}{nearest(name, policies)}")
    return list(policies).index(name)


def plan_from_table(
    columns: Mapping[str, Any], *, global_batch: Any = None, devices: Any = None, **structure: Any
) -> Plan:
    """Plans from columns: whole numbers or arrays that broadcast; what is absent is derived.

    Parameters
    ----------
    columns
        Columns of :class:`Plan`, and ``dp``. Absent ``dp`` = devices / (tp*cp*pp); absent
        ``num_microbatches`` = global_batch / (dp*micro_batch); absent ``dp_shard`` = dp / dp_replicate.
    global_batch, devices
        Sequences per step and devices to use; numbers, columns, or None.
    structure
        Fields of :class:`Plan` that are not columns.

    Raises
    ------
    UsageError
        Unknown column.
    SpecError
        Columns that contradict each other; the message names the first such row's numbers.
    """
    known = {*Plan.from_columns({}).columns(), "dp"}
    unknown = [name for name in columns if name not in known]
    if unknown:
        raise UsageError(
            f"a plan has no column {unknown[0]!r}{nearest(unknown[0], known)}; columns: {', '.join(sorted(known))}"
        )
    values: dict[str, Any] = {name: _column(name, value) for name, value in columns.items()}
    model = _get(values, "tp") * _get(values, "cp") * _get(values, "pp")
    dp = _data_parallel(values, model, None if devices is None else _column("devices", devices))
    values |= _sharding(values, dp)
    values.pop("dp", None)
    if "tp_blocks" in values:  # activations lie on both axes of a grid
        given = values.get("sequence_parallel", np.zeros(1, dtype=np.int64))
        values["sequence_parallel"] = np.where(values["tp_blocks"] > 0, 1, given)
    if "num_microbatches" not in values and global_batch is not None:
        replica = np.maximum(dp * _get(values, "micro_batch"), 1)
        values["num_microbatches"] = np.maximum(_column("global_batch", global_batch) // replica, 1)
    return Plan.from_columns(values, **structure)


def _column(name: str, value: Any) -> NDArray[Any]:
    array = np.atleast_1d(np.asarray(value))
    if name == "recompute_fraction":
        return array.astype(np.float64)
    if array.dtype.kind not in "iub" and not (array.dtype.kind == "f" and bool(np.all(array == np.floor(array)))):
        raise UsageError(f"column {name!r} must hold whole numbers, not {array[0]!r}")
    return array.astype(np.int64)


def _get(values: Mapping[str, Counts], name: str) -> Counts:
    return values.get(name, np.ones(1, dtype=np.int64))


def _data_parallel(values: Mapping[str, Counts], model: Counts, devices: Counts | None) -> Counts:
    """``dp`` as stated or derived, checked against everything that is stated."""
    stated = values.get("dp")
    if stated is None and "dp_replicate" in values and "dp_shard" in values:
        stated = values["dp_replicate"] * values["dp_shard"]
    if devices is None:
        return stated if stated is not None else _get(values, "dp_replicate") * _get(values, "dp_shard")
    derived = np.maximum(devices // np.maximum(model, 1), 1)
    if stated is not None:
        # Only whole results can contradict; devices that do not divide are a rule's business.
        whole = devices == derived * model
        row = _first(whole & (stated != derived))
        if row is not None:
            d, m, s, w = (_at(one, row) for one in (devices, model, stated, derived))
            raise SpecError(
                f"strategy.dp = {s} contradicts {d} devices / (tp*cp*pp = {m}) = {w}; leave dp out: it is derived"
            )
        return np.where(whole, derived, stated)
    return derived


def _sharding(values: Mapping[str, Counts], dp: Counts) -> dict[str, Counts]:
    """``dp_replicate`` and ``dp_shard``: state below ZeRO 3 is sharded over all of ``dp`` (or over nothing)."""
    zero = values.get("zero", np.zeros(1, dtype=np.int64))
    if "dp_shard" not in values and "dp_replicate" not in values:
        return {"dp_shard": dp, "dp_replicate": np.ones_like(dp)}
    if "dp_shard" in values:
        shard = values["dp_shard"]
        replicate = values.get("dp_replicate", dp // np.maximum(shard, 1))
    else:
        replicate = values["dp_replicate"]
        shard = dp // np.maximum(replicate, 1)
    row = _first(replicate * shard != dp)
    if row is not None:
        r, s, d = (_at(one, row) for one in (replicate, shard, dp))
        stated = {name: value for name, value in (("dp_replicate", r), ("dp_shard", s)) if name in values}
        if len(stated) == 1:
            name, value = next(iter(stated.items()))
            raise SpecError(f"strategy.{name} = {value} does not divide dp = {d}")
        raise SpecError(f"strategy: dp_replicate = {r} times dp_shard = {s} is not dp = {d}")
    # Without ZeRO nothing is sharded and the two names mean the same group.
    plain = zero == 0
    return {"dp_shard": np.where(plain, dp, shard), "dp_replicate": np.where(plain, 1, replicate)}


def _first(mask: NDArray[np.bool_]) -> int | None:
    rows = np.flatnonzero(mask)
    return int(rows[0]) if len(rows) else None


def _at(column: Counts, row: int) -> int:
    return int(column[row if len(column) > 1 else 0])
