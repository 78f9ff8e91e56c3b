"""Sweeps of hardware numbers: the same as resolving changed specs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from perfmodel.errors import UsageError
from perfmodel.machine.columns import swept_paths, with_columns
from perfmodel.machine.machine import Machine
from perfmodel.provenance import Basis

Build = Callable[..., Machine]

#: Spec path, the spec and its entry, the new value as text and in SI.
CHANGES = [
    ("accelerator.memory.bandwidth", "accelerator", "memory/bandwidth", "5 TB/s", 5e12),
    ("accelerator.power.tdp", "accelerator", "power/tdp", "800 W", 800.0),
    ("accelerator.compute.units", "accelerator", "compute/units", 160, 160.0),
    ("accelerator.compute.matrix.bf16.peak", "accelerator", "compute/matrix/bf16/peak", "1 PFLOP/s", 1e15),
    ("accelerator.scale_up.bandwidth", "accelerator", "scale_up/bandwidth", "600 GB/s", 600e9),
    ("efficiency_class.efficiency.matmul.any.plateau", "efficiency", "efficiency/matmul/any/plateau", 0.65, 0.65),
    (
        "efficiency_class.efficiency.elementwise.any.bandwidth_fraction",
        "efficiency",
        "efficiency/elementwise/any/bandwidth_fraction",
        0.9,
        0.9,
    ),
]


@pytest.mark.parametrize(("path", "which", "entry", "text", "value"), CHANGES, ids=[row[0] for row in CHANGES])
def test_a_column_equals_resolving_the_changed_spec(
    build: Build, made_up: Any, path: str, which: str, entry: str, text: Any, value: float
) -> None:
    base = {"accelerator": made_up.accelerator, "efficiency": made_up.efficiency}[which]
    changed = build(**{which: made_up.change(base, entry, text)})
    swept = with_columns(build(), {path: np.array([value, value])})
    different = 0
    for leaf, number in changed.provenance.items():
        np.testing.assert_allclose(swept.provenance[leaf].value, number.value, rtol=1e-12, err_msg=leaf)
        different += build().provenance[leaf].value != number.value
    assert different >= 1


def test_the_column_is_in_the_machine_and_marked_as_the_users(build: Build) -> None:
    column = np.array([1e12, 2e12, 4e12])
    machine = with_columns(build(), {"accelerator.memory.bandwidth": column})
    np.testing.assert_array_equal(machine.memory_bandwidth, column)
    assert machine.provenance["memory_bandwidth"].basis == Basis.USER
    assert build().memory_bandwidth == 2e12


def test_a_tier_bandwidth_is_swept_before_its_oversubscription(build: Build, made_up: Any) -> None:
    cluster = made_up.change(
        made_up.cluster, "tiers", [made_up.cluster["tiers"][0], {**made_up.cluster["tiers"][1], "bandwidth": "80 GB/s"}]
    )
    expected = build(cluster=cluster).tiers[1].bandwidth
    assert with_columns(build(), {"cluster.tiers.fabric.bandwidth": 80e9}).tiers[1].bandwidth == pytest.approx(expected)
    relieved = with_columns(build(), {"cluster.tiers.fabric.oversubscription": np.array([1.0, 2.0, 4.0])})
    np.testing.assert_allclose(relieved.tiers[1].bandwidth, [40e9, 20e9, 10e9])


def test_two_columns_of_one_product(build: Build) -> None:
    columns = {"accelerator.compute.units": 200.0, "accelerator.compute.clock": np.array([1e9, 2e9])}
    np.testing.assert_allclose(with_columns(build(), columns).cache_bandwidth, [16 * 200 * 1e9, 16 * 200 * 2e9])


def test_an_unknown_path_names_the_nearest(build: Build) -> None:
    with pytest.raises(
        UsageError, match=r"accelerator\.memory\.bandwith.*did you mean 'accelerator\.memory\.bandwidth'"
    ):
        with_columns(build(), {"accelerator.memory.bandwith": 1e12})


def test_every_listed_path_can_be_swept(build: Build) -> None:
    machine = build()
    for path in swept_paths(machine):
        changed = with_columns(machine, {path: 0.5})
        assert any(changed.provenance[leaf].basis == Basis.USER for leaf in machine.provenance), path
