"""What may not be in the repository, and how long things may be."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

TEXT_SUFFIXES = {
    ".py",
    ".md",
    ".yaml",
    ".yml",
    ".toml",
    ".txt",
    ".csv",
    ".json",
    ".html",
    ".js",
    ".css",
    ".sh",
    ".cfg",
    "",
}

#: Written in pieces so that this file does not contain what it looks for.
FORBIDDEN = {
    "address of a package registry": re.compile(
        r"https?://[^\s\"')]*(?:py" + r"pi|python" + r"hosted|npm" + r"js|/simp" + r"le\b)"
    ),
    "index option": re.compile(r"--(?:extra-)?index" + r"-url|--find" + r"-links"),
    "path of a machine": re.compile(r"(?<![\w.\-/])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me|fa" + r"rm|tmp/bash)/"),
    "open end": re.compile(r"#.*\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b"),
}
#: The folder of measurements is an argument of `make score` with a default; nothing else may look there.
MEASUREMENTS = re.compile(r"shared" + r"/(?:data|research|design|contracts)")
MEASUREMENTS_ALLOWED = {"Makefile"}

MAXIMUM_MODULE_LINES = 400
MAXIMUM_FUNCTION_LINES = 70
#: Without the docstring.
MAXIMUM_CODE_LINES = 40


def repository_files(checkout: Path) -> list[Path]:
    """Files that are in the repository or about to be."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=checkout, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(path for path in (checkout / name for name in names if name) if path.is_file())


def _modules(checkout: Path) -> list[Path]:
    return sorted((checkout / "perfmodel").rglob("*.py"))


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_forbidden_text(checkout: Path, what: str) -> None:
    files = [path for path in repository_files(checkout) if path.suffix in TEXT_SUFFIXES]
    assert len(files) > 20
    found = [
        f"{path.relative_to(checkout)}:{number}: {line.strip()[:100]}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert not found, f"{what}:\n" + "\n".join(found)


def test_the_product_does_not_know_the_folder_of_measurements(checkout: Path) -> None:
    found = [
        str(path.relative_to(checkout))
        for path in repository_files(checkout)
        if path.suffix in TEXT_SUFFIXES and MEASUREMENTS.search(path.read_text(encoding="utf-8"))
    ]
    assert set(found) <= MEASUREMENTS_ALLOWED


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("address of a package registry", "see https://py" + "pi.org/project/numpy"),
        ("index option", "pip install --index" + "-url X"),
        ("path of a machine", 'open("/wo' + 'rk/data.csv")'),
        ("open end", "x = 1  # TO" + "DO later"),
    ],
)
def test_the_patterns_find_what_they_look_for(what: str, text: str) -> None:
    assert FORBIDDEN[what].search(text)


def test_modules_are_short(checkout: Path) -> None:
    lengths = {
        path.relative_to(checkout): len(path.read_text(encoding="utf-8").splitlines()) for path in _modules(checkout)
    }
    assert {name: lines for name, lines in lengths.items() if lines > MAXIMUM_MODULE_LINES} == {}


def test_functions_are_short(checkout: Path) -> None:
    long: list[str] = []
    for path in _modules(checkout):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            total = (node.end_lineno or node.lineno) - node.lineno + 1
            code = total - _docstring_lines(node)
            if total > MAXIMUM_FUNCTION_LINES or code > MAXIMUM_CODE_LINES:
                long.append(f"{path.relative_to(checkout)}:{node.lineno} {node.name}: {total} lines, {code} of code")
    assert not long, "\n".join(long)


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if ast.get_docstring(node) is None:
        return 0
    return (first.end_lineno or first.lineno) - first.lineno + 1


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    """Whether a handler stops every error; cleaning up and raising again is fine."""
    named = isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"}
    raises = isinstance(handler.body[-1], ast.Raise) and handler.body[-1].exc is None
    return (handler.type is None or named) and not raises


def test_nothing_catches_everything(checkout: Path) -> None:
    found = [
        f"{path.relative_to(checkout)}:{node.lineno}"
        for path in _modules(checkout)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler) and _catches_everything(node)
    ]
    assert found == []


def test_one_version_everywhere(checkout: Path) -> None:
    import perfmodel

    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "perfmodel/__init__.py"
    changelog = (checkout / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (?:\[)?(\d+\.\d+\.\d+)", changelog, re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == perfmodel.__version__


@pytest.mark.parametrize("name", ["constraints.txt", "dev.txt"])
def test_constraints_are_pins_without_addresses(checkout: Path, name: str) -> None:
    lines = (checkout / "constraints" / name).read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert pins
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9_.\-]+==[A-Za-z0-9.+!]+", pin)] == []


def test_every_dependency_is_pinned(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    def names(lines: list[str]) -> set[str]:
        found = (re.match(r"[A-Za-z0-9_.\-]+", line) for line in lines if not line.startswith("#"))
        return {match.group().lower().replace("_", "-") for match in found if match}

    runtime = names((checkout / "constraints" / "constraints.txt").read_text(encoding="utf-8").splitlines())
    development = names((checkout / "constraints" / "dev.txt").read_text(encoding="utf-8").splitlines())
    assert names(project["dependencies"]) <= runtime
    assert runtime <= development
    for extra in project["optional-dependencies"].values():
        assert names(extra) <= development
