"""A scenario: the question, and everything that it is asked about (interface page, section 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from perfmodel.specs.base import FileSpec, SwitchField
from perfmodel.specs.measured import MeasuredSpec
from perfmodel.specs.plain import is_mapping
from perfmodel.specs.quantities import SpecModel
from perfmodel.specs.search import BoundSpec, Sense, TopField
from perfmodel.specs.site import PricingSpec, ReliabilitySpec, SiteSpec
from perfmodel.specs.strategy import StrategySpec, WorkloadSpec
from perfmodel.units import UnitError, parse_quantity, parse_unit

Question = Literal["evaluate", "search", "capacity", "solve"]

#: Unit of a result key by the end of its last part (the JSON keys of a result carry their unit).
_KEY_UNITS = {
    "_s": "s",
    "_bytes": "B",
    "_j": "J",
    "_kwh": "kWh",
    "_w": "W",
    "_usd": "USD",
    "_kg": "kg",
    "_kg_co2e": "kg",
}
_KEY_NAMES = {"days": "day", "usd": "USD", "kg_co2e": "kg"}
#: Keys that end like a time but are rates.
_RATES = ("tokens_per_s", "tokens_per_s_per_device")

#: Recipe of a scenario that names none.
DEFAULT_NUMERICS = "bf16-mixed"
#: A catalogue name, a path, or the mapping itself.
SpecReference: TypeAlias = Annotated[str, Field(min_length=1)] | Mapping[str, Any]


def key_unit(key: str) -> str:
    """Unit in which a result key is stated: ``s`` for ``time.step_s``, ``day`` for ``run.days``."""
    last = key.rsplit(".", 1)[-1]
    if last in _KEY_NAMES or last in _RATES or last.endswith(_RATES):
        return _KEY_NAMES.get(last, "1")
    return next(
        (unit for ending, unit in sorted(_KEY_UNITS.items(), key=lambda one: -len(one[0])) if last.endswith(ending)),
        "1",
    )


class TransformSpec(SpecModel):
    """A change of the operator graph, by its registered name."""

    name: str
    options: Mapping[str, Any] = Field(default_factory=dict)


class PublishedSpec(SpecModel):
    """A published figure to show beside the prediction.

    Attributes
    ----------
    key
        Dotted result key, for example ``time.step_s``.
    value
        In the unit of the key (:func:`key_unit`); a file may write a quantity (``4.6 s``, ``54 days``).
    source
        Key of the sources file.
    """

    key: Annotated[str, Field(min_length=1)]
    value: Annotated[float, WithJsonSchema({"type": ["number", "string"]})]
    source: str
    note: str = ""

    @model_validator(mode="before")
    @classmethod
    def _in_unit_of_key(cls, data: Any) -> Any:
        if not is_mapping(data) or not isinstance(data.get("value"), str):
            return data
        unit = key_unit(str(data.get("key", "")))
        try:
            return {**data, "value": parse_quantity(data["value"], unit) / parse_unit(unit).factor}
        except UnitError as error:
            raise PydanticCustomError("published", "value: {message}", {"message": str(error)}) from None


class Scenario(FileSpec):
    """One question and what it is asked about: what the file says, checked.

    References (``model``, ``cluster``, ``software``, ``numerics``) stay as they are written; the specs
    behind them are in :class:`~perfmodel.specs.resolve.ResolvedScenario`.

    Attributes
    ----------
    objectives
        Of a search: result key to ``min`` or ``max``; the first one orders the answers, several give a Pareto front.
    constraints
        Of a search: result key or plan column (``strategy.tp``) to its limits.
    top
        Strategies that a search shows.
    exhaustive
        A search costs everything that fits in full; false: it leaves out what cannot be an answer, which is the same.
    """

    kind: Literal["scenario"]
    question: Question = "evaluate"
    model: SpecReference
    cluster: SpecReference
    software: SpecReference
    workload: WorkloadSpec
    numerics: SpecReference = DEFAULT_NUMERICS
    strategy: StrategySpec = StrategySpec()
    transforms: tuple[TransformSpec, ...] = ()
    site: SiteSpec | None = None
    pricing: PricingSpec | None = None
    reliability: ReliabilitySpec | None = None
    measured: MeasuredSpec | None = None
    published: tuple[PublishedSpec, ...] = ()
    assumed: tuple[str, ...] = ()
    objectives: Mapping[str, Sense] = Field(default_factory=dict[str, Sense])
    constraints: Mapping[str, BoundSpec] = Field(default_factory=dict[str, BoundSpec])
    top: TopField = 10
    exhaustive: SwitchField = True
