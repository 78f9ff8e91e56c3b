"""Numbers with units, sources and ranges."""

from __future__ import annotations

import math
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.errors import SpecError
from perfmodel.provenance import Basis, Sourced
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.quantities import Provenance, SpecModel, apply_provenance, quantity, read_count
from perfmodel.specs.writer import exact_quantity
from perfmodel.units import parse_quantity

UNITS = ["B/s", "B", "s", "W", "FLOP/s", "J/FLOP", "J/B", "USD", "USD/J", "kg/J", "J"]


@given(st.floats(min_value=1e-18, max_value=1e22), st.sampled_from(UNITS))
def test_a_written_quantity_reads_back_as_the_same_number(value: float, unit: str) -> None:
    assert parse_quantity(exact_quantity(value, unit), unit) == value


@given(
    st.integers(min_value=1, max_value=9999),
    st.sampled_from(["B/s", "s", "W", "B"]),
    st.sampled_from(["", "k", "M", "G", "T"]),
)
def test_a_prefix_is_a_power_of_1000(number: int, unit: str, prefix: str) -> None:
    power = ["", "k", "M", "G", "T"].index(prefix)
    assert parse_quantity(f"{number} {prefix}{unit}", unit) == pytest.approx(number * 1000.0**power, rel=1e-15)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (3.35e12, "B/s", "3.35 TB/s"),
        (80 * 2.0**30, "B", "80 GiB"),
        (700.0, "W", "700 W"),
        (1.3e-9, "s", "1.3 ns"),
        (0.0, "s", "0.0 s"),
    ],
)
def test_a_written_quantity_is_the_one_that_a_person_would_write(value: float, unit: str, text: str) -> None:
    assert exact_quantity(value, unit) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [("8k", 8000), ("405B", 405 * 10**9), ("15.6T", 15_600_000_000_000), (15.6e12, 15_600_000_000_000), (7, 7)],
)
def test_counts_use_powers_of_1000(text: object, count: int) -> None:
    assert read_count(text) == count


class Part(SpecModel):
    speed: Annotated[Sourced, quantity("B/s")]
    provenance: Provenance | None = None


class Whole(SpecModel):
    part: Part
    other: Annotated[Sourced, quantity("s")] | None = None
    ratio: Annotated[Sourced, quantity("1", maximum=1.0)] | None = None
    provenance: Provenance | None = None


def test_the_innermost_provenance_wins_and_paths_are_dotted() -> None:
    data = {
        "provenance": {"source": "outer", "basis": "vendor"},
        "other": "3 s",
        "part": {"provenance": {"source": "inner", "basis": "paper"}, "speed": "1 GB/s"},
    }
    spec = apply_provenance(Whole.model_validate(data), "top")
    assert spec.other is not None
    assert (spec.other.source, spec.other.basis, spec.other.path) == ("outer", Basis.VENDOR, "top.other")
    assert (spec.part.speed.source, spec.part.speed.basis, spec.part.speed.path) == (
        "inner",
        Basis.PAPER,
        "top.part.speed",
    )


def test_a_number_keeps_what_it_says_about_itself() -> None:
    data = {
        "provenance": {"source": "outer", "basis": "vendor"},
        "other": {"value": "3 s", "basis": "assumed"},
        "part": {
            "speed": {"value": "1 GB/s", "source": "own", "basis": "measured", "low": "0.9 GB/s", "high": "2 GB/s"}
        },
    }
    spec = apply_provenance(Whole.model_validate(data))
    assert spec.other is not None
    assert (spec.other.source, spec.other.basis) == ("unstated", Basis.ASSUMED)
    speed = spec.part.speed
    assert (speed.source, speed.basis, speed.low, speed.high) == ("own", Basis.MEASURED, 0.9e9, 2e9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1, "150 %", "1e999", 2])
def test_a_fraction_is_a_finite_number_up_to_one(bad: object) -> None:
    with pytest.raises(ValueError, match="ratio"):
        Whole.model_validate({"part": {"speed": "1 B/s"}, "ratio": bad})


def test_specs_cannot_be_changed(catalogue: Catalogue) -> None:
    spec = catalogue.load("accelerator", "toy-gpu")
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"
    assert catalogue.load("accelerator", "toy-gpu").name == "toy-gpu"


def test_an_unknown_kind_of_number_is_an_error_not_a_guess(catalogue: Catalogue) -> None:
    with pytest.raises(SpecError, match=r"memory\.capacity: '80 GX' is not|unknown unit 'GX'"):
        catalogue.load("accelerator", {"memory": {"capacity": "80 GX"}})
