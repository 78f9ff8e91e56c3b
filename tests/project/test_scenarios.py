"""Every shipped scenario is a question that can be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path for path in (ROOT / "scenarios").rglob("*.yaml") if path.stem != "sources")


def test_scenarios_are_shipped() -> None:
    assert SCENARIOS


SEARCHES = [path for path in SCENARIOS if "question: search" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_shipped_scenario_loads_by_path_and_by_name(path: Path) -> None:
    from perfmodel.specs.catalogue import Catalogue
    from perfmodel.specs.resolve import load_scenario

    catalogue = Catalogue(())
    assert load_scenario(str(path), catalogue) == load_scenario(path.stem, catalogue)


def test_a_search_is_shipped() -> None:
    assert SEARCHES


@pytest.mark.parametrize("path", SEARCHES, ids=lambda path: path.stem)
def test_a_shipped_search_finds_a_strategy(path: Path) -> None:
    import perfmodel as pm

    answer = pm.load(path).run()
    assert answer.feasible
    assert answer.best[0].numbers["time.step_s"] == answer.result.time["step_s"]
    assert answer.seconds < 30
