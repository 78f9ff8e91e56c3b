"""The dense decoder: GPT, Llama, Mistral, Qwen, Gemma, Phi, Falcon, PaLM, Nemotron and their relatives."""

from __future__ import annotations

from perfmodel.errors import UnsupportedOperator
from perfmodel.specs.model import ModelSpec
from perfmodel.workload.builders.assembler import Assembler
from perfmodel.workload.builders.attention import HIDDEN, add_attention
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
from perfmodel.workload.registry import optional_blocks, register_builder

#: Blocks of a model file that this builder turns into operators; anything else is refused by name.
KNOWN_BLOCKS = ("attention", "mlp", "norm", "embedding")
EMBEDDING_TABLE = "embedding.tokens.weight"
FFN = extent("ffn")
VOCABULARY = extent("vocabulary")


@register_builder("decoder")
def build_decoder(model: ModelSpec, attention_kernel: str) -> OperatorGraph:
    """Embedding, repeated decoder blocks (one type per attention window), final norm, head and loss."""
    _refuse_unknown(model)
    blocks = tuple(
        _decoder_block(model, name, window, count, attention_kernel) for name, window, count in _block_types(model)
    )
    return OperatorGraph(
        name=model.name, axes=_axes(model), prologue=_prologue(model), blocks=blocks, epilogue=_epilogue(model),
        notes=_notes(model),
    )  # fmt: skip


def _refuse_unknown(model: ModelSpec) -> None:
    missing = optional_blocks(model)
    missing += _unknown_attention(model)
    if model.mlp is None:
        missing.append("a model without mlp")
    if model.layer_pattern is not None and set(model.layer_pattern) != {"*"}:
        missing.append(f"layer_pattern {model.layer_pattern} (mixed layers)")
    if missing:
        raise UnsupportedOperator(
            f"{model.name}: the builder {model.family!r} has no operators for {', '.join(missing)}; "
            f"it knows the blocks {', '.join(KNOWN_BLOCKS)}. The dimensions are catalogued and can be looked at"
        )


def _unknown_attention(model: ModelSpec) -> list[str]:
    attention = model.attention
    if attention is None:
        return ["a model without attention"]
    unknown = {
        "attention.sinks (attention sinks)": attention.sinks,
        "attention.output_gate (gated attention output)": attention.output_gate,
        "attention.window_kind: chunked (chunked attention)": attention.window_kind == "chunked",
        "attention.full_kv_heads (key-value heads that differ between layers)": attention.full_kv_heads is not None,
        "attention.full_head_dim (head widths that differ between layers)": attention.full_head_dim is not None,
    }
    return [words for words, used in unknown.items() if used]


def _axes(model: ModelSpec) -> dict[str, int]:
    attention, mlp = model.attention, model.mlp
    if attention is None or mlp is None:
        raise TypeError("a decoder has attention and an MLP")
    axes = {
        "hidden": model.hidden, "heads": attention.heads, "kv_heads": attention.kv_heads,
        "head_dim": attention.head_dim, "ffn": mlp.hidden, "vocabulary": model.vocabulary,
    }  # fmt: skip
    if attention.value_dim is not None:
        axes["value_dim"] = attention.value_dim
    if model.embedding.position_rows is not None:
        axes["positions"] = model.embedding.position_rows
    return axes


def _block_types(model: ModelSpec) -> list[tuple[str, int | None, int]]:
    """Name, window and count of each kind of layer, in order of first occurrence."""
    attention = model.attention
    if attention is None or attention.window_pattern is None:
        return [("block", None if attention is None else attention.window, model.layers)]
    pattern = attention.window_pattern
    kinds = [pattern[layer % len(pattern)] for layer in range(model.layers)]
    types = {kind: kinds.count(kind) for kind in kinds}
    if len(types) == 1:
        (kind,) = types
        return [("block", attention.window if kind == "sliding" else None, model.layers)]
    return [(f"block.{kind}", attention.window if kind == "sliding" else None, count) for kind, count in types.items()]


