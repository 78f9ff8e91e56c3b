"""What holds for every equation: units, parity, derivation, documentation."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pint
import pytest

import perfmodel.equations
from perfmodel.provenance import Traced
from perfmodel.units import BASE_SYMBOLS, EQUATIONS, Unit, equation_units

#: Modules that share the page of another one.
PAGES = {
    "collective_volumes": "collectives",
    "collective_routes": "collectives",
    "confidence": "uncertainty",
    "softmax": "attention",
    "pipeline_mirrored": "pipeline",
    "pipeline_paths": "pipeline",
    "pipeline_schedules": "pipeline",
    "pipeline_waves": "pipeline",
    "expert_kernels": "experts",
}
BASE_UNITS = ("second", "byte", "flop", "joule", "usd", "kilogram", "meter", "token")


@pytest.fixture(scope="module")
def registry() -> pint.UnitRegistry[Any]:
    """A registry whose base units are exactly those of the project: nothing converts by accident."""
    units: pint.UnitRegistry[Any] = pint.UnitRegistry(None)
    for unit in BASE_UNITS:
        units.define(f"{unit} = [{unit}_dimension]")
    return units


def _pint_unit(registry: pint.UnitRegistry[Any], unit: Unit) -> Any:
    product = registry.Unit("")
    for base, power in zip(BASE_UNITS, unit.exponents, strict=True):
        product = product * registry.Unit(base) ** power
    return product


def test_the_modules_of_the_package_are_all_registered() -> None:
    modules = {name.partition(".")[0] for name in EQUATIONS}
    assert modules == set(perfmodel.equations.__all__)
    assert len(BASE_UNITS) == len(BASE_SYMBOLS)


def test_every_public_function_is_an_equation() -> None:
    for module in perfmodel.equations.__all__:
        functions = inspect.getmembers(importlib.import_module(f"perfmodel.equations.{module}"), callable)
        own = {
            name
            for name, function in functions
            if getattr(function, "__module__", "") == f"perfmodel.equations.{module}" and not name.startswith("_")
        }
        assert own == {name.partition(".")[2] for name in EQUATIONS if name.startswith(f"{module}.")}


def test_units_are_those_of_the_annotations(
    name: str, arguments: list[dict[str, float]], registry: pint.UnitRegistry[Any]
) -> None:
    units = equation_units(EQUATIONS[name])
    assert set(units) == {*inspect.signature(EQUATIONS[name]).parameters, "return"}
    assert None not in units.values()
    for values in arguments[:10]:
        quantities = {key: registry.Quantity(value, _pint_unit(registry, units[key])) for key, value in values.items()}
        result = EQUATIONS[name](**quantities)
        expected = _pint_unit(registry, units["return"])
        assert registry.Quantity(result).units.dimensionality == expected.dimensionality
        assert registry.Quantity(result).m_as(expected) == pytest.approx(EQUATIONS[name](**values), rel=1e-12)


def test_a_number_in_gives_a_number_out(name: str, arguments: list[dict[str, float]]) -> None:
    for values in arguments:
        result = EQUATIONS[name](**values)
        assert isinstance(result, float)
        assert np.isfinite(result)


def test_a_column_equals_its_rows(name: str, arguments: list[dict[str, float]]) -> None:
    columns = {key: np.array([values[key] for values in arguments]) for key in arguments[0]}
    rows = np.array([EQUATIONS[name](**values) for values in arguments])
    column = EQUATIONS[name](**columns)
    assert column.shape == rows.shape
    np.testing.assert_allclose(column, rows, rtol=1e-12, atol=0.0)


def test_any_single_parameter_may_be_a_column(name: str, arguments: list[dict[str, float]]) -> None:
    for key in arguments[0]:
        swept = np.array([values[key] for values in arguments[:6]])
        rows = np.array([EQUATIONS[name](**{**arguments[0], key: value}) for value in swept.tolist()])
        column = np.broadcast_to(EQUATIONS[name](**{**arguments[0], key: swept}), rows.shape)
        np.testing.assert_allclose(column, rows, rtol=1e-12, atol=0.0)


def test_the_derivation_has_the_value_and_every_input(name: str, arguments: list[dict[str, float]]) -> None:
    for values in arguments[:10]:
        leaves = {key: Traced.leaf(value, key) for key, value in values.items()}
        traced = EQUATIONS[name](**leaves)
        plain = EQUATIONS[name](**values)
        assert traced.value == pytest.approx(plain, rel=1e-15, abs=0.0)
        assert traced.node.is_call
        assert traced.node.reference == EQUATIONS[name].reference
        assert {part.node.label for part in traced.node.body.walk() if part.node.is_leaf} >= set(values)


def test_a_derivation_may_trace_some_inputs_only(name: str, arguments: list[dict[str, float]]) -> None:
    for key in arguments[0]:
        mixed = {**arguments[0], key: Traced.leaf(arguments[0][key], key)}
        assert EQUATIONS[name](**mixed).value == pytest.approx(EQUATIONS[name](**arguments[0]), rel=1e-15, abs=0.0)


def test_the_documentation_is_complete(name: str) -> None:
    function = inspect.unwrap(EQUATIONS[name])
    text = inspect.getdoc(function) or ""
    for part in (".. math::", "Parameters\n---", "Returns\n---", "Notes\n---", "Examples\n---"):
        assert part in text, f"{name} lacks {part!r}"
    parameters = text.partition("Parameters\n")[2].partition("Returns\n")[0]
    listed = re.findall(r"^(\w[\w, ]*)$", parameters, re.MULTILINE)
    assert [one for line in listed for one in re.split(r",\s*", line)] == list(inspect.signature(function).parameters)
    for description in re.split(r"^\w[\w, ]*$", parameters.partition("\n")[2], flags=re.MULTILINE)[1:]:
        assert re.search(r"\[[^\]]+\]", description), f"{name}: a parameter without unit: {description.strip()}"
    assert len(EQUATIONS[name].reference) >= len("counting")


def test_the_examples_run(name: str) -> None:
    function = inspect.unwrap(EQUATIONS[name])
    module = importlib.import_module(function.__module__)
    runner = doctest.DocTestRunner()
    for example in doctest.DocTestFinder().find(function, name, globs=dict(vars(module))):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


@pytest.mark.parametrize("module", perfmodel.equations.__all__)
def test_a_theory_page_names_every_equation(module: str, checkout: Path) -> None:
    page = (checkout / "docs" / "theory" / f"{PAGES.get(module, module)}.md").read_text(encoding="utf-8")
    own = [name.partition(".")[2] for name in EQUATIONS if name.startswith(f"{module}.")]
    assert [name for name in own if f"`{name}`" not in page] == []
    for heading in ("Formulas", "Symbols", "Assumptions", "Limits of validity", "Error", "References"):
        assert f"## {heading}" in page, f"{module}.md lacks {heading!r}"
    assert 40 <= page.count("\n") <= 125
