"""Encoder-decoders: T5 (text to text) and Whisper (audio to text).

The layers of the encoder and those of the decoder are two blocks. A decoder layer attends to its own earlier tokens,
then to the output of the encoder. The encoder reads as many tokens as the decoder, or a number of its own
(``encoder.positions``).
"""

from __future__ import annotations

from perfmodel.errors import UnsupportedOperator
from perfmodel.specs.model import EncoderSpec, ModelSpec
from perfmodel.workload.builders.assembler import Assembler
from perfmodel.workload.builders.attention import HIDDEN, Mask, add_attention, add_cross_attention
from perfmodel.workload.builders.axes import model_axes
from perfmodel.workload.builders.ends import EMBEDDING_TABLE, VOCABULARY, add_embedding, add_head
from perfmodel.workload.builders.layers import (
    ATTENTION,
    DENSE,
    LayerKind,
    add_feed_forward,
    branch_end,
    build_layer,
)
from perfmodel.workload.operators import (
    SCALAR,
    Block,
    ElementwiseKind,
    Embedding,
    OperatorGraph,
    Weight,
    extent,
)
from perfmodel.workload.registry import register_builder

KIND = LayerKind(ATTENTION, DENSE)
#: Output of the encoder, read by every decoder layer.
MEMORY = "encoder.output"
#: Axes of the tokens of an encoder with a length of its own, and of the frames before its second convolution.
ENCODER_POSITIONS, FRAMES = "encoder_positions", "encoder_frames"
#: Taps of the convolutions over audio, and frames per position: the second convolution has stride two.
_TAPS, _STRIDE = 3, 2


@register_builder("encoder-decoder")
def build_encoder_decoder(model: ModelSpec, attention_kernel: str) -> OperatorGraph:
    """Both embeddings, encoder layers, decoder layers with cross attention, the final norms, head and loss."""
    encoder = model.encoder
    if encoder is None or encoder.kind != "decoder_cross" or model.attention is None or model.mlp is None:
        raise UnsupportedOperator(
            f"{model.name}: the builder 'encoder-decoder' needs attention, mlp and encoder.kind: decoder_cross"
        )
    sequence = ENCODER_POSITIONS if encoder.positions else None
    layers = build_layer(model, "encoder", KIND, encoder.layers, attention_kernel, causal=False, sequence=sequence)
    return OperatorGraph(
        name=model.name, axes=model_axes(model, {KIND}) | _axes(encoder), prologue=_prologue(model, encoder, sequence),
        blocks=(layers, _decoder_layers(model, sequence, attention_kernel)), epilogue=_epilogue(model, sequence),
        notes=_notes(model, encoder),
    )  # fmt: skip


def _axes(encoder: EncoderSpec) -> dict[str, int]:
    axes: dict[str, int] = {}
    if encoder.positions:
        axes[ENCODER_POSITIONS] = encoder.positions
    if encoder.mel_bins:
        axes |= {"mel_bins": encoder.mel_bins, "taps": _TAPS, FRAMES: _STRIDE * (encoder.positions or 0)}
    return axes


def _prologue(model: ModelSpec, encoder: EncoderSpec, sequence: str | None) -> Block:
    asm = Assembler("embedding", {"tokens": SCALAR})
    asm.sequence = sequence
    if encoder.mel_bins:
        _add_audio(asm)
    else:
        asm.tensor("source", SCALAR)
        asm.inputs = (*asm.inputs, "source")
        name = "embedding.source"
        weights = [Weight(f"{name}.weight", VOCABULARY, HIDDEN, EMBEDDING_TABLE)]
        if model.embedding.positions == "bucketed":
            weights.append(Weight(f"{name}.distances", extent("positions"), extent("heads")))
        asm.add(Embedding(name=name, inputs=("source",), output=name, weights=tuple(weights)), HIDDEN)
    asm.sequence = None
    add_embedding(asm, model)
    return asm.block()


