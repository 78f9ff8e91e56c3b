"""Operators over named axes: what a model computes, without machine, plan or number format sizes.

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

#: The pseudo axis of the attended keys in unfused attention; its size belongs to the workload.
KEYS = "keys"

#: Axis of the routed experts; expert parallelism shards it. The router's own output has the axis ``router``.
EXPERTS = "experts"

#: Axis of the experts that one token visits (top-k). Inside the routed region a rank holds the tokens that the
#: router sent to its experts: on average as many as it sent away.
VISITS = "visits"


def extent(*axes: str, times: int = 1) -> Extent:
    """One product of axes, repeated ``times``: ``extent("ffn", times=2)`` is a fused gate and up."""
    return (tuple(axes),) * times


class Storage(StrEnum):
    """Which number format of the numerics spec a tensor is kept in."""

    ACTIVATION = "activations"
    FLOAT32 = "fp32"
    MASK = "mask"


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
    """

    name: str
    features: Extent
    storage: Storage = Storage.ACTIVATION
    per_score: bool = False
    part_of: str | None = None


@dataclass(frozen=True)
class Weight:
    """A weight: ``size(rows) * size(columns)`` parameters.

    ``rows`` is the contracted (input) side. ``tied_to`` names a weight of another operator that is the
    same storage (tied embeddings): it is counted once, but moved and computed with where it is used.
    """

    name: str
    rows: Extent
    columns: Extent
    tied_to: str | None = None


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
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    weights: tuple[Weight, ...] = ()
    saves: tuple[str, ...] = ()
    weight_bits: float | None = None


@dataclass(frozen=True, kw_only=True)
class Matmul(Operator):
    """``output[tokens, columns] = input[tokens, contraction] @ weight``; backward is its two transposes.

    ``precision`` names the role whose compute format applies: ``matmul`` (the linear layers) or ``head``
    (LM head, router: kept in 16 bits by the low-bit recipes).
    """

    contraction: Extent
    columns: Extent
    precision: str = "matmul"


@dataclass(frozen=True, kw_only=True)
class Attention(Operator):
    """Scaled dot-product attention core as one fused (flash) kernel; unfused: :class:`AttentionMatmul`.

    Attributes
    ----------
    heads, kv_heads, query_dim, value_dim
        Names of axes.
    causal
        Only the lower triangle is attended (half of the pairs, counted once).
    window
        Sliding window in tokens, or None.
    mean_attended
        Mean number of attended keys per query given by a document mask, or None (from causal, window).
    """

    heads: str = "heads"
    kv_heads: str = "kv_heads"
    query_dim: str = "head_dim"
    value_dim: str = "head_dim"
    causal: bool = True
    window: int | None = None
    mean_attended: float | None = None


@dataclass(frozen=True, kw_only=True)
class AttentionMatmul(Operator):
    """One of the two batched matmuls of unfused attention: per sequence and head.

    Scores are ``queries x contraction x columns`` = ``queries x head_dim x keys``; context is
    ``queries x keys x value_dim``. The kernels compute the full square: nothing is saved by causality
    or by a window. Between them stand softmax (and dropout) as :class:`Elementwise` with ``per_score``.

    Attributes
    ----------
    heads, kv_heads
        Names of axes; a key-value head is shared by ``heads / kv_heads`` query heads.
    contraction, columns
        Name of an axis, or :data:`KEYS`.
    causal_mask, window
        What the model attends (half of the pairs; a sliding window): for model FLOP, not for this kernel.
    """

    heads: str = "heads"
    kv_heads: str = "kv_heads"
    contraction: str
    columns: str
    causal_mask: bool = True
    window: int | None = None

    @property
    def makes_scores(self) -> bool:
        """Queries times keys; otherwise probabilities times values."""
        return self.columns == KEYS

    @property
    def inner_dim(self) -> str:
        """Name of the axis of a head: the contraction of the scores, the columns of the context."""
        return self.contraction if self.makes_scores else self.columns


class ElementwiseKind(StrEnum):
    """Kinds of memory-bound operators; each has its own measured bandwidth fraction."""

    NORM = "norm"
    ACTIVATION = "activation"
    ROTARY = "rotary"
    RESIDUAL = "residual"
    DROPOUT = "dropout"
    SOFTMAX = "softmax"
    CAST = "cast"
    EMBEDDING = "embedding"
    LOSS = "loss"
    OPTIMIZER = "optimizer"
    PERMUTE = "permute"
    SCAN = "scan"


@dataclass(frozen=True, kw_only=True)
class Elementwise(Operator):
    """A memory-bound operator over ``features`` of every token.

    Attributes
    ----------
    features
        Extent that the counts below multiply.
    forward_elements, backward_elements
        Elements read plus written per feature element, forward and backward.
    flop_per_element
        Vector-unit work per feature element, forward (backward counts twice).
    per_score
        ``features`` are heads, and the counts are per (query, key) pair of each.
    """

    kind: ElementwiseKind
    features: Extent
    forward_elements: float
    backward_elements: float
    flop_per_element: float = 1.0
    per_score: bool = False


@dataclass(frozen=True, kw_only=True)
class GroupedMatmul(Operator):
    """One matmul per expert over the tokens that were sent to it: ``output[rows, columns] = input[rows, k] @ w[e]``.

    Its input and output have the axis :data:`VISITS` in front of their features: every token is there once per
    expert that it visits. ``weights`` have the axis :data:`EXPERTS` in their rows.

    Attributes
    ----------
    contraction, columns
        Extents of one expert, without :data:`EXPERTS` and :data:`VISITS`.
    precision
        As in :class:`Matmul`.
    """

    contraction: Extent
    columns: Extent
    precision: str = "matmul"


@dataclass(frozen=True, kw_only=True)
class Dispatch(Operator):
    """Copies every token to the experts it visits and orders the copies by expert (forward), and adds up (backward).

    ``features`` is one token; the output is :data:`VISITS` times as long. With expert parallelism the copies
    travel (all-to-all): that follows from the parallel rule of this class.
    """

    features: Extent


@dataclass(frozen=True, kw_only=True)
class Combine(Operator):
    """The reverse of :class:`Dispatch`: the weighted sum of what the experts made of a token."""

    features: Extent


@dataclass(frozen=True, kw_only=True)
class Embedding(Operator):
    """Token (and learned position) lookup; the table is sharded over the vocabulary axis."""

    vocabulary: str = "vocabulary"
    hidden: str = "hidden"


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Operator):
    """Softmax cross-entropy over the vocabulary; with a sharded vocabulary its statistics are reduced.

    Forward reads the logits twice (maximum, sum) and writes probabilities in 32 bits; backward reads these,
    writes the gradient and casts it: 4 and 5 elements of the activation format per logit. How many bytes
    per logit stay in memory is a property of the software stack, so that nothing is declared in ``saves``.
    """

    vocabulary: str = "vocabulary"
    forward_elements: float = 4.0
    backward_elements: float = 5.0


@dataclass(frozen=True, eq=False)
class Block:
    """A sequence of operators in topological order that repeats ``count`` times.

    ``name`` is the prefix of the operators' paths in results (``block``, ``embedding``, ``head``).
    ``inputs`` names the tensors that come from outside: the previous block, or the tokens. ``output`` is the
    tensor of the last operator. Compared and hashed by identity.
    """

    name: str
    operators: tuple[Operator, ...]
    tensors: Mapping[str, Tensor]
    count: int = 1
    inputs: tuple[str, ...] = ()

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
