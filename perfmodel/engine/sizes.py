"""Local sizes of one micro-batch on one device: the shard key as numbers for the equations."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from perfmodel.parallel.placement import has_tensor_axis, local_size
from perfmodel.units import Numeric
from perfmodel.workload.operators import VISITS, Extent, GroupedMatmul, Matmul, Tensor


@dataclass(frozen=True)
class Grid:
    """The tensor group as a grid (:mod:`perfmodel.parallel.grid_rules`); plans without one have one row of all ranks.

    Attributes
    ----------
    active
        1 where products are made on the grid, else 0.
    rows, columns
        Its shape.
    blocks
        Panels of a product.
    """

    active: Numeric
    rows: Numeric
    columns: Numeric
    blocks: Numeric


@dataclass(frozen=True)
class Sizes:
    """Numbers of one shard key (columns over keys, or traced).

    Attributes
    ----------
    micro_batch
        Sequences per micro-batch.
    full_sequence
        Tokens per sequence.
    tp, cp
        Tensor and context parallel sizes.
    sequence_parallel
        0 or 1.
    axes
        Global sizes of the model's axes.
    ep, etp
        Expert and expert-tensor parallel sizes.
    routed_slowest
        Rows that the experts of the slowest rank work on, over the visits of the tokens of a rank.
    routed_mean
        Rows of the mean rank over those of the slowest: what counts for energy.
    grid
        None where no plan has a grid.
    """

    micro_batch: Numeric
    full_sequence: Numeric
    tp: Numeric
    cp: Numeric
    sequence_parallel: Numeric
    axes: Mapping[str, Numeric]
    ep: Numeric = 1.0
    etp: Numeric = 1.0
    routed_slowest: Numeric = 1.0
    routed_mean: Numeric = 1.0
    grid: Grid | None = None

    def at(self, sequence: str | None) -> Sizes:
        """The same rank over the tokens of another sequence: the axis of its length, or None for the workload's."""
        return self if sequence is None else replace(self, full_sequence=self.axes[sequence])

    @property
    def sequence(self) -> Numeric:
        """Query tokens of one sequence on this rank."""
        return self.full_sequence / self.cp

    @property
    def tokens(self) -> Numeric:
        return self.micro_batch * self.sequence

    @property
    def token_shard(self) -> Numeric:
        """Factor on the tokens of tensors without a tensor-parallel axis: 1/tp with sequence parallelism."""
        return self.sequence_parallel / self.tp + (1.0 - self.sequence_parallel)

    @functools.cached_property
    def _mesh(self) -> dict[str, Numeric]:
        return {"tp": self.tp, "cp": self.cp, "ep": self.ep, "etp": self.etp}

    @functools.cached_property
    def _axes(self) -> Mapping[str, Numeric]:
        """The axes as the slowest rank sees them."""
        if VISITS not in self.axes:
            return self.axes
        return {**self.axes, VISITS: self.axes[VISITS] * self.routed_slowest}

    def local(self, extent: Extent) -> Numeric:
        """Local feature elements of an extent (of the slowest rank)."""
        return local_size(extent, self._axes, self._mesh)

    def exchanged(self, extent: Extent) -> Numeric:
        """Local elements of an extent once the context group has exchanged tokens for heads."""
        return local_size(extent, self._axes, {"tp": self.tp * self.cp})

    def heads(self, extent: Extent) -> Numeric:
        """Local elements of an extent of heads: those of a column of the grid."""
        return self.local(extent) if self.grid is None else local_size(extent, self._axes, {"tp": self.grid.columns})

    @property
    def queries(self) -> Numeric:
        """Tokens of one sequence whose attention this rank computes: those of its row of the grid."""
        return self.sequence if self.grid is None else self.sequence / self.grid.rows

    def whole(self, extent: Extent) -> Numeric:
        """Elements of an extent over all ranks."""
        return local_size(extent, self.axes, {})

    def rows(self, operator: Matmul) -> Numeric:
        """Rows of a linear layer on this rank.

        One that tensor parallelism shards on neither side (a router, the projection to a latent) works on the tokens
        where they lie: its share of them under sequence parallelism, all of them on every rank without it.
        """
        sharded = has_tensor_axis(operator.columns) or has_tensor_axis(operator.contraction)
        return self.tokens if sharded else self.tokens * self.token_shard

    def elements(self, features: Extent, *, per_score: bool) -> Numeric:
        """Local elements of an activation with these features."""
        tokens = self.tokens if has_tensor_axis(features) else self.tokens * self.token_shard
        count = tokens * self.local(features)
        return count * self.full_sequence if per_score else count

    def gathered_elements(self, tensor: Tensor) -> Numeric:
        """Local elements of a tensor that the ranks of the tensor group have gathered."""
        here = self.at(tensor.sequence)
        gathered = here.tokens * here.local(tensor.features)
        # On a grid nothing is gathered.
        return (
            gathered if self.grid is None else np.where(self.grid.active > 0.0, self.tensor_elements(tensor), gathered)
        )

    def tensor_elements(self, tensor: Tensor) -> Numeric:
        return self.at(tensor.sequence).elements(tensor.features, per_score=tensor.per_score)


def panels(
    sizes: Sizes, grid: Grid, operator: Matmul | GroupedMatmul, columns: Numeric, contraction: Numeric
) -> tuple[Numeric, Numeric, Numeric, Numeric]:
    """Products of a matmul on a grid: how many, and the rows, columns and contraction of each.

    The whole contraction is cut into blocks; each adds to the same block of the result. Backward is a batch of as many
    products: panels of the data gradient and of the weight gradient. ``columns`` and ``contraction`` are those of plans
    without a grid.
    """
    on_grid = grid.active > 0.0
    return (
        np.where(on_grid, grid.blocks, 1.0),
        sizes.tokens / grid.rows,
        np.where(on_grid, sizes.whole(operator.columns) / grid.columns, columns),
        np.where(on_grid, sizes.whole(operator.contraction) / grid.blocks, contraction),
    )
