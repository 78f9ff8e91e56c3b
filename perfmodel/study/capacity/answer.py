"""Answers a capacity question."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from perfmodel.engine.recall import Recall
from perfmodel.engine.result import Result, ResultWarning
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.study.capacity.choice import Choice, best_of, choice_of
from perfmodel.study.capacity.goal import goal_of
from perfmodel.study.capacity.refusal import nearest_of
from perfmodel.study.capacity.result import CapacityResult, Row
from perfmodel.study.capacity.sizes import DIVISIBILITY, Size, Sizes
from perfmodel.study.capacity.variants import coarse_sizes, fine_sizes, variants_of
from perfmodel.study.intervals import probability_within, sure_factor
from perfmodel.study.progress import Progress, unseen

#: Probabilities with which sizes are stated.
CONFIDENCES = (0.8, 0.95)
#: Sizes shown on each side of the answer.
_AROUND = 3


def capacity(resolved: ResolvedScenario, progress: Progress = unseen, recall: Recall | None = None) -> CapacityResult:
    """Find the size of the machine that a scenario asks for.

    Parameters
    ----------
    recall
        What the searches of a session know; None: what those of this question find.

    Raises
    ------
    SpecError, UsageError
        A cluster, a price, the goal or a limit cannot be.
    """
    variants = variants_of(resolved)
    goals = [goal_of(one.resolved, one.question()) for one in variants]
    known = Recall() if recall is None else recall
    tried = 0

    def tell(more: int) -> None:
        nonlocal tried
        tried += more
        progress("sizes tried", tried)

    books = [Sizes.of(one, goal, tell, known) for one, goal in zip(variants, goals, strict=True)]
    choices = [choice_of(one) for one in books]
    best = best_of(choices)
    if best is None:
        return _without(resolved, books)
    sizes = _around(best)
    below = [one for one in sizes if one.size.devices < best.size.devices]
    others = tuple(_row(one.sizes, one.size) for one in choices if one is not None and one is not best)
    said = _said(resolved, best.sizes.result(best.size))
    return CapacityResult(
        best.sizes.goal, _row(best.sizes, best.size), _binding(best, below), best.granularity, sizes, others,
        {share: _sure(books, share) for share in CONFIDENCES}, said,
    )  # fmt: skip


def _said(resolved: ResolvedScenario, result: Result) -> Result:
    """The result as the answer of this scenario; the power of a rack was looked at."""
    named = {"name": resolved.name, "sha256": resolved.sha256}

    def warnings() -> tuple[ResultWarning, ...]:
        return tuple(one for one in result.warnings if one.path != "site.rack_power")

    return replace(result, scenario=named, question="capacity", warner=warnings)


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
            yield _row(sizes, sizes.shown(devices), stops)


def _without(resolved: ResolvedScenario, books: Sequence[Sizes]) -> CapacityResult:
    """No size meets the goal: what comes nearest, and what stops it."""
    nearest = [nearest_of(one) for one in books]
    first = min(range(len(books)), key=lambda at: nearest[at].excess)
    book, size = books[first], nearest[first].size
    result = book.result(size)
    # Prices of one cluster miss the goal alike.
    reasons = tuple(dict.fromkeys([*(one.reason for one in nearest), *result.reasons]))
    said = replace(_said(resolved, result), feasible=False, reasons=reasons)
    rows = tuple(_row(one, near.size, near.stops) for one, near in zip(books, nearest, strict=True))
    return CapacityResult(
        book.goal, None, nearest[first].stops, book.variant.node, rows, (), dict.fromkeys(CONFIDENCES), said
    )
