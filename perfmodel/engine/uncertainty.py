"""Intervals of the headlines: widths from the residuals of the studies behind the equations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel.equations import uncertainty

#: Standard normal quantile of 90 %: the bounds p10 and p90 of an 80 % interval.
NORMAL_QUANTILE_90 = 1.2815515655446004
#: Relative standard deviation of predicted peak memory: the closed form missed by 21 % on average before
#: recipe details (main gradients, logits) were declared and by 3 % after (perfmodel training-step study);
#: a scenario states part of them.
MEMORY_DEVIATION = 0.10
#: Relative standard deviation of power beside that of time: energies per operation are derived from rated
#: power, which real runs use to 80-100 % (arXiv 2412.08602: 8.4 of 10.2 kW).
POWER_DEVIATION = 0.15

_TIME_KEYS = (
    "time.step_s",
    "run.days",
    "run.device_hours",
    "money.per_step_usd",
    "money.per_million_tokens_usd",
    "run.usd",
)
_RATE_KEYS = ("metrics.mfu", "metrics.hfu", "metrics.tokens_per_s", "metrics.tokens_per_s_per_device")
_ENERGY_KEYS = ("energy.per_step_j", "energy.per_token_j", "run.energy_kwh", "carbon.per_step_kg", "run.kg_co2e")


def intervals(numbers: Mapping[str, Any], time_deviation: float, confidence: str) -> dict[str, dict[str, Any]]:
    """An 80 % interval for every headline that exists.

    Parameters
    ----------
    numbers
        Result numbers by dotted key.
    time_deviation
        Relative standard deviation of a step time for this device and stack.
    confidence
        ``calibrated``, ``transferred`` or ``assumed``.
    """
    energy = float(uncertainty.combined_deviation(time_deviation, POWER_DEVIATION))
    widths = dict.fromkeys((*_TIME_KEYS, *_RATE_KEYS), time_deviation) | dict.fromkeys(_ENERGY_KEYS, energy)
    widths |= {"memory.peak_bytes": MEMORY_DEVIATION, "energy.average_power_w": POWER_DEVIATION}
    result = {}
    for key, deviation in widths.items():
        if numbers.get(key) is not None:
            factor = float(uncertainty.interval_factor(deviation, NORMAL_QUANTILE_90))
            middle = float(numbers[key])
            result[key] = {"p10": middle / factor, "p50": middle, "p90": middle * factor, "basis": confidence}
    return result
