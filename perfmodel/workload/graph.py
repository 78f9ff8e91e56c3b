"""Graphs of operators over named axes: extents, tensors, weights, blocks; without machine, plan or format sizes.

An *axis* is a name with a size (``heads``: 128). An *extent* is a sum of products of axes, so that a
fused query-key-value projection has the columns ``heads*head_dim + 2*kv_heads*head_dim``. Every
activation tensor has the token axes (``batch``, ``sequence``) and a feature extent. Which mesh axis
shards which logical axis is decided by the placement (``perfmodel.parallel.placement``), never here.

Activations kept for backward: every operator names the tensors it ``saves``. The memory of a block is the
sum over *distinct* saved tensors. With recomputation, a tensor produced by a recomputed operator is not
kept, but one that a recomputed operator reads and another operator produces is. A tensor that only
``Matmul`` operators save may be kept in their compute format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import networkx as nx

#: A product of axes, for example ``("heads", "head_dim")``.
Product: TypeAlias = tuple[str, ...]
#: A sum of products. ``((),)`` is one element.
Extent: TypeAlias = tuple[Product, ...]

SCALAR: Extent = ((),)


def extent(*axes: str, times: int = 1) -> Extent:
    """One product of axes, repeated ``times``: ``extent("ffn", times=2)`` is a fused gate and up."""
    return (tuple(axes),) * times


class Storage(StrEnum):
    """Which number format of the numerics spec a tensor is kept in."""

    ACTIVATION = "activations"
    FLOAT32 = "fp32"
    MASK = "mask"
    WEIGHT = "weights"
    DISPATCH = "dispatch"  # tokens, or gradients, on the wire to experts


@dataclass(frozen=True)
class Tensor:
    """An activation: tokens x features.

    Attributes
    ----------
    name
        Unique inside the graph's block, for example ``attention.output``.
    features
        Feature extent per token.
    storage
        Format role of the tensor when it is saved.
    per_score
        True for a tensor with one element per (query, key) pair and head: only unfused attention has
        such tensors; their features are the heads.
    part_of
        Name of the tensor that this one is a slice of (the keys inside a fused projection): it shares
        its storage and its producer.
    sequence
        Axis of the tokens of one sequence where they are not those of the workload (see :class:`Operator`).
    shared
        Layers only read it: it is kept once, where it is made, and not by every layer (the output of an encoder).
    """

    name: str
    features: Extent
    storage: Storage = Storage.ACTIVATION
    per_score: bool = False
    part_of: str | None = None
    sequence: str | None = None
    shared: bool = False


@dataclass(frozen=True)
class Weight:
    """A weight: ``size(rows) * size(columns)`` parameters.

    ``rows`` is the contracted (input) side. ``tied_to`` names a weight of another operator that is the
    same storage (tied embeddings): it is counted once, but moved and computed with where it is used.
    A ``frozen`` weight is not trained: it has no gradient and no optimizer state.
    """

    name: str
    rows: Extent
    columns: Extent
    tied_to: str | None = None
    frozen: bool = False


@dataclass(frozen=True, kw_only=True)
class Operator:
    """Base of all operators.

    Attributes
    ----------
    name
        Dotted path, for example ``attention.query_key_value``; unique inside its block.
    inputs, output
        Names of tensors.
    weights
        Parameters that the operator owns.
    saves
        Names of tensors that backward needs from this operator; a tensor saved twice is stored once.
    weight_bits
        Bits per stored and moved weight when a transform changed them; None = the numerics spec.
    sequence
        Name of the axis of the tokens that the operator runs over, per sequence of the batch, where they are
        not the tokens of the workload: the positions of an audio encoder, the one token that a pooler reads.
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    weights: tuple[Weight, ...] = ()
    saves: tuple[str, ...] = ()
    weight_bits: float | None = None
    sequence: str | None = None

    @property
    def frozen(self) -> bool:
        """The operator has weights, and none of them is trained."""
        return bool(self.weights) and all(weight.frozen for weight in self.weights)


