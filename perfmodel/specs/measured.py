"""What was measured in a run, and in which configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from perfmodel.errors import nearest
from perfmodel.provenance import Sourced
from perfmodel.specs.quantities import (
    BytesField,
    DurationField,
    PositiveFractionField,
    PowerField,
    Provenance,
    SpecModel,
    TimeField,
    quantity,
)

#: Parts of a scenario that make up its configuration: what ``at`` may change.
CONFIGURATION = (
    "model", "cluster", "software", "workload", "numerics", "strategy", "transforms", "site", "pricing", "reliability",
    "accelerator", "interconnects", "efficiency_class",
)  # fmt: skip
#: Terms of a step may add up to this much more than it: a profile rounds.
ROUNDING = 1.01


class MeasuredBreakdown(SpecModel):
    """Exposed times of a step by what the device waits for: the keys of ``time.breakdown`` without their unit."""

    forward: TimeField | None = None
    backward: TimeField | None = None
    recompute: TimeField | None = None
    tensor_communication: TimeField | None = None
    context_communication: TimeField | None = None
    expert_communication: TimeField | None = None
    pipeline_communication: TimeField | None = None
    data_communication: TimeField | None = None
    pipeline_bubble: TimeField | None = None
    optimizer: TimeField | None = None
    offload: TimeField | None = None
    overhead: TimeField | None = None

    def stated(self) -> dict[str, Sourced]:
        """The terms that were measured, by name."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: one for name, one in found.items() if one is not None}


class MeasuredSpec(SpecModel):
    """What was measured; the result shows the difference and scales its prediction by it.

    Attributes
    ----------
    breakdown
        What a profile says; what it leaves out is compared as one rest.
    at
        The configuration in which it was measured, as changes of the scenario by dotted path
        (``cluster.devices: 1024``); empty for the configuration of the scenario itself.
    """

    step_time: DurationField | None = None
    mfu: PositiveFractionField | None = None
    tokens_per_second: Annotated[Sourced, quantity("token/s", positive=True)] | None = None
    peak_memory: BytesField | None = None
    average_power: PowerField | None = None
    breakdown: MeasuredBreakdown | None = None
    at: Mapping[str, Any] = Field(default_factory=dict[str, Any])
    provenance: Provenance | None = None
    note: str = ""

    @property
    def pace(self) -> tuple[str, Sourced] | None:
        """The measurement that says how long a step took, by its field; the most direct one."""
        for name in ("step_time", "tokens_per_second", "mfu"):
            stated = getattr(self, name)
            if stated is not None:
                return name, stated
        return None

    @model_validator(mode="after")
    def _whole_step(self) -> MeasuredSpec:
        terms = {} if self.breakdown is None else self.breakdown.stated()
        if terms and self.pace is None:
            what = (
                "breakdown needs step_time (or tokens_per_second, or mfu) beside it: a profile may not list everything"
            )
            raise PydanticCustomError("measured", "{what}", {"what": what})
        told = sum(one.value for one in terms.values())
        if self.step_time is not None and told > ROUNDING * self.step_time.value:
            context = {"told": f"{told:.4g}", "step": f"{self.step_time.value:.4g}"}
            message = (
                "the terms of breakdown add up to {told} s, more than step_time {step} s; they are exposed times, "
                "without what is hidden behind other work"
            )
            raise PydanticCustomError("measured", message, context)
        return self


def not_a_configuration(paths: Iterable[str]) -> dict[str, str]:
    """What is wrong with each path of ``at`` that does not belong to a configuration."""
    roots = {path: path.split(".", 1)[0] for path in paths}
    return {
        path: f"{root!r} is no part of a configuration; parts: {', '.join(CONFIGURATION)}{nearest(root, CONFIGURATION)}"
        for path, root in roots.items()
        if root not in CONFIGURATION
    }
