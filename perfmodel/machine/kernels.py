"""Parameters of the kernels on one accelerator: peaks from the device, efficiencies by fall-back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel.errors import SpecError, nearest
from perfmodel.machine.lookup import Ledger, Levels, missing
from perfmodel.machine.machine import AttentionParameters, ElementwiseParameters, MatmulParameters
from perfmodel.provenance import Sourced
from perfmodel.specs.efficiency import ELEMENTWISE_KINDS
from perfmodel.specs.hardware import AcceleratorSpec

#: Numbers of each family with an example value for the message when no level states one.
_MATMUL = {
    "plateau": "0.8", "loop_latency": "1.3 ns", "loop_growth": "0", "tile_overhead": "0.5 us", "split_overhead": "3 us",
    "launch_floor": "2 us", "bandwidth_fraction": "0.85", "ramp_time": "0.8 us",
}  # fmt: skip
_ATTENTION = {
    "plateau": "0.7", "softmax_latency": "0.02 ns", "tile_overhead": "4 us", "launch_floor": "8 us",
    "bandwidth_fraction": "0.4", "ramp_time": "1 us", "backward_fraction": "0.56",
}  # fmt: skip
_ELEMENTWISE = {"bandwidth_fraction": "0.8", "launch_floor": "2 us", "ramp_time": "0 us"}
_LATENT = {name: example for name, example in _ATTENTION.items() if name != "backward_fraction"}
_DECODE = {
    "unit_bandwidth": "40 GB/s", "tile_overhead": "3.5 us", "split_overhead": "1.5 us", "launch_floor": "8 us",
    "bandwidth_fraction": "0.92", "ramp_time": "1 us",
}  # fmt: skip
_EXPERTS = {
    "plateau": "0.7", "loop_latency": "1.5 ns", "tile_overhead": "1 us", "launch_floor": "25 us",
    "bandwidth_fraction": "0.9", "ramp_time": "2 us", "permute_bytes": "5 B",
}  # fmt: skip
#: Numbers of each family of kernels, and an example of each for the message when no level states it.
FAMILY_NUMBERS: Mapping[str, Mapping[str, str]] = {
    "matmul": _MATMUL, "attention": _LATENT, "decode_attention": _DECODE, "latent_attention": _LATENT,
    "latent_decode": _DECODE, "experts": _EXPERTS, "elementwise": _ELEMENTWISE,
}  # fmt: skip

#: Formats that software builds on a unit of the device: they run at most at the peak of that unit.
_BUILT_ON = {"fp8-block": "fp8"}


def peak_of(accelerator: AcceleratorSpec, data_type: str) -> Sourced:
    """Dense peak of a data type: the matrix unit, else the vector unit when the file lists the type there.

    Raises
    ------
    SpecError
        The device does not have the data type (or the file does not state its peak).
    """
    compute = accelerator.compute
    if data_type not in compute.matrix:
        data_type = _BUILT_ON.get(data_type, data_type)
    if data_type in compute.matrix:
        return compute.matrix[data_type].peak
    if data_type in compute.vector:
        return compute.vector[data_type]
    has = ", ".join([*compute.matrix, *(name for name in compute.vector if name not in compute.matrix)]) or "nothing"
    where = str(accelerator.origin) if accelerator.origin is not None else f"{accelerator.name}.yaml"
    example = f"compute: {{matrix: {{{data_type}: {{peak: 100 TFLOP/s}}}}}}"
    raise SpecError(
        f"{where}: accelerator {accelerator.name!r} does not state compute.matrix.{data_type}.peak, which the numerics "
        f"compute with; it has {has}{nearest(data_type, compute.matrix)}. If the device has {data_type}, write "
        f"`{example}` there; else choose other numerics"
    )


def vector_peak_of(accelerator: AcceleratorSpec) -> Sourced:
    """Peak of the vector unit in fp32: memory-bound kernels compute in it."""
    if "fp32" in accelerator.compute.vector:
        return accelerator.compute.vector["fp32"]
    return missing(accelerator, "compute.vector.fp32", "compute: {vector: {fp32: 20 TFLOP/s}}")


def resolve_matmul(levels: Levels, data_type: str, ledger: Ledger) -> MatmulParameters:
    """Parameters of the matmul kernels of one data type."""
    path = f"matmul.{data_type}"
    peak = ledger.take(f"{path}.peak", peak_of(levels.accelerator, data_type))
    return MatmulParameters(peak=peak, **_numbers(levels, "matmul", data_type, _MATMUL, ledger))


def resolve_attention(levels: Levels, data_type: str, ledger: Ledger) -> AttentionParameters:
    """Parameters of the fused attention kernels of one data type."""
    path = f"attention.{data_type}"
    peak = ledger.take(f"{path}.peak", peak_of(levels.accelerator, data_type))
    return AttentionParameters(peak=peak, **_numbers(levels, "attention", data_type, _ATTENTION, ledger))


def resolve_elementwise(levels: Levels, ledger: Ledger) -> dict[str, ElementwiseParameters]:
    """Parameters of the memory-bound kernels of every kind."""
    return {
        kind: ElementwiseParameters(**_numbers(levels, "elementwise", kind, _ELEMENTWISE, ledger))
        for kind in ELEMENTWISE_KINDS
    }


def kernel_numbers(levels: Levels, family: str, key: str) -> dict[str, Sourced]:
    """The numbers of one family of kernels for one key (a data type, or a kind of memory-bound kernel).

    Raises
    ------
    SpecError
        No level states one of them.
    """
    return {name: levels.find(family, key, name, example) for name, example in FAMILY_NUMBERS[family].items()}


def _numbers(levels: Levels, family: str, key: str, examples: dict[str, str], ledger: Ledger) -> dict[str, Any]:
    return {
        name: ledger.take(f"{family}.{key}.{name}", levels.find(family, key, name, example))
        for name, example in examples.items()
    }


__all__ = [
    "FAMILY_NUMBERS", "kernel_numbers", "peak_of", "resolve_attention", "resolve_elementwise", "resolve_matmul",
    "vector_peak_of",
]  # fmt: skip
