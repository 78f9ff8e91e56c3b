"""Recurrent mixers: Mamba-1, Mamba-2, gated delta networks and lightning attention.

All have the same shape: one projection to everything, a short causal convolution (or an activation), a recurrence along
the sequence, a gate, and a projection back. The axes ``mixer_heads``, ``mixer_groups`` (key-value pairs of the
recurrence, shared by the heads of a group) and ``inner`` (the channels of Mamba-1) are sharded by tensor parallelism.
"""

from __future__ import annotations

from perfmodel.errors import SpecError
from perfmodel.specs.model import ModelSpec, SsmSpec
from perfmodel.workload.builders.assembler import Assembler
from perfmodel.workload.builders.attention import HIDDEN
from perfmodel.workload.operators import (
    SCALAR,
    ElementwiseKind,
    Extent,
    Scan,
    ScanKind,
    Weight,
    extent,
)

INNER = extent("inner")
STATE = extent("state")
STEP = extent("dt_rank")
HEADS = extent("mixer_heads")
VALUES = extent("mixer_heads", "mixer_dim")
KEYS = extent("mixer_groups", "state")
#: Tokens of a chunk where a model file states none: the defaults of the published kernels.
DEFAULT_CHUNK = {"mamba1": 1, "mamba2": 256, "gated_delta": 64, "lightning": 256}


def _ssm_of(model: ModelSpec) -> SsmSpec:
    if model.ssm is None:
        raise TypeError(f"{model.name} has no recurrent mixer")
    return model.ssm


def _stated(model: ModelSpec, field: str) -> int:
    value = getattr(_ssm_of(model), field)
    if value is None:
        raise SpecError(f"{model.name}: ssm.{field} is missing; a {_ssm_of(model).kind} mixer needs it")
    return int(value)


def mixer_axes(model: ModelSpec) -> dict[str, int]:
    """Sizes of the axes of the recurrent layers.

    Raises
    ------
    SpecError
        The kind of mixer needs a field that the model file does not state.
    """
    ssm = _ssm_of(model)
    axes = {"state": ssm.state}
    if ssm.convolution is not None:
        axes["convolution"] = ssm.convolution
    if ssm.kind == "mamba1":
        inner = _stated(model, "expand") * model.hidden
        return axes | {"inner": inner, "dt_rank": _stated(model, "dt_rank"), "one": 1}
    axes |= {"mixer_dim": _stated(model, "head_dim")}
    heads = _stated(model, "heads")
    if ssm.kind == "gated_delta":
        return axes | {"mixer_heads": ssm.value_heads or heads, "mixer_groups": heads}
    if ssm.kind == "mamba2":
        return axes | {"mixer_heads": heads, "mixer_groups": _stated(model, "groups")}
    return axes | {"mixer_heads": heads, "mixer_groups": heads}


def add_mixer(asm: Assembler, model: ModelSpec, source: str) -> str:
    """Append the operators from the normalised input to the projected output; returns the output tensor."""
    kinds = {"mamba1": _mamba1, "mamba2": _mamba2, "gated_delta": _gated_delta, "lightning": _lightning}
    return kinds[_ssm_of(model).kind](asm, model, source)


def _chunk(model: ModelSpec) -> int:
    ssm = _ssm_of(model)
    return int(ssm.chunk or DEFAULT_CHUNK[ssm.kind])


def _convolution(asm: Assembler, model: ModelSpec, source: str, features: Extent, *, bias: bool) -> str:
    """Depthwise and causal, with its activation: a multiply-add per tap; without taps the activation alone."""
    name, taps = "mixer.convolution", _ssm_of(model).convolution
    if not taps:
        return asm.elementwise(
            "mixer.activation", ElementwiseKind.ACTIVATION, (source,), features, forward=2, backward=3, saves=(source,)
        )
    weights = [Weight(f"{name}.weight", extent("convolution"), features)]
    if bias:
        weights.append(Weight(f"{name}.bias", SCALAR, features))
    return asm.elementwise(
        name, ElementwiseKind.ACTIVATION, (source,), features, forward=2, backward=3, weights=tuple(weights),
        saves=(source,), flop=8.0 + 2.0 * taps,
    )  # fmt: skip


def _scan(
    asm: Assembler, model: ModelSpec, kind: ScanKind, inputs: tuple[str, ...], output: Extent,
    weights: dict[str, tuple[Extent, Extent]],
) -> str:  # fmt: skip
    """The recurrence; backward needs its inputs and rebuilds the states of the chunks."""
    name = "mixer.scan"
    channels = kind == ScanKind.SELECTIVE
    operator = Scan(
        name=name, inputs=inputs, output=name, saves=inputs, kind=kind, chunk=_chunk(model), state="state",
        heads="inner" if channels else "mixer_heads", groups="one" if channels else "mixer_groups",
        head_dim="one" if channels else "mixer_dim",
        weights=tuple(Weight(f"{name}.{one}", rows, columns) for one, (rows, columns) in weights.items()),
    )  # fmt: skip
    return asm.add(operator, output)


