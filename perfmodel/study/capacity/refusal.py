"""Why no size meets a goal, and what comes nearest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.study.capacity.goal import limit_word
from perfmodel.study.capacity.sizes import DIVISIBILITY, MEMORY, RACK, Size, Sizes
from perfmodel.study.capacity.variants import coarse_sizes
from perfmodel.study.capacity.words import goal_words, stop_words
from perfmodel.study.search.wanted import Bound
from perfmodel.study.words import shown_result


@dataclass(frozen=True)
class Nearest:
    """What comes nearest to a goal.

    Attributes
    ----------
    stops
        What stops it.
    reason
        The same in a sentence, with what can be reached.
    excess
        How far it is from the limit, as a ratio; infinite where it is not a limit that stops it.
    """

    size: Size
    stops: tuple[str, ...]
    reason: str
    excess: float


@dataclass(frozen=True)
class _Reached:
    """The best of a limited result where everything else is kept."""

    bound: Bound
    size: Size

    @property
    def limit(self) -> float:
        return self.bound.lower if np.isfinite(self.bound.lower) else self.bound.upper

    @property
    def value(self) -> float:
        return self.size.value(self.bound.key)

    @property
    def is_kept(self) -> bool:
        """The limit holds."""
        return bool(self.bound.holds(np.array(self.value)))

    @property
    def excess(self) -> float:
        """Ratio of value and limit, whichever is the larger."""
        ratio = self.value / self.limit if self.limit else np.inf
        return max(ratio, 1.0 / ratio) if ratio > 0.0 else np.inf

    @property
    def words(self) -> str:
        side = "at least" if np.isfinite(self.bound.lower) else "at most"
        asked, found = shown_result(self.bound.key, self.limit), shown_result(self.bound.key, self.value)
        return f"{self.bound.key} {side} {asked} would have to be {found}, with {self.size.devices:,} devices"


def nearest_of(sizes: Sizes) -> Nearest:
    """What comes nearest on one cluster at one price."""
    head = f"no size of {sizes.variant.cluster} meets the goal ({goal_words(sizes.goal)})"
    reached = _reached(sizes) if sizes.rack_is_enough else []
    if reached:
        first = min(reached, key=lambda one: one.excess)
        words = "; or ".join(one.words for one in reached)
        return Nearest(first.size, (limit_word(first.bound),), f"{head}: {words}", first.excess)
    tried = [(sizes.stops(one), sizes.shown(one)) for one in coarse_sizes(sizes.variant)]
    stops, size = min(tried, key=lambda one: (_gravity(one[0]), len(one[0]), -one[1].devices))
    what = stop_words(stops)
    return Nearest(size, stops, f"{head}: even with {size.devices:,} devices {what}", np.inf)


def _gravity(stops: tuple[str, ...]) -> int:
    """A limit is less grave than memory, and memory less than what does not divide."""
    return next((rank for rank, one in enumerate((RACK, MEMORY, DIVISIBILITY), 1) if one in stops), 0)


def _reached(sizes: Sizes) -> list[_Reached]:
    """For every limit of which alone the goal could do without: what it would have to be."""
    found: dict[str, _Reached] = {}
    for bound in (*sizes.goal.bounds, *sizes.bounds):
        if bound.column is not None:
            continue
        tried = [_Reached(bound, sizes.reach(one, bound)) for one in coarse_sizes(sizes.variant)]
        known = [one for one in tried if one.size.entry is not None]
        best = min(known, key=lambda one: one.excess, default=None)
        word = limit_word(bound)
        # Of limits on one thing (average and peak power) the one that can be kept is not what stops.
        if best is not None and not best.is_kept and (word not in found or best.excess > found[word].excess):
            found[word] = best
    return list(found.values())
