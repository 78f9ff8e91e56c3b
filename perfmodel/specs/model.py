"""What a model file may say: the dimensions of an architecture, and facts that check them.

The dense decoder fields are complete: together they give the exact number of parameters. The optional
sub-models (``moe``, ``mla``, ``ssm`` ...) record the dimensions of families whose operator graphs are
built elsewhere; a builder that does not know a block refuses it by name instead of ignoring it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from perfmodel.provenance import Basis
from perfmodel.specs.base import FileSpec, SpecModel, SwitchField
from perfmodel.specs.quantities import CountField

#: A model file with more layers holds a typing error (or an attack on the memory of the reader).
MAXIMUM_LAYERS = 100_000

BiasKind = Literal["none", "qkv", "all", "all_but_key"]
Activation = Literal["silu", "gelu", "relu", "relu2"]
Positions = Literal["rotary", "alibi", "learned", "relative", "bucketed", "none"]


class AttentionSpec(SpecModel):
    """Softmax attention.

    Attributes
    ----------
    heads, kv_heads
        Query heads; key and value heads (1 = multi-query, ``heads`` = multi-head).
    head_dim, value_dim
        Width of a query and key head; of a value head (None = ``head_dim``). ``heads * head_dim`` need
        not be ``hidden``.
    bias
        Which projections have one: ``qkv``, ``all`` (and the output), ``all_but_key``.
    query_key_norm
        ``head``: one norm of ``head_dim`` for queries and one for keys; ``full``: over the whole width.
    window, window_kind, window_pattern
        Attended tokens of a windowed layer; ``sliding`` or ``chunked``; the kinds of successive layers,
        repeated over the model (None = every layer is windowed when ``window`` is given).
    full_kv_heads, full_head_dim
        Of the full-attention layers where they differ from those of the windowed ones (Gemma 4, MiMo).
    sinks, output_gate
        One learned sink logit per head; a gate as wide as the context before the output projection.
    """

    heads: CountField
    kv_heads: CountField
    head_dim: CountField
    value_dim: CountField | None = None
    bias: BiasKind = "none"
    query_key_norm: Literal["none", "head", "full"] = "none"
    window: CountField | None = None
    window_kind: Literal["sliding", "chunked"] = "sliding"
    window_pattern: tuple[Literal["sliding", "full"], ...] | None = None
    full_kv_heads: CountField | None = None
    full_head_dim: CountField | None = None
    sinks: SwitchField = False
    output_gate: SwitchField = False

    @model_validator(mode="after")
    def _consistent(self) -> AttentionSpec:
        if self.heads < 1 or self.kv_heads < 1 or self.head_dim < 1:
            raise ValueError("heads, kv_heads and head_dim must be at least 1")
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads ({self.kv_heads}) must divide heads ({self.heads})")
        if self.window_pattern is not None and self.window is None:
            raise ValueError("window_pattern needs window (the attended tokens of a sliding layer)")
        if self.window == 0:
            raise ValueError("window must be at least 1 token; leave it out for full attention")
        return self


class MlpSpec(SpecModel):
    """Feed-forward network.

    Attributes
    ----------
    hidden
        Inner width.
    gated
        A second input projection gates the first.
    activation, bias
        Activation function; whether the projections have a bias.
    dropout
        Dropout also between the activation and the second projection (vision transformers).
    """

    hidden: CountField
    gated: SwitchField
    activation: Activation = "silu"
    bias: SwitchField = False
    dropout: SwitchField = False


class NormSpec(SpecModel):
    """Normalisation.

    Attributes
    ----------
    kind
        ``rmsnorm`` (a scale) or ``layernorm`` (a scale and a bias).
    bias
        Overrides whether there is a bias (PaLM: a layer norm without one).
    per_layer
        2 (before attention and MLP), 4 (also after them) or, with parallel blocks, 1.
    embedding
        One more norm right after the embedding (BLOOM).
    final
        The norm before the LM head.
    """

    kind: Literal["rmsnorm", "layernorm"]
    bias: SwitchField | None = None
    per_layer: CountField = 2
    embedding: SwitchField = False
    final: SwitchField = True

    @property
    def has_bias(self) -> bool:
        return self.kind == "layernorm" if self.bias is None else self.bias


class EmbeddingSpec(SpecModel):
    """Token embedding and positions; ``tied``: the LM head is the transposed token table.

    ``positions: relative`` is the projection of Transformer-XL (one hidden x heads*head_dim matrix per layer);
    ``bucketed`` is a learned number per head and bucket of distances (T5). ``position_rows`` is the length of the
    learned table, or the number of buckets.
    """

    tied: SwitchField
    positions: Positions = "rotary"
    position_rows: CountField | None = None
    head_bias: SwitchField = False

    @model_validator(mode="after")
    def _consistent(self) -> EmbeddingSpec:
        if (self.positions in ("learned", "bucketed")) != (self.position_rows is not None):
            raise ValueError(
                "position_rows (length of the table) goes with positions: learned or bucketed, and only with these"
            )
        return self


class MoeSpec(SpecModel):
    """Mixture of experts.

    Attributes
    ----------
    experts, experts_per_token, expert_hidden
        Routed experts, how many each token visits, and their inner width.
    shared_experts, shared_hidden, shared_gate
        Experts that every token visits, their inner width together, and whether a gate scales them.
    dense_layers
        First layers that have the dense MLP (``mlp.hidden``) instead.
    interval, offset
        Layer ``i`` has experts when ``i % interval == offset`` (Jamba 2 and 1, Llama 4 Maverick 2 and 1).
    groups, groups_per_token
        Node-limited routing: expert groups, and how many a token may visit.
    router_bias, expert_bias
        A bias per expert in the router; biases inside the experts.
    prediction_layers
        Extra multi-token-prediction layers that the published main-model totals leave out. They are part of the
        graph where ``train_prediction_layers`` of the model is on.
    """

    experts: CountField
    experts_per_token: CountField
    expert_hidden: CountField
    shared_experts: CountField = 0
    shared_hidden: CountField = 0
    shared_gate: SwitchField = False
    dense_layers: CountField = 0
    interval: CountField = 1
    offset: CountField = 0
    groups: CountField | None = None
    groups_per_token: CountField | None = None
    router_bias: SwitchField = False
    expert_bias: SwitchField = False
    prediction_layers: CountField = 0

    @model_validator(mode="after")
    def _consistent(self) -> MoeSpec:
        if not 1 <= self.experts_per_token <= self.experts:
            raise ValueError(f"experts_per_token ({self.experts_per_token}) must be 1 .. experts ({self.experts})")
        return self


class MlaSpec(SpecModel):
    """Multi-head latent attention: ranks of the compressed query (None: not compressed) and key-value."""

    query_rank: CountField | None = None
    key_value_rank: CountField
    nope_dim: CountField
    rope_dim: CountField
    value_dim: CountField


class SparseAttentionSpec(SpecModel):
    """A lightning indexer that selects ``top_k`` keys per query (DeepSeek sparse attention)."""

    indexer_heads: CountField
    indexer_dim: CountField
    top_k: CountField


class SsmSpec(SpecModel):
    """A recurrent mixer: state-space (``mamba1``, ``mamba2``) or linear attention (``gated_delta``, ``lightning``).

    Attributes
    ----------
    state
        Width of the input and output vectors (state space), of queries and keys (linear attention).
    heads, head_dim
        Heads and width of a head; of ``gated_delta`` the key heads and the width of a value head.
    value_heads
        Value heads of ``gated_delta`` (None = ``heads``).
    groups
        Input and output vectors that heads share (``mamba2``).
    expand, dt_rank
        Channels over hidden, and rank of the projection of the step (``mamba1``).
    convolution
        Taps of the causal convolution, or None.
    chunk
        Tokens that the kernel processes together (None: what the published kernels take).
    inner_norm
        A norm on step, input and output vectors (Jamba).
    """

    kind: Literal["mamba1", "mamba2", "gated_delta", "lightning"]
    state: CountField
    heads: CountField | None = None
    head_dim: CountField | None = None
    value_heads: CountField | None = None
    groups: CountField | None = None
    expand: CountField | None = None
    convolution: CountField | None = None
    dt_rank: CountField | None = None
    chunk: CountField | None = None
    inner_norm: SwitchField = False


class EncoderSpec(SpecModel):
    """An encoder: every token attends to all others.

    Attributes
    ----------
    kind
        ``decoder_cross``: beside a decoder; ``only``: bidirectional, no decoder; ``vision``: over image patches.
    layers
        Its layers. Of ``only`` and ``vision`` they are those of the model.
    positions
        Tokens of the encoder where they are a number of the model (frames of audio); of ``decoder_cross`` without it,
        the encoder reads as many tokens as the decoder.
    mel_bins
        Features of an audio frame: two convolutions of three taps, the second of stride two, lead to ``hidden``.
    patch
        Numbers of an image patch (channels x height x width), projected to ``hidden``; None: tokens arrive embedded.
    class_token, classes
        A learned token before the patches; outputs of a classifier on it (None: the loss compares every token's output
        with its target).
    token_types, pooler
        Rows of a second table added to the tokens; a projection of the first token (BERT).
    """

    kind: Literal["decoder_cross", "only", "vision"]
    layers: CountField
    positions: CountField | None = None
    mel_bins: CountField | None = None
    patch: CountField | None = None
    class_token: SwitchField = False
    classes: CountField | None = None
    token_types: CountField | None = None
    pooler: SwitchField = False


class FactsSpec(SpecModel):
    """Published numbers that check the dimensions.

    ``exact``: the total is known to the parameter, so that the operator graph must reproduce it. ``basis``
    is that of the published figures where it is not the file's. Active parameters follow no single rule
    between publications; treat them as 10 % figures.
    """

    published_total: CountField | None = None
    published_active: CountField | None = None
    basis: Basis | None = None
    exact: SwitchField = False
    note: str = ""


class ModelSpec(FileSpec):
    """A model: dimensions, the family whose builder makes its operator graph, and published facts.

    Attributes
    ----------
    family
        Name of the builder registered with :func:`perfmodel.workload.register_builder`.
    layers, hidden, vocabulary
        Repeating layers, width of the residual stream, rows of the token table.
    context
        Longest sequence in tokens that the model was made for.
    parallel_blocks
        Attention and MLP read the same residual stream and are added together (Falcon, PaLM).
    dropout
        Trained with dropout: masks and dropped-out attention scores are kept for backward.
    layer_pattern
        Mixers of successive layers, repeated over the model: ``*`` attention, ``M`` state space, ``L`` linear
        attention; ``-`` (MLP) and ``E`` (experts) where a layer is only that. None: attention everywhere.
    train_prediction_layers
        Train the ``moe.prediction_layers`` too: they lie beside the head, whose matrix they share.
    layers_only
        Only the repeating layers are there: no embedding, no head and no loss, as in studies that count nothing else.
    parameters
        Free dimensions for builders that a user registers, and facts that have no field of their own.
    """

    kind: Literal["model"] = "model"  # pyright: ignore[reportIncompatibleVariableOverride]
    family: str = "decoder"
    architecture: str = ""
    layers: CountField
    hidden: CountField
    vocabulary: CountField
    context: CountField | None = None
    attention: AttentionSpec | None = None
    mlp: MlpSpec | None = None
    norm: NormSpec
    embedding: EmbeddingSpec
    parallel_blocks: SwitchField = False
    dropout: SwitchField = False
    layer_pattern: str | None = Field(default=None, pattern=r"^[*ML\-E]+$")
    moe: MoeSpec | None = None
    mla: MlaSpec | None = None
    sparse_attention: SparseAttentionSpec | None = None
    ssm: SsmSpec | None = None
    encoder: EncoderSpec | None = None
    train_prediction_layers: SwitchField = False
    layers_only: SwitchField = False
    facts: FactsSpec = FactsSpec()
    parameters: Mapping[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if not 1 <= self.layers <= MAXIMUM_LAYERS or self.hidden < 1:
            raise ValueError(f"layers must be 1 .. {MAXIMUM_LAYERS} and hidden at least 1")
        allowed = (1, 2) if self.parallel_blocks else (2, 4)
        whole = self.attention is not None and self.mlp is not None and self.layer_pattern is None
        if whole and self.norm.per_layer not in allowed:
            kind = "parallel" if self.parallel_blocks else "sequential"
            raise ValueError(
                f"norm.per_layer is {self.norm.per_layer}; {kind} blocks have {allowed[0]} or {allowed[1]}"
            )
        return self

    def __hash__(self) -> int:
        """Consistent with equality; ``parameters`` is a mapping and stays out of it."""
        return hash((self.name, self.family, self.layers, self.hidden, self.vocabulary))
