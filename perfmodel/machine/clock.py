"""A power cap or a locked clock of a device: limits below its rated power and clock."""

from __future__ import annotations

from perfmodel.errors import SpecError
from perfmodel.machine.lookup import Ledger, Levels, needed
from perfmodel.machine.machine import ClockParameters
from perfmodel.provenance import Sourced
from perfmodel.units import Numeric


def resolve_clock(levels: Levels, idle_power: Numeric, ledger: Ledger) -> ClockParameters | None:
    """Limits of the device; None where it runs at its rated power and clock.

    Raises
    ------
    SpecError
        A limit lies above what is rated, a cap is not above the idle power, or a rated number is not stated.
    """
    device, fallback = levels.accelerator, levels.efficiency_class
    power, compute = device.power, device.compute
    if power.cap is None and power.clock_limit is None:
        return None
    rated_power = needed(power.tdp, device, "power.tdp", "power: {tdp: 700 W}")
    cap = power.cap or rated_power
    _check_below(cap, rated_power, "W")
    if cap.value <= idle_power:
        raise SpecError(f"{cap.path}: {cap.value:g} W leaves nothing for work; the device idles at {idle_power:g} W")
    limited = power.clock_limit is not None
    rated = needed(compute.clock, device, "compute.clock", "compute: {clock: 1.8 GHz}") if limited else None
    limit = power.clock_limit
    if limit is not None and rated is not None:
        _check_below(limit, rated, "Hz")
    exponent = needed(fallback.power.clock_exponent, fallback, "power.clock_exponent", "power: {clock_exponent: 3}")
    return ClockParameters(
        cap=ledger.take("clock.cap", cap),
        rated_power=ledger.take("clock.rated_power", rated_power),
        exponent=ledger.take("clock.exponent", exponent),
        limit=1.0 if limit is None else ledger.take("clock.limit", limit),
        rated=1.0 if rated is None else ledger.take("clock.rated", rated),
    )


def _check_below(limit: Sourced, rated: Sourced, unit: str) -> None:
    if limit.value > rated.value:
        raise SpecError(
            f"{limit.path}: {limit.value:g} {unit} is above {rated.path} = {rated.value:g} {unit}; a limit lowers it"
        )
