"""The rooms and their order (architecture page, section 2)."""

from __future__ import annotations

from pathlib import Path

import pytest
from importlinter import api, cli

CONTRACTS = ["layers", "equations", "light", "pictures"]


def test_every_room_is_in_the_layers(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    contracts = {contract["id"]: contract for contract in api.read_configuration()["contracts_options"]}
    assert sorted(contracts) == sorted(CONTRACTS)
    layered = {name.strip() for layer in contracts["layers"]["layers"] for name in layer.split("|")}
    rooms = {path.parent.name for path in checkout.glob("perfmodel/*/__init__.py")}
    modules = {path.stem for path in checkout.glob("perfmodel/*.py")} - {"__init__", "__main__"}
    assert rooms | modules <= layered, f"not in the layers: {(rooms | modules) - layered}"


@pytest.mark.parametrize("contract", CONTRACTS)
def test_imports_follow_the_contract(
    checkout: Path, contract: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(checkout)
    status = cli.lint_imports(limit_to_contracts=(contract,), no_cache=True, no_logo=True)
    assert status == cli.EXIT_STATUS_SUCCESS, capsys.readouterr().out
