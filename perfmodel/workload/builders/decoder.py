"""Decoders: dense, with experts, with latent, sparse, windowed or linear attention, state-space and hybrid ones."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.errors import UnsupportedOperator
from perfmodel.specs.model import ModelSpec
from perfmodel.workload.builders.attention import Mask
from perfmodel.workload.builders.axes import model_axes
from perfmodel.workload.builders.ends import build_epilogue, build_prologue
from perfmodel.workload.builders.layers import (
    ATTENTION,
    DENSE,
    EXPERTS,
    FULL,
    LINEAR,
    MAMBA,
    SLIDING,
    LayerKind,
    build_layer,
    layer_kinds,
    leading_kinds,
    mask_of,
    named_kinds,
)
from perfmodel.workload.operators import OperatorGraph
from perfmodel.workload.registry import register_builder

#: Kinds of recurrent mixers by the letter that stands for them in a layer pattern.
_RECURRENT = {MAMBA: ("mamba1", "mamba2"), LINEAR: ("gated_delta", "lightning")}


@register_builder("mamba")
@register_builder("hybrid")
@register_builder("decoder")
def build_decoder(model: ModelSpec, attention_kernel: str) -> OperatorGraph:
    """Embedding, repeated layers (one block per kind of layer), final norm, head and loss."""
    kinds = layer_kinds(model)
    _refuse(model, set(kinds))
    first = leading_kinds(kinds)
    blocks = tuple(
        replace(build_layer(model, name, kind, count, attention_kernel), leading=kind in first)
        for name, kind, count in named_kinds(kinds)
    )
    last = kinds[-1]
    mask = mask_of(model, last) if last.mixer in (ATTENTION, SLIDING, FULL) else Mask()
    return OperatorGraph(
        name=model.name, axes=model_axes(model, set(kinds)), prologue=build_prologue(model), blocks=blocks,
        epilogue=build_epilogue(model, last, mask, attention_kernel), notes=_notes(model),
    )  # fmt: skip


def _refuse(model: ModelSpec, kinds: set[LayerKind]) -> None:
    """Declarations that contradict each other, or that no layer uses: ignoring one would give another model's time."""
    mixers, networks = {kind.mixer for kind in kinds}, {kind.feed_forward for kind in kinds}
    attends = bool(mixers & {ATTENTION, SLIDING, FULL})
    wrong = {
        "encoder: this family has none (encoder, encoder-decoder)": model.encoder is not None,
        "no attention, but layers that need it": attends and model.attention is None,
        "attention that no layer of layer_pattern has": not attends and model.attention is not None,
        "no mlp, but layers that need it": bool(networks & {DENSE, EXPERTS}) and model.mlp is None,
        "neither a mixer nor a feed-forward network": networks == {""} and mixers == {""},
        "no moe, but layers with experts": EXPERTS in networks and model.moe is None,
        "moe that no layer has": EXPERTS not in networks and model.moe is not None,
        "mla without attention": model.mla is not None and not attends,
        "sparse_attention without mla": model.sparse_attention is not None and model.mla is None,
        "ssm that no layer of layer_pattern has": model.ssm is not None and not mixers & {MAMBA, LINEAR},
        "no ssm, but recurrent layers": model.ssm is None and bool(mixers & {MAMBA, LINEAR}),
    }
    wrong |= {
        f"ssm.kind {model.ssm.kind} where layer_pattern asks for {' or '.join(known)}": mixer in mixers
        and model.ssm.kind not in known
        for mixer, known in _RECURRENT.items()
        if model.ssm is not None
    }
    found = [words for words, applies in wrong.items() if applies]
    if found:
        raise UnsupportedOperator(
            f"{model.name}: the builder {model.family!r} makes no layers of this model file: {'; '.join(found)}"
        )


def _notes(model: ModelSpec) -> tuple[str, ...]:
    notes: list[str] = []
    if model.embedding.positions == "relative":
        notes.append(
            "relative positions: their projection is costed once per token, which is exact at a micro-batch of one; "
            "their part of the scores is not costed"
        )
    if model.sparse_attention is not None:
        notes.append("sparse attention: the choice of the best keys and the gathering of scattered keys are not costed")
    return tuple(notes)