def _gate(asm: Assembler, source: str, gate: str, features: Extent, scale: Extent | None) -> str:
    """The output times its activated gate, normalised where there is a ``scale``: one kernel, two inputs."""
    weights = () if scale is None else (Weight("mixer.gate.scale", SCALAR, scale),)
    kind = ElementwiseKind.ACTIVATION if scale is None else ElementwiseKind.NORM
    return asm.elementwise(
        "mixer.gate", kind, (source, gate), features, forward=3, backward=5, weights=weights, saves=(source, gate)
    )


def _mamba1(asm: Assembler, model: ModelSpec, source: str) -> str:
    """Gu and Dao 2023 (arXiv 2312.00752, section 3): step, input and output vectors depend on the token."""
    fused = asm.matmul("mixer.input", source, HIDDEN, INNER * 2)
    signal = asm.tensor("mixer.signal", INNER, part_of=fused)
    gate = asm.tensor("mixer.gating", INNER, part_of=fused)
    signal = _convolution(asm, model, signal, INNER, bias=True)
    selection = STEP + STATE * 2
    selected = asm.matmul("mixer.select", signal, INNER, selection)
    if _ssm_of(model).inner_norm:
        selected = asm.norm("mixer.select_norm", selected, selection, model.norm)
    low_rank = asm.tensor("mixer.step_latent", STEP, part_of=selected)
    vectors = asm.tensor("mixer.vectors", STATE * 2, part_of=selected)
    # The vectors pass beside it: with sequence parallelism they are gathered with the step.
    step = asm.matmul("mixer.step", low_rank, STEP, INNER, bias=INNER, also=(vectors,))
    weights = {"decay": (STATE, INNER), "skip": (SCALAR, INNER)}
    scanned = _scan(asm, model, ScanKind.SELECTIVE, (signal, step, vectors), INNER, weights)
    return asm.matmul("mixer.output", _gate(asm, scanned, gate, INNER, None), INNER, HIDDEN)


def _mamba2(asm: Assembler, model: ModelSpec, source: str) -> str:
    """Dao and Gu 2024 (arXiv 2405.21060, section 7): one scalar decay per head, all projections in one."""
    fused = asm.matmul("mixer.input", source, HIDDEN, VALUES * 2 + KEYS * 2 + HEADS)
    gate = asm.tensor("mixer.gating", VALUES, part_of=fused)
    mixed = asm.tensor("mixer.signal", VALUES + KEYS * 2, part_of=fused)
    step = asm.tensor("mixer.step", HEADS, part_of=fused)
    mixed = _convolution(asm, model, mixed, VALUES + KEYS * 2, bias=True)
    weights = {"decay": (SCALAR, HEADS), "skip": (SCALAR, HEADS), "step_bias": (SCALAR, HEADS)}
    scanned = _scan(asm, model, ScanKind.STATE_SPACE, (mixed, step), VALUES, weights)
    return asm.matmul("mixer.output", _gate(asm, scanned, gate, VALUES, VALUES), VALUES, HIDDEN)


def _gated_delta(asm: Assembler, model: ModelSpec, source: str) -> str:
    """Yang et al. 2024 (arXiv 2412.06464): queries, keys, values, a gate, and two numbers per head (decay, rate)."""
    fused = asm.matmul("mixer.input", source, HIDDEN, KEYS * 2 + VALUES * 2 + HEADS * 2)
    gate = asm.tensor("mixer.gating", VALUES, part_of=fused)
    mixed = asm.tensor("mixer.signal", KEYS * 2 + VALUES, part_of=fused)
    rates = asm.tensor("mixer.step", HEADS * 2, part_of=fused)
    mixed = _convolution(asm, model, mixed, KEYS * 2 + VALUES, bias=False)
    weights = {"decay": (SCALAR, HEADS), "step_bias": (SCALAR, HEADS)}
    scanned = _scan(asm, model, ScanKind.DELTA_RULE, (mixed, rates), VALUES, weights)
    return asm.matmul("mixer.output", _gate(asm, scanned, gate, VALUES, extent("mixer_dim")), VALUES, HIDDEN)


def _lightning(asm: Assembler, model: ModelSpec, source: str) -> str:
    """Qin et al. 2024 (arXiv 2401.04658) as in MiniMax-01 (arXiv 2501.08313): fixed decay, norm over the full width."""
    fused = asm.matmul("mixer.input", source, HIDDEN, KEYS * 2 + VALUES * 2)
    gate = asm.tensor("mixer.gating", VALUES, part_of=fused)
    mixed = asm.tensor("mixer.signal", KEYS * 2 + VALUES, part_of=fused)
    mixed = _convolution(asm, model, mixed, KEYS * 2 + VALUES, bias=False)
    scanned = _scan(asm, model, ScanKind.STATE_SPACE, (mixed,), VALUES, {})
    return asm.matmul("mixer.output", _gate(asm, scanned, gate, VALUES, VALUES), VALUES, HIDDEN)
