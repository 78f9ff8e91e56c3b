"""Money, carbon, goodput and the totals of a whole run."""

from __future__ import annotations

import functools
from collections.abc import Callable
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
    """Money and carbon of a step and of the run, each computed when it is read.

    None where a price, a grid, an MTBF or the tokens of the run are not declared.

    Attributes
    ----------
    devices
        Devices of the job.
    step
        Time of a step [s].
    step_energy
        Energy of a step [J, whole allocation]; asked for where something follows from it.
    tokens_per_step
        Tokens of a step.
    checkpoint_bytes
        Weights and optimizer state of the whole model [B].
    """

    problem: Problem
    devices: Numeric
    step: Numeric
    step_energy: Callable[[], Numeric]
    tokens_per_step: Numeric
    checkpoint_bytes: Numeric

    @functools.cached_property
    def step_usd(self) -> Numeric | None:
        return _step_money(self.problem, self.devices, self.step, self.step_energy)

    @functools.cached_property
    def step_kg(self) -> Numeric | None:
        grid = self.problem.machine.prices.grid_intensity
        return None if grid is None else money.carbon(self.step_energy(), grid)

    @functools.cached_property
    def _progress(self) -> tuple[Numeric | None, Numeric | None]:
        return _goodput(self.problem, self.devices, self.checkpoint_bytes)

    @property
    def goodput(self) -> Numeric | None:
        return self._progress[0]

    @property
    def checkpoint_interval(self) -> Numeric | None:
        return self._progress[1]

    @functools.cached_property
    def seconds(self) -> Numeric | None:
        """Of the run, with what failures cost."""
        tokens = self.problem.workload.tokens
        if tokens is None:
            return None
        return metrics.run_time(tokens, self.tokens_per_step, self.step, 1.0 if self.goodput is None else self.goodput)

    @property
    def days(self) -> Numeric | None:
        return None if self.seconds is None else self.seconds / SECONDS_PER_DAY

    @property
    def device_hours(self) -> Numeric | None:
        return None if self.seconds is None else self.seconds * self.devices / 3600.0

    @property
    def energy_kwh(self) -> Numeric | None:
        joules = self._of_all_steps(self.step_energy)
        return None if joules is None else joules / JOULES_PER_KILOWATT_HOUR

    @property
    def run_usd(self) -> Numeric | None:
        return self._of_all_steps(lambda: self.step_usd)

    @property
    def run_kg(self) -> Numeric | None:
        return self._of_all_steps(lambda: self.step_kg)

    def _of_all_steps(self, amount: Callable[[], Numeric | None]) -> Numeric | None:
        """What every step of the run takes: those that failures cost too."""
        if self.seconds is None:
            return None
        of_a_step = amount()
        return None if of_a_step is None else self.seconds / self.step * of_a_step


def _step_money(
    problem: Problem, devices: Numeric, step: Numeric, step_energy: Callable[[], Numeric]
) -> Numeric | None:
    prices = problem.machine.prices
    if prices.device_rate is None:
        return None
    paid = reliability.paid_devices(devices, problem.machine.reliability.spare_fraction)
    rental = money.rental_cost(paid, prices.device_rate, step, problem.utilisation)
    if prices.includes_energy:
        return rental
    return None if prices.energy_price is None else rental + money.energy_cost(step_energy(), prices.energy_price)


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
