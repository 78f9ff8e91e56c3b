"""Every block of code on the pages runs, and prints what the page shows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from perfmodel import equations
from perfmodel.units import EQUATIONS
from perfmodel.workload.registry import BUILDERS, TRANSFORMS

sys.path.insert(0, str(Path(__file__).parent))

from snippets import blocks, run_page, same, same_line

ROOT = Path(__file__).resolve().parents[2]
#: Generated from the code, or formulas without commands: other tests look after them.
ELSEWHERE = ("theory", "reference")
PAGES = [
    page
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if not set(page.relative_to(ROOT).parts) & set(ELSEWHERE)
]
RUN = [
    page for page in PAGES if any(block.language in {"python", "console"} for block in blocks(page.read_text("utf-8")))
]


@pytest.fixture
def _registries() -> Iterator[None]:
    """What a page registers is gone after it."""
    assert equations.__all__  # all of them are registered before the first page is run
    kept = [(registry, dict(registry)) for registry in (EQUATIONS, BUILDERS, TRANSFORMS)]
    yield
    for registry, before in kept:
        registry.clear()
        registry.update(before)


@pytest.mark.usefixtures("_registries")
@pytest.mark.parametrize("page", RUN, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for line, printed, expected in run_page(page.read_text(encoding="utf-8"), tmp_path):
        assert same(printed, expected), f"{page.name}:{line} prints\n{printed}\nbut the page shows\n{expected}"


def test_the_tutorials_are_among_the_pages() -> None:
    assert sum(page.parent.name == "tutorials" for page in RUN) >= 5
    assert sum(page.parent.name == "how-to" for page in RUN) >= 5


@pytest.mark.parametrize(
    ("printed", "wanted", "equal"),
    [
        ("step   11.7 s", "step 11.8 s", True),
        ("step 11.7 s", "step 13.7 s", False),
        ("tp 8", "tp 7", False),
        ("tensor 8,192", "tensor 8,200", True),
        ("forward 2.71 s", "backward 2.71 s", False),
        ("a.b = 1 (vendor, x)", "a.b = ... (vendor, ...)", True),
        ("a.b = 1 (vendor, x)", "a.b = ... (paper, ...)", False),
    ],
)
def test_lines_match_by_text_and_by_number(printed: str, wanted: str, *, equal: bool) -> None:
    assert same_line(" ".join(printed.split()), wanted) is equal


def test_lines_may_be_left_out_only_where_the_page_says_so() -> None:
    assert same("a\nb\nc\n", "a\n...\nc\n")
    assert same("a\nc\n", "a\n...\nc\n")
    assert not same("a\nb\nc\n", "a\nc\n")
    assert not same("a\nb\n", "a\n...\nc\n")
