"""Sentences of a capacity question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from perfmodel.study.capacity.goal import DAYS, RATE, Goal
from perfmodel.study.capacity.sizes import DIVISIBILITY, MEMORY, RACK, Size
from perfmodel.study.words import shown_result

if TYPE_CHECKING:
    from perfmodel.study.capacity.result import CapacityResult

_STOPS = {
    DIVISIBILITY: "no plan keeps the integer rules",
    MEMORY: "no plan fits in memory",
    RACK: "a rack does not carry a node",
    "deadline": "the deadline is missed",
    "tokens_per_s": "the rate is missed",
    "budget": "it costs more than the budget",
    "power": "it draws more than the site allows",
}


def stop_words(stops: tuple[str, ...]) -> str:
    """What stops a size, in words."""
    return " and ".join(_STOPS.get(one, f"{one} is outside its limits") for one in stops)


def goal_words(goal: Goal) -> str:
    """The goal: ``within 60 days``, ``at 2,000,000 tokens per second``."""
    said = [f"within {shown_result(DAYS, goal.days)}"] if np.isfinite(goal.days) else []
    said += [f"at {shown_result(RATE, goal.tokens_per_s)} tokens per second"] if goal.tokens_per_s else []
    return " and ".join(said)


def machine_words(size: Size) -> str:
    """``128 devices (16 nodes) of hgx-h100-ib-ndr``, with the price where there are several."""
    nodes, rest = divmod(size.devices, size.variant.node)
    whole = f" ({nodes:,} node{'' if nodes == 1 else 's'})" if nodes and not rest else ""
    priced = f" at {size.variant.pricing}" if size.variant.pricing else ""
    return f"{size.devices:,} devices{whole} of {size.variant.cluster}{priced}"


def numbers_words(size: Size) -> str:
    """Time or rate, and money where it is known."""
    said = [DAYS] if np.isfinite(size.value(DAYS)) else [RATE]
    said += [key for key in ("run.usd",) if np.isfinite(size.value(key))]
    words = {RATE: " tokens per second"}
    return ", ".join(f"{shown_result(key, size.value(key))}{words.get(key, '')}" for key in said)


def sentence(found: CapacityResult) -> str:
    """The answer, and what stops the next smaller size."""
    if found.chosen is None:
        return ""
    size = found.chosen.size
    least = {"devices": "the fewest", "money": "the least money", "energy": "the least energy"}[found.goal.minimise]
    head = f"{machine_words(size)}: {numbers_words(size)}; {least} {goal_words(found.goal)}"
    smaller = [one for one in found.sizes if one.size.devices < size.devices]
    if not found.binding:
        return head
    if not smaller:
        return f"{head}. With fewer, {stop_words(found.binding)}"
    below = smaller[-1].size
    what = stop_words(found.binding)
    if found.binding[0] in ("deadline", "tokens_per_s") and below.entry is not None:
        what = f"it would be {numbers_words(below)}"
    if found.binding[0] in ("money", "energy"):
        what = f"it takes more {found.binding[0]}"
    return f"{head}. With {below.devices:,}, {what}"
