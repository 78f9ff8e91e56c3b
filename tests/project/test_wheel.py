"""The wheel works away from the checkout: specs, catalogue and scenarios are inside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def installed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--outdir",
        str(folder / "dist"),
        str(checkout),
    ]
    subprocess.run(build, check=True, capture_output=True, text=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(folder / "site"), str(wheel)], check=True, capture_output=True, text=True)
    return folder / "site"


def _run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_the_installed_package_is_the_wheel(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "-c", "import perfmodel; print(perfmodel.__file__)")
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_every_spec_and_scenario_is_in_the_wheel(installed: Path, checkout: Path) -> None:
    for source, target in (
        ("hardware_specs", "_data/hardware_specs"),
        ("scenarios", "_data/scenarios"),
        ("perfmodel/catalog", "catalog"),
    ):
        wanted = {path.relative_to(checkout / source) for path in (checkout / source).rglob("*.yaml")}
        packed = {
            path.relative_to(installed / "perfmodel" / target)
            for path in (installed / "perfmodel" / target).rglob("*.yaml")
        }
        assert wanted
        assert packed == wanted


def test_the_wheel_lists_its_catalogue(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "-m", "perfmodel", "specs", "list", "accelerator", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert "h100-sxm5-80gb" in {entry["name"] for entry in json.loads(done.stdout)}


def test_the_wheel_answers_a_shipped_scenario(installed: Path, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "-m", "perfmodel", "run", "llama3.1-405b-8192-h100", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["time"]["step_s"] > 0
