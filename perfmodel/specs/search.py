"""What a search looks for: objectives, constraints, and how much of it is shown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from perfmodel.specs.plain import is_mapping
from perfmodel.specs.quantities import SpecModel

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
