"""Derivations: the functions of the evaluation, run again on one row with traced leaves."""

from __future__ import annotations

from typing import Any

from perfmodel.engine.build import Question
from perfmodel.engine.composition import (
    Evaluation,
    compose,
    key_groups,
    key_sizes,
    plan_groups,
    plan_numbers,
    stage_classes,
)
from perfmodel.engine.headline import result_numbers
from perfmodel.engine.kernels import Kernel
from perfmodel.engine.networks import Group
from perfmodel.engine.rows import RECOMPUTE, number, operator_time
from perfmodel.engine.sections import KeyCosts, cost_keys
from perfmodel.engine.sizes import Sizes
from perfmodel.engine.stages import PlanGroups, PlanNumbers, StageClass
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
        A dotted result key, or an operator (``block.mlp.down``, ``mlp.down:backward``); default ``time.step_s``.

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
    known = [*numbers, *(f"{kernel.path}:{kernel.phase}" for kernel in costs.kernels)]
    raise UsageError(
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
    sizes = key_sizes(plan, problem)
    numbers = _trace_numbers(plan_numbers(plan))
    traced_sizes = Sizes(
        numbers.micro_batch, sizes.full_sequence, numbers.tp, numbers.cp, numbers.sequence_parallel, sizes.axes
    )
    groups = {axis: _trace_group(group, axis) for axis, group in key_groups(plan, problem).items()}
    costs = cost_keys(problem, traced_sizes, groups, plan.recompute_policies)
    classes = tuple(_trace_class(one) for one in stage_classes(stage_table(plan, problem.layers)))
    shared = plan_groups(plan, problem)
    evaluation = compose(
        problem,
        numbers,
        PlanGroups(
            _trace_group(shared.data, "data group"),
            _trace_group(shared.shard, "shard group"),
            _trace_group(shared.replicas, "replica group"),
            _trace_group(shared.pipeline, "pipeline group"),
            _trace_group(shared.tensor, "tensor group"),
        ),
        classes,
        costs.sections[0],
    )
    return costs, evaluation


def _leaf(value: Any, label: str) -> Any:
    return Traced.leaf(number(value), label, "1", "scenario", "user")


def _trace_numbers(numbers: PlanNumbers) -> PlanNumbers:
    return PlanNumbers(
        **{name: _leaf(getattr(numbers, name), f"strategy.{name}") for name in PlanNumbers.__dataclass_fields__}
    )


def _trace_group(group: Group, label: str) -> Group:
    members = tuple(
        _leaf(count, f"members of the {label} in tier {level}") for level, count in enumerate(group.members)
    )
    return Group(_leaf(group.ranks, f"ranks of the {label}"), members)


def _trace_class(one: StageClass) -> StageClass:
    names = ("layers", "has_embedding", "has_head", "position", "multiplicity")
    return StageClass(one.name, *(_leaf(getattr(one, name), f"{one.name} stage: {name}") for name in names))
