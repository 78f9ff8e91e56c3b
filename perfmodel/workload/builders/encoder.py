"""Encoders without a decoder: BERT and vision transformers. Every token attends to all others."""

from __future__ import annotations

from perfmodel.errors import UnsupportedOperator
from perfmodel.specs.model import EncoderSpec, ModelSpec
from perfmodel.workload.builders.assembler import Assembler
from perfmodel.workload.builders.attention import HIDDEN
from perfmodel.workload.builders.axes import model_axes
from perfmodel.workload.builders.ends import EMBEDDING_TABLE, VOCABULARY
from perfmodel.workload.builders.layers import build_layer, layer_kinds, named_kinds
from perfmodel.workload.operators import (
    SCALAR,
    Block,
    CrossEntropy,
    ElementwiseKind,
    Embedding,
    OperatorGraph,
    Weight,
    extent,
)
from perfmodel.workload.registry import register_builder

#: Axis of the tokens that a classifier or a pooler reads: one per sequence.
FIRST_POSITION = "first_position"
PATCH, POSITIONS, CLASSES = extent("patch"), extent("positions"), extent("classes")


@register_builder("encoder")
def build_encoder(model: ModelSpec, attention_kernel: str) -> OperatorGraph:
    """Embedding of tokens or patches, layers without a causal mask, and a head with its loss."""
    encoder = model.encoder
    if encoder is None or encoder.kind == "decoder_cross" or model.attention is None or model.mlp is None:
        raise UnsupportedOperator(
            f"{model.name}: the builder 'encoder' needs attention, mlp and encoder.kind: only or vision"
        )
    if encoder.layers != model.layers:
        raise UnsupportedOperator(
            f"{model.name}: encoder.layers is {encoder.layers} and layers is {model.layers}; they are the same layers"
        )
    kinds = layer_kinds(model)
    blocks = tuple(
        build_layer(model, name, kind, count, attention_kernel, causal=False)
        for name, kind, count in named_kinds(kinds)
    )
    vision = encoder.kind == "vision"
    return OperatorGraph(
        name=model.name, axes=model_axes(model, set(kinds)) | _axes(encoder),
        prologue=_patches(model, encoder) if vision else _tokens(model, encoder),
        blocks=blocks,
        epilogue=_image_head(model, encoder) if vision else _token_head(model, encoder),
        notes=() if vision else ("norms after the residual sums are the same operators in another order",),
    )  # fmt: skip


def _axes(encoder: EncoderSpec) -> dict[str, int]:
    sizes = {"patch": encoder.patch, "classes": encoder.classes, "token_types": encoder.token_types}
    one = {FIRST_POSITION: 1} if encoder.classes or encoder.pooler or encoder.class_token else {}
    return {name: size for name, size in sizes.items() if size} | one


def _tokens(model: ModelSpec, encoder: EncoderSpec) -> Block:
    asm = Assembler("embedding", {"tokens": SCALAR})
    name = "embedding.tokens"
    weights = [Weight(EMBEDDING_TABLE, VOCABULARY, HIDDEN)]
    if model.embedding.positions == "learned":
        weights.append(Weight(f"{name}.positions", POSITIONS, HIDDEN))
    if encoder.token_types:
        weights.append(Weight(f"{name}.types", extent("token_types"), HIDDEN))
    output = asm.add(Embedding(name=name, inputs=("tokens",), output=name, weights=tuple(weights)), HIDDEN)
    if model.norm.embedding:
        asm.norm("embedding.norm", output, HIDDEN, model.norm)
    return asm.block()


def _token_head(model: ModelSpec, encoder: EncoderSpec) -> Block:
    """Masked tokens are predicted with the transposed token table; all tokens pass through it, as in the releases."""
    asm = Assembler("head", {"head.input": HIDDEN})
    source = "head.input"
    if model.norm.final:
        source = asm.norm("head.norm", source, HIDDEN, model.norm)
    if encoder.pooler:
        asm.sequence = FIRST_POSITION
        asm.matmul("head.pooler", source, HIDDEN, HIDDEN, bias=HIDDEN)
        asm.sequence = None
    tied = EMBEDDING_TABLE if model.embedding.tied else None
    logits = asm.matmul("head.logits", source, HIDDEN, VOCABULARY, precision="head", tied_to=tied)
    asm.add(CrossEntropy(name="head.loss", inputs=(logits,), output="head.loss"), SCALAR)
    return asm.block()


def _patches(model: ModelSpec, encoder: EncoderSpec) -> Block:
    """A linear layer over the numbers of each patch (Dosovitskiy et al. 2020, arXiv 2010.11929), then the positions."""
    asm = Assembler("embedding", {"tokens": PATCH if encoder.patch else HIDDEN})
    source = "tokens"
    if encoder.patch:
        source = asm.matmul("embedding.patches", source, PATCH, HIDDEN, bias=HIDDEN)
    weights: list[Weight] = []
    if encoder.class_token:
        weights.append(Weight("embedding.positions.class_token", extent(FIRST_POSITION), HIDDEN))
    if model.embedding.positions == "learned":
        weights.append(Weight("embedding.positions.table", POSITIONS, HIDDEN))
    # Reads the patches and a table that the cache holds, and writes the stream.
    asm.elementwise(
        "embedding.positions", ElementwiseKind.RESIDUAL, (source,), HIDDEN, forward=2, backward=2,
        weights=tuple(weights),
    )  # fmt: skip
    return asm.block()


def _image_head(model: ModelSpec, encoder: EncoderSpec) -> Block:
    """A classifier on one token, or a loss that compares what every token gives with its target."""
    asm = Assembler("head", {"head.input": HIDDEN})
    source = "head.input"
    if model.norm.final:
        source = asm.norm("head.norm", source, HIDDEN, model.norm)
    if encoder.classes:
        asm.sequence = FIRST_POSITION
        logits = asm.matmul("head.logits", source, HIDDEN, CLASSES, precision="head", bias=CLASSES)
        asm.add(CrossEntropy(name="head.loss", inputs=(logits,), output="head.loss", vocabulary="classes"), SCALAR)
    else:
        # Squared differences: reads output and target; backward reads both and writes a gradient.
        asm.elementwise(
            "head.loss", ElementwiseKind.LOSS, (source,), HIDDEN, forward=2, backward=3, saves=(source,), output=SCALAR
        )
    return asm.block()
