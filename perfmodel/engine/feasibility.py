"""Why a plan cannot be: integer rules, memory, power."""

from __future__ import annotations

from collections.abc import Mapping

from perfmodel.engine.build import Question
from perfmodel.engine.composition import Evaluation
from perfmodel.engine.headline import MEMORY_PARTS, plan_rules
from perfmodel.engine.problem import HOST, NVME
from perfmodel.engine.rows import number
from perfmodel.parallel import rules
from perfmodel.units import format_memory, format_quantity


def reasons(question: Question, evaluation: Evaluation, plain: Mapping[str, float]) -> tuple[str, ...]:
    """Sentences that name the rule and the numbers; empty for a feasible plan."""
    problem, plan = question.problem, question.plan
    broken = rules.reasons(plan_rules(problem, plan, question.resolved.devices))
    return (*broken, *_memory(evaluation, plain), *_outside(plain), *_power(problem.power_cap, plain))


def _memory(evaluation: Evaluation, plain: Mapping[str, float]) -> tuple[str, ...]:
    peak, capacity = plain["memory.peak_bytes"], plain["memory.capacity_bytes"]
    if peak <= capacity:
        return ()
    parts = {key.removesuffix("_bytes"): number(getattr(evaluation.peak, name)) for key, name in MEMORY_PARTS.items()}
    largest = sorted(parts, key=lambda name: parts[name], reverse=True)[:2]
    stage = round(number(evaluation.classes[round(number(evaluation.peak_class))].position))
    words = " and ".join(f"{name.replace('_', ' ')} {format_memory(parts[name])}" for name in largest)
    needed = f"stage {stage} needs {format_memory(peak)}, the device offers {format_memory(capacity)}"
    return (f"memory: {needed}; largest parts: {words}",)


def _outside(plain: Mapping[str, float]) -> tuple[str, ...]:
    """Memory of the host and storage, which have room of their own."""
    words = {HOST: "host memory", NVME: "storage of the host"}
    found: list[str] = []
    for name, where in words.items():
        needed, capacity = plain.get(f"memory.{name}_bytes", 0.0), plain.get(f"memory.{name}_capacity_bytes", 0.0)
        if needed > capacity:
            offered = f"a device keeps {format_memory(needed)} there, its share is {format_memory(capacity)}"
            found.append(f"{where}: {offered}")
    return tuple(found)


def _power(cap: float | None, plain: Mapping[str, float]) -> tuple[str, ...]:
    if cap is None or plain["energy.average_power_w"] <= cap:
        return ()
    needed = format_quantity(plain["energy.average_power_w"], "W")
    return (f"power: the job draws {needed} on average, the site allows {format_quantity(cap, 'W')}",)
