"""The generated pages say what the code says now."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: How far a predicted number may have moved before the page must be written again: relative, and percentage points.
RELATIVE, POINTS = 0.02, 1.0
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
_BAR = re.compile(r"[█▉▊▋▌▍▎▏]+")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_validation", ROOT / "tools" / "generate_validation.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(generator: ModuleType) -> Sequence[Any]:
    return generator.rows()


def _drift(shipped: str, fresh: str) -> list[str]:
    """Lines whose words differ, or whose numbers differ by more than the tolerance."""
    old, new = (_BAR.sub("", text).splitlines() for text in (shipped, fresh))
    if len(old) != len(new):
        return [f"{len(old)} lines are shipped, {len(new)} are generated"]
    return [f"{one!r} is now {other!r}" for one, other in zip(old, new, strict=True) if not _same(one, other)]


def _same(one: str, other: str) -> bool:
    words = [" ".join(_NUMBER.sub("#", line).split()) for line in (one, other)]
    numbers = [[float(number.replace(",", "")) for number in _NUMBER.findall(line)] for line in (one, other)]
    return words[0] == words[1] and all(_close(a, b) for a, b in zip(*numbers, strict=True))


def _close(one: float, other: float) -> bool:
    return abs(one - other) <= max(RELATIVE * abs(one), POINTS if max(abs(one), abs(other)) < 100 else 0.0)


def test_the_validation_page_is_up_to_date(generator: ModuleType, rows: Sequence[Any]) -> None:
    shipped = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")
    assert _drift(shipped, generator.validation_page(rows)) == [], "run `python tools/generate_validation.py`"


def test_the_tables_of_the_readme_are_up_to_date(generator: ModuleType, rows: Sequence[Any]) -> None:
    shipped = (ROOT / "README.md").read_text(encoding="utf-8")
    assert _drift(shipped, generator.readme(shipped, rows)) == [], "run `python tools/generate_validation.py`"


def test_no_published_figure_is_left_out(rows: Sequence[Any]) -> None:
    stated = sum(
        len(re.findall(r"^\s+- \{key:", path.read_text(encoding="utf-8"), re.MULTILINE))
        for path in (ROOT / "scenarios" / "training").glob("*.yaml")
    )
    assert len(rows) == stated > 15


def test_every_miss_is_explained(generator: ModuleType, rows: Sequence[Any]) -> None:
    missed = {row.scenario for row in rows if abs(row.error) > generator.MISS}
    assert missed <= set(generator.EXPLANATIONS)


def test_a_moved_number_and_a_changed_word_are_seen() -> None:
    assert _drift("| MFU | 43.0 % | 44.6 % |", "| MFU | 43.0 % | 44.9 % |") == []
    assert _drift("| MFU | 43.0 % | 44.6 % |", "| MFU | 43.0 % | 48.6 % |")
    assert _drift("| step time | 206 s |", "| step time | 216 s |")
    assert _drift("in the interval: yes", "in the interval: no")
    assert _drift("a\nb", "a")
