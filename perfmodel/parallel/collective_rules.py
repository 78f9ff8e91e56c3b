"""Collectives of an operator that inference cannot derive: one registered :data:`ParallelRule` per kind of operator.

Context parallelism of attention in its three kinds, and the exchange of tokens between the ranks of experts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from perfmodel.workload.operators import (
    VISITS,
    Attention,
    AttentionMatmul,
    Block,
    Combine,
    Dispatch,
    Extent,
    Operator,
    Storage,
)


@dataclass(frozen=True, slots=True)
class CollectiveUse:
    """One collective of one operator, per occurrence of its block and micro-batch.

    Attributes
    ----------
    block, operator
        Names of the block and of the operator that waits for (or makes) the tensor.
    tensor
        What is moved.
    phase
        ``forward`` or ``backward``.
    operation
        ``all-reduce``, ``all-gather``, ``reduce-scatter``, ``all-to-all``, ``send``, or ``broadcast`` and ``reduce`` of
        the panels of a product.
    group
        Mesh axis: ``tp``, ``cp``, ``ep`` or ``etp``; or one axis of the grid of the tensor group: the ranks of one
        row stand in different ``columns``, those of one column in different ``rows``.
    applies
        ``always``, ``sequence_parallel`` or ``tensor_parallel_only`` (without sequence parallelism), neither of them
        on a grid; ``grid``.
    features
        Features per token of the full (gathered) tensor; axes of *other* mesh axes are still sharded.
    storage
        Role of the number format that travels.
    count
        How many such collectives.
    regather
        The collective repeats a forward gather for the weight gradient, so that the data gradient can hide it.
    tokens
        ``full``: the micro-batch's tokens of this context-parallel rank; ``sequence``: of all of them; ``row``: of this
        row of the grid; ``none``: a weight, which has none.
    context
        Kind of context parallelism that makes this collective; empty: every kind.
    sequence
        Axis of the tokens where they are not those of the workload (see :class:`~perfmodel.workload.graph.Operator`).
    name
        For people.
    """

    block: str
    operator: str
    tensor: str
    phase: str
    operation: str
    group: str
    applies: str
    features: Extent
    storage: Storage = Storage.ACTIVATION
    count: float = 1.0
    regather: bool = False
    tokens: str = "full"
    context: str = ""
    sequence: str | None = None
    name: str = ""


#: Collectives of an operator that inference cannot derive.
ParallelRule: TypeAlias = Callable[[Block, Operator], tuple[CollectiveUse, ...]]
#: The rules by kind.
PARALLEL_RULES: dict[type[Operator], ParallelRule] = {}


def register_parallel_rule(kind: type[Operator]) -> Callable[[ParallelRule], ParallelRule]:
    """Make a function the parallel rule of a kind of operators (and of its subclasses without one)."""

    def register(rule: ParallelRule) -> ParallelRule:
        PARALLEL_RULES[kind] = rule
        return rule

    return register


def collective_use(block: Block, operator: Operator, tensor: str, **fields: Any) -> CollectiveUse:
    """One collective of an operator, with a name for people."""
    name = f"{block.name}.{operator.name} {fields['operation']}" + (" again" if fields.get("regather") else "")
    fields.setdefault("sequence", operator.sequence)
    return CollectiveUse(block=block.name, operator=operator.name, tensor=tensor, name=name, **fields)


#: Groups of tensor parallelism: all ranks, and those of a row or a column of their grid.
TENSOR_GROUPS = ("tp", "columns", "rows")
#: Kinds of context parallelism.
GATHERED, RING, EXCHANGED = "all-gather", "ring", "all-to-all"


@register_parallel_rule(Attention)
def share_keys_and_values(block: Block, operator: Operator) -> tuple[CollectiveUse, ...]:
    """Context parallelism of fused attention, in every kind."""
    if not isinstance(operator, Attention):
        return ()
    queries: Extent = ((operator.heads, operator.query_dim),)
    keys: Extent = ((operator.kv_heads, operator.query_dim), (operator.kv_heads, operator.value_dim))
    return (
        *_context_gather(block, operator, "keys and values", keys),
        *_context_ring(block, operator, "keys and values", keys),
        *_context_exchange(block, operator, "queries, keys and values", queries + keys),
        *_context_exchange(block, operator, "context", ((operator.heads, operator.value_dim),)),
    )


@register_parallel_rule(AttentionMatmul)
def share_keys_or_values(block: Block, operator: Operator) -> tuple[CollectiveUse, ...]:
    """Unfused attention moves what the fused kernel moves: keys for the scores, values for the context."""
    if not isinstance(operator, AttentionMatmul):
        return ()
    inner = operator.inner_dim
    queries: Extent = ((operator.heads, inner),)
    keys: Extent = ((operator.kv_heads, inner),)
    what = "keys" if operator.makes_scores else "values"
    exchanged = (
        _context_exchange(block, operator, "queries and keys", queries + keys)
        if operator.makes_scores
        else (
            *_context_exchange(block, operator, "values", keys),
            *_context_exchange(block, operator, "context", queries),
        )
    )
    return (*_context_gather(block, operator, what, keys), *_context_ring(block, operator, what, keys), *exchanged)


def _context_ring(block: Block, operator: Operator, what: str, features: Extent) -> tuple[CollectiveUse, ...]:
    """Keys and values go round in blocks, backward with their gradients: ``cp - 1`` sends of each.

    Ring Attention, Liu et al. (arXiv 2310.01889). The last hop, which brings the gradients home, is not counted.
    """
    make = functools.partial(
        collective_use, block, operator, f"{operator.name} {what}", group="cp", applies="always", features=features,
        operation="send", context=RING,
    )  # fmt: skip
    return (make(phase="forward"), make(phase="backward", count=2.0))


def _context_exchange(block: Block, operator: Operator, what: str, features: Extent) -> tuple[CollectiveUse, ...]:
    """Tokens are exchanged for heads before the attention, and back after it; gradients travel the other way.

    DeepSpeed-Ulysses, Jacobs et al. (arXiv 2309.14509, section 3). Key-value heads are copied where there are fewer
    than ranks.
    """
    make = functools.partial(
        collective_use, block, operator, f"{operator.name} {what}", group="cp", applies="always", features=features,
        operation="all-to-all", tokens="sequence", context=EXCHANGED,
    )  # fmt: skip
    return (make(phase="forward"), make(phase="backward"))


def _context_gather(
    block: Block, operator: Attention | AttentionMatmul, what: str, features: Extent
) -> tuple[CollectiveUse, ...]:
    """Queries stay, keys and values are gathered; backward gathers them again and reduce-scatters their gradients.

    Llama 3 (arXiv 2407.21783, section 3.3.2).
    """
    make = functools.partial(
        collective_use,
        block,
        operator,
        f"{operator.name} {what}",
        group="cp",
        applies="always",
        features=features,
        tokens="sequence",
        context=GATHERED,
        sequence=operator.keys or operator.sequence,
    )
    return (
        make(phase="forward", operation="all-gather"),
        make(phase="backward", operation="all-gather"),
        make(phase="backward", operation="reduce-scatter"),
    )


@register_parallel_rule(Dispatch)
def send_tokens_to_experts(block: Block, operator: Operator) -> tuple[CollectiveUse, ...]:
    """Copies travel to the ranks of their experts, where the ``etp`` ranks of an expert gather theirs.

    GShard, Lepikhin et al. (arXiv 2006.16668, section 3.3); backward makes the same steps the other way.
    Without sequence parallelism every rank of the tensor group sends its part of the tokens, and their
    gradients are gathered.
    """
    if not isinstance(operator, Dispatch):
        return ()
    make, routed = functools.partial(collective_use, block, operator, operator.output), _routed(operator.features)
    there = functools.partial(make, storage=Storage.DISPATCH)
    return (
        there(phase="forward", operation="all-to-all", group="ep", applies="always", features=routed),
        there(phase="forward", operation="all-gather", group="etp", applies="always", features=routed),
        make(phase="backward", operation="reduce-scatter", group="etp", applies="always", features=routed),
        make(phase="backward", operation="all-to-all", group="ep", applies="always", features=routed),
        make(phase="backward", operation="all-gather", group="tp", applies="tensor_parallel_only",
             features=operator.features),
    )  # fmt: skip


@register_parallel_rule(Combine)
def return_tokens_from_experts(block: Block, operator: Operator) -> tuple[CollectiveUse, ...]:
    """The reverse of :func:`send_tokens_to_experts`: partial sums over ``etp`` are scattered, copies travel back."""
    if not isinstance(operator, Combine):
        return ()
    make, routed = functools.partial(collective_use, block, operator, operator.output), _routed(operator.features)
    there = functools.partial(make, storage=Storage.DISPATCH)
    return (
        make(phase="forward", operation="reduce-scatter", group="etp", applies="always", features=routed),
        make(phase="forward", operation="all-to-all", group="ep", applies="always", features=routed),
        make(phase="forward", operation="all-gather", group="tp", applies="tensor_parallel_only",
             features=operator.features),
        there(phase="backward", operation="all-to-all", group="ep", applies="always", features=routed),
        there(phase="backward", operation="all-gather", group="etp", applies="always", features=routed),
    )  # fmt: skip


def _routed(features: Extent) -> Extent:
    """Features of the copies of a token: once per visit."""
    return tuple((VISITS, *product) for product in features)
