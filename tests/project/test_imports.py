"""What is imported when: asserted on ``sys.modules``, not on time."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Packages that take long to import.
HEAVY = {"numpy", "pandas", "plotly", "networkx", "pydantic", "ruamel", "rich"}


def _loaded_after(code: str) -> set[str]:
    program = f"{code}\nimport sys\nprint('LOADED', *sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("LOADED"))
    return set(line.split()[1:])


HELP = """
import sys
from perfmodel.cli.main import main
try:
    main({arguments!r})
except SystemExit as stop:
    assert stop.code == 0, stop.code
"""


@pytest.mark.parametrize(
    "code",
    [
        "import perfmodel",
        "import perfmodel.cli.main",
        HELP.format(arguments=["--help"]),
        HELP.format(arguments=["--version"]),
    ],
    ids=["package", "command line", "--help", "--version"],
)
def test_no_heavy_package_is_loaded(code: str) -> None:
    loaded = {name.partition(".")[0] for name in _loaded_after(code)}
    assert not loaded & HEAVY


@pytest.mark.parametrize("arguments", [["run", "--help"], ["specs", "--help"]], ids=" ".join)
def test_help_of_a_command_loads_no_numbers_and_no_pictures(arguments: list[str]) -> None:
    loaded = {name.partition(".")[0] for name in _loaded_after(HELP.format(arguments=arguments))}
    assert not loaded & (HEAVY - {"pydantic"})  # the command line library itself reads options with pydantic


def test_the_equations_load_without_files_and_pictures() -> None:
    code = (
        "import importlib, pkgutil, perfmodel.equations as room\n"
        "for module in pkgutil.iter_modules(room.__path__): importlib.import_module(f'{room.__name__}.{module.name}')"
    )
    loaded = _loaded_after(code)
    assert any(name.startswith("perfmodel.equations.") for name in loaded)
    assert not {name.partition(".")[0] for name in loaded} & (HEAVY - {"numpy"})


def test_public_names_are_lazy_and_complete() -> None:
    import perfmodel

    for name in perfmodel.__all__:
        assert getattr(perfmodel, name) is not None
        assert name in dir(perfmodel)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = perfmodel.no_such_name  # type: ignore[attr-defined]
