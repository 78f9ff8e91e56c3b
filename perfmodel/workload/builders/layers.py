"""Layers as pairs of a mixer and a feed-forward network: the kinds of a model, their counts and operators.

Every declaration of a model file composes: ``layer_pattern`` gives the mixers, ``window_pattern`` the windows of the
attention layers, ``dense_layers``, ``interval`` and ``offset`` the layers with experts. A block stands for all layers
of one kind, whatever their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from perfmodel.specs.model import ModelSpec
from perfmodel.workload.builders.assembler import Assembler
from perfmodel.workload.builders.attention import HIDDEN, Mask, add_attention, attention_of
from perfmodel.workload.builders.feed_forward import add_experts, add_mlp
from perfmodel.workload.builders.latent import add_latent_attention
from perfmodel.workload.builders.mixers import add_mixer
from perfmodel.workload.operators import Block

#: Mixers of a layer. Attention is ``sliding`` or ``full`` where a model has both.
ATTENTION, SLIDING, FULL, MAMBA, LINEAR, NOTHING = "attention", "sliding", "full", "mamba", "linear", ""
#: Feed-forward networks of a layer.
DENSE, EXPERTS = "dense", "experts"
_MIXER_OF_LETTER = {"*": ATTENTION, "M": MAMBA, "L": LINEAR, "-": NOTHING, "E": NOTHING}


class LayerKind(NamedTuple):
    """What a layer consists of; an empty name where it has no such half."""

    mixer: str
    feed_forward: str


def layer_kinds(model: ModelSpec) -> list[LayerKind]:
    """The kind of every layer, first to last."""
    pattern = model.layer_pattern or "*"
    apart = bool({"-", "E"} & set(pattern))  # a layer is one or the other
    kinds: list[LayerKind] = []
    for layer in range(model.layers):
        letter = pattern[layer % len(pattern)]
        feed_forward = {"-": DENSE, "E": EXPERTS}.get(letter, NOTHING) if apart else _feed_forward(model, layer)
        mixer = _MIXER_OF_LETTER[letter]
        kinds.append(LayerKind(_window_kind(model, layer) if mixer == ATTENTION else mixer, feed_forward))
    return kinds


def _feed_forward(model: ModelSpec, layer: int) -> str:
    moe = model.moe
    if moe is not None and layer >= moe.dense_layers and layer % moe.interval == moe.offset:
        return EXPERTS
    return NOTHING if model.mlp is None else DENSE


def _window_kind(model: ModelSpec, layer: int) -> str:
    pattern = None if model.attention is None else model.attention.window_pattern
    return ATTENTION if pattern is None else pattern[layer % len(pattern)]


def named_kinds(kinds: list[LayerKind], prefix: str = "block") -> Iterator[tuple[str, LayerKind, int]]:
    """Name of the block, kind and count of every distinct kind, in order of first occurrence.

    A name says what differs between the kinds: ``block`` alone where nothing does.
    """
    counts = Counter(kinds)
    mixers, networks = ({kind[half] for kind in counts} for half in (0, 1))
    for kind, count in counts.items():
        parts = (kind.mixer if len(mixers) > 1 else "", kind.feed_forward if len(networks) > 1 else "")
        yield ".".join((prefix, *filter(None, parts))), kind, count


def leading_kinds(kinds: list[LayerKind]) -> frozenset[LayerKind]:
    """Kinds of the shortest start of the model none of whose kinds comes again; empty when there is none."""
    for length in range(1, len(kinds)):
        start = frozenset(kinds[:length])
        if not start & frozenset(kinds[length:]):
            return start
    return frozenset()


def mask_of(model: ModelSpec, kind: LayerKind) -> Mask:
    """What the attention layers of a kind attend."""
    spec = attention_of(model)
    window = None if kind.mixer == FULL else spec.window
    return Mask(window=window, chunked=window is not None and spec.window_kind == "chunked")


def add_layer(asm: Assembler, model: ModelSpec, kind: LayerKind, mask: Mask, attention_kernel: str) -> str:
    """Append one layer: each half is normalised, transformed and added to the residual stream."""
    if model.parallel_blocks and kind.mixer and kind.feed_forward:
        return _parallel_layer(asm, model, kind, mask, attention_kernel)
    stream = "block.input"
    if kind.mixer:
        branch = _branch(kind.mixer)
        normed = asm.norm(f"{branch}.norm", stream, HIDDEN, model.norm)
        mixed = branch_end(asm, model, branch, _mix(asm, model, normed, kind, mask, attention_kernel))
        stream = asm.residual(f"{branch}.residual", (stream, mixed), HIDDEN)
    if kind.feed_forward:
        stream = add_feed_forward(asm, model, kind, stream)
    return stream


def add_feed_forward(asm: Assembler, model: ModelSpec, kind: LayerKind, stream: str) -> str:
    """The second half of a layer, from the residual stream back to it."""
    branch = _network(kind)
    normed = asm.norm(f"{branch}.norm", stream, HIDDEN, model.norm)
    transformed = branch_end(asm, model, branch, _transform(asm, model, normed, kind))
    return asm.residual(f"{branch}.residual", (stream, transformed), HIDDEN)


def _parallel_layer(asm: Assembler, model: ModelSpec, kind: LayerKind, mask: Mask, kernel: str) -> str:
    """Both halves read the same stream and are added at once (GPT-J, PaLM)."""
    first, second = _branch(kind.mixer), _network(kind)
    normed = asm.norm(f"{first}.norm", "block.input", HIDDEN, model.norm)
    mixed = branch_end(asm, model, first, _mix(asm, model, normed, kind, mask, kernel))
    if model.norm.per_layer > 1:
        normed = asm.norm(f"{second}.norm", "block.input", HIDDEN, model.norm)
    transformed = branch_end(asm, model, second, _transform(asm, model, normed, kind))
    return asm.residual(f"{second}.residual", ("block.input", mixed, transformed), HIDDEN)


def _branch(mixer: str) -> str:
    return "mixer" if mixer in (MAMBA, LINEAR) else "attention"


def _network(kind: LayerKind) -> str:
    return "moe" if kind.feed_forward == EXPERTS else "mlp"


def _mix(asm: Assembler, model: ModelSpec, source: str, kind: LayerKind, mask: Mask, kernel: str) -> str:
    if kind.mixer in (MAMBA, LINEAR):
        return add_mixer(asm, model, source)
    if model.mla is not None:
        return add_latent_attention(asm, model, source, mask, kernel)
    return add_attention(asm, model, source, mask, kernel, full=kind.mixer == FULL)


def _transform(asm: Assembler, model: ModelSpec, source: str, kind: LayerKind) -> str:
    return (add_experts if kind.feed_forward == EXPERTS else add_mlp)(asm, model, source)


def branch_end(asm: Assembler, model: ModelSpec, branch: str, source: str) -> str:
    """What stands between the last projection of a branch and the residual sum."""
    if model.norm.per_layer == 4:
        source = asm.norm(f"{branch}.post_norm", source, HIDDEN, model.norm)
    if model.dropout:
        source = asm.dropout(f"{branch}.dropout", source, HIDDEN)
    return source


def build_layer(
    model: ModelSpec, name: str, kind: LayerKind, count: int, attention_kernel: str, *,
    causal: bool = True, sequence: str | None = None,
) -> Block:  # fmt: skip
    """The block of all layers of one kind; ``sequence`` is the axis of the tokens of another sequence."""
    asm = Assembler(name, {"block.input": HIDDEN}, sequence)
    mask = mask_of(model, kind) if kind.mixer in (ATTENTION, SLIDING, FULL) else Mask()
    add_layer(asm, model, kind, replace(mask, causal=causal), attention_kernel)
    return asm.block(count)
