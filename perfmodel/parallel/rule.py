"""One rule about plans: its outcome for every plan, and the whole numbers that rules compare plans with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from perfmodel.parallel.collective_rules import GATHERED
from perfmodel.parallel.plan import Counts

Mask: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class RuleOutcome:
    """One rule applied to every plan.

    Attributes
    ----------
    name
        Short name of the rule, for counting what a search discards.
    violated
        True where the plan breaks the rule, shape ``(n,)``.
    describe
        The reason for one row, a sentence with the numbers.
    """

    name: str
    violated: Mask
    describe: Callable[[int], str]


@dataclass(frozen=True, kw_only=True)
class Question:
    """The whole numbers that the rules compare plans with (names as in :func:`integer_rules`)."""

    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    hidden: int
    sequence_length: int
    global_batch: int
    cluster_devices: int
    requested_devices: Counts | int
    experts: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    context: str = GATHERED
    balanced: bool = True
    recurrences: tuple[str, ...] = ()
    mixer_heads: int = 0
    mixer_groups: int = 0
    full_kv_heads: int = 0
    grid_obstacles: tuple[str, ...] = ()
    parameters_at: str = "device"


def not_divisible(number: Counts | int, divisor: Counts) -> Mask:
    """True where the divisor leaves a rest."""
    return np.not_equal(np.mod(number, np.maximum(divisor, 1)), 0)


def nearest_divisors(number: int, wanted: int) -> str:
    """``nearest divisors 4 and 8`` around ``wanted``, for the end of a reason; empty when there are none."""
    if number < 1:
        return ""
    divisors = [one for one in range(1, min(number, 4096) + 1) if number % one == 0]
    below = [one for one in divisors if one < wanted][-1:]
    above = [one for one in divisors if one > wanted][:1]
    found = " and ".join(str(one) for one in below + above)
    return f"; nearest divisor{'s' if len(below + above) > 1 else ''} {found}" if found else ""
