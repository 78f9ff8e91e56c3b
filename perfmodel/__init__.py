"""Analytical performance model of large language models: time, memory, energy, money, with the source of every number.

The public names are loaded when they are first used, so that ``import perfmodel`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfmodel.api import Scenario, evaluate, load
    from perfmodel.engine.result import Result
    from perfmodel.workload import register_builder, register_transform

__version__ = "0.1.0"

#: Public name -> module that has it.
_EXPORTS = {
    "Result": "perfmodel.engine.result",
    "Scenario": "perfmodel.api",
    "evaluate": "perfmodel.api",
    "load": "perfmodel.api",
    "register_builder": "perfmodel.workload",
    "register_transform": "perfmodel.workload",
}

__all__ = ["Result", "Scenario", "__version__", "evaluate", "load", "register_builder", "register_transform"]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
