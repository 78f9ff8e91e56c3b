"""Every shipped scenario is a question that can be asked."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = sorted(path for path in (ROOT / "scenarios").rglob("*.yaml") if path.stem != "sources")


def test_scenarios_are_shipped() -> None:
    assert SCENARIOS


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_a_shipped_scenario_loads_by_path_and_by_name(path: Path) -> None:
    from perfmodel.specs.catalogue import Catalogue
    from perfmodel.specs.resolve import load_scenario

    catalogue = Catalogue(())
    assert load_scenario(str(path), catalogue) == load_scenario(path.stem, catalogue)
