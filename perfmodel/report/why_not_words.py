"""Words for settings of a plan, and for why a part of a step is longer with one plan than with another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfmodel.report.display import percent

#: Values of a field that a sentence lists.
_LISTED = 12
#: Part of a step -> what happens there, and the numbers of a plan that decide it.
_CAUSES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "forward_s": ("kernels of this shape take longer", ("tp", "cp", "pp", "ep", "etp", "micro_batch")),
    "backward_s": ("kernels of this shape take longer", ("tp", "cp", "pp", "ep", "etp", "micro_batch")),
    "recompute_s": ("activations are computed again in the backward pass", ("recompute", "recompute_fraction")),
    "tensor_communication_s": (
        "activations are exchanged between tensor-parallel ranks in every layer", ("tp", "sequence_parallel"),
    ),
    "context_communication_s": ("keys and values travel between context-parallel ranks", ("cp",)),
    "expert_communication_s": ("tokens travel to their experts and back", ("ep", "etp")),
    "pipeline_communication_s": ("activations travel between stages", ("pp", "virtual_stages")),
    "data_communication_s": (
        "gradients and parameters travel between replicas", ("dp", "zero", "dp_replicate", "num_microbatches"),
    ),
    "pipeline_bubble_s": (
        "stages wait while the pipeline fills and empties", ("pp", "virtual_stages", "num_microbatches", "schedule"),
    ),
    "optimizer_s": ("each device updates more parameters", ("zero", "dp", "tp", "pp")),
    "overhead_s": ("launches and waiting for the slowest device", ("devices", "num_microbatches")),
}  # fmt: skip


def cause(term: str, plan: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """Why a part of the step is longer, with the numbers that differ; empty for a part without words."""
    words, names = _CAUSES.get(term.rsplit(".", 1)[-1], ("", ()))
    different = [name for name in names if plan.get(name) != best.get(name)]
    if not different:
        return words
    mine, theirs = (", ".join(f"{_name(name)} = {_value(one.get(name))}" for name in different) for one in (plan, best))
    return f"{words} ({mine} instead of {theirs})"


def settings_text(settings: Mapping[str, Any]) -> str:
    """``tp = 8, pp = 4, recompute = full``."""
    return ", ".join(setting_text(path, value) for path, value in settings.items())


def setting_text(path: str, value: Any) -> str:
    """One setting."""
    return f"{_name(path)} = {_value(value)}"


def values_text(values: Sequence[Any]) -> str:
    """Values that a field takes."""
    shown = ", ".join(_value(one) for one in values[:_LISTED])
    return shown if len(values) <= _LISTED else f"{shown}, ... ({len(values)} values)"


def path_name(path: str) -> str:
    """The short name of a field."""
    return _name(path)


def _name(path: str) -> str:
    return path.removeprefix("strategy.").removeprefix("pipeline.").removeprefix("cluster.")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping) and "policy" in value:
        fraction = value.get("fraction", 1.0)
        return str(value["policy"]) if fraction == 1.0 else f"{value['policy']} in {percent(fraction, 2)} of the layers"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(str(one) for one in value)}]"
    return str(value)
