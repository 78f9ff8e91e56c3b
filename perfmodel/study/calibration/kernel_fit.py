"""The fit of one entry of kernel numbers: what moved, how far off it is, and what a file would say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.kernel_forms import Column
from perfmodel.study.kernel_tables import Case

#: Of ten configurations in sorted order, those that are left out of the fit.
LEFT_OUT = (2, 5, 8)
TURNS = 10
#: With fewer configurations none is left out.
ENOUGH_CONFIGURATIONS = 6
#: Significant digits of a fitted number.
DIGITS = 3

UNITS = {
    "plateau": "1", "loop_growth": "1", "bandwidth_fraction": "1", "quantise_bytes": "B", "permute_bytes": "B",
    "unit_bandwidth": "B/s", "single_unit_bandwidth": "B/s", "cache_bandwidth": "B/s",
}  # fmt: skip
#: Prefixes in which fitted numbers are written: factor and text, largest first.
PREFIXES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"), (1e-12, "ps")),
    "B": ((1.0, "B"),),
    "B/s": ((1e12, "TB/s"), (1e9, "GB/s")),
}


@dataclass(frozen=True)
class Fit:
    """The fit of one entry: family and key.

    Attributes
    ----------
    numbers
        Every number that moved, SI units.
    switches
        Switches of the kernel that the fit chose.
    fitted, left_out
        Logarithmic errors ln(predicted / measured) of the rows that were fitted and of those that were left out.
    valid
        Smallest and largest size among the fitted rows.
    power
        What a file would say of the power while the kernels run, where the table has it.
    """

    family: str
    key: str
    software: str
    numbers: Mapping[str, float]
    switches: Mapping[str, bool]
    fitted: Column
    left_out: Column
    valid: Mapping[str, tuple[float, float]]
    power: Mapping[str, Any] | None = None

    def entry(self) -> dict[str, Any]:
        """The entry as a file would say it."""
        written = {name: number_text(name, value) for name, value in self.numbers.items()}
        power = {"power": dict(self.power)} if self.power is not None else {}
        return dict(self.switches) | written | {"error": self.error()} | power

    def error(self) -> dict[str, Any]:
        """Residuals and range of validity, as a file would say them."""
        judged = self.left_out if self.left_out.size else self.fitted
        spread = np.concatenate([self.fitted, self.left_out])
        ape = np.abs(np.expm1(judged))
        tenth, ninetieth = np.quantile(np.exp(-spread), [0.1, 0.9])
        return {
            "low": rounded(tenth), "high": rounded(ninetieth),
            "mean": rounded(ape.mean()), "median": rounded(float(np.median(ape))),
            "rows": int(self.fitted.size), "left_out": int(self.left_out.size),
            "valid": {name: [int(low), int(high)] for name, (low, high) in self.valid.items()},
        }  # fmt: skip


def rounded(value: float) -> float:
    """A number with the digits that a file states."""
    return float(f"{value:.{DIGITS}g}")


def number_text(name: str, value: float) -> Any:
    """A fitted number as a file would say it; it was rounded to :data:`DIGITS` before."""
    unit = UNITS.get(name, "s")
    if unit == "1":
        return value
    choices = PREFIXES[unit]
    factor, symbol = next((one for one in choices if value >= one[0]), choices[-1])
    return f"{rounded(value / factor):g} {symbol}"


def left_out(cases: Sequence[Case], among: Sequence[Case] = (), turn: int = 0) -> NDArray[np.bool_]:
    """Which cases are left out of the fit: all of three in ten configurations, in sorted order; never all cases.

    Parameters
    ----------
    cases
        What is fitted.
    among
        Cases whose configurations are put in order, where fits of several sets shall leave the same out.
    turn
        Another three of ten for each of :data:`TURNS` turns.
    """
    configurations = sorted({case.configuration for case in among or cases})
    if len(configurations) < ENOUGH_CONFIGURATIONS:
        return np.zeros(len(cases), dtype=bool)
    chosen = {one for position, one in enumerate(configurations) if (position + turn) % TURNS in LEFT_OUT}
    out = np.array([case.configuration in chosen for case in cases])
    return out & ~out.all()
