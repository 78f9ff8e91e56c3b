"""Choosing a size: the smallest that meets the goal, or the cheapest, exact on a stated granularity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from perfmodel.study.capacity.goal import RATE
from perfmodel.study.capacity.sizes import Size, Sizes
from perfmodel.study.capacity.variants import all_sizes, coarse_sizes, fine_sizes, granularity_of


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
    tried = sizes.all_of(fine_sizes(variant, 1, met - 1, granularity), factor)
    least = next((one for one in tried if one.met), sizes.at(met, factor))
    return Choice(sizes, least, granularity)


def _last_resort(sizes: Sizes) -> Iterator[int]:
    """Sizes between the coarse ones: some batches and layers divide by five or seven only."""
    variant = sizes.variant
    yield from fine_sizes(variant, 1, variant.largest, granularity_of(variant, variant.largest))


def _least(sizes: Sizes, factor: float) -> Choice | None:
    """The best value over all sizes: neither money nor energy has to grow with devices."""
    met = [one for one in sizes.all_of(all_sizes(sizes.variant), factor) if one.met]
    best = min(met, key=lambda one: (one.value(sizes.goal.key), one.devices), default=None)
    return None if best is None else Choice(sizes, best, granularity_of(sizes.variant, best.devices))
