"""Sizes of the logical axes of a model."""

from __future__ import annotations

from perfmodel.specs.model import ModelSpec
from perfmodel.workload.builders.feed_forward import expert_axes
from perfmodel.workload.builders.latent import latent_axes
from perfmodel.workload.builders.layers import ATTENTION, DENSE, EXPERTS, FULL, LINEAR, MAMBA, SLIDING, LayerKind
from perfmodel.workload.builders.mixers import mixer_axes


def model_axes(model: ModelSpec, kinds: set[LayerKind]) -> dict[str, int]:
    """The axes that the layers of these kinds, the embedding and the head use; no axis stands without a user."""
    mixers, networks = {kind.mixer for kind in kinds}, {kind.feed_forward for kind in kinds}
    axes = {"hidden": model.hidden}
    if mixers & {ATTENTION, SLIDING, FULL}:
        axes |= _attention_axes(model)
    if mixers & {MAMBA, LINEAR}:
        axes |= mixer_axes(model)
    if DENSE in networks and model.mlp is not None:
        axes["ffn"] = model.mlp.hidden
    if EXPERTS in networks and model.moe is not None:
        axes |= expert_axes(model.moe)
    if model.vocabulary:
        axes["vocabulary"] = model.vocabulary
    if model.embedding.position_rows is not None:
        axes["positions"] = model.embedding.position_rows
    return axes


def _attention_axes(model: ModelSpec) -> dict[str, int]:
    attention = model.attention
    if attention is None:
        raise TypeError(f"{model.name} has no attention")
    axes = {"heads": attention.heads, "kv_heads": attention.kv_heads, "head_dim": attention.head_dim}
    optional = {
        "value_dim": attention.value_dim,
        "full_kv_heads": attention.full_kv_heads,
        "full_head_dim": attention.full_head_dim,
    }
    axes |= {name: size for name, size in optional.items() if size is not None}
    if model.mla is not None:
        axes |= latent_axes(model.mla)
    sparse = model.sparse_attention
    if sparse is not None:
        axes |= {
            "indexer_heads": sparse.indexer_heads, "indexer_dim": sparse.indexer_dim, "indexer_top_k": sparse.top_k,
            "indexer_keys": 1, "indexer_values": 0,
        }  # fmt: skip
    return axes
