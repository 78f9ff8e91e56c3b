"""Workloads: operators over named axes, graphs of them, builders per model family, transforms."""

from perfmodel.workload import builders as _builders  # noqa: F401 - importing registers the built-in families
from perfmodel.workload.dimensions import AttentionDimensions, attention_dimensions, matmul_parameters
from perfmodel.workload.registry import apply_transforms, build_graph, register_builder, register_transform
from perfmodel.workload.validation import validate_graph

__all__ = [
    "AttentionDimensions",
    "apply_transforms",
    "attention_dimensions",
    "build_graph",
    "matmul_parameters",
    "register_builder",
    "register_transform",
    "validate_graph",
]
