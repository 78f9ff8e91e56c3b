"""The physics: pure functions in SI units, one module per subject, each with its citation.

Every equation takes floats, arrays, traced operands, or (in tests) quantities with units, and is
registered in :data:`perfmodel.units.EQUATIONS`. Importing this package registers all of them.
"""

from perfmodel.equations import (
    attention,
    collective_routes,
    collective_volumes,
    collectives,
    decode_attention,
    elementwise,
    energy,
    expert_kernels,
    experts,
    matmul,
    memory,
    metrics,
    money,
    optimizer,
    overlap,
    pipeline,
    pipeline_paths,
    pipeline_schedules,
    reliability,
    roofline,
    scan,
    training,
    uncertainty,
)

__all__ = [
    "attention",
    "collective_routes",
    "collective_volumes",
    "collectives",
    "decode_attention",
    "elementwise",
    "energy",
    "expert_kernels",
    "experts",
    "matmul",
    "memory",
    "metrics",
    "money",
    "optimizer",
    "overlap",
    "pipeline",
    "pipeline_paths",
    "pipeline_schedules",
    "reliability",
    "roofline",
    "scan",
    "training",
    "uncertainty",
]
