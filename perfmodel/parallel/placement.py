"""Placements: how tensors lie on the mesh, and the collectives that follow from it.

The vocabulary is that of PyTorch's DTensor: a tensor is sharded, replicated or a partial sum over the
tensor-parallel group. Nothing about a collective is written in the operators: a matmul whose columns are
sharded needs all tokens, one whose contraction is sharded gives a partial sum, and the rest follows.

What inference cannot decide (context parallelism, experts, the sharded loss) is one registered rule per kind of
operator (``perfmodel.parallel.collective_rules``).
"""

from __future__ import annotations

import functools
import operator as arithmetic
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from perfmodel.errors import UnsupportedOperator
from perfmodel.parallel.collective_rules import (
    PARALLEL_RULES,
    CollectiveUse,
    collective_use,
    register_parallel_rule,
)
from perfmodel.units import Numeric, Tokens
from perfmodel.workload.operators import (
    EXPERTS,
    SCALAR,
    VISITS,
    Block,
    CrossEntropy,
    Elementwise,
    ElementwiseKind,
    Embedding,
    Extent,
    Matmul,
    Operator,
    OperatorGraph,
    Product,
    Scan,
    Storage,
    Tensor,
    Weight,
)


@dataclass(frozen=True, slots=True)
class Shard:
    """Each rank of the group holds a part of the logical axis ``axis`` (``sequence`` = of the tokens)."""

    axis: str


@dataclass(frozen=True, slots=True)
class Replicate:
    """Every rank of the group holds all of the tensor."""


@dataclass(frozen=True, slots=True)
class Partial:
    """Every rank holds a summand of the tensor."""


Placement: TypeAlias = Shard | Replicate | Partial

#: Which mesh axis shards which logical axis. An axis that is not named here is never sharded.
MESH_OF_AXIS: Mapping[str, str] = {
    "heads": "tp",
    "kv_heads": "tp",
    "full_kv_heads": "tp",  # key-value heads of full-attention layers that differ from those of windowed ones
    "mixer_heads": "tp",  # heads of a recurrent mixer (Mamba-2, linear attention) and the groups that share vectors
    "mixer_groups": "tp",
    "inner": "tp",  # channels of Mamba-1
    "ffn": "tp",
    "vocabulary": "tp",
    "shared_ffn": "tp",
    # The tokens of the tensor group are spread over its ranks before they are sent to the experts.
    VISITS: "tp",
    EXPERTS: "ep",
    "expert_ffn": "etp",
    "sequence": "cp",
}


#: Axes of which every rank holds at least one: with more ranks than heads the heads are copied.
COPIED_AXES = frozenset({"kv_heads", "full_kv_heads", "mixer_groups"})


def sharded_axis(features: Extent, mesh_axis: str = "tp") -> str | None:
    """The first logical axis of an extent that ``mesh_axis`` shards, or None."""
    return next((axis for product in features for axis in product if MESH_OF_AXIS.get(axis) == mesh_axis), None)


def has_tensor_axis(features: Extent) -> bool:
    """Tensor parallelism shards these features (else the tensor is replicated, or sharded over tokens)."""
    return sharded_axis(features) is not None


def is_of_experts(weight: Weight) -> bool:
    """Every routed expert has such a weight: it is sharded, reduced and stored with the experts."""
    return any(sharded_axis(side, "ep") is not None for side in (weight.rows, weight.columns))


def local_size(features: Extent, axes: Mapping[str, Any], sizes: Mapping[str, Any]) -> Numeric:
    """Features of one rank: the size of an extent after sharding.

    Parameters
    ----------
    features
        Extent of logical axes.
    axes
        Global sizes of the logical axes [elements].
    sizes
        Sizes of the mesh axes [1]: float columns (or traced operands). Missing ones are 1.

    Returns
    -------
    Numeric
        Local size [elements] on the slowest rank.

    Notes
    -----
    Key-value heads (and groups of a recurrent mixer) are at least one per rank: more ranks copy them. The vocabulary is
    padded to whole rows per rank. Others are exact fractions; ``rules.integer_rules`` says when they are not
    whole. An extent without sharded axes is as large as ever. Of the visits of a token a rank holds
    ``etp / tp``: with balanced routing as many copies arrive as were sent, and the ``etp`` ranks that share an
    expert gather theirs.
    """
    return functools.reduce(arithmetic.add, (_local_product(product, axes, sizes) for product in features))


