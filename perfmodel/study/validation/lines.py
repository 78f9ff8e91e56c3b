"""One line of a validation: a measured quantity, its prediction, and why there is none where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

#: A row of the input table: column name -> text, blank where unknown.
Row: TypeAlias = Mapping[str, str]


class Status(StrEnum):
    """What became of a row.

    ``OK``: predicted from the row's own columns and documented defaults. ``INCOMPLETE``: a needed column is blank
    and has no declared default. ``UNSUPPORTED``: a construct that is not modelled. ``INFEASIBLE``: an integer rule
    is violated.
    """

    OK = "ok"
    INCOMPLETE = "incomplete"
    UNSUPPORTED = "unsupported"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True)
class Prediction:
    """What a predictor says about one quantity of one row.

    Attributes
    ----------
    value
        In the unit of the measurement; None unless ``status`` is ok.
    p10, p90
        Ends of the 80 % interval, same unit.
    basis
        ``calibrated``, ``transferred`` or ``assumed``.
    assumed
        Columns that were blank and took a documented default, as ``column=value``.
    reason
        Why the status is not ok, or a remark on one that is.
    """

    value: float | None = None
    p10: float | None = None
    p90: float | None = None
    basis: str | None = None
    status: Status = Status.OK
    assumed: tuple[str, ...] = ()
    reason: str = ""

    @classmethod
    def refused(cls, status: Status, reason: str) -> Prediction:
        """No prediction, and why."""
        return cls(status=status, reason=reason)


@dataclass(frozen=True)
class Line:
    """One (input row, quantity): what was measured and what is predicted.

    Attributes
    ----------
    row
        0-based position in the input file.
    id
        The row's own ``id``, blank where the table has none.
    quantity, unit
        Name of the column that was predicted, and its unit.
    measured
        The published value.
    prediction
        The prediction, or why there is none.
    columns
        The columns of the row, carried through and used for grouping.
    """

    row: int
    id: str
    quantity: str
    unit: str
    measured: float
    prediction: Prediction
    columns: Row = field(default_factory=dict[str, str], repr=False)

    @property
    def ok(self) -> bool:
        """The row has a prediction."""
        return self.prediction.status is Status.OK and self.prediction.value is not None

    @property
    def relative_error(self) -> float | None:
        """Predicted over measured, minus one."""
        return self.prediction.value / self.measured - 1.0 if self.prediction.value is not None else None

    @property
    def covered(self) -> bool | None:
        """The measured value lies in the 80 % interval; None without an interval."""
        low, high = self.prediction.p10, self.prediction.p90
        return None if low is None or high is None else low <= self.measured <= high
