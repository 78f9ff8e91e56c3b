"""Numbers of the kernels of one accelerator and stack, as the catalogue has them, and times made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.engine.kernel_forms import FORMS, Chip, Column, Cost
from perfmodel.equations import energy
from perfmodel.machine.facility import resolve_device_power
from perfmodel.machine.kernels import kernel_numbers, peak_of
from perfmodel.machine.lookup import Ledger, Levels
from perfmodel.machine.resolve import device_part
from perfmodel.provenance import Sourced
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.efficiency import KernelError, KernelPower
from perfmodel.specs.quantities import apply_provenance
from perfmodel.study.kernel_tables import Case

#: Numbers that only some kernels have.
OPTIONAL = {
    "matmul": ("quantise_bytes", "quantise_latency"),
    "decode_attention": ("single_unit_bandwidth", "single_tile_overhead"),
}
#: Switches of kernels, and what holds where no level states one; `packed` is also a choice of the stack.
SWITCHES = ("packed", "absorbed", "writes_all_rows", "limited_groups", "whole_single_heads", "warm")


@dataclass(frozen=True)
class Numbered:
    """Everything that the kernels of one (accelerator, stack, family, key) need.

    ``basis``: ``calibrated`` when the stack states numbers that were measured on the accelerator, ``transferred`` when
    the accelerator was measured with another stack or others of its class were, else ``assumed``.
    """

    chip: Chip
    peak: float
    numbers: dict[str, float]
    sourced: dict[str, Sourced]
    switches: dict[str, float]
    error: KernelError | None
    power: KernelPower | None
    basis: str

    def sizes(self, cases: Sequence[Case]) -> dict[str, Column]:
        """Sizes of the cases as columns, with the switches of the kernel."""
        columns = {name: np.array([case.sizes[name] for case in cases]) for name in cases[0].sizes}
        switches = self.switches | {"peak": self.peak}
        return columns | {name: np.full(len(cases), value) for name, value in switches.items()}


def levels_of(catalogue: Catalogue, accelerator: str, software: str) -> Levels:
    """The places where numbers of an accelerator and a stack stand."""
    device = catalogue.load("accelerator", accelerator)
    return Levels(
        apply_provenance(device, "accelerator"),
        apply_provenance(catalogue.load("efficiency", device.efficiency_class), "efficiency_class"),
        apply_provenance(catalogue.load("software", software), "software"),
    )


def chip_of(levels: Levels) -> Chip:
    """Units, memory and cache of an accelerator."""
    part = device_part(levels, Ledger())
    return Chip(**{name: float(part[name]) for name in Chip.__dataclass_fields__})


def numbered(levels: Levels, family: str, key: str, peak: str) -> Numbered:
    """Look the numbers of one entry up.

    Raises
    ------
    SpecError
        The accelerator has no such peak, or a number is stated nowhere.
    """
    sourced = kernel_numbers(levels, family, key)
    for name in OPTIONAL.get(family, ()):
        found = levels.stated(family, key, name)
        if found is not None:
            sourced[name] = found
    error, basis = _error_of(levels, family, key)
    return Numbered(
        chip=chip_of(levels),
        peak=0.0 if family == "elementwise" else float(peak_of(levels.accelerator, peak).value),
        numbers={name: float(one.value) for name, one in sourced.items()},
        sourced=sourced,
        switches={name: _switch(levels, family, key, name) for name in SWITCHES},
        error=error,
        power=None if family == "elementwise" else levels.stated(family, key, "power"),
        basis=basis,
    )


def watts(one: Cost, entry: Numbered, device: Mapping[str, float], static: float | None = None) -> Column:
    """Power of kernels that run back to back: what the entry states, else the idle power, plus work and traffic."""
    stated = float(entry.power.running.value) if entry.power is not None else device["idle"]
    dynamic = energy.arithmetic_energy(one.flop, device["matrix"]) + energy.movement_energy(
        one.traffic, device["memory"]
    )
    running = stated if static is None else static
    return np.asarray(energy.device_power(running, dynamic, one.seconds, device["limit"]))


def power_of(levels: Levels, data_type: str) -> dict[str, float]:
    """Idle power and limit of an accelerator [W], energies of its matrix unit [J/FLOP] and of its memory [J/B]."""
    return {name: float(one) for name, one in resolve_device_power(levels, data_type, Ledger()).items()}


def _switch(levels: Levels, family: str, key: str, name: str) -> float:
    """A switch of the kernels of an entry; off where its family has no such switch or no level states it."""
    default = levels.software.attention.packed if name == "packed" else False
    known = any(hasattr(entry, name) for _, entry in levels.entries(family, key))
    stated = levels.stated(family, key, name) if known else None
    return float(default if stated is None else stated)


def _error_of(levels: Levels, family: str, key: str) -> tuple[KernelError | None, str]:
    """The nearest statement of how far kernels of the entry are from their prediction, and the basis it gives."""
    own = [id(entry) for name, entry in _own_entries(levels, family) if name == key]
    device = [id(entry) for entry in getattr(levels.accelerator.efficiency, family).values()]
    for _, entry in levels.entries(family, key):
        error: KernelError | None = getattr(entry, "error", None)
        if error is not None:
            measured = id(entry) in own
            known = id(entry) in device or bool(levels.efficiency_class.members)
            return error, "calibrated" if measured else "transferred" if known else "assumed"
    return None, "assumed"


def _own_entries(levels: Levels, family: str) -> list[tuple[str, Any]]:
    names = (levels.accelerator.name, *levels.accelerator.aliases)
    stack = levels.software.efficiency
    return [pair for name in names if name in stack for pair in getattr(stack[name], family).items()]


def cost(family: str, cases: Sequence[Case], entry: Numbered) -> Cost:
    """Predicted cost of cases of one entry."""
    return FORMS[family](entry.sizes(cases), entry.numbers, entry.chip)


def grouped(cases: Iterable[tuple[int, Case]]) -> dict[tuple[str, str, str, str, str], list[tuple[int, Case]]]:
    """Cases of the same entry together: (accelerator, software, family, key, peak) -> positions and cases."""
    groups: dict[tuple[str, str, str, str, str], list[tuple[int, Case]]] = defaultdict(list)
    for position, case in cases:
        groups[case.accelerator, case.software, case.family, case.key, case.peak].append((position, case))
    return groups
