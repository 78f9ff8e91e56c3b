"""Money, carbon, goodput and the totals of a whole run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.engine.problem import Problem
from perfmodel.equations import metrics, money, reliability
from perfmodel.units import Numeric

SECONDS_PER_DAY = 86_400.0
JOULES_PER_KILOWATT_HOUR = 3.6e6
TOKENS_PER_MILLION = 1e6


@dataclass(frozen=True)
class Economics:
    """Money and carbon of a step and of the run; None where a price, a grid or an MTBF is not declared."""

    step_usd: Numeric | None
    step_kg: Numeric | None
    goodput: Numeric | None
    checkpoint_interval: Numeric | None
    days: Numeric | None
    device_hours: Numeric | None
    energy_kwh: Numeric | None
    run_usd: Numeric | None
    run_kg: Numeric | None


def economics(
    problem: Problem,
    *,
    devices: Numeric,
    step: Numeric,
    energy: Numeric,
    tokens_per_step: Numeric,
    checkpoint_bytes: Numeric,
) -> Economics:
    """Price a step and a run.

    Parameters
    ----------
    devices
        Devices of the job.
    step, energy
        Time [s] and energy [J, whole allocation] of a step.
    tokens_per_step
        Tokens of a step.
    checkpoint_bytes
        Weights and optimizer state of the whole model [B].
    """
    step_usd, step_kg = _step_money(problem, devices, step, energy), _step_carbon(problem, energy)
    good, interval = _goodput(problem, devices, checkpoint_bytes)
    tokens = problem.workload.tokens
    if tokens is None:
        return Economics(step_usd, step_kg, good, interval, None, None, None, None, None)
    seconds = metrics.run_time(tokens, tokens_per_step, step, 1.0 if good is None else good)
    steps = seconds / step
    return Economics(
        step_usd,
        step_kg,
        good,
        interval,
        days=seconds / SECONDS_PER_DAY,
        device_hours=seconds * devices / 3600.0,
        energy_kwh=steps * energy / JOULES_PER_KILOWATT_HOUR,
        run_usd=None if step_usd is None else steps * step_usd,
        run_kg=None if step_kg is None else steps * step_kg,
    )


def _step_money(problem: Problem, devices: Numeric, step: Numeric, energy: Numeric) -> Numeric | None:
    prices = problem.machine.prices
    if prices.device_rate is None:
        return None
    paid = reliability.paid_devices(devices, problem.machine.reliability.spare_fraction)
    rental = money.rental_cost(paid, prices.device_rate, step, problem.utilisation)
    if prices.includes_energy:
        return rental
    return None if prices.energy_price is None else rental + money.energy_cost(energy, prices.energy_price)


def _step_carbon(problem: Problem, energy: Numeric) -> Numeric | None:
    grid = problem.machine.prices.grid_intensity
    return None if grid is None else money.carbon(energy, grid)


def _goodput(problem: Problem, devices: Numeric, checkpoint_bytes: Numeric) -> tuple[Numeric | None, Numeric | None]:
    """Fraction of the time that makes progress, and the checkpoint interval; None without an MTBF."""
    numbers = problem.machine.reliability
    if numbers.device_mtbf is None or numbers.checkpoint_bandwidth is None or numbers.restart_time is None:
        return None, None
    mtbf = reliability.job_mtbf(numbers.device_mtbf, devices)
    cost = reliability.checkpoint_time(checkpoint_bytes, numbers.checkpoint_bandwidth)
    interval = numbers.checkpoint_interval
    if interval is None:
        interval = reliability.young_daly_interval(cost, mtbf)
    return reliability.goodput(interval, cost, mtbf, numbers.restart_time), np.maximum(interval, cost)
