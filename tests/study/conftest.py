"""What was found, compared bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from perfmodel.study.search.walk import Found


@pytest.fixture(scope="session")
def numbers() -> Callable[[Found], list[Any]]:
    """Everything that was found, for comparing bit by bit."""

    def listed(found: Found) -> list[Any]:
        tables = (found.best, found.front, found.bests, found.least_memory)
        counts = [found.enumerated, found.evaluated, found.feasible, found.allowed]
        return counts + [(table.place.tolist(), np.ascontiguousarray(table.values).tobytes()) for table in tables]

    return listed
