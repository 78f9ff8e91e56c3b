"""Answers a capacity question."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from perfmodel.engine.result import Result
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.capacity.choice import Choice, best_of, choice_of
from perfmodel.study.capacity.goal import DAYS, RATE, goal_of
from perfmodel.study.capacity.result import CapacityResult, Row
from perfmodel.study.capacity.sizes import DIVISIBILITY, MEMORY, RACK, Size, Sizes
from perfmodel.study.capacity.variants import coarse_sizes, fine_sizes, variants_of
from perfmodel.study.capacity.words import goal_words, machine_words, numbers_words, stop_words
from perfmodel.study.intervals import probability_within, sure_factor
from perfmodel.study.progress import Progress, unseen
from perfmodel.study.search.wanted import Bound
from perfmodel.study.words import shown_result

#: Probabilities with which sizes are stated.
CONFIDENCES = (0.8, 0.95)
#: Sizes shown on each side of the answer.
_AROUND = 3


def capacity(resolved: ResolvedScenario, progress: Progress = unseen) -> CapacityResult:
    """Find the size of the machine that a scenario asks for.

    Raises
    ------
    SpecError, UsageError
        A cluster, a price, the goal or a limit cannot be.
    """
    variants = variants_of(resolved)
    goals = [goal_of(one.resolved, one.question()) for one in variants]
    tried = 0

    def tell(_: int) -> None:
        nonlocal tried
        tried += 1
        progress("sizes tried", tried)

    books = [Sizes.of(one, goal, tell) for one, goal in zip(variants, goals, strict=True)]
    choices = [choice_of(one) for one in books]
    best = best_of(choices)
    if best is None:
        return _without(resolved, books)
    sizes = _around(best)
    below = [one for one in sizes if one.size.devices < best.size.devices]
    others = tuple(_row(one.sizes, one.size) for one in choices if one is not None and one is not best)
    result = best.sizes.result(best.size)
    said = replace(result, question="capacity", scenario={"name": resolved.name, "sha256": resolved.sha256})
    return CapacityResult(
        best.sizes.goal, _row(best.sizes, best.size), _binding(best, below), best.granularity, sizes, others,
        {share: _sure(books, share) for share in CONFIDENCES}, said,
    )  # fmt: skip


def _binding(best: Choice, below: Sequence[Row]) -> tuple[str, ...]:
    """What stops the next smaller size; where nothing does, it takes more of what is minimised."""
    if below:
        return below[-1].stops or (best.sizes.goal.minimise,)
    is_least = not fine_sizes(best.sizes.variant, 1, best.size.devices - 1, best.granularity)
    return () if is_least else (DIVISIBILITY,)


def _sure(books: Sequence[Sizes], share: float) -> Row | None:
    """The choice that meets the goal with a probability."""
    found = best_of([choice_of(one, sure_factor(one.deviation, share)) for one in books])
    return None if found is None else _row(found.sizes, found.size)


def _row(sizes: Sizes, size: Size, stops: tuple[str, ...] = ()) -> Row:
    if size.entry is None:
        return Row(size, stops, None)
    return Row(size, stops, probability_within(sizes.deviation, sizes.goal.margin(size.entry.numbers)))


def _around(best: Choice) -> tuple[Row, ...]:
    """Sizes on both sides of the answer that have a plan by the integer rules, with what stops them."""
    sizes, at = best.sizes, best.size.devices
    variant = sizes.variant
    smaller = reversed(fine_sizes(variant, 1, at - 1, best.granularity))
    larger = (one for one in coarse_sizes(variant) if one > at)
    below = list(itertools.islice(_possible(sizes, smaller), _AROUND))
    above = list(itertools.islice(_possible(sizes, larger), _AROUND))
    return (*reversed(below), _row(sizes, sizes.at(at)), *above)


def _possible(sizes: Sizes, several: Iterable[int]) -> Iterator[Row]:
    """Rows of the sizes that some plan divides by."""
    for devices in several:
        stops = sizes.stops(devices)
        if DIVISIBILITY not in stops:
            yield _row(sizes, sizes.at(devices), stops)


def _without(resolved: ResolvedScenario, books: Sequence[Sizes]) -> CapacityResult:
    """No size meets the goal: what the best does reach, and what stops it."""
    nearest = [_nearest(one) for one in books]
    reasons = tuple(text for one, size in zip(books, nearest, strict=True) for text in _reasons(one, size))
    with_plan = [at for at, size in enumerate(nearest) if size.entry is not None]
    at = min(with_plan, key=lambda one: -_margin(books[one], nearest[one])) if with_plan else 0
    result = _failed(resolved, books[at].result(nearest[at]), reasons)
    rows = tuple(
        _row(one, size, one.stops(size.devices)) for one, size in zip(books, nearest, strict=True)
    )
    return CapacityResult(
        books[0].goal, None, rows[at].stops, books[at].variant.node, rows, (), dict.fromkeys(CONFIDENCES), result
    )


def _margin(sizes: Sizes, size: Size) -> float:
    return -np.inf if size.entry is None else sizes.goal.margin(size.entry.numbers)


def _nearest(sizes: Sizes) -> Size:
    """The size that comes nearest to the goal within the limits."""
    free = replace(sizes.goal, minimise="devices", key=DAYS if np.isfinite(sizes.goal.days) else RATE)
    book = replace(sizes, goal=free, _best={})
    tried = [book.at(one) for one in coarse_sizes(sizes.variant)]
    return max(tried, key=lambda one: (_margin(book, one), one.devices))


def _reasons(sizes: Sizes, size: Size) -> tuple[str, ...]:
    """Why no size of a variant meets the goal, and what can be reached."""
    head = f"no size of {sizes.variant.cluster} meets the goal ({goal_words(sizes.goal)})"
    stops = sizes.stops(size.devices)
    if set(stops) & {RACK, MEMORY, DIVISIBILITY}:
        return (f"{head}: with {size.devices:,} devices {stop_words(stops)}",)
    reached = [words for one in (*sizes.bounds, *sizes.goal.bounds) if (words := _reach_words(sizes, one))]
    if reached:
        return (f"{head}: {'; or '.join(reached)}",)
    best = "" if size.entry is None else f"; within the limits it is {machine_words(size)}, {numbers_words(size)}"
    return (f"{head}: several limits stop it together ({', '.join(stops)}){best}",)


def _reach_words(sizes: Sizes, bound: Bound) -> str:
    """What a limit would have to be so that all others can be kept."""
    if bound.column is not None:
        return ""
    reached = [(sizes.reach(one, bound), one) for one in coarse_sizes(sizes.variant)]
    known = [(value, one) for value, one in reached if value is not None]
    if not known:
        return ""
    side, limit = ("at least", bound.lower) if np.isfinite(bound.lower) else ("at most", bound.upper)
    value, devices = (max if np.isfinite(bound.lower) else min)(known)
    asked, found = shown_result(bound.key, limit), shown_result(bound.key, value)
    return f"{bound.key} {side} {asked} would have to be {found}, with {devices:,} devices"


def _failed(resolved: ResolvedScenario, result: Result, reasons: tuple[str, ...]) -> Result:
    named = {"name": resolved.name, "sha256": resolved.sha256}
    return replace(
        result, scenario=named, question="capacity", feasible=False, reasons=(*reasons, *result.reasons)
    )