def _local_product(product: Product, axes: Mapping[str, Any], sizes: Mapping[str, Any]) -> Any:
    """Local size of a product; a mesh axis divides the first of its logical axes only."""
    used: set[str] = set()
    factors: list[Any] = []
    for axis in product:
        mesh_axis = MESH_OF_AXIS.get(axis, "")
        if mesh_axis in sizes and mesh_axis not in used:
            used.add(mesh_axis)
            factors.append(_local_axis(axis, axes[axis], sizes[mesh_axis], sizes))
        else:
            factors.append(axes[axis])
    return functools.reduce(arithmetic.mul, factors) if factors else 1.0


def _local_axis(axis: str, size: Any, ranks: Any, sizes: Mapping[str, Any]) -> Any:
    if axis in COPIED_AXES:
        return np.maximum(size / ranks, 1.0)
    if axis == VISITS:
        return size * sizes.get("etp", 1.0) / ranks
    return np.ceil(size / ranks) if axis == "vocabulary" else size / ranks


def local_tokens(micro_batch: Numeric, sequence: Numeric, cp: Numeric) -> Tokens:
    """Tokens of one micro-batch on one rank: the context-parallel group splits each sequence."""
    return micro_batch * sequence / cp


def infer_collectives(graph: OperatorGraph) -> tuple[CollectiveUse, ...]:
    """The tensor- and context-parallel collectives of one micro-batch, block by block in operator order.

    Parameters
    ----------
    graph
        A model; blocks are taken once, whatever their count.

    Returns
    -------
    tuple
        Uses of every variant: select by ``applies`` with the plan's switch for sequence parallelism.

    Raises
    ------
    UnsupportedOperator
        A matmul has both sides sharded by tensor parallelism.

    Notes
    -----
    Between the tensor-parallel regions a tensor rests replicated, or sharded over the tokens with sequence
    parallelism. From the producer's placement to the resting one, and from there to the consumer's:
    Partial to Replicate is an all-reduce, Partial to Shard a reduce-scatter, Shard to Replicate an
    all-gather; gradients make the same steps the other way. A dense layer has 2 + 2 all-reduces, or 2
    all-gathers and 2 reduce-scatters forward and backward and 2 more all-gathers of the saved inputs
    (Korthikanti et al., arXiv 2205.05198, section 4.2). Weight gradients of replicated weights (norms)
    under sequence parallelism are reduced once per step; they are below 1e-4 of the bytes and left out.
    """
    return tuple(use for block in graph.all_blocks() for use in _block_collectives(block))


def recurrences(graph: OperatorGraph) -> tuple[str, ...]:
    """Names of the operators that carry a state along the sequence and have no rule for context parallelism."""
    found = (
        operator.name
        for block in graph.all_blocks()
        for operator in block.operators
        if isinstance(operator, Scan) and not any(kind in PARALLEL_RULES for kind in type(operator).__mro__)
    )
    return tuple(dict.fromkeys(found))


def _block_collectives(block: Block) -> list[CollectiveUse]:
    uses: list[CollectiveUse] = []
    met: set[str] = set()
    for operator in block.operators:
        if is_column_parallel(operator):
            for tensor in operator.inputs:
                if (
                    tensor in block.tensors
                    and tensor not in met
                    and not has_tensor_axis(block.tensors[tensor].features)
                ):
                    met.add(tensor)
                    uses += _gathered_input(block, operator, block.tensors[tensor])
        if output_placement(operator) == Partial():
            destination = _sum_destination(block, operator.output)
            if destination not in met:
                met.add(destination)
                uses += _reduced_output(block, operator, block.tensors[operator.output])
        rule = next((PARALLEL_RULES[kind] for kind in type(operator).__mro__ if kind in PARALLEL_RULES), None)
        if rule is not None:
            uses += rule(block, operator)
    return uses


