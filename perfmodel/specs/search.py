"""What a search looks for, what a solution must reach, and the goal of a capacity question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from perfmodel.specs.plain import is_mapping
from perfmodel.specs.quantities import CountField, DurationField, SpecModel

Sense = Literal["min", "max"]
#: Sizes of the machine that a bound on a parallel size may name.
MACHINE_SIZES = ("node", "domain")


class BoundSpec(SpecModel):
    """Limits of a result key or a plan column: ``{max: 70 GiB}``, ``{min: 0.4}``, ``{max: node}``.

    Attributes
    ----------
    min, max
        In the unit of the key; a file may write a quantity. ``node`` and ``domain`` are the devices of a node and of
        the innermost network domain.
    """

    min: float | str | None = None
    max: float | str | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, data: Any) -> Any:
        if not is_mapping(data):
            raise PydanticCustomError("bound", "write {{max: ...}} or {{min: ...}}, not {data}", {"data": repr(data)})
        return data

    @model_validator(mode="after")
    def _bounded(self) -> BoundSpec:
        if self.min is None and self.max is None:
            raise PydanticCustomError("bound", "a constraint needs `min` or `max`", {})
        numbers = [one for one in (self.min, self.max) if isinstance(one, float)]
        if len(numbers) == 2 and numbers[0] > numbers[1]:
            context = {"low": numbers[0], "high": numbers[1]}
            raise PydanticCustomError("bound", "min {low} is above max {high}: nothing can be between", context)
        return self


#: How many of the best strategies are shown.
TopField = Annotated[int, Field(ge=1, le=10_000)]
#: Of a solution: one dotted result key and what it must be, in the unit of the key or as a quantity.
UntilField: TypeAlias = Annotated[Mapping[str, float | str], Field(min_length=1, max_length=1)]
Minimised = Literal["devices", "money", "energy"]


class BetweenSpec(SpecModel):
    """Where a solution is looked for: ``{from: 1 TB/s, to: 10 TB/s}``."""

    from_: float | str = Field(alias="from")
    to: float | str


class GoalSpec(SpecModel):
    """What a capacity question asks for: ``{minimise: devices, deadline: 60 day}``.

    Attributes
    ----------
    minimise
        ``devices``, ``money`` or ``energy`` of the run (of a token, for a rate without a run).
    deadline
        Calendar time in which all tokens are trained on, failures and checkpoints included where they are known.
    tokens_per_s
        Rate that is needed; also ``2M``.
    """

    minimise: Minimised = "devices"
    deadline: DurationField | None = None
    tokens_per_s: CountField | None = None

    @model_validator(mode="after")
    def _bounded(self) -> GoalSpec:
        if self.deadline is None and not self.tokens_per_s:
            message = "a goal needs a `deadline` (60 day) or `tokens_per_s` (2M)"
            raise PydanticCustomError("goal", message, {})
        return self
