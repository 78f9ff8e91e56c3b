"""Rates of a device under the power and the clock that its operator allows."""

from __future__ import annotations

from perfmodel.equations import energy
from perfmodel.machine.machine import Machine
from perfmodel.units import Numeric


def clock_ratio(machine: Machine) -> Numeric:
    """Clock under the limits of the operator over that without; 1 where there are none."""
    limits = machine.clock
    if limits is None:
        return 1.0
    return energy.capped_clock_ratio(
        limits.cap, machine.energy.idle_power, limits.rated_power, limits.exponent, limits.limit, limits.rated
    )


def sustained_rate(machine: Machine) -> Numeric:
    """Rate of matmuls that follow each other for minutes, over that of a burst at the rated clock."""
    return machine.sustained_rate if machine.clock is None else machine.sustained_rate * clock_ratio(machine)


def at_clock(rate: Numeric, machine: Machine) -> Numeric:
    """A rate of arithmetic that is stated at the rated clock."""
    return rate if machine.clock is None else rate * clock_ratio(machine)


def energy_per_flop(stated: Numeric, machine: Machine) -> Numeric:
    """An energy of arithmetic that is stated at the clock without limits."""
    limits = machine.clock
    return stated if limits is None else energy.clocked_energy(stated, clock_ratio(machine), limits.exponent)
