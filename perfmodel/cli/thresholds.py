"""``--fail-above KEY=NUMBER``: thresholds on the numbers of a result, for scripts and continuous integration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perfmodel.cli.tables import leaves
from perfmodel.errors import UsageError, nearest

if TYPE_CHECKING:
    from perfmodel.cli.answers import Answer


@dataclass(frozen=True)
class Threshold:
    """A dotted result key and the largest value that it may have (SI units, as in the JSON)."""

    key: str
    limit: float


def parse_thresholds(texts: Iterable[str]) -> list[Threshold]:
    """Read ``KEY=NUMBER`` texts.

    Raises
    ------
    UsageError
        A text is not of that form.
    """
    return [_parse(text) for text in texts]


def _parse(text: str) -> Threshold:
    key, separator, number = text.partition("=")
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not separator or not key.strip() or math.isnan(limit):
        raise UsageError(
            f"--fail-above {text!r}: expected KEY=NUMBER, for example time.step_s=5 (SI units, as in the JSON)"
        )
    return Threshold(key.strip(), limit)


def exceeded(answer: Answer, thresholds: Sequence[Threshold]) -> list[str]:
    """One sentence for each threshold that the result is above.

    Raises
    ------
    UsageError
        A key is not a number of the result, or its number is not known (for example money without a price).
    """
    numbers = _numbers(answer) if thresholds else {}
    sentences: list[str] = []
    for threshold in thresholds:
        if threshold.key not in numbers:
            raise UsageError(
                f"--fail-above: the result has no number {threshold.key!r}{nearest(threshold.key, numbers)}"
            )
        value = numbers[threshold.key]
        if value is None and answer.feasible:
            raise UsageError(
                f"--fail-above: {threshold.key} is not known for this scenario; see the warnings of the result"
            )
        if value is not None and value > threshold.limit:
            sentences.append(f"{threshold.key} is {value:g}, above {threshold.limit:g}")
    return sentences


def _numbers(answer: Answer) -> dict[str, float | None]:
    """Every number (or null) of a result by its dotted key."""
    return {
        key: value
        for key, value in leaves(answer.to_dict())
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
    }
