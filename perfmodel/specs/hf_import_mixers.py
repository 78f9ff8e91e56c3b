"""Recurrent mixers, patterns of layers and encoders of an imported model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar, cast

from perfmodel.errors import SpecError
from perfmodel.specs.hf_import_reader import ConfigReader
from perfmodel.specs.model import MAXIMUM_LAYERS, EncoderSpec, SsmSpec

#: One kind or one letter per layer.
Layers = TypeVar("Layers", tuple[Literal["sliding", "full"], ...], str)
#: Types whose every layer is a state-space mixer.
_MAMBA = ("mamba", "falcon_mamba", "mamba2")


def shortest_period(pattern: Layers) -> Layers:
    """The shortest prefix that, repeated and cut, gives the pattern."""
    periods = range(1, len(pattern) + 1)
    return pattern[: next((period for period in periods if pattern[period:] == pattern[: len(pattern) - period]), 0)]


def state_space(reader: ConfigReader, model_type: str) -> SsmSpec | None:
    """The recurrent mixer, or None."""
    if model_type in ("mamba", "falcon_mamba"):
        stated = reader.config.get("time_step_rank")
        # "auto" is a sixteenth of the width, rounded up.
        automatic = -(-reader.require("hidden") // 16)
        return SsmSpec(
            kind="mamba1", state=_stated(reader, "state_size"), expand=reader.number("expand") or 2,
            dt_rank=automatic if stated in (None, "auto") else reader.number("time_step_rank"),
            convolution=reader.number("conv_kernel"),
        )  # fmt: skip
    if model_type == "jamba":
        return SsmSpec(
            kind="mamba1", state=_stated(reader, "mamba_d_state"), expand=reader.number("mamba_expand") or 2,
            dt_rank=_stated(reader, "mamba_dt_rank"), convolution=reader.number("mamba_d_conv"), inner_norm=True,
        )  # fmt: skip
    if model_type == "mamba2":
        return SsmSpec(
            kind="mamba2", state=_stated(reader, "state_size"), heads=_stated(reader, "num_heads"),
            head_dim=_stated(reader, "head_dim"), groups=_stated(reader, "n_groups"),
            convolution=reader.number("conv_kernel"), chunk=reader.number("chunk_size"),
        )  # fmt: skip
    if model_type == "minimax_text_01":
        heads = reader.require("heads")
        width = reader.find("head_dim") or reader.require("hidden") // max(heads, 1)
        return SsmSpec(kind="lightning", state=width, heads=heads, head_dim=width)
    return _shared_keys(reader)


def _shared_keys(reader: ConfigReader) -> SsmSpec | None:
    """Nemotron-H and the gated delta networks of Qwen, told by their keys."""
    state = reader.number("ssm_state_size")
    if state is not None:
        return SsmSpec(
            kind="mamba2",
            state=state,
            heads=reader.number("mamba_num_heads"),
            head_dim=reader.number("mamba_head_dim"),
            groups=reader.number("n_groups"),
            convolution=reader.number("conv_kernel"),
            chunk=reader.number("chunk_size"),
        )
    key_dim = reader.number("linear_key_head_dim")
    if key_dim is None:
        return None
    return SsmSpec(
        kind="gated_delta", state=key_dim, heads=reader.number("linear_num_key_heads"),
        value_heads=reader.number("linear_num_value_heads"), head_dim=reader.number("linear_value_head_dim"),
        convolution=reader.number("linear_conv_kernel_dim"),
    )  # fmt: skip


def _stated(reader: ConfigReader, key: str) -> int:
    value = reader.number(key)
    if value is None:
        raise SpecError(f"{reader.where}: the key {key} is missing; the state-space mixer needs it")
    return value


def layer_pattern(reader: ConfigReader, model_type: str) -> str | None:
    """One letter per layer, where layers have different mixers."""
    if model_type in _MAMBA:
        return "M"
    pattern = reader.config.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return pattern
    kinds = reader.sequence("attn_type_list")
    if model_type == "minimax_text_01" and kinds is not None:
        return shortest_period("".join("*" if one == 1 else "L" for one in kinds)) or None
    period = min(reader.number("attn_layer_period") or 0, MAXIMUM_LAYERS)
    if model_type == "jamba" and period:
        offset = reader.number("attn_layer_offset") or 0
        return "".join("*" if layer == offset else "M" for layer in range(period))
    types = reader.sequence("layer_types")
    if types is not None and "linear_attention" in types:
        letters = "".join("L" if one == "linear_attention" else "*" for one in types)
        return shortest_period(letters)
    every = min(reader.number("full_attention_interval") or 0, MAXIMUM_LAYERS)
    return "L" * (every - 1) + "*" if every else None


def encoder(reader: ConfigReader, model_type: str) -> EncoderSpec | None:
    """The encoder of a type that has one."""
    makers = {"t5": _text_encoder, "whisper": _audio_encoder, "bert": _bidirectional, "vit": _vision_encoder}
    maker = makers.get(model_type)
    return None if maker is None else maker(reader)


def _text_encoder(reader: ConfigReader) -> EncoderSpec:
    layers = reader.number("num_layers")
    if layers is None:
        raise SpecError(f"{reader.where}: the key num_layers is missing; it gives the layers of the encoder")
    return EncoderSpec(kind="decoder_cross", layers=layers)


def _audio_encoder(reader: ConfigReader) -> EncoderSpec:
    layers, positions, bins = (reader.number(key) for key in ("encoder_layers", "max_source_positions", "num_mel_bins"))
    if layers is None or positions is None or bins is None:
        raise SpecError(
            f"{reader.where}: an audio encoder needs the keys encoder_layers, max_source_positions and num_mel_bins"
        )
    return EncoderSpec(kind="decoder_cross", layers=layers, positions=positions, mel_bins=bins)


def _bidirectional(reader: ConfigReader) -> EncoderSpec:
    return EncoderSpec(
        kind="only", layers=reader.require("layers"), positions=reader.find("context"),
        token_types=reader.number("type_vocab_size"), pooler=True,
    )  # fmt: skip


def image_positions(reader: ConfigReader) -> int:
    """Patches of an image, and the class token."""
    image, patch = reader.number("image_size"), reader.number("patch_size")
    if not image or not patch:
        raise SpecError(f"{reader.where}: a vision transformer needs the keys image_size and patch_size")
    return (image // patch) ** 2 + 1


def _vision_encoder(reader: ConfigReader) -> EncoderSpec:
    positions, patch = image_positions(reader), reader.number("patch_size") or 0
    labels: Any = reader.config.get("id2label")
    return EncoderSpec(
        kind="vision", layers=reader.require("layers"), positions=positions, class_token=True,
        patch=(reader.number("num_channels") or 3) * patch**2,
        classes=len(cast("Mapping[str, Any]", labels)) or None if isinstance(labels, Mapping) else None,
    )  # fmt: skip
