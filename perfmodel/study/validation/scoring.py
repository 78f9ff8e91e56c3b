"""Statistics of a validation: how far off, in which direction, how often inside the interval."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.study.validation.lines import Line

SCHEMA = "perfmodel.validation/1"
#: Columns by whose values the scores are broken down, where a table has them.
GROUPS = ("quantity", "gpu", "source_key", "family", "role", "framework")
#: Columns that say the same under another name.
OTHER = {"gpu": "device"}


@dataclass(frozen=True)
class Score:
    """Errors of one set of lines; fractions, not percent. None where there is nothing to say.

    Attributes
    ----------
    rows, ok
        Lines, and how many of them have a prediction.
    mape, median_ape, p90_ape
        Mean, median and ninetieth percentile of the absolute relative error.
    bias
        Mean signed relative error (positive: predicted too large).
    within_10pct
        Fraction of the predictions within 10 % of the measurement.
    coverage_80
        Fraction of the measurements inside the 80 % interval of their prediction.
    spearman
        Rank correlation of predicted and measured values.
    """

    rows: int
    ok: int
    mape: float | None = None
    median_ape: float | None = None
    p90_ape: float | None = None
    bias: float | None = None
    within_10pct: float | None = None
    coverage_80: float | None = None
    spearman: float | None = None


def score(lines: Sequence[Line]) -> Score:
    """Score the lines that have a prediction; the others only count as rows."""
    good = [line for line in lines if line.ok]
    if not good:
        return Score(rows=len(lines), ok=0)
    predicted = np.array([line.prediction.value for line in good], dtype=np.float64)
    measured = np.array([line.measured for line in good])
    signed = predicted / measured - 1.0
    errors = np.abs(signed)
    covered = [line.covered for line in good if line.covered is not None]
    return Score(
        rows=len(lines),
        ok=len(good),
        mape=float(errors.mean()),
        median_ape=float(np.median(errors)),
        p90_ape=float(np.quantile(errors, 0.9)),
        bias=float(signed.mean()),
        within_10pct=float(np.mean(errors <= 0.1)),
        coverage_80=float(np.mean(covered)) if covered else None,
        spearman=rank_correlation(predicted, measured),
    )


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Spearman's correlation of ranks (ties share their mean rank); None without spread."""
    first, second = _ranks(one), _ranks(other)
    if first.size < 2 or np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return None
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]


def summarise(kind: str, lines: Sequence[Line], main: str | None) -> dict[str, Any]:
    """The document of ``perfmodel validate --format json``.

    Parameters
    ----------
    kind
        Kind of table.
    lines
        All lines.
    main
        Main quantity: the top-level scores are over its lines. None: over all lines.

    Returns
    -------
    dict
        ``perfmodel.validation/1`` (contract: interface page, section 4).
    """
    chosen = [line for line in lines if main is None or line.quantity == main] or list(lines)
    document: dict[str, Any] = {"schema": SCHEMA, "kind": kind, **vars(score(chosen))}
    document["by"] = {name: _by(name, lines if name == "quantity" else chosen) for name in GROUPS}
    document["not_ok"] = _count(line for line in chosen if not line.ok)
    return document


def _by(name: str, lines: Sequence[Line]) -> dict[str, Any]:
    groups: dict[str, list[Line]] = {}
    for line in lines:
        columns = {"quantity": line.quantity, **line.columns}
        value = columns.get(name, "") or columns.get(OTHER.get(name, ""), "")
        if value:
            groups.setdefault(value, []).append(line)
    return {value: vars(score(group)) for value, group in sorted(groups.items())}


def _count(lines: Iterable[Line]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for line in lines:
        key = f"{line.prediction.status}: {line.prediction.reason}"
        counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))
