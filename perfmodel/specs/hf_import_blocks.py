"""The blocks of an imported model: attention and its windows, experts, latent and sparse attention."""

from __future__ import annotations

from typing import Any, Literal

from perfmodel.errors import SpecError, nearest
from perfmodel.specs.hf_import_families import ACTIVATIONS, Family
from perfmodel.specs.hf_import_mixers import encoder, layer_pattern, shortest_period, state_space
from perfmodel.specs.hf_import_reader import ConfigReader
from perfmodel.specs.model import (
    MAXIMUM_LAYERS,
    Activation,
    AttentionSpec,
    BiasKind,
    MlaSpec,
    MoeSpec,
    SparseAttentionSpec,
)

LayerKind = Literal["sliding", "full"]


def activation(reader: ConfigReader, family: Family) -> tuple[Activation, bool]:
    """Activation of the MLP, and whether it is gated."""
    stated = reader.config.get("feed_forward_proj")
    gated = family.gated
    if isinstance(stated, str):  # T5 says both at once: ``gated-gelu``
        gated = stated.startswith("gated-")
        stated = stated.removeprefix("gated-")
    else:
        key = reader.key_of("activation")
        stated = None if key is None else reader.config[key]
    if stated is None:
        return family.activation, gated
    if not isinstance(stated, str) or stated not in ACTIVATIONS:
        hint = nearest(str(stated), ACTIVATIONS)
        raise SpecError(f"{reader.where}: unknown activation {stated!r}; known: {', '.join(ACTIVATIONS)}{hint}")
    return ACTIVATIONS[stated], gated


def attention(reader: ConfigReader, family: Family, model_type: str) -> AttentionSpec | None:
    """Heads, biases and windows; None for a family without attention."""
    if not family.attention:
        return None
    heads = reader.require("heads")
    kv_heads, full_kv_heads = _kv_heads(reader, model_type, heads)
    head_dim = reader.find("head_dim") or _even_head(reader, heads)
    value_dim = reader.number("v_head_dim")
    if reader.number("kv_lora_rank") is not None:  # latent attention: a head is its nope and rope parts
        head_dim = (reader.number("qk_nope_head_dim") or 0) + (reader.number("qk_rope_head_dim") or 0)
        value_dim = None
    window, kind, pattern = _window(reader, family)
    full_head_dim = reader.number("global_head_dim")
    return AttentionSpec(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        value_dim=None if value_dim == head_dim else value_dim,
        bias=_bias(reader, family, model_type),
        query_key_norm=_query_key_norm(reader, family, model_type),
        window=window,
        window_kind=kind,
        window_pattern=pattern,
        full_kv_heads=full_kv_heads,
        full_head_dim=None if full_head_dim == head_dim else full_head_dim,
        sinks=family.sinks or reader.switch(("add_swa_attention_sink_bias",), default=False),
        output_gate=model_type == "qwen3_next" or reader.switch(("attn_output_gate",), default=False),
    )


def _even_head(reader: ConfigReader, heads: int) -> int:
    hidden = reader.require("hidden")
    if heads < 1 or hidden % heads:
        raise SpecError(f"{reader.where}: head_dim is not stated and heads ({heads}) do not divide hidden ({hidden})")
    return hidden // heads


def _kv_heads(reader: ConfigReader, model_type: str, heads: int) -> tuple[int, int | None]:
    """Key-value heads, and those of the full-attention layers where they differ."""
    stated = reader.find("kv_heads")
    if model_type == "falcon" and not reader.switch(("new_decoder_architecture",), default=False):
        return (1 if reader.switch(("multi_query",), default=True) else heads), None
    full = reader.number("num_global_key_value_heads")
    windowed = reader.number("swa_num_key_value_heads")
    if windowed is not None and windowed != stated:
        return windowed, stated
    return stated or heads, full if full != stated else None


def _bias(reader: ConfigReader, family: Family, model_type: str) -> BiasKind:
    if family.bias in ("qkv", "all_but_key"):
        return family.bias
    keys = ("bias",) if model_type == "falcon" else ("attention_bias", "use_bias", "qkv_bias")
    return family.bias_when_set if reader.switch(keys, default=family.bias == "all") else "none"


def _query_key_norm(reader: ConfigReader, family: Family, model_type: str) -> Literal["none", "head", "full"]:
    stated = reader.switch(("use_qk_norm",), default=False)
    if model_type.startswith("llama4"):
        return "none"  # it normalises after the rotation, without weights
    return "full" if stated else family.query_key_norm


def _window(
    reader: ConfigReader, family: Family
) -> tuple[int | None, Literal["sliding", "chunked"], tuple[LayerKind, ...] | None]:
    chunk = reader.number("attention_chunk_size")
    if chunk is not None and reader.config.get("sliding_window") is None:
        # Llama 4: three layers attend inside chunks, every fourth attends everywhere.
        return chunk, "chunked", ("sliding", "sliding", "sliding", "full")
    window = reader.number("sliding_window")
    context = reader.find("context")
    used = reader.switch(("use_sliding_window",), default=family.window)
    if not window or not used or (context is not None and window >= context):
        return None, "sliding", None
    return window, "sliding", _window_pattern(reader, family)