def is_column_parallel(operator: Operator) -> bool:
    """The operator's weight is sharded by output columns, so that it needs all tokens."""
    return isinstance(operator, Matmul) and has_tensor_axis(operator.columns)


def gathered_tensors(block: Block) -> frozenset[str]:
    """Names of the tensors of a block that sequence parallelism gathers: the inputs of column-parallel matmuls."""
    return frozenset(
        name
        for operator in block.operators
        if is_column_parallel(operator)
        for name in operator.inputs
        if name in block.tensors and not has_tensor_axis(block.tensors[name].features)
    )


def output_placement(operator: Operator) -> Placement | None:
    """Placement of the output over the tensor-parallel group; None = as the inputs (token-local operators)."""
    if isinstance(operator, Embedding) and MESH_OF_AXIS.get(operator.vocabulary) == "tp":
        return Partial()
    if not isinstance(operator, Matmul):
        return None
    columns, contraction = sharded_axis(operator.columns), sharded_axis(operator.contraction)
    if columns and contraction:
        raise UnsupportedOperator(
            f"matmul {operator.name!r} has its contraction ({contraction}) and its columns ({columns}) sharded by "
            "tensor parallelism; one of them must be replicated"
        )
    return Partial() if contraction else Shard(columns) if columns else None


def _sum_destination(block: Block, tensor: str) -> str:
    """Where a partial sum can wait to be reduced: sums of partial sums are reduced once.

    A parallel block (PaLM, GPT-J) adds attention and MLP before the one reduction. Other operators than
    residual additions, and a second reader, need the reduced tensor.
    """
    readers = [operator for operator in block.operators if tensor in operator.inputs]
    if len(readers) != 1 or not isinstance(readers[0], Elementwise) or readers[0].kind != ElementwiseKind.RESIDUAL:
        return tensor
    return _sum_destination(block, readers[0].output)


def _gathered_input(block: Block, operator: Operator, tensor: Tensor) -> list[CollectiveUse]:
    """Input of column-parallel matmuls: needed for all tokens; its gradient is a partial sum."""
    make = functools.partial(
        collective_use, block, operator, tensor.name, group="tp", features=tensor.features, sequence=tensor.sequence
    )
    uses = [
        make(phase="forward", operation="all-gather", applies="sequence_parallel"),
        make(phase="backward", operation="all-reduce", applies="tensor_parallel_only"),
        make(phase="backward", operation="reduce-scatter", applies="sequence_parallel"),
    ]
    if operator.frozen:  # no weight gradient that would need the input again
        return uses
    return [*uses, make(phase="backward", operation="all-gather", applies="sequence_parallel", regather=True)]


def _reduced_output(block: Block, operator: Operator, tensor: Tensor) -> list[CollectiveUse]:
    """Partial sum: reduced to the resting placement; its gradient is needed for all tokens."""
    make = functools.partial(collective_use, block, operator, tensor.name, group="tp", features=tensor.features)
    return [
        make(phase="forward", operation="all-reduce", applies="tensor_parallel_only"),
        make(phase="forward", operation="reduce-scatter", applies="sequence_parallel"),
        make(phase="backward", operation="all-gather", applies="sequence_parallel"),
    ]


@register_parallel_rule(CrossEntropy)
def reduce_loss_statistics(block: Block, operator: Operator) -> tuple[CollectiveUse, ...]:
    """Loss over a sharded vocabulary: maximum, target logit and sum of exponentials, one fp32 number per token each.

    Megatron-LM, Shoeybi et al. (arXiv 1909.08053, section 3); backward needs nothing.
    """
    if not isinstance(operator, CrossEntropy) or MESH_OF_AXIS.get(operator.vocabulary) != "tp":
        return ()
    return (
        collective_use(
            block, operator, f"{operator.name} statistics", phase="forward", operation="all-reduce", group="tp",
            applies="always", features=SCALAR, storage=Storage.FLOAT32, count=3.0,
        ),
    )  # fmt: skip
