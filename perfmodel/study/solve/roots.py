"""Where a curve reaches a target: exactly for numbers that vary freely, next to it for whole ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfmodel.study.solve.curve import Curve, Samples, joined
from perfmodel.study.solve.inputs import points_between, present_value

#: Relative difference from the target up to which a result attains it.
TOLERANCE = 1e-9
#: Values tried first, and inside a bracket: many where they are columns of one call.
_COLUMN_POINTS, _SCENARIO_POINTS = (64, 64), (33, 4)
#: Whole numbers that are all tried: of a size of a plan (columns), and of anything else.
_ALL_COLUMNS, _ALL_SCENARIOS = 200_000, 256
#: Steps between possible whole numbers that are looked for.
_LARGEST_STEP = 65_536
#: Rounds after which a bracket is as narrow as numbers can be.
_ROUNDS = 60


@dataclass(frozen=True)
class Solution:
    """What was found.

    Attributes
    ----------
    value
        Of the input: where the target is attained or met; None where it is not.
    how
        ``exact``, ``smallest`` or ``largest`` (whole numbers, and jumps over the target: of the values that meet it).
    crossings
        How often the curve passes the target in the interval.
    samples
        What was tried.
    """

    value: float | None
    how: str
    crossings: int
    samples: Samples

    @property
    def several(self) -> bool:
        """The target is attained more than once."""
        return self.how == "exact" and self.crossings > 1

    @property
    def reached(self) -> tuple[float, float] | None:
        """Smallest and largest result among plans that can be (of all plans, when none can)."""
        tried = self.samples
        known = np.isfinite(tried.results)
        kept = known & tried.feasible
        results = tried.results[kept if kept.any() else known]
        return (float(results.min()), float(results.max())) if len(results) else None


def solve_freely(curve: Curve, target: float) -> Solution:
    """The smallest value at which the curve attains the target."""
    varied = curve.varied
    first, inside = _COLUMN_POINTS if curve.is_columns else _SCENARIO_POINTS
    samples = curve.at(points_between(varied.lower, varied.upper, first, wide=varied.is_wide))
    brackets = list(_brackets(samples, target))
    if not brackets:
        return Solution(None, "exact", 0, samples)
    lower, upper = brackets[0]
    narrowed = [samples]
    for _ in range(_ROUNDS):
        if _attained(narrowed[-1], target) is not None or math.nextafter(lower, math.inf) >= upper:
            break
        part = curve.at(points_between(lower, upper, inside + 2, wide=False))
        narrowed.append(part)
        found = next(_brackets(part, target), None)
        if found is None or found == (lower, upper):
            break
        lower, upper = found
    every = joined(narrowed)
    value = _attained(_within(every, lower, upper), target)
    if value is not None:
        return Solution(value, "exact", len(brackets), every)
    side, how = _meeting_side(every, lower, upper, target, rises=more_is_better(curve.key))
    return Solution(side, how, len(brackets), every)


def _brackets(samples: Samples, target: float) -> Iterator[tuple[float, float]]:
    """Neighbours between which the curve passes the target; both are the value where it is on the target."""
    known = np.isfinite(samples.results)
    values, difference = samples.values[known], samples.results[known] - target
    for position in range(len(values)):
        if difference[position] == 0.0:
            yield float(values[position]), float(values[position])
        elif position and difference[position - 1] * difference[position] < 0.0:
            yield float(values[position - 1]), float(values[position])


def _attained(samples: Samples, target: float) -> float | None:
    """The value whose result is nearest to the target, if it is near enough."""
    if not np.isfinite(samples.results).any():
        return None
    distance = np.abs(np.where(np.isfinite(samples.results), samples.results, np.inf) - target)
    nearest = int(np.argmin(distance))
    # A tenth of what is promised: the answer is evaluated again as a scenario of its own.
    return float(samples.values[nearest]) if distance[nearest] <= 0.1 * TOLERANCE * abs(target) else None


def _within(samples: Samples, lower: float, upper: float) -> Samples:
    kept = (samples.values >= lower) & (samples.values <= upper)
    return Samples(samples.values[kept], samples.results[kept], samples.feasible[kept])


def _meeting_side(
    samples: Samples, lower: float, upper: float, target: float, *, rises: bool
) -> tuple[float | None, str]:
    """Where a curve jumps over the target: the end of the jump that meets it."""
    at = {float(value): float(result) for value, result in zip(samples.values, samples.results, strict=True)}
    if meets(np.array([at[lower]]), target, rises=rises)[0]:
        return lower, "largest"
    return upper, "smallest"


def more_is_better(key: str) -> bool:
    """Rates, utilisations and goodput; of everything else less is better."""
    last = key.rsplit(".", 1)[-1]
    return (key.startswith("metrics.") and last != "model_flop_per_token") or last in ("goodput", "tokens")


def meets(results: NDArray[np.float64], target: float, *, rises: bool) -> NDArray[np.bool_]:
    """Results at least as good as the target (and no worse by rounding)."""
    with np.errstate(invalid="ignore"):
        slack = 1e-12 * abs(target)
        return results >= target - slack if rises else results <= target + slack


def solve_whole(curve: Curve, target: float) -> Solution:
    """The smallest whole number that meets the target; the largest where small numbers meet it."""
    lower, upper = math.ceil(curve.varied.lower), math.floor(curve.varied.upper)
    every = _ALL_COLUMNS if curve.is_columns else _ALL_SCENARIOS
    if upper - lower < every:
        samples = curve.at(np.arange(lower, upper + 1, dtype=np.float64))
        return _of_all(samples, target, curve)
    return _of_lattice(curve, target, lower, upper)


def _good(samples: Samples, target: float, curve: Curve) -> NDArray[np.bool_]:
    """Plans that can be and meet the target."""
    return meets(samples.results, target, rises=more_is_better(curve.key)) & samples.feasible


def _possible(samples: Samples) -> Samples:
    known = np.isfinite(samples.results)
    return Samples(samples.values[known], samples.results[known], samples.feasible[known])


def _of_all(samples: Samples, target: float, curve: Curve) -> Solution:
    tried = _possible(samples)
    good = _good(tried, target, curve)
    crossings = int(np.count_nonzero(good[1:] != good[:-1]))
    if not good.any():
        return Solution(None, "smallest", crossings, tried)
    worse = _grows_worse(tried, curve)
    if good.all():
        at = len(good) - 1 if worse else 0
    else:  # where small numbers meet the target, the answer is the last one before it is missed
        at = int(np.argmin(good)) - 1 if good[0] else int(np.argmax(good))
    largest = good[0] and (worse or not good.all())
    return Solution(float(tried.values[at]), "largest" if largest else "smallest", crossings, tried)


def _grows_worse(samples: Samples, curve: Curve) -> bool:
    """Large numbers are further from meeting a target than small ones."""
    rises = samples.results[-1] > samples.results[0]
    return bool(rises) != more_is_better(curve.key)


def _of_lattice(curve: Curve, target: float, lower: int, upper: int) -> Solution:
    """Whole numbers in wide intervals: those on the lattice of possible ones, between neighbours of a coarse grid."""
    step = _step(curve, lower, upper)
    low, high = -(-lower // step), upper // step
    grid = np.unique(np.rint(points_between(max(low, 1), max(high, 1), _ALL_SCENARIOS // 4, wide=True)))
    found = [curve.at(grid * step)]
    for _ in range(_ROUNDS):
        tried = _possible(joined(found))
        good = _good(tried, target, curve)
        change = np.flatnonzero(good[1:] != good[:-1])
        if not len(change):
            break
        left, right = int(tried.values[change[0]]) // step, int(tried.values[change[0] + 1]) // step
        if right - left <= 1:
            break
        inner = np.unique(np.rint(np.linspace(left, right, 10)))[1:-1]
        found.append(curve.at(inner * step))
        if not np.isfinite(found[-1].results).any():
            break
    return _of_all(joined(found), target, curve)


def _step(curve: Curve, lower: int, upper: int) -> int:
    """Distance of whole numbers that keep the integer rules: the smallest step from the present one to another."""
    now = int(present_value(curve.resolved, curve.varied.path) or lower)
    divisors = (one for one in range(1, min(now, _LARGEST_STEP) + 1) if now % one == 0 and now + one <= upper)
    for one in divisors:
        if np.isfinite(curve.at(np.array([float(now + one)])).results).any():
            return one
    return 1
