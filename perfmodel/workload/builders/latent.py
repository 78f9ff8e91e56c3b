"""Multi-head latent attention, and the indexer of sparse attention that stands beside it.

DeepSeek-V2 (arXiv 2405.04434, section 2.1) compresses queries and keys-values to latent vectors; keys have a rotated
part that all heads share. In training the latents are expanded to ordinary heads. Latents and the shared part are not
sharded by tensor parallelism. DeepSeek-V3.2 (DeepSeek sparse attention) adds a small indexer that scores all keys for
every query; the attention core then reads the ``top_k`` best of them.
"""

from __future__ import annotations

from perfmodel.specs.model import MlaSpec, ModelSpec
from perfmodel.workload.builders.assembler import Assembler
from perfmodel.workload.builders.attention import HIDDEN, HeadExtents, Mask, add_core
from perfmodel.workload.operators import SCALAR, ElementwiseKind, Extent, KeyIndexer, Storage, Weight, extent

LATENT = extent("key_value_rank")
ROPE = extent("rope_dim")
QUERY_LATENT = extent("query_rank")
#: Heads are rebuilt whole: there are as many key-value heads as heads.
HEADS = HeadExtents(
    query=extent("heads", "head_dim"),
    key=extent("heads", "head_dim"),
    value=extent("heads", "value_dim"),
    context=extent("heads", "value_dim"),
    kv_heads="heads",
    query_dim="head_dim",
    value_dim="value_dim",
)


def latent_axes(spec: MlaSpec) -> dict[str, int]:
    """Sizes of the axes of latent attention; a head is its part without position and its rotated part."""
    axes = {
        "key_value_rank": spec.key_value_rank, "nope_dim": spec.nope_dim, "rope_dim": spec.rope_dim,
        "head_dim": spec.nope_dim + spec.rope_dim, "value_dim": spec.value_dim,
    }  # fmt: skip
    return axes if spec.query_rank is None else axes | {"query_rank": spec.query_rank}


def add_latent_attention(asm: Assembler, model: ModelSpec, source: str, mask: Mask, attention_kernel: str) -> str:
    """Append the operators from the normalised input to the projected output; returns the output tensor."""
    spec = model.mla
    if spec is None:
        raise TypeError(f"{model.name} has no latent attention")
    latent_query = source
    if spec.query_rank is not None:
        down = asm.matmul("attention.query_down", source, HIDDEN, QUERY_LATENT)
        latent_query = asm.norm("attention.query_norm", down, QUERY_LATENT, model.norm)
    contraction = HIDDEN if spec.query_rank is None else QUERY_LATENT
    query = asm.matmul("attention.query_up", latent_query, contraction, HEADS.query)
    down = asm.matmul("attention.key_value_down", source, HIDDEN, LATENT + ROPE)
    latent = asm.norm(
        "attention.key_value_norm", asm.tensor("attention.key_value_latent", LATENT, part_of=down), LATENT, model.norm
    )
    shared = asm.tensor("attention.key_rope", ROPE, part_of=down)
    # The shared part joins the keys of every head here: it is gathered with the latent.
    columns = extent("heads", "nope_dim") + HEADS.value
    pair = asm.matmul("attention.key_value_up", latent, LATENT, columns, also=(shared,))
    value = asm.tensor("attention.value", HEADS.value, part_of=pair)
    # One kernel rotates the rotated part of the queries in place and assembles whole keys: part without position
    # and rotated part.
    query_key = asm.elementwise(
        "attention.rotary", ElementwiseKind.ROTARY, (query, pair), HEADS.key + extent("heads", "rope_dim"),
        forward=2, backward=3, output=HEADS.query + HEADS.key,
    )  # fmt: skip
    if model.sparse_attention is not None:
        chosen = _add_indexer(asm, source, latent_query, contraction, mask)
        # Each query attends all its earlier keys up to top_k of them: as many pairs as in a sliding window.
        mask = Mask(causal=mask.causal, window=model.sparse_attention.top_k)
        context = add_core(asm, model, "attention", (query_key, value, chosen), mask, HEADS, attention_kernel)
    else:
        context = add_core(asm, model, "attention", (query_key, value), mask, HEADS, attention_kernel)
    return asm.matmul("attention.output", context, HEADS.context, HIDDEN)


def _add_indexer(asm: Assembler, source: str, query: str, contraction: Extent, mask: Mask) -> str:
    """Small query heads from the query latent, one key, a weight per head, scores over all pairs, the best kept."""
    heads = extent("indexer_heads", "indexer_dim")
    queries = asm.matmul("attention.indexer_query", query, contraction, heads)
    key = asm.matmul("attention.indexer_key", source, HIDDEN, extent("indexer_dim"))
    scale = (
        Weight("attention.indexer_norm.scale", SCALAR, extent("indexer_dim")),
        Weight("attention.indexer_norm.bias", SCALAR, extent("indexer_dim")),
    )
    normed = asm.elementwise(
        "attention.indexer_norm", ElementwiseKind.NORM, (key,), extent("indexer_dim"), forward=2, backward=3,
        weights=scale, saves=(key,),
    )  # fmt: skip
    weights = asm.matmul("attention.indexer_weights", source, HIDDEN, extent("indexer_heads"))
    name = "attention.indexer"
    operator = KeyIndexer(
        name=name, inputs=(queries, normed, weights), output=name, saves=(queries, normed, weights, name),
        heads="indexer_heads", kv_heads="indexer_keys", query_dim="indexer_dim", value_dim="indexer_values",
        causal=mask.causal,
    )  # fmt: skip
    return asm.add(operator, extent("indexer_top_k"), storage=Storage.FLOAT32)  # an index is four bytes