def _window_pattern(reader: ConfigReader, family: Family) -> tuple[LayerKind, ...] | None:
    types = reader.sequence("layer_types")
    if types is not None:
        return shortest_period(tuple("sliding" if one == "sliding_attention" else "full" for one in types))
    flags = reader.sequence("hybrid_layer_pattern")
    if flags is not None:
        return shortest_period(tuple("sliding" if one == 1 else "full" for one in flags))
    every = reader.number("sliding_window_pattern")
    if every:
        every = min(every, MAXIMUM_LAYERS)
        return ("sliding",) * (every - 1) + ("full",)
    first_full = reader.number("max_window_layers")
    if not family.window and first_full is not None:  # Qwen: the first layers attend everywhere
        layers = min(reader.require("layers"), MAXIMUM_LAYERS)
        return shortest_period(tuple("full" if layer < first_full else "sliding" for layer in range(layers)))
    return family.window_pattern


def optional_blocks(reader: ConfigReader, model_type: str) -> dict[str, Any]:
    """The fields of a model that are not dense decoder: None where the configuration has no such block."""
    return {
        "moe": _experts(reader, model_type),
        "mla": _latent_attention(reader),
        "sparse_attention": _sparse_attention(reader),
        "ssm": state_space(reader, model_type),
        "layer_pattern": layer_pattern(reader, model_type),
        "encoder": encoder(reader, model_type),
    }


def _experts(reader: ConfigReader, model_type: str) -> MoeSpec | None:
    experts = reader.find("experts")
    if not experts:
        return None
    width = reader.number("moe_intermediate_size") or reader.require("mlp")
    shared, shared_width = _shared_experts(reader, model_type, width)
    dense, interval, offset = _expert_layers(reader)
    noaux = reader.config.get("topk_method") == "noaux_tc"
    groups = reader.number("n_group")
    return MoeSpec(
        experts=experts,
        experts_per_token=reader.require("experts_per_token"),
        expert_hidden=width,
        shared_experts=shared,
        shared_hidden=shared_width,
        shared_gate=model_type in ("qwen2_moe", "qwen3_next", "qwen3_5_moe", "qwen3_5_moe_text"),
        dense_layers=dense,
        interval=interval,
        offset=offset,
        groups=groups if groups and groups > 1 else None,
        groups_per_token=reader.number("topk_group") if groups and groups > 1 else None,
        router_bias=noaux or model_type == "gpt_oss" or reader.switch(("use_routing_bias",), default=False),
        expert_bias=model_type == "gpt_oss",
        prediction_layers=reader.find("prediction_layers") or 0,
    )


def _shared_experts(reader: ConfigReader, model_type: str, width: int) -> tuple[int, int]:
    """Number of shared experts and their inner width together."""
    if model_type.startswith("llama4"):
        return 1, width
    if model_type.startswith("gemma4"):  # the dense MLP runs beside the experts for every token
        return 1, reader.require("mlp")
    stated = next(
        (
            size
            for key in ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size")
            if (size := reader.number(key))
        ),
        0,
    )
    count = reader.number("n_shared_experts") or (1 if stated else 0)
    return count, stated or count * width


def _expert_layers(reader: ConfigReader) -> tuple[int, int, int]:
    """Leading dense layers, and interval and offset of the layers with experts."""
    dense = reader.number("first_k_dense_replace") or 0
    frequency = reader.sequence("moe_layer_freq")
    if frequency is not None:
        dense = next((position for position, one in enumerate(frequency) if one), len(frequency))
        if not all(frequency[dense:]):
            raise SpecError(f"{reader.where}: moe_layer_freq: dense layers after the first expert layer have no field")
    alone = reader.sequence("mlp_only_layers")
    if alone:
        dense = len(alone)
        if sorted(alone) != list(range(dense)):
            raise SpecError(f"{reader.where}: mlp_only_layers: only leading dense layers have a field, got {alone}")
    period = reader.number("expert_layer_period")
    if period is not None:
        return dense, max(period, 1), reader.number("expert_layer_offset") or 0
    step = reader.number("interleave_moe_layer_step") or reader.number("decoder_sparse_step") or 1
    return dense, step, step - 1


def _latent_attention(reader: ConfigReader) -> MlaSpec | None:
    rank = reader.number("kv_lora_rank")
    if rank is None:
        return None
    missing = [key for key in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim") if reader.number(key) is None]
    if missing:
        raise SpecError(
            f"{reader.where}: the keys {', '.join(missing)} are missing; latent attention (kv_lora_rank) needs them"
        )
    return MlaSpec(
        query_rank=reader.number("q_lora_rank"),
        key_value_rank=rank,
        nope_dim=reader.number("qk_nope_head_dim") or 0,
        rope_dim=reader.number("qk_rope_head_dim") or 0,
        value_dim=reader.number("v_head_dim") or 0,
    )


def _sparse_attention(reader: ConfigReader) -> SparseAttentionSpec | None:
    heads, dim, top_k = (reader.number(key) for key in ("index_n_heads", "index_head_dim", "index_topk"))
    if heads is None or dim is None or top_k is None:
        return None
    return SparseAttentionSpec(indexer_heads=heads, indexer_dim=dim, top_k=top_k)
