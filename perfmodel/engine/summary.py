"""What a result repeats of its question: the plan, and the figures that others published or measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel.engine.result import PLAN_COUNTS, PublishedRow
from perfmodel.parallel.orders import INTERLEAVED, ONE_F_ONE_B
from perfmodel.parallel.plan import OVERLAPS, Plan
from perfmodel.specs.resolve import ResolvedScenario

#: Role of a plan by kind of workload.
ROLE = {"training": "train", "fine-tuning": "train", "forward": "forward"}


def plan_summary(plan: Plan, role: str) -> dict[str, Any]:
    """A plan as results state it."""
    return {
        "role": role,
        "pool": "default",
        **{name: int(getattr(plan, name)[0]) for name in PLAN_COUNTS},
        **_grid(plan),
        "sequence_parallel": bool(plan.sequence_parallel[0]),
        "recompute": plan.recompute_policies[int(plan.recompute[0])],
        "recompute_fraction": float(plan.recompute_fraction[0]),
        "schedule": _schedule(plan),
        **_exposed(plan),
    }


def _schedule(plan: Plan) -> str:
    """Between these two the column of virtual stages decides."""
    return INTERLEAVED if plan.schedule == ONE_F_ONE_B and plan.virtual_stages[0] > 1 else plan.schedule


def _exposed(plan: Plan) -> dict[str, bool]:
    """Kinds of communication that the plan does not hide; nothing where the stack hides what it can."""
    return {name: False for name in OVERLAPS if getattr(plan, name)[0] < 1}


def _grid(plan: Plan) -> dict[str, int]:
    """Shape of the grid of the tensor group, where it is one."""
    if plan.tp_blocks[0] < 1:
        return {}
    return {name: int(getattr(plan, name)[0]) for name in ("tp_rows", "tp_columns", "tp_blocks")}


#: Result key of each figure that may be measured.
MEASURED_KEYS = {
    "step_time": "time.step_s",
    "mfu": "metrics.mfu",
    "tokens_per_second": "metrics.tokens_per_s",
    "peak_memory": "memory.peak_bytes",
    "average_power": "energy.average_power_w",
}


def published_rows(
    resolved: ResolvedScenario, here: Mapping[str, Any], there: Mapping[str, Any]
) -> tuple[PublishedRow, ...]:
    """Published figures beside the prediction of the scenario, measured ones beside that of their configuration."""
    rows = [
        PublishedRow(one.key, one.value, here[one.key], one.source, one.note)
        for one in resolved.scenario.published
        if one.key in here
    ]
    measured = resolved.scenario.measured
    if measured is None:
        return tuple(rows)
    at = ", ".join(f"{path} = {value}" for path, value in measured.at.items())
    for name, key in MEASURED_KEYS.items():
        one = getattr(measured, name)
        if one is not None:
            rows.append(PublishedRow(key, float(one.value), there[key], one.source, measured.note or "measured", at))
    return tuple(rows)
