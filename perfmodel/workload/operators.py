"""Kinds of operators: what a model computes, over named axes, without machine, plan or number format sizes.

The parts that a graph is made of (extents, tensors, weights, blocks) are in :mod:`perfmodel.workload.graph` and can be
imported from here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from perfmodel.workload.graph import (
    SCALAR,
    Block,
    Extent,
    Operator,
    OperatorGraph,
    Product,
    Storage,
    Tensor,
    Weight,
    extent,
)

#: The pseudo axis of the attended keys in unfused attention; its size belongs to the workload.
KEYS = "keys"

#: Axis of the routed experts; expert parallelism shards it. The router's own output has the axis ``router``.
EXPERTS = "experts"

#: Axis of the experts that one token visits (top-k). Inside the routed region a rank holds the tokens that the
#: router sent to its experts: on average as many as it sent away.
VISITS = "visits"


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
    chunked
        ``window`` is a chunk: tokens attend to the earlier ones of their own chunk only.
    mean_attended
        Mean number of attended keys per query given by a document mask, or None (from causal, window).
    keys
        Axis of the keys of a sequence where they are not the query tokens (cross attention), or None.
    """

    heads: str = "heads"
    kv_heads: str = "kv_heads"
    query_dim: str = "head_dim"
    value_dim: str = "head_dim"
    causal: bool = True
    window: int | None = None
    chunked: bool = False
    mean_attended: float | None = None
    keys: str | None = None


@dataclass(frozen=True, kw_only=True)
class KeyIndexer(Attention):
    """Scores every key for every query with small heads and keeps the best (sparse attention).

    It reads no values: ``value_dim`` names an axis of size 0. What it keeps is an index per attended key.
    """


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
    causal_mask, window, chunked
        What the model attends (half of the pairs; a sliding window; chunks): for model FLOP, not for this kernel.
    keys
        As in :class:`Attention`.
    """

    heads: str = "heads"
    kv_heads: str = "kv_heads"
    contraction: str
    columns: str
    causal_mask: bool = True
    window: int | None = None
    chunked: bool = False
    keys: str | None = None

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
    """One matmul per expert over the tokens sent to it: ``output[rows, columns] = input[rows, k] @ w[expert]``.

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


class ScanKind(StrEnum):
    """Recurrences along the sequence.

    ``selective`` runs on the vector units, one state per channel (Mamba-1). The others are chunked into matrix
    products: ``state_space`` (Mamba-2; linear attention with decay is the same algorithm) and ``delta_rule``
    (gated delta networks).
    """

    SELECTIVE = "selective"
    STATE_SPACE = "state_space"
    DELTA_RULE = "delta_rule"


@dataclass(frozen=True, kw_only=True)
class Scan(Operator):
    """A linear recurrence along the sequence with a matrix-valued state per head: ``state x head_dim`` numbers.

    In the terms of attention: the output vector is the query, the input vector the key (both ``state`` long and
    shared by the heads of a group), and the input is the value (``head_dim`` long). Heads are independent, so that
    tensor parallelism shards them; the sequence is not, and context parallelism has no rule here.

    Attributes
    ----------
    heads, groups, head_dim, state
        Names of axes. A ``selective`` scan has one head per channel: its ``head_dim`` is an axis of size 1.
    chunk
        Tokens that are processed together as matrix products.
    """

    kind: ScanKind
    heads: str
    groups: str
    head_dim: str
    state: str
    chunk: int


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


__all__ = [
    "EXPERTS",
    "KEYS",
    "SCALAR",
    "VISITS",
    "Attention",
    "AttentionMatmul",
    "Block",
    "Combine",
    "CrossEntropy",
    "Dispatch",
    "Elementwise",
    "ElementwiseKind",
    "Embedding",
    "Extent",
    "GroupedMatmul",
    "KeyIndexer",
    "Matmul",
    "Operator",
    "OperatorGraph",
    "Product",
    "Scan",
    "ScanKind",
    "Storage",
    "Tensor",
    "Weight",
    "extent",
]
