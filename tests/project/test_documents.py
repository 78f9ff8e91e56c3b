"""The pages are true: links lead somewhere, commands run, generated pages are up to date."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from perfmodel.cli.main import main
from perfmodel.specs.catalogue import Catalogue

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```(?:console|bash|sh|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _pages(checkout: Path) -> list[Path]:
    return sorted([*checkout.glob("*.md"), *(checkout / "docs").rglob("*.md")])


def _commands(page: Path) -> list[str]:
    lines = [
        line.strip().removeprefix("$ ")
        for block in _BLOCK.findall(page.read_text(encoding="utf-8"))
        for line in block.splitlines()
    ]
    return [line for line in lines if line and not line.startswith("#")]


def test_relative_links_lead_to_files(checkout: Path) -> None:
    pages = _pages(checkout)
    assert pages
    broken = [
        f"{page.relative_to(checkout)}: {target}"
        for page in pages
        for target in _LINK.findall(page.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:|#", target) and not (page.parent / target.partition("#")[0]).exists()
    ]
    assert broken == []


def test_the_readme_has_commands_that_are_known(checkout: Path) -> None:
    commands = _commands(checkout / "README.md")
    makefile = (checkout / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert any(command.startswith("perfmodel ") for command in commands)
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program in {"perfmodel", "make", "pip"}, command
        if program == "make":
            assert {argument for argument in arguments if "=" not in argument} <= targets, command


def test_the_commands_of_the_readme_run(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scenarios").symlink_to(checkout / "scenarios")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    for command in _commands(checkout / "README.md"):
        program, *arguments = shlex.split(command)
        if program != "perfmodel":
            continue
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0, f"{command}: {capsys.readouterr().err}"
        assert capsys.readouterr().out, command


def _blocks(page: Path, language: str) -> list[str]:
    pattern = rf"^```{language}\n(.*?)^```"
    return re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_python_of_the_readme_runs(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = _blocks(checkout / "README.md", "python")
    assert blocks
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)  # noqa: S102 - the page is ours
    assert "pm" in names


def test_the_yaml_of_the_readme_is_a_scenario(checkout: Path, tmp_path: Path) -> None:
    blocks = _blocks(checkout / "README.md", "yaml")
    assert blocks
    for position, block in enumerate(blocks):
        file = tmp_path / f"scenario-{position}.yaml"
        file.write_text(block, encoding="utf-8")
        assert Catalogue(()).check(file) == []


def test_the_reference_pages_are_up_to_date(checkout: Path, tmp_path: Path) -> None:
    generate = [sys.executable, str(checkout / "tools" / "generate_reference.py"), str(tmp_path)]
    subprocess.run(generate, check=True, capture_output=True, text=True)
    fresh = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.md")}
    shipped = {path.name: path.read_text(encoding="utf-8") for path in (checkout / "docs" / "reference").glob("*.md")}
    assert sorted(shipped) == sorted(fresh)
    stale = [name for name in fresh if fresh[name] != shipped[name]]
    assert stale == [], "run `make docs`"
