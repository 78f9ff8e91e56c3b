"""The attention half of a decoder block: projections, positions, core (fused or unfused), output."""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.specs.model import ModelSpec
from perfmodel.workload.builders.assembler import Assembler
from perfmodel.workload.operators import (
    KEYS,
    Attention,
    AttentionMatmul,
    ElementwiseKind,
    Extent,
    Storage,
    extent,
)

HIDDEN = extent("hidden")


class HeadExtents(NamedTuple):
    """Feature extents of the parts of the fused projection; ``value_dim`` is the axis of a value head."""

    query: Extent
    key: Extent
    value: Extent
    context: Extent
    value_dim: str


def head_extents(model: ModelSpec) -> HeadExtents:
    """Extents of query, key, value and context for a model with ``attention``."""
    own_value = model.attention is not None and model.attention.value_dim is not None
    value_dim = "value_dim" if own_value else "head_dim"
    return HeadExtents(
        query=extent("heads", "head_dim"),
        key=extent("kv_heads", "head_dim"),
        value=extent("kv_heads", value_dim),
        context=extent("heads", value_dim),
        value_dim=value_dim,
    )


def add_attention(asm: Assembler, model: ModelSpec, source: str, window: int | None, attention_kernel: str) -> str:
    """Append the operators from the normalised input to the projected output; returns the output tensor.

    The fused query-key-value projection makes one tensor; its slices ``attention.query_key`` and
    ``attention.value`` go separate ways (only queries and keys are rotated).
    """
    attention = model.attention
    if attention is None:
        raise TypeError("add_attention needs a model with attention")
    parts = head_extents(model)
    columns = parts.query + parts.key + parts.value
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
    core = _flash if attention_kernel == "flash" else _unfused
    context = core(asm, model, (query_key, value, *extra), window, parts)
    output_bias = HIDDEN if attention.bias in ("all", "all_but_key") else ()
    return asm.matmul("attention.output", context, parts.context, HIDDEN, bias=output_bias)


def _query_key_norm(asm: Assembler, model: ModelSpec, query_key: str, parts: HeadExtents) -> str:
    kind = model.attention.query_key_norm if model.attention is not None else "none"
    if kind == "none":
        return query_key
    features = parts.query + parts.key
    weight = extent("head_dim", times=2) if kind == "head" else features
    return asm.norm("attention.query_key_norm", query_key, features, model.norm, weight=weight)


def _flash(asm: Assembler, _: ModelSpec, inputs: tuple[str, ...], window: int | None, parts: HeadExtents) -> str:
    """One kernel; backward needs queries, keys, values, output and the 32-bit softmax statistics per head."""
    name = "attention.core"
    statistics = asm.tensor(f"{name}.statistics", extent("heads"), storage=Storage.FLOAT32)
    operator = Attention(
        name=name, inputs=inputs, output=name, saves=(*inputs[:2], name, statistics),
        value_dim=parts.value_dim, causal=True, window=window,
    )  # fmt: skip
    return asm.add(operator, parts.context)


def _unfused(asm: Assembler, model: ModelSpec, inputs: tuple[str, ...], window: int | None, parts: HeadExtents) -> str:
    """Scores, softmax, dropout and context as kernels of their own; the probabilities are kept.

    Korthikanti et al. 2022 (arXiv:2205.05198), section 4.1: softmax output 2 bytes, dropout mask 1 byte and
    dropped-out probabilities 2 bytes per score: ``5 a s^2 b`` per layer.
    """
    query_key, value, *extra = inputs
    heads = extent("heads")
    scores = asm.add(
        AttentionMatmul(
            name="attention.scores", inputs=(query_key, *extra), output="attention.scores", saves=(query_key,),
            contraction="head_dim", columns=KEYS, window=window,
        ),
        heads, per_score=True,
    )  # fmt: skip
    # Scale, mask and softmax are one kernel: it reads scores and writes probabilities; backward reads the
    # gradient and the probabilities and writes the gradient of the scores.
    probabilities = asm.elementwise(
        "attention.softmax", ElementwiseKind.SOFTMAX, (scores,), heads, forward=2, backward=3,
        saves=("attention.softmax",), per_score=True,
    )  # fmt: skip
    if model.dropout:
        mask = asm.tensor("attention.softmax_dropout.mask", heads, storage=Storage.MASK, per_score=True)
        probabilities = asm.elementwise(
            "attention.softmax_dropout", ElementwiseKind.DROPOUT, (probabilities,), heads, forward=2.5, backward=2.5,
            saves=(mask,), per_score=True,
        )  # fmt: skip
    context = AttentionMatmul(
        name="attention.context", inputs=(probabilities, value), output="attention.context",
        saves=(probabilities, value), contraction=KEYS, columns=parts.value_dim, window=window,
    )  # fmt: skip
    return asm.add(context, parts.context)
