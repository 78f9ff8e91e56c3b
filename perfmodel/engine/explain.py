"""Derivations: the functions of the evaluation, run again on one row with traced leaves."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from perfmodel.engine.build import Question
from perfmodel.engine.composition import (
    Evaluation,
    key_groups,
    plan_groups,
    plan_numbers,
    sizes_of,
    stage_classes,
)
from perfmodel.engine.headline import result_numbers
from perfmodel.engine.kernels import Kernel
from perfmodel.engine.measured import measured_answer
from perfmodel.engine.networks import Group
from perfmodel.engine.result import OPTIONAL_KEYS
from perfmodel.engine.rows import (
    RECOMPUTE,
    communication_rows,
    number,
    operator_rows,
    operator_time,
    stage_rows,
)
from perfmodel.engine.section_costs import KeyCosts
from perfmodel.engine.sections import cost_keys
from perfmodel.engine.stages import PlanGroups, PlanNumbers, StageClass, StateGroups
from perfmodel.engine.summary import ROLE, plan_summary, published_rows
from perfmodel.engine.uncertainty import intervals
from perfmodel.engine.warn import warnings_of
from perfmodel.engine.waterfall import waterfall
from perfmodel.errors import UsageError, nearest
from perfmodel.parallel.stages import stage_table
from perfmodel.provenance import Traced, as_traced

DEFAULT_TARGET = "time.step_s"


def explain_question(question: Question, target: str | None = None) -> Traced:
    """The derivation of a number of a result.

    Parameters
    ----------
    question
        A question with one plan.
    target
        A dotted result key (``time.step_s``, ``communication.0.time_s``, ``uncertainty.time.step_s.p90``), or an
        operator (``block.mlp.down``, ``mlp.down:backward``); default ``time.step_s``.

    Raises
    ------
    UsageError
        No such key or operator; the nearest is named.
    """
    wanted = target or DEFAULT_TARGET
    traced = question.traced()
    costs, evaluation = trace_evaluation(traced)
    numbers = result_numbers(traced.problem, evaluation)
    if wanted in numbers:
        return as_traced(numbers[wanted]).named(wanted)
    found = find_operator(costs, wanted)
    if found:
        name = f"{found[0].path}:{found[0].phase} (one occurrence, one micro-batch)"
        return as_traced(operator_time(found)).named(name, "s")
    if wanted.startswith("optimizer"):
        return as_traced(evaluation.step.optimizer).named("optimizer.step:optimizer", "s")
    rows = _row_groups(question, traced, costs, evaluation, numbers)
    group, _, below = wanted.partition(".")
    if group in rows and below:
        found_rows = rows[group]()
        if found_rows is None:
            raise UsageError(f"{group} is null: the scenario states no measured step; there is nothing to explain")
        return _row_number(found_rows, wanted)
    raise _no_such_number(wanted, numbers, costs)


def _row_groups(
    question: Question, traced: Question, costs: KeyCosts, evaluation: Evaluation, numbers: Mapping[str, Any]
) -> dict[str, Callable[[], Any]]:
    """How to make the rows of each group of the result from traced operands."""
    problem, plan = traced.problem, traced.plan
    role = ROLE[problem.workload.kind]

    @functools.cache
    def there() -> Mapping[str, Any]:
        return _measured_there(question, numbers)

    def deviation(value: float, label: str) -> Traced:
        return Traced.leaf(value, label, "1", "residuals", "derived")

    return {
        "operators": lambda: operator_rows(problem, plan, costs, evaluation, role),
        "communication": lambda: communication_rows(problem, plan, costs, evaluation),
        "stages": lambda: stage_rows(evaluation),
        "waterfall": lambda: waterfall(problem, costs, evaluation),
        "plans": lambda: (plan_summary(plan, role),),
        "published": lambda: published_rows(question.resolved, numbers, there()),
        "measured": lambda: measured_answer(question, numbers, there(), operand=deviation),
        "uncertainty": lambda: intervals(question, numbers, deviation),
        "warnings": lambda: warnings_of(question, evaluation),
    }


def _measured_there(question: Question, numbers: Mapping[str, Any]) -> Mapping[str, Any]:
    """Traced numbers of the configuration in which something was measured; each is a step that says so."""
    there = question.measured_at
    if there is None:
        return numbers
    traced = there.traced()
    _, evaluation = trace_evaluation(traced)
    found = result_numbers(traced.problem, evaluation)
    return {key: as_traced(one).named(f"{key} of the measured configuration") for key, one in found.items()}


def _row_number(rows: Any, wanted: str) -> Traced:
    """Follow ``group.position.field``; keys of intervals have dots of their own.

    Raises
    ------
    UsageError
        The path leads nowhere, or to something that is not a number.
    """
    found, walked, left = rows, *wanted.split(".", 1)
    while left:
        choices = _choices(found)
        step = next((one for one in choices if left == one or left.startswith(f"{one}.")), None)
        if step is None:
            listed = f"0 .. {len(choices) - 1}" if isinstance(found, tuple) else ", ".join(choices)
            raise UsageError(f"{walked} has no {left!r}; it has {listed}{nearest(left, choices)}")
        found, walked, left = choices[step], f"{walked}.{step}", left[len(step) + 1 :]
    if isinstance(found, bool) or not isinstance(found, (int, float, Traced)):
        listed = f"; it has {', '.join(_choices(found))}" if _choices(found) else ""
        raise UsageError(f"{wanted} is not a number{listed}")
    return as_traced(found).named(wanted)


def _choices(found: Any) -> dict[str, Any]:
    """What stands one step below, by name; longer names first."""
    if isinstance(found, tuple):
        return {str(position): one for position, one in enumerate(found)}
    if is_dataclass(found) and not isinstance(found, type):
        return {item.name: getattr(found, item.name) for item in fields(found)}
    return dict(sorted(found.items(), key=lambda one: -len(one[0]))) if isinstance(found, Mapping) else {}


def _no_such_number(wanted: str, numbers: Mapping[str, Any], costs: KeyCosts) -> UsageError:
    below = [key for key in numbers if key.startswith(f"{wanted}.")]
    if below:
        return UsageError(f"{wanted} is a group of numbers; explain one of them: {', '.join(below)}")
    group, _, key = wanted.partition(".")
    if key in OPTIONAL_KEYS.get(group, ()):
        return UsageError(f"{wanted} is null: the scenario does not declare what it needs; there is nothing to explain")
    known = [*numbers, *(f"{kernel.path}:{kernel.phase}" for kernel in costs.kernels)]
    return UsageError(
        f"nothing in the result is called {wanted!r}{nearest(wanted, known)}; operators: {', '.join(_paths(costs))}"
    )


def _paths(costs: KeyCosts) -> list[str]:
    return list(dict.fromkeys(kernel.path for kernel in costs.kernels))


def find_operator(costs: KeyCosts, wanted: str) -> list[Kernel]:
    """Kernels of an operator by path, with or without its block and phase (default: forward)."""
    path, _, phase = wanted.partition(":")
    phase = "forward" if phase in ("", RECOMPUTE) else phase
    matches = [kernel for kernel in costs.kernels if kernel.phase == phase and path in (kernel.path, kernel.operator)]
    return [kernel for kernel in matches if kernel.block == matches[0].block]


def trace_evaluation(traced: Question) -> tuple[KeyCosts, Evaluation]:
    """Evaluate one plan on traced operands."""
    problem, plan = traced.problem, traced.plan
    numbers = _trace_numbers(plan_numbers(plan))
    groups = {axis: _trace_group(group, axis) for axis, group in key_groups(plan, problem).items()}
    costs = cost_keys(problem, sizes_of(problem, numbers), groups, plan.recompute_policies)
    classes = tuple(
        _trace_class(one) for one in stage_classes(stage_table(plan, problem.layers, problem.graph.leading_layers))
    )
    evaluation = Evaluation(
        problem, numbers, classes, costs.sections[0], lambda: _trace_groups(plan_groups(plan, problem))
    )
    return costs, evaluation


def _leaf(value: Any, label: str) -> Any:
    return Traced.leaf(number(value), label, "1", "scenario", "user")


def _trace_numbers(numbers: PlanNumbers) -> PlanNumbers:
    columns = [name for name in PlanNumbers.__dataclass_fields__ if name not in ("schedule", "synchronous")]
    return replace(numbers, **{name: _leaf(getattr(numbers, name), f"strategy.{name}") for name in columns})


def _trace_groups(groups: PlanGroups) -> PlanGroups:
    return PlanGroups(
        _trace_state_groups(groups.dense, ""),
        None if groups.expert is None else _trace_state_groups(groups.expert, "expert "),
        _trace_group(groups.pipeline, "pipeline group"),
        _trace_group(groups.tensor, "tensor group"),
    )


def _trace_group(group: Group, label: str) -> Group:
    members = tuple(
        _leaf(count, f"members of the {label} in tier {level}") for level, count in enumerate(group.members)
    )
    return Group(_leaf(group.ranks, f"ranks of the {label}"), members)


def _trace_state_groups(groups: StateGroups, prefix: str) -> StateGroups:
    return StateGroups(
        _trace_group(groups.data, f"{prefix}data group"),
        _trace_group(groups.shard, f"{prefix}shard group"),
        _trace_group(groups.replicas, f"{prefix}replica group"),
    )


def _trace_class(one: StageClass) -> StageClass:
    names = ("layers", "has_embedding", "has_head", "position", "multiplicity", "leading")
    return replace(one, **{name: _leaf(getattr(one, name), f"{one.name} stage: {name}") for name in names})