def _add_audio(asm: Assembler) -> None:
    """Radford et al. 2022 (arXiv 2212.04356, section 2.2): two convolutions with activations, then fixed positions.

    A convolution over three frames is a matmul whose contraction is three frames long.
    """
    asm.sequence = FRAMES
    frames = asm.tensor("source", extent("mel_bins"))
    asm.inputs = (*asm.inputs, frames)
    taken = extent("taps", "mel_bins")
    wide = asm.matmul("embedding.audio_frames", frames, taken, HIDDEN, bias=HIDDEN)
    wide = asm.elementwise(
        "embedding.frames_activation", ElementwiseKind.ACTIVATION, (wide,), HIDDEN, forward=2, backward=3, saves=(wide,)
    )
    asm.sequence = ENCODER_POSITIONS
    halved = asm.matmul("embedding.audio_positions", wide, extent("taps", "hidden"), HIDDEN, bias=HIDDEN)
    # Activation and the addition of a table of positions are one kernel; the table counts among the parameters.
    table = Weight("embedding.positions_activation.table", extent(ENCODER_POSITIONS), HIDDEN)
    asm.elementwise(
        "embedding.positions_activation", ElementwiseKind.ACTIVATION, (halved,), HIDDEN, forward=2, backward=3,
        weights=(table,), saves=(halved,),
    )  # fmt: skip


def _decoder_layers(model: ModelSpec, sequence: str | None, attention_kernel: str) -> Block:
    asm = Assembler("decoder", {"block.input": HIDDEN})
    asm.sequence = sequence
    asm.tensor(MEMORY, HIDDEN, shared=True)
    asm.sequence = None
    asm.inputs = (*asm.inputs, MEMORY)
    normed = asm.norm("attention.norm", "block.input", HIDDEN, model.norm)
    attended = branch_end(asm, model, "attention", add_attention(asm, model, normed, Mask(), attention_kernel))
    stream = asm.residual("attention.residual", ("block.input", attended), HIDDEN)
    normed = asm.norm("cross_attention.norm", stream, HIDDEN, model.norm)
    crossed = add_cross_attention(asm, model, normed, MEMORY, attention_kernel)
    crossed = branch_end(asm, model, "cross_attention", crossed)
    stream = asm.residual("cross_attention.residual", (stream, crossed), HIDDEN)
    add_feed_forward(asm, model, KIND, stream)
    return asm.block(model.layers)


def _epilogue(model: ModelSpec, sequence: str | None) -> Block:
    """Final norm of the encoder (small: it is counted here, with the other end), then the decoder's head.

    The encoder's norm also keeps its output: the keys and values of all decoder layers are projected from it.
    """
    asm = Assembler("head", {"head.input": HIDDEN})
    asm.sequence = sequence
    asm.tensor("encoder.stream", HIDDEN)
    asm.inputs = (*asm.inputs, "encoder.stream")
    if model.norm.final:
        name = "head.encoder_norm"
        weights = [Weight(f"{name}.scale", SCALAR, HIDDEN)]
        if model.norm.has_bias:
            weights.append(Weight(f"{name}.bias", SCALAR, HIDDEN))
        asm.elementwise(
            name, ElementwiseKind.NORM, ("encoder.stream",), HIDDEN, forward=2, backward=3, weights=tuple(weights),
            saves=("encoder.stream", name),
        )  # fmt: skip
    asm.sequence = None
    add_head(asm, model, "head.input")
    return asm.block()


def _notes(model: ModelSpec, encoder: EncoderSpec) -> tuple[str, ...]:
    notes = ["a pipeline stage is taken to hold the same mix of encoder and decoder layers"]
    if not encoder.positions:
        notes.append("the encoder reads as many tokens as the decoder")
    if model.embedding.positions == "bucketed":
        notes.append("the bias of distances is not costed: a fused kernel adds it to the scores on the chip")
    return tuple(notes)
