"""Analytical performance model of large language models: time, memory, energy, money, with the source of every number.

The public names are loaded when they are first used, so that ``import perfmodel`` stays cheap.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfmodel.engine.result import Result
    from perfmodel.engine.session import LoadedScenario as Scenario
    from perfmodel.engine.session import evaluate, load
    from perfmodel.study.sensitivity import sensitivities
    from perfmodel.workload import register_builder, register_transform

__version__ = "0.1.0"

#: Public name -> where it is.
_EXPORTS = {
    "Result": ("perfmodel.engine.result", "Result"),
    "Scenario": ("perfmodel.engine.session", "LoadedScenario"),
    "evaluate": ("perfmodel.engine.session", "evaluate"),
    "load": ("perfmodel.engine.session", "load"),
    "register_builder": ("perfmodel.workload", "register_builder"),
    "register_transform": ("perfmodel.workload", "register_transform"),
    "sensitivities": ("perfmodel.study.sensitivity", "sensitivities"),
}

__all__ = [
    "Result",
    "Scenario",
    "__version__",
    "evaluate",
    "load",
    "register_builder",
    "register_transform",
    "sensitivities",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _EXPORTS[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
