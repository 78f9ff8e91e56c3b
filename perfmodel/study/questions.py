"""The questions that take many evaluations, and who answers them."""

from __future__ import annotations

import importlib
from typing import Any

from perfmodel.engine.recall import Recall
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.progress import Progress, unseen

#: Question -> module and function; looked up when it is asked, so that no other one is imported.
_ANSWERS = {
    "search": ("perfmodel.study.search", "search"),
    "solve": ("perfmodel.study.solve", "solve"),
    "capacity": ("perfmodel.study.capacity", "capacity"),
}


#: Those that search.
_SEARCHING = ("search", "capacity")


def answer(resolved: ResolvedScenario, progress: Progress = unseen, recall: Recall | None = None) -> Any:
    """Answer the question of a scenario that is not `evaluate`.

    Parameters
    ----------
    recall
        What the searches of a session know; None: nothing is kept.
    """
    module, name = _ANSWERS[resolved.scenario.question]
    known = {"recall": recall} if resolved.scenario.question in _SEARCHING else {}
    return getattr(importlib.import_module(module), name)(resolved, progress, **known)
