"""Plans: how a model is spread over devices, as a struct of arrays.

One strategy is a column of length one, a search a column of a million. Counts are int64, so that
divisibility is decided on integers; the engine casts them to float once, at the boundary of the
equations. Names are those of Megatron and torchtitan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


#: Columns that switch an overlap of the software stack off.
OVERLAPS = ("tensor_overlap", "expert_overlap", "pipeline_overlap", "data_overlap")


@dataclass(frozen=True)
class Plan:
    """Columns of one length ``n`` (shape ``(n,)``), one entry per strategy.

    Attributes
    ----------
    tp, cp, pp, ep, etp
        Tensor, context, pipeline, expert and expert-tensor parallel sizes.
    tp_rows, tp_blocks
        Rows of the grid of the tensor group, and panels of a product on it (SUMMA); 1 and 0 without a grid. The
        grid has ``tp / tp_rows`` columns.
    tp_column_first
        0 or 1: neighbouring ranks of the grid stand in one column, not in one row.
    dp_replicate, dp_shard
        Data-parallel replicas, and ranks over which state is sharded; ``dp = dp_replicate * dp_shard``
        excludes ``cp``. With ZeRO 0-2 state is sharded over all of ``dp`` and ``dp_shard = dp``.
    virtual_stages
        Model chunks per pipeline rank (1 = plain 1F1B).
    micro_batch, num_microbatches
        Sequences per micro-batch and replica; micro-batches per step and replica.
    sequence_parallel
        0 or 1: activations between tensor-parallel regions are sharded over the sequence.
    zero
        0 none, 1 optimizer state, 2 and gradients, 3 and parameters.
    recompute
        Index into ``recompute_policies``.
    recompute_fraction
        Fraction of the layers of a stage that use the policy (1.0 = all), float.
    tensor_overlap, expert_overlap, pipeline_overlap, data_overlap
        0 or 1: communication of this kind is hidden as far as the software stack can, or not at all.
    recompute_policies
        Names of recompute policies that the index points to (not a column).
    layers_per_stage
        Given layers per pipeline stage, or per chunk with virtual stages (``pp * virtual_stages`` entries, first to
        last), or None (even split; not a column: needs one ``pp``).
    embedding_and_head_as_layers
        Even split counts the embedding and the head as one layer each (not a column).
    schedule
        A name of ``perfmodel.parallel.orders.SCHEDULES`` (not a column; between ``1f1b`` and ``interleaved-1f1b``
        the column ``virtual_stages`` decides).
    synchronous_update
        Stages wait for each other before they update their weights (not a column).
    """

    tp: Counts
    cp: Counts
    pp: Counts
    dp_replicate: Counts
    dp_shard: Counts
    ep: Counts
    etp: Counts
    virtual_stages: Counts
    micro_batch: Counts
    num_microbatches: Counts
    sequence_parallel: Counts
    zero: Counts
    recompute: Counts
    recompute_fraction: NDArray[np.float64]
    tp_rows: Counts
    tp_blocks: Counts
    tp_column_first: Counts
    tensor_overlap: Counts
    expert_overlap: Counts
    pipeline_overlap: Counts
    data_overlap: Counts
    recompute_policies: tuple[str, ...] = ("none",)
    layers_per_stage: tuple[int, ...] | None = None
    embedding_and_head_as_layers: bool = False
    schedule: str = "1f1b"
    synchronous_update: bool = True

    def __len__(self) -> int:
        return len(self.tp)

    @property
    def dp(self) -> Counts:
        return self.dp_replicate * self.dp_shard

    @property
    def tp_columns(self) -> Counts:
        """Columns of the grid of the tensor group; all of its ranks without a grid."""
        return self.tp // np.maximum(self.tp_rows, 1)

    @property
    def devices(self) -> Counts:
        return self.tp * self.cp * self.pp * self.dp

    @property
    def global_batch(self) -> Counts:
        return self.dp * self.micro_batch * self.num_microbatches

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """Every column by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), np.ndarray)}

    def take(self, rows: Any) -> Plan:
        """The plans of the given row indices (or slice)."""
        return replace(self, **{name: column[rows] for name, column in self.columns().items()})

    @classmethod
    def from_columns(cls, columns: Mapping[str, Any], **structure: Any) -> Plan:
        """Broadcast numbers and arrays to columns of one length; absent columns take their neutral value.

        Parameters
        ----------
        columns
            Any subset of the column names. Neutral values: 1 for sizes, counts and overlaps, 0 for other switches,
            1.0 for ``recompute_fraction``.
        structure
            The fields that are not columns.
        """
        arrays = {name: np.atleast_1d(array) for name, array in _typed(columns).items()}
        length = max(len(array) for array in arrays.values())
        return cls(**{name: np.broadcast_to(array, (length,)) for name, array in arrays.items()}, **structure)

    @classmethod
    def of_shaped(cls, columns: Mapping[str, NDArray[Any]], **structure: Any) -> Plan:
        """Columns of several dimensions that broadcast with each other, kept as they are; absent ones are neutral."""
        dimensions = max(column.ndim for column in columns.values())
        arrays = {name: array.reshape((1,) * dimensions) if array.ndim == 0 else array
                  for name, array in _typed(columns).items()}  # fmt: skip
        return cls(**arrays, **structure)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all columns together: ``(n,)``, or that of a block of a search."""
        return np.broadcast_shapes(*(column.shape for column in self.columns().values()))


def _typed(columns: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Every column as an array of its type; absent ones as a number without dimensions."""
    ones = ("tp", "cp", "pp", "dp_replicate", "dp_shard", "ep", "etp", "virtual_stages", "micro_batch",
            "num_microbatches", "tp_rows", *OVERLAPS)  # fmt: skip
    neutral: dict[str, Any] = dict.fromkeys(ones, 1)
    neutral |= dict.fromkeys(("sequence_parallel", "zero", "recompute", "tp_blocks", "tp_column_first"), 0)
    neutral |= {"recompute_fraction": 1.0}
    return {
        name: np.asarray(value, dtype=np.float64 if name == "recompute_fraction" else np.int64)
        for name, value in (neutral | dict(columns)).items()
    }
