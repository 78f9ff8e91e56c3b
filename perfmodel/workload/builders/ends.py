"""What stands around the layers: embedding, final norm, head, loss, and the layers that predict further tokens."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.specs.model import ModelSpec
from perfmodel.workload.builders.assembler import Assembler
from perfmodel.workload.builders.attention import HIDDEN, Mask
from perfmodel.workload.builders.layers import LayerKind, add_layer
from perfmodel.workload.operators import (
    SCALAR,
    Block,
    CrossEntropy,
    Embedding,
    Weight,
    extent,
)

EMBEDDING_TABLE = "embedding.tokens.weight"
HEAD_MATRIX = "head.logits.weight"
VOCABULARY = extent("vocabulary")


def build_prologue(model: ModelSpec) -> Block:
    """Token table, learned positions, and the norm that some models have there."""
    asm = Assembler("embedding", {"tokens": SCALAR})
    add_embedding(asm, model)
    return asm.block()


def add_embedding(asm: Assembler, model: ModelSpec) -> str:
    """Append the look-up of the tokens; returns the residual stream."""
    weights = [Weight(EMBEDDING_TABLE, VOCABULARY, HIDDEN)]
    if model.embedding.positions == "learned":
        weights.append(Weight("embedding.tokens.positions", extent("positions"), HIDDEN))
    if model.embedding.positions == "bucketed":  # T5: a number per head and bucket of distances, in the first layer
        weights.append(Weight("embedding.tokens.distances", extent("positions"), extent("heads")))
    name = "embedding.tokens"
    output = asm.add(Embedding(name=name, inputs=("tokens",), output=name, weights=tuple(weights)), HIDDEN)
    if model.norm.embedding:
        output = asm.norm("embedding.norm", output, HIDDEN, model.norm)
    return output


def build_epilogue(model: ModelSpec, last: LayerKind, mask: Mask, attention_kernel: str) -> Block:
    """Final norm, head and loss; then the layers of multi-token prediction, where they are trained.

    ``last`` and ``mask`` are those of the model's last layer, which a prediction layer repeats.
    """
    asm = Assembler("head", {"head.input": HIDDEN})
    add_head(asm, model, "head.input")
    layers = model.moe.prediction_layers if model.moe is not None and model.train_prediction_layers else 0
    stream = "head.input"
    for depth in range(layers):
        prefix = "prediction" if layers == 1 else f"prediction{depth + 1}"
        stream = _add_prediction(asm, model, prefix, stream, last, mask, attention_kernel)
    return asm.block()


def add_head(asm: Assembler, model: ModelSpec, source: str) -> None:
    """Append final norm, LM head and loss."""
    if model.norm.final:
        source = asm.norm("head.norm", source, HIDDEN, model.norm)
    logits = asm.matmul(
        "head.logits", source, HIDDEN, VOCABULARY, precision="head",
        bias=VOCABULARY if model.embedding.head_bias else (),
        tied_to=EMBEDDING_TABLE if model.embedding.tied else None,
    )  # fmt: skip
    asm.add(CrossEntropy(name="head.loss", inputs=(logits,), output="head.loss"), SCALAR)


def _add_prediction(
    asm: Assembler, model: ModelSpec, prefix: str, stream: str, kind: LayerKind, mask: Mask, kernel: str
) -> str:
    """One more token ahead: DeepSeek-V3, arXiv 2412.19437, section 2.2.

    The stream and the embedding of the next token are normalised, joined and projected, pass through one layer and end
    in a head of their own norm. Table and head are those of the model. The layer lies with the head on the last stage.
    """
    if "tokens" not in asm.inputs:
        asm.inputs = (*asm.inputs, "tokens")
        asm.tensor("tokens", SCALAR)
    table = Weight(f"{prefix}.tokens.weight", VOCABULARY, HIDDEN, EMBEDDING_TABLE)
    name = f"{prefix}.tokens"
    tokens = asm.add(Embedding(name=name, inputs=("tokens",), output=name, weights=(table,)), HIDDEN)
    tokens = asm.norm(f"{prefix}.token_norm", tokens, HIDDEN, model.norm)
    hidden = asm.norm(f"{prefix}.hidden_norm", stream, HIDDEN, model.norm)
    joined = asm.matmul(f"{prefix}.projection", hidden, HIDDEN * 2, HIDDEN, also=(tokens,))
    output = _append_layer(asm, model, prefix, joined, kind, mask, kernel)
    normed = asm.norm(f"{prefix}.norm", output, HIDDEN, model.norm)
    matrix = EMBEDDING_TABLE if model.embedding.tied else HEAD_MATRIX
    logits = asm.matmul(f"{prefix}.logits", normed, HIDDEN, VOCABULARY, precision="head", tied_to=matrix)
    asm.add(CrossEntropy(name=f"{prefix}.loss", inputs=(logits,), output=f"{prefix}.loss"), SCALAR)
    return output


def _append_layer(
    asm: Assembler, model: ModelSpec, prefix: str, source: str, kind: LayerKind, mask: Mask, kernel: str
) -> str:
    """The operators of a layer under ``prefix``, reading ``source``."""
    layer = Assembler("layer", {"block.input": HIDDEN})
    end = add_layer(layer, model, kind, mask, kernel)

    def renamed(tensor: str) -> str:
        return source if tensor == "block.input" else f"{prefix}.{tensor}"

    for tensor in layer.tensors.values():
        if tensor.name != "block.input":
            whole = None if tensor.part_of is None else renamed(tensor.part_of)
            asm.tensors[renamed(tensor.name)] = replace(tensor, name=renamed(tensor.name), part_of=whole)
    for operator in layer.operators:
        changed = replace(
            operator,
            name=f"{prefix}.{operator.name}",
            inputs=tuple(map(renamed, operator.inputs)),
            output=renamed(operator.output),
            saves=tuple(map(renamed, operator.saves)),
            weights=tuple(replace(one, name=f"{prefix}.{one.name}") for one in operator.weights),
        )
        asm.operators.append(changed)
    return renamed(end)
