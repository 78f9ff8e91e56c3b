"""Arguments for any equation, drawn from the unit annotations of its parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import perfmodel.equations  # noqa: F401  (registers the equations)
from perfmodel.units import EQUATIONS, equation_units

#: Ranges of SI values by unit symbol; drawn evenly on a logarithmic scale.
RANGES: Mapping[str, tuple[float, float]] = {
    "s": (1e-7, 1e-1),
    "B": (1e1, 1e9),
    "B/s": (1e10, 1e13),
    "FLOP": (1.0, 1e12),
    "FLOP/s": (1e13, 1e16),
    "token": (1e2, 1e7),
    "J": (1.0, 1e6),
    "J/s": (10.0, 1e3),
    "J/FLOP": (1e-13, 1e-11),
    "J/B": (1e-12, 1e-10),
    "USD": (1.0, 1e5),
    "USD/s": (1e-4, 1e-2),
    "USD/J": (1e-8, 1e-7),
    "kg/J": (1e-9, 1e-6),
}
#: Pure numbers whose meaning bounds them.
CHOICES: Mapping[str, tuple[float, ...]] = {
    "ranks": (1.0, 2.0, 3.0, 8.0, 64.0),
    "domains": (1.0, 2.0, 4.0, 32.0),
    "members": (1.0, 2.0, 8.0),
    "laps": (1.0, 2.0),
    "dimensions": (1.0, 2.0, 3.0),
    "extent": (1.0, 2.0, 4.0, 16.0),
    "groups": (1.0, 2.0, 12.0, 74.0),
    "links_per_pair": (1.0, 4.0),
    "stages": (1.0, 2.0, 4.0, 8.0),
    "position": (0.0, 1.0),
    "virtual_stages": (1.0, 2.0, 4.0),
    "packed": (0.0, 1.0),
    "available": (0.0, 1.0),
    "heads": (8.0, 32.0, 64.0),
    "kv_heads": (1.0, 4.0, 8.0),
    "power_usage_effectiveness": (1.05, 1.2),
    "inflation": (1.0, 1.5),
    "exponent": (1.0, 2.0, 3.0, 8.0),
}
SECONDS_PER_LOOP_ELEMENT = {"loop_latency", "softmax_latency"}


def draw_argument(name: str, unit: str, annotation_count: bool, random: np.random.Generator) -> float:
    """One value for a parameter."""
    if name in CHOICES:
        return float(random.choice(CHOICES[name]))
    if name in SECONDS_PER_LOOP_ELEMENT:
        return float(10.0 ** random.uniform(-11.0, -8.0))
    if unit in RANGES:
        low, high = RANGES[unit]
        return float(np.exp(random.uniform(np.log(low), np.log(high))))
    if annotation_count:
        return float(np.ceil(2.0 ** random.uniform(0.0, 12.0)))
    return float(random.uniform(0.1, 0.9))


def draw_arguments(name: str, random: np.random.Generator) -> dict[str, float]:
    """One value for each parameter of an equation."""
    function = inspect.unwrap(EQUATIONS[name])
    units = equation_units(function)
    counts = {key for key, text in function.__annotations__.items() if text == "Count"}
    return {
        parameter: draw_argument(parameter, unit.symbol, parameter in counts, random)
        for parameter, unit in units.items()
        if parameter != "return" and unit is not None
    }


@pytest.fixture
def draw() -> Callable[[str, np.random.Generator], dict[str, float]]:
    """The function that draws arguments of an equation."""
    return draw_arguments


@pytest.fixture(params=sorted(EQUATIONS))
def name(request: pytest.FixtureRequest) -> str:
    """The name of each equation in turn."""
    return request.param


@pytest.fixture
def arguments(name: str) -> list[dict[str, Any]]:
    """Thirty sets of arguments for the equation, the same in every run."""
    random = np.random.default_rng(sum(map(ord, name)))
    return [draw_arguments(name, random) for _ in range(30)]
