"""The attention half of a layer: projections, positions, core (fused or unfused), output."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from perfmodel.specs.model import AttentionSpec, ModelSpec
from perfmodel.workload.builders.assembler import Assembler
from perfmodel.workload.operators import (
    KEYS,
    SCALAR,
    Attention,
    AttentionMatmul,
    ElementwiseKind,
    Extent,
    Storage,
    Weight,
    extent,
)

HIDDEN = extent("hidden")


@dataclass(frozen=True)
class Mask:
    """Which keys a query attends: earlier ones or all, in a window or a chunk, of its own sequence or of ``keys``."""

    causal: bool = True
    window: int | None = None
    chunked: bool = False
    keys: str | None = None


class HeadExtents(NamedTuple):
    """Feature extents of the parts of the fused projection, and the names of the axes of a head."""

    query: Extent
    key: Extent
    value: Extent
    context: Extent
    kv_heads: str
    query_dim: str
    value_dim: str


def head_extents(model: ModelSpec, *, full: bool = False) -> HeadExtents:
    """Extents of query, key, value and context for a model with ``attention``.

    ``full``: of the full-attention layers, where their heads differ from those of the windowed ones.
    """
    spec = model.attention
    own_kv = full and spec is not None and spec.full_kv_heads is not None
    own_dim = full and spec is not None and spec.full_head_dim is not None
    kv_heads = "full_kv_heads" if own_kv else "kv_heads"
    query_dim = "full_head_dim" if own_dim else "head_dim"
    value_dim = "value_dim" if spec is not None and spec.value_dim is not None else query_dim
    return HeadExtents(
        query=extent("heads", query_dim),
        key=extent(kv_heads, query_dim),
        value=extent(kv_heads, value_dim),
        context=extent("heads", value_dim),
        kv_heads=kv_heads,
        query_dim=query_dim,
        value_dim=value_dim,
    )


def attention_of(model: ModelSpec) -> AttentionSpec:
    """The attention of a model that has one."""
    if model.attention is None:
        raise TypeError(f"{model.name} has no attention")
    return model.attention


def add_attention(
    asm: Assembler, model: ModelSpec, source: str, mask: Mask, attention_kernel: str, *, full: bool = False
) -> str:
    """Append the operators from the normalised input to the projected output; returns the output tensor.

    The fused query-key-value projection makes one tensor; its slices ``attention.query_key`` and
    ``attention.value`` go separate ways (only queries and keys are rotated). A gate on the output is a fourth slice.
    """
    attention = attention_of(model)
    parts = head_extents(model, full=full)
    gate = parts.context if attention.output_gate else ()
    columns = parts.query + parts.key + parts.value + gate
    biased = {"none": (), "qkv": columns, "all": columns, "all_but_key": parts.query + parts.value}[attention.bias]
    fused = asm.matmul("attention.query_key_value", source, HIDDEN, columns, bias=biased)
    query_key = asm.tensor("attention.query_key", parts.query + parts.key, part_of=fused)
    value = asm.tensor("attention.value", parts.value, part_of=fused)
    query_key = _query_key_norm(asm, model, query_key, parts)
    if model.embedding.positions == "rotary":
        query_key = asm.elementwise(
            "attention.rotary", ElementwiseKind.ROTARY, (query_key,), parts.query + parts.key, forward=2, backward=3
        )
    extra: tuple[str, ...] = ()
    if model.embedding.positions == "relative":
        # Transformer-XL projects one encoding per relative position; the shape is that of one per token.
        extra = (asm.matmul("attention.relative_position", source, HIDDEN, parts.query),)
    context = add_core(asm, model, "attention", (query_key, value, *extra), mask, parts, attention_kernel)
    if gate:
        opening = asm.tensor("attention.output_gate", gate, part_of=fused)
        # Sigmoid and product are one kernel: it reads both and writes one.
        context = asm.elementwise(
            "attention.gate", ElementwiseKind.ACTIVATION, (context, opening), parts.context, forward=3, backward=5,
            saves=(context, opening),
        )  # fmt: skip
    output_bias = HIDDEN if attention.bias in ("all", "all_but_key") else ()
    return asm.matmul("attention.output", context, parts.context, HIDDEN, bias=output_bias)


def add_cross_attention(asm: Assembler, model: ModelSpec, source: str, memory: str, kernel: str) -> str:
    """Queries of the decoder on keys and values of the encoder's output ``memory``; returns the projected output.

    Keys and values are projected from the encoder's tokens in every layer.
    """
    attention = attention_of(model)
    parts = head_extents(model)
    biased = attention.bias != "none"
    query = asm.matmul("cross_attention.query", source, HIDDEN, parts.query, bias=parts.query if biased else ())
    own, asm.sequence = asm.sequence, asm.tensors[memory].sequence
    bias = {"none": (), "all_but_key": parts.value}.get(attention.bias, parts.key + parts.value)
    # The encoder's output is kept once, where it is made, and not by every layer that reads it.
    pair = asm.matmul("cross_attention.key_value", memory, HIDDEN, parts.key + parts.value, bias=bias, keeps=False)
    asm.sequence = own
    mask = Mask(causal=False, keys=asm.tensors[memory].sequence)
    context = add_core(asm, model, "cross_attention", (query, pair), mask, parts, kernel)
    output_bias = HIDDEN if attention.bias in ("all", "all_but_key") else ()
    return asm.matmul("cross_attention.output", context, parts.context, HIDDEN, bias=output_bias)


def _query_key_norm(asm: Assembler, model: ModelSpec, query_key: str, parts: HeadExtents) -> str:
    kind = attention_of(model).query_key_norm
    if kind == "none":
        return query_key
    features = parts.query + parts.key
    weight = extent(parts.query_dim, times=2) if kind == "head" else features
    return asm.norm("attention.query_key_norm", query_key, features, model.norm, weight=weight)


def add_core(
    asm: Assembler,
    model: ModelSpec,
    prefix: str,
    inputs: tuple[str, ...],
    mask: Mask,
    parts: HeadExtents,
    attention_kernel: str,
) -> str:
    """Scaled dot products: ``inputs`` are queries (and keys), values (and keys), and what else the scores need."""
    core = _flash if attention_kernel == "flash" else _unfused
    return core(asm, model, prefix, inputs, mask, parts)


def _sinks(model: ModelSpec, name: str) -> tuple[Weight, ...]:
    """One learned logit per head that the softmax counts beside the keys: no value belongs to it, no work of note."""
    has_sinks = attention_of(model).sinks
    return (Weight(f"{name}.sinks", SCALAR, extent("heads")),) if has_sinks else ()


def _flash(
    asm: Assembler, model: ModelSpec, prefix: str, inputs: tuple[str, ...], mask: Mask, parts: HeadExtents
) -> str:
    """One kernel; backward needs queries, keys, values, output and the 32-bit softmax statistics per head."""
    name = f"{prefix}.core"
    statistics = asm.tensor(f"{name}.statistics", extent("heads"), storage=Storage.FLOAT32)
    operator = Attention(
        name=name, inputs=inputs, output=name, saves=(*inputs[:2], name, statistics), weights=_sinks(model, name),
        kv_heads=parts.kv_heads, query_dim=parts.query_dim, value_dim=parts.value_dim,
        causal=mask.causal, window=mask.window, chunked=mask.chunked, keys=mask.keys,
    )  # fmt: skip
    return asm.add(operator, parts.context)


def _unfused(
    asm: Assembler, model: ModelSpec, prefix: str, inputs: tuple[str, ...], mask: Mask, parts: HeadExtents
) -> str:
    """Scores, softmax, dropout and context as kernels of their own; the probabilities are kept.

    Korthikanti et al. 2022 (arXiv:2205.05198), section 4.1: softmax output 2 bytes, dropout mask 1 byte and
    dropped-out probabilities 2 bytes per score: ``5 a s^2 b`` per layer.
    """
    query_key, value, *extra = inputs
    # Keys of another sequence are an axis of their own; otherwise there is a score per pair of tokens.
    square = mask.keys is None
    scores_of = extent("heads") if mask.keys is None else extent("heads", mask.keys)
    matmul = AttentionMatmul(
        name=f"{prefix}.scores", inputs=(query_key, *extra), output=f"{prefix}.scores", saves=(query_key,),
        kv_heads=parts.kv_heads, contraction=parts.query_dim, columns=KEYS,
        causal_mask=mask.causal, window=mask.window, chunked=mask.chunked, keys=mask.keys,
    )  # fmt: skip
    scores = asm.add(matmul, scores_of, per_score=square)
    # Scale, mask and softmax are one kernel: it reads scores and writes probabilities; backward reads the
    # gradient and the probabilities and writes the gradient of the scores.
    probabilities = asm.elementwise(
        f"{prefix}.softmax", ElementwiseKind.SOFTMAX, (scores,), scores_of, forward=2, backward=3,
        saves=(f"{prefix}.softmax",), weights=_sinks(model, f"{prefix}.softmax"), per_score=square,
    )  # fmt: skip
    if model.dropout:
        name = f"{prefix}.softmax_dropout"
        kept = asm.tensor(f"{name}.mask", scores_of, storage=Storage.MASK, per_score=square)
        probabilities = asm.elementwise(
            name, ElementwiseKind.DROPOUT, (probabilities,), scores_of, forward=2.5, backward=2.5,
            saves=(kept,), per_score=square,
        )  # fmt: skip
    context = replace(
        matmul, name=f"{prefix}.context", inputs=(probabilities, value), output=f"{prefix}.context",
        saves=(probabilities, value), contraction=KEYS, columns=parts.value_dim,
    )  # fmt: skip
    return asm.add(context, parts.context)
