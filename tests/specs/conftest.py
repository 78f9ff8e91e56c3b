"""A small world of specs in a temporary folder, as a user would keep one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from perfmodel.specs.catalogue import Catalogue

HERE = Path(__file__).parent
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file below the temporary folder."""

    def call(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return call


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """The folder of the user's specs."""
    return Path(shutil.copytree(HERE / "world", tmp_path / "world"))


@pytest.fixture
def catalogue(world: Path) -> Catalogue:
    """The catalogue with the user's folder."""
    return Catalogue([world])


@pytest.fixture
def scenario(write: Write) -> Path:
    """A scenario about the user's specs."""
    return write("question.yaml", (HERE / "question.yaml").read_text(encoding="utf-8"))
