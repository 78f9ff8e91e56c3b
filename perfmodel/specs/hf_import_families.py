"""What a Hugging Face configuration leaves unsaid: the conventions of each ``model_type``.

Each entry holds what the published modelling code of that type does when the configuration is silent:
kind of norm, gated MLP, biases, tied embeddings. Keys that a configuration does state win.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from perfmodel.specs.model import Activation, BiasKind, Positions

#: Canonical field -> keys that configurations use for it, first match wins.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_decoder_layers", "decoder_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "n_embed"),
    "vocabulary": ("vocab_size", "padded_vocab_size"),
    "heads": ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"),
    "kv_heads": ("num_key_value_heads", "num_kv_heads", "kv_n_heads", "n_head_kv"),
    "head_dim": ("head_dim", "attention_head_dim", "d_kv"),
    "mlp": ("intermediate_size", "ffn_hidden_size", "ffn_dim", "d_ff", "n_inner", "decoder_ffn_dim"),
    "context": (
        "max_position_embeddings",
        "n_positions",
        "max_seq_len",
        "n_ctx",
        "seq_length",
        "max_target_positions",
    ),
    "experts": ("num_local_experts", "n_routed_experts", "num_experts", "moe_num_experts"),
    "experts_per_token": ("num_experts_per_tok", "experts_per_token", "top_k_experts", "moe_top_k"),
    "activation": ("hidden_act", "hidden_activation", "activation_function", "mlp_hidden_act", "dense_act_fn"),
    "prediction_layers": ("num_nextn_predict_layers", "num_mtp_modules", "mtp_num_hidden_layers"),
}

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu", "swish": "silu", "swiglu": "silu",
    "gelu": "gelu", "gelu_new": "gelu", "gelu_fast": "gelu", "gelu_pytorch_tanh": "gelu",
    "relu": "relu", "relu2": "relu2", "squared_relu": "relu2",
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """Conventions of one ``model_type``.

    Attributes
    ----------
    family
        Name of the builder of ``perfmodel.workload``.
    bias, bias_when_set
        Attention biases without and with ``attention_bias: true`` in the configuration.
    mlp_factor
        MLP width over hidden when no key states it (None: the key is required).
    window
        Whether ``sliding_window`` counts when ``use_sliding_window`` is absent.
    position_offset
        Extra rows of a learned position table (OPT: 2).
    dense_mlp
        Key of the dense MLP width where ``intermediate_size`` is that of an expert (Llama 4).
    attention, mlp
        Whether layers have these at all (Mamba has neither).
    final_norm
        A norm before the head.
    """

    family: str = "decoder"
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    norm_bias: bool | None = None
    norms: int = 2
    embedding_norm: bool = False
    gated: bool = True
    activation: Activation = "silu"
    bias: BiasKind = "none"
    bias_when_set: BiasKind = "all"
    mlp_bias: bool = False
    mlp_factor: int | None = None
    query_key_norm: Literal["none", "head", "full"] = "none"
    positions: Positions = "rotary"
    position_offset: int = 0
    tied: bool = False
    head_bias: bool = False
    parallel: bool = False
    window: bool = True
    window_pattern: tuple[Literal["sliding", "full"], ...] | None = None
    sinks: bool = False
    dense_mlp: str | None = None
    attention: bool = True
    mlp: bool = True
    final_norm: bool = True


_LLAMA = Family()
_GPT = Family(norm="layernorm", gated=False, activation="gelu", bias="all", mlp_bias=True)
_QWEN2 = Family(bias="qkv", window=False)
_QWEN3 = Family(query_key_norm="head", window=False)
_GEMMA = Family(activation="gelu", tied=True)
_GEMMA3 = replace(_GEMMA, norms=4, query_key_norm="head", window_pattern=("sliding",) * 5 + ("full",))
_MAMBA = Family(family="mamba", norms=1, positions="none", tied=True, attention=False, mlp=False)
_LLAMA4 = replace(_LLAMA, dense_mlp="intermediate_size_mlp")

FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "granite": _LLAMA,
    "smollm3": replace(_LLAMA, tied=True),
    "phi3": _LLAMA,
    "qwen2": _QWEN2,
    "qwen2_moe": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_moe": _QWEN3,
    "qwen3_next": _QWEN3,
    "qwen3_5_moe": _QWEN3,
    "qwen3_5_moe_text": _QWEN3,
    "gemma": _GEMMA,
    "gemma2": replace(_GEMMA, norms=4, window_pattern=("sliding", "full")),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "gemma4": _GEMMA3,
    "gemma4_text": _GEMMA3,
    "gpt2": replace(_GPT, positions="learned", tied=True, mlp_factor=4),
    "opt": replace(_GPT, activation="relu", positions="learned", position_offset=2, tied=True),
    "bloom": replace(_GPT, positions="alibi", tied=True, mlp_factor=4, embedding_norm=True),
    "gpt_neox": replace(_GPT, parallel=True),
    "phi": replace(_GPT, parallel=True, norms=1, head_bias=True),
    "falcon": replace(_GPT, bias="none", mlp_bias=False, tied=True, mlp_factor=4, parallel=True, norms=1),
    "starcoder2": replace(_GPT, tied=True),
    "cohere": Family(norm="layernorm", norm_bias=False, norms=1, parallel=True, tied=True),
    "nemotron": Family(norm="layernorm", gated=False, activation="relu2"),
    "nemotron_h": Family(family="hybrid", gated=False, activation="relu2", norms=1, positions="none"),
    "dbrx": Family(norm="layernorm", norm_bias=False),
    "phimoe": Family(norm="layernorm"),
    "gpt_oss": replace(_LLAMA, sinks=True, window_pattern=("sliding", "full")),
    "minimax_m2": _LLAMA,
    "llama4": _LLAMA4,
    "llama4_text": _LLAMA4,
    "deepseek_v2": _LLAMA,
    "deepseek_v3": _LLAMA,
    "deepseek_v32": _LLAMA,
    "kimi_k2": _LLAMA,
    "glm4_moe": replace(_LLAMA, bias_when_set="qkv"),
    "mimo_v2_flash": _LLAMA,
    "deepseek": _LLAMA,
    "glm_moe_dsa": _LLAMA,
    "minimax_text_01": _LLAMA,
    "mamba": _MAMBA,
    "falcon_mamba": _MAMBA,
    "mamba2": replace(_MAMBA, tied=False),
    "jamba": Family(family="hybrid", positions="none"),
    "t5": Family(family="encoder-decoder", gated=False, activation="relu", positions="bucketed", tied=True),
    "whisper": replace(_GPT, family="encoder-decoder", bias="all_but_key", positions="learned", tied=True),
    "bert": replace(_GPT, family="encoder", positions="learned", tied=True, embedding_norm=True, final_norm=False),
    "vit": replace(_GPT, family="encoder", positions="learned", tied=True),
}
