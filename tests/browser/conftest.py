"""Chromium without a window. These tests run by ``make browser`` only and fail where no Chromium is installed."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--enable-logging=stderr", "--v=0",
    "--virtual-time-budget=15000",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the browser itself stays at home, too
)  # fmt: skip


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    """The hand-made results of the report tests."""
    path = Path(__file__).parent.parent / "report" / "conftest.py"
    spec = importlib.util.spec_from_file_location("report_samples", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Chromium on a page with further options; returns what it printed."""
    program = next((found for found in map(shutil.which, _NAMES) if found), None)
    if program is None:
        pytest.fail(f"no browser found; looked for {', '.join(_NAMES)}")

    def run(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
        profile = tmp_path / "profile"
        command = [program, *_OPTIONS, f"--user-data-dir={profile}", *options, page.as_uri()]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    return run