def _prologue(model: ModelSpec) -> Block:
    asm = Assembler("embedding", {"tokens": SCALAR})
    weights = [Weight(EMBEDDING_TABLE, VOCABULARY, HIDDEN)]
    if model.embedding.positions == "learned":
        weights.append(Weight("embedding.tokens.positions", extent("positions"), HIDDEN))
    name = "embedding.tokens"
    output = asm.add(Embedding(name=name, inputs=("tokens",), output=name, weights=tuple(weights)), HIDDEN)
    if model.norm.embedding:
        asm.norm("embedding.norm", output, HIDDEN, model.norm)
    return asm.block()


def _epilogue(model: ModelSpec) -> Block:
    asm = Assembler("head", {"head.input": HIDDEN})
    source = "head.input"
    if model.norm.final:
        source = asm.norm("head.norm", source, HIDDEN, model.norm)
    logits = asm.matmul(
        "head.logits", source, HIDDEN, VOCABULARY, precision="head",
        bias=VOCABULARY if model.embedding.head_bias else (),
        tied_to=EMBEDDING_TABLE if model.embedding.tied else None,
    )  # fmt: skip
    asm.add(CrossEntropy(name="head.loss", inputs=(logits,), output="head.loss"), SCALAR)
    return asm.block()


def _decoder_block(model: ModelSpec, name: str, window: int | None, count: int, attention_kernel: str) -> Block:
    asm = Assembler(name, {"block.input": HIDDEN})
    normed = asm.norm("attention.norm", "block.input", HIDDEN, model.norm)
    attended = add_attention(asm, model, normed, window, attention_kernel)
    attended = _branch_end(asm, model, "attention", attended)
    if model.parallel_blocks:
        if model.norm.per_layer > 1:
            normed = asm.norm("mlp.norm", "block.input", HIDDEN, model.norm)
        transformed = _branch_end(asm, model, "mlp", _add_mlp(asm, model, normed))
        asm.residual("mlp.residual", ("block.input", attended, transformed), HIDDEN)
    else:
        stream = asm.residual("attention.residual", ("block.input", attended), HIDDEN)
        normed = asm.norm("mlp.norm", stream, HIDDEN, model.norm)
        transformed = _branch_end(asm, model, "mlp", _add_mlp(asm, model, normed))
        asm.residual("mlp.residual", (stream, transformed), HIDDEN)
    return asm.block(count)


def _branch_end(asm: Assembler, model: ModelSpec, branch: str, source: str) -> str:
    """What stands between the last projection of a branch and the residual sum."""
    if model.norm.per_layer == 4:
        source = asm.norm(f"{branch}.post_norm", source, HIDDEN, model.norm)
    if model.dropout:
        source = asm.dropout(f"{branch}.dropout", source, HIDDEN)
    return source


def _add_mlp(asm: Assembler, model: ModelSpec, source: str) -> str:
    mlp = model.mlp
    if mlp is None:
        raise TypeError("a decoder block has an MLP")
    inner = extent("ffn", times=2 if mlp.gated else 1)
    up = asm.matmul("mlp.up", source, HIDDEN, inner, bias=inner if mlp.bias else ())
    # Forward reads gate and up and writes one; backward reads all three and writes two gradients.
    gate = int(mlp.gated)
    activated = asm.elementwise(
        "mlp.activation", ElementwiseKind.ACTIVATION, (up,), FFN, forward=2 + gate, backward=3 + 2 * gate, saves=(up,)
    )
    return asm.matmul("mlp.down", activated, FFN, HIDDEN, bias=HIDDEN if mlp.bias else ())


def _notes(model: ModelSpec) -> tuple[str, ...]:
    if model.embedding.positions != "relative":
        return ()
    note = (
        "relative positions: their projection is costed once per token, which is exact at a micro-batch of one; "
        "their part of the scores is not costed"
    )
    return (note,)
