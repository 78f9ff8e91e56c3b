"""Choosing a size: the smallest that meets the goal, or the cheapest, exact on a stated granularity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from perfmodel.study.capacity.goal import RATE
from perfmodel.study.capacity.sizes import Size, Sizes
from perfmodel.study.capacity.variants import coarse_sizes, fine_sizes, granularity_of

#: Sizes beyond the first that meets a goal of money or energy are tried until they are this much worse in a row.
_PATIENCE = 4


@dataclass(frozen=True)
class Choice:
    """A size of a variant, and the sizes by which it is told apart from smaller ones.

    Attributes
    ----------
    granularity
        Devices: every smaller multiple of it was tried (of a list: every size).
    """

    sizes: Sizes
    size: Size
    granularity: int

    @property
    def rank(self) -> tuple[float, float, float]:
        """Smaller is better; of as many devices the faster, of as fast ones the cheaper."""
        value = self.size.value(self.sizes.goal.key)
        ordered = -value if self.sizes.goal.key == RATE else value
        devices, money = float(self.size.devices), self.size.value("money.per_million_tokens_usd")
        money = money if np.isfinite(money) else np.inf
        return (devices, ordered, money) if self.sizes.goal.bounds_time else (ordered, devices, money)


def choice_of(sizes: Sizes, factor: float = 1.0) -> Choice | None:
    """The choice of one variant; None where no size meets the goal."""
    if not sizes.rack_is_enough:
        return None
    return _smallest(sizes, factor) if sizes.goal.bounds_time else _least(sizes, factor)


def best_of(choices: Sequence[Choice | None]) -> Choice | None:
    """The best of several variants; of equal ones the first."""
    return min((one for one in choices if one is not None), key=lambda one: one.rank, default=None)


def _smallest(sizes: Sizes, factor: float) -> Choice | None:
    variant = sizes.variant
    met = next((one for one in coarse_sizes(variant) if sizes.at(one, factor).met), None)
    if met is None:
        met = next((one for one in _last_resort(sizes) if sizes.at(one, factor).met), None)
    if met is None:
        return None
    granularity = granularity_of(variant, met)
    tried = fine_sizes(variant, 1, met - 1, granularity)
    least = next((one for one in tried if sizes.at(one, factor).met), met)
    return Choice(sizes, sizes.at(least, factor), granularity)


def _last_resort(sizes: Sizes) -> Iterator[int]:
    """Sizes between the coarse ones: some batches and layers divide by five or seven only."""
    variant = sizes.variant
    yield from fine_sizes(variant, 1, variant.largest, granularity_of(variant, variant.largest))


def _least(sizes: Sizes, factor: float) -> Choice | None:
    """The best value over sizes: the coarse ones, then those between the neighbours of the best."""
    variant = sizes.variant
    coarse = list(_until_worse(sizes, coarse_sizes(variant), factor))
    if not any(one.met for one in coarse):
        coarse = [sizes.at(one, factor) for one in _last_resort(sizes)]
    best = _best_of_sizes(sizes, coarse)
    if best is None:
        return None
    tried = [one.devices for one in coarse]
    at = tried.index(best.devices)
    low, high = tried[max(at - 1, 0)], tried[min(at + 1, len(tried) - 1)]
    granularity = granularity_of(variant, high)
    fine = [sizes.at(one, factor) for one in fine_sizes(variant, low, high, granularity)]
    least = _best_of_sizes(sizes, [best, *fine]) or best
    return Choice(sizes, least, granularity)


def _until_worse(sizes: Sizes, devices: Sequence[int], factor: float) -> Iterator[Size]:
    """Sizes in order, until several in a row are worse than the best."""
    best, worse = None, 0
    for one in devices:
        size = sizes.at(one, factor)
        yield size
        value = size.value(sizes.goal.key) if size.met else None
        if value is not None and (best is None or value < best):
            best, worse = value, 0
        elif best is not None:
            worse += 1
        if worse >= _PATIENCE:
            return


def _best_of_sizes(sizes: Sizes, several: Sequence[Size]) -> Size | None:
    met = [one for one in several if one.met]
    return min(met, key=lambda one: (one.value(sizes.goal.key), one.devices), default=None)
