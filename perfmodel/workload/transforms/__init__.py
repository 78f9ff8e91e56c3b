"""Changes of operator graphs: pure functions from a graph to a graph."""

from perfmodel.workload.transforms.adapters import add_adapters
from perfmodel.workload.transforms.precision import keep_layers_wide

__all__ = ["add_adapters", "keep_layers_wide"]
