"""The feed-forward half of a layer: a dense MLP, or routed experts with experts that every token visits."""

from __future__ import annotations

from perfmodel.specs.model import MlpSpec, ModelSpec, MoeSpec
from perfmodel.workload.builders.assembler import Assembler
from perfmodel.workload.builders.attention import HIDDEN
from perfmodel.workload.operators import (
    EXPERTS,
    SCALAR,
    VISITS,
    Combine,
    Dispatch,
    ElementwiseKind,
    Extent,
    GroupedMatmul,
    Storage,
    Weight,
    extent,
)

FFN = extent("ffn")
SHARED = extent("shared_ffn")
EXPERT = extent("expert_ffn")
#: The router's output: one logit per expert, on every rank (not sharded with the experts).
ROUTER = extent("router")
VISITING = extent(VISITS, "hidden")
VISITING_INNER = extent(VISITS, "expert_ffn")


def _mlp_of(model: ModelSpec) -> MlpSpec:
    if model.mlp is None:
        raise TypeError(f"{model.name} has no MLP")
    return model.mlp


def expert_axes(moe: MoeSpec) -> dict[str, int]:
    """Sizes of the axes of an expert layer."""
    axes = {
        EXPERTS: moe.experts, "router": moe.experts, VISITS: moe.experts_per_token, "expert_ffn": moe.expert_hidden,
    }  # fmt: skip
    return axes | {"shared_ffn": moe.shared_hidden} if moe.shared_hidden else axes


def add_mlp(asm: Assembler, model: ModelSpec, source: str) -> str:
    """A dense MLP as wide as the axis ``ffn``."""
    return _mlp(asm, model, source, ("mlp.up", "mlp.activation", "mlp.down"), FFN)


def _mlp(asm: Assembler, model: ModelSpec, source: str, names: tuple[str, str, str], inner: Extent) -> str:
    mlp, (up_name, activation_name, down_name) = _mlp_of(model), names
    columns = inner * 2 if mlp.gated else inner
    up = asm.matmul(up_name, source, HIDDEN, columns, bias=columns if mlp.bias else ())
    activated = _activation(asm, model, activation_name, up, inner)
    if mlp.dropout:
        activated = asm.dropout(f"{activation_name}_dropout", activated, inner)
    return asm.matmul(down_name, activated, inner, HIDDEN, bias=HIDDEN if mlp.bias else ())


def _activation(asm: Assembler, model: ModelSpec, name: str, source: str, inner: Extent) -> str:
    """Forward reads gate and up and writes one; backward reads all three and writes two gradients."""
    gate = int(_mlp_of(model).gated)
    return asm.elementwise(
        name, ElementwiseKind.ACTIVATION, (source,), inner, forward=2 + gate, backward=3 + 2 * gate, saves=(source,)
    )


def add_experts(asm: Assembler, model: ModelSpec, source: str) -> str:
    """Router, routed experts and shared experts; returns the sum of what they made of every token.

    Activations kept: the router's logits and probabilities in 32 bits, the routed copies of a token and what each
    expert makes of them before and after its activation. The output of an expert is kept too, because the weight that
    the router gave it has a gradient.
    """
    moe = model.moe
    if moe is None:
        raise TypeError(f"{model.name} has no experts")
    probabilities = _add_router(asm, moe, source)
    name = "moe.dispatch"
    routed = asm.add(
        Dispatch(name=name, inputs=(source, probabilities), output=name, features=HIDDEN), VISITING
    )  # fmt: skip
    up_columns = EXPERT * 2 if _mlp_of(model).gated else EXPERT
    up = _grouped(asm, moe, "moe.up", routed, HIDDEN, up_columns)
    activated = _activation(asm, model, "moe.activation", up, VISITING_INNER)
    down = _grouped(asm, moe, "moe.down", activated, EXPERT, HIDDEN)
    name = "moe.combine"
    combined = asm.add(
        Combine(name=name, inputs=(down, probabilities), output=name, saves=(down,), features=HIDDEN), HIDDEN
    )
    if not moe.shared_hidden:
        return combined
    return asm.residual("moe.sum", (combined, _add_shared(asm, model, source)), HIDDEN)


def _add_router(asm: Assembler, moe: MoeSpec, source: str) -> str:
    """Logits and probabilities in 32 bits: an element of the activation format counts half of one of theirs."""
    logits = asm.matmul(
        "moe.router", source, HIDDEN, ROUTER, bias=ROUTER if moe.router_bias else (), precision="head",
        storage=Storage.FLOAT32,
    )  # fmt: skip
    return asm.elementwise(
        "moe.routing", ElementwiseKind.SOFTMAX, (logits,), ROUTER, forward=4, backward=6,
        saves=(logits, "moe.routing"), storage=Storage.FLOAT32,
    )  # fmt: skip


def _grouped(asm: Assembler, moe: MoeSpec, name: str, source: str, contraction: Extent, columns: Extent) -> str:
    """A linear layer per expert: its rows are the visits of all tokens."""
    weights = [Weight(f"{name}.weight", _each(EXPERTS, contraction), columns)]
    if moe.expert_bias:
        weights.append(Weight(f"{name}.bias", extent(EXPERTS), columns))
    operator = GroupedMatmul(
        name=name, inputs=(source,), output=name, weights=tuple(weights), saves=(source,),
        contraction=contraction, columns=columns,
    )  # fmt: skip
    return asm.add(operator, _each(VISITS, columns))


def _each(axis: str, features: Extent) -> Extent:
    """An extent, once for every index of an axis."""
    return tuple((axis, *product) for product in features)


def _add_shared(asm: Assembler, model: ModelSpec, source: str) -> str:
    """The experts that every token visits are one MLP; a gate scales it with one number per token."""
    shared = _mlp(asm, model, source, ("moe.shared_up", "moe.shared_activation", "moe.shared_down"), SHARED)
    if model.moe is None or not model.moe.shared_gate:
        return shared
    gate = asm.matmul("moe.shared_gate", source, HIDDEN, SCALAR)
    return asm.elementwise(
        "moe.shared_scale", ElementwiseKind.ACTIVATION, (shared, gate), HIDDEN, forward=2, backward=3,
        saves=(shared, gate), flop=1.0,
    )  # fmt: skip