@dataclass(frozen=True, eq=False)
class Block:
    """A sequence of operators in topological order that repeats ``count`` times.

    ``name`` is the prefix of the operators' paths in results (``block``, ``embedding``, ``head``).
    ``inputs`` names the tensors that come from outside: the previous block, or the tokens. ``output`` is the
    tensor of the last operator. ``leading``: its layers stand at the start of the model only. Compared and hashed
    by identity.
    """

    name: str
    operators: tuple[Operator, ...]
    tensors: Mapping[str, Tensor]
    count: int = 1
    inputs: tuple[str, ...] = ()
    leading: bool = False

    def producers(self) -> dict[str, Operator]:
        """The operator that makes each tensor; a slice has the producer of the tensor it is part of."""
        made = {operator.output: operator for operator in self.operators}
        slices = {tensor.name: made[tensor.part_of] for tensor in self.tensors.values() if tensor.part_of in made}
        return made | slices

    def saved(self) -> dict[str, tuple[Operator, ...]]:
        """Tensors kept for backward, without recomputation, and the operators that need each."""
        savers: dict[str, tuple[Operator, ...]] = {}
        for operator in self.operators:
            for name in operator.saves:
                savers[name] = (*savers.get(name, ()), operator)
        return savers

    def digraph(self) -> nx.DiGraph:
        """Operators as nodes (attribute ``operator``), tensors as edges (attribute ``tensors``)."""
        import networkx as nx  # heavy: only when somebody wants to look at the graph

        graph = nx.DiGraph(name=self.name)
        graph.add_nodes_from((operator.name, {"operator": operator}) for operator in self.operators)
        producers = self.producers()
        for operator in self.operators:
            for name in operator.inputs:
                if name in producers:
                    edge = (producers[name].name, operator.name)
                    tensors = graph.edges[edge]["tensors"] if graph.has_edge(*edge) else ()
                    graph.add_edge(*edge, tensors=(*tensors, name))
        return graph


@dataclass(frozen=True, eq=False)
class OperatorGraph:
    """A model as operators: prologue (embedding), repeating blocks, epilogue (final norm, head, loss).

    Compared and hashed by identity: ``build_graph`` gives the same object for the same model.

    Attributes
    ----------
    name
        Name of the model.
    axes
        Sizes of the logical axes, without ``batch`` and ``sequence`` (they belong to the workload).
    blocks
        Block types with their repeat counts, in order of first occurrence; types that alternate
        (sliding and full attention) appear once each.
    token_axes
        Names of the axes every activation has.
    """

    name: str
    axes: Mapping[str, int]
    prologue: Block
    blocks: tuple[Block, ...]
    epilogue: Block
    token_axes: tuple[str, ...] = ("batch", "sequence")
    notes: tuple[str, ...] = field(default=())

    def all_blocks(self) -> tuple[Block, ...]:
        return (self.prologue, *self.blocks, self.epilogue)

    @property
    def leading(self) -> tuple[Block, ...]:
        """Kinds of layers that stand at the start of the model only (dense layers before those with experts)."""
        return tuple(block for block in self.blocks if block.leading)

    @property
    def leading_layers(self) -> int:
        """Number of the layers of :attr:`leading`."""
        return sum(block.count for block in self.leading)

    @property
    def layers(self) -> int:
        """Number of repeating layers."""
        return sum(block.count for block in self.blocks)

    def size(self, of: Extent) -> int:
        """Global size of an extent of weight axes."""
        total = 0
        for product in of:
            size = 1
            for axis in product:
                size *= self.axes[axis]
            total += size
        return total

    def weight_count(self, weight: Weight) -> int:
        """Parameters of a weight: 0 for one that is tied to another."""
        return 0 if weight.tied_to else self.size(weight.rows) * self.size(weight.columns)

    def parameter_count(self) -> int:
        """Exact number of parameters: the sum over the weights of every operator of every layer."""
        return sum(
            block.count * self.weight_count(weight)
            for block in self.all_blocks()
            for operator in block.operators
            for weight in operator.weights
        )

    def block(self, name: str) -> Block:
        """The block of that name."""
        for block in self.all_blocks():
            if block.name == name:
                return block
        raise KeyError(f"{self.name} has no block {name!r}; it has {', '.join(one.name for one in self.all_blocks())}")

    def digraph(self, block: str) -> nx.DiGraph:
        """The operators of one block as a directed graph (needs networkx)."""
        return self.block(block).digraph()

    def validate(self) -> None:
        """Check that the graph is well formed; see :func:`perfmodel.workload.validation.validate_graph`."""
        from perfmodel.workload.validation import validate_graph  # it imports this module

        validate_graph(self)
