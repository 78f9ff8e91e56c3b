"""Answer one question: a resolved scenario in, a :class:`~perfmodel.engine.result.Result` out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from perfmodel import __version__
from perfmodel.engine.build import Question, build_question
from perfmodel.engine.columns import evaluate_one
from perfmodel.engine.composition import Evaluation
from perfmodel.engine.explain import explain_question
from perfmodel.engine.feasibility import reasons
from perfmodel.engine.headline import result_numbers
from perfmodel.engine.measured import measured_answer
from perfmodel.engine.result import OPTIONAL_KEYS, Deferred, DeferredRows, Result
from perfmodel.engine.rows import communication_rows, number, operator_rows, stage_rows
from perfmodel.engine.section_costs import KeyCosts
from perfmodel.engine.summary import ROLE, plan_summary, published_rows
from perfmodel.engine.uncertainty import intervals
from perfmodel.engine.warn import warnings_of
from perfmodel.engine.waterfall import waterfall
from perfmodel.errors import SpecError
from perfmodel.specs.resolve import ResolvedScenario


def evaluate(resolved: ResolvedScenario) -> Result:
    """Evaluate the plan of a scenario.

    An infeasible plan is a result with ``feasible`` False and its reasons, not an error.

    Raises
    ------
    SpecError, UnsupportedOperator
        The question cannot be asked: a number is missing, or a construct has no equations.
    """
    return answer(build_question(resolved))


def answer(question: Question) -> Result:
    """Evaluate a question that is ready (the warm path of a session).

    Raises
    ------
    SpecError
        The numbers of the scenario lead beyond what can be computed with.
    """
    evaluation, costs, plain = _evaluated(question)
    why = reasons(question, evaluation, plain)
    return _assemble(question, evaluation, costs, plain, why)


def _evaluated(question: Question) -> tuple[Evaluation, KeyCosts, dict[str, float]]:
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            evaluation, costs = evaluate_one(question.problem, question.plan)
            plain = {key: number(value) for key, value in result_numbers(question.problem, evaluation).items()}
    except ArithmeticError as error:
        raise _beyond_numbers(question, str(error)) from error
    lost = [key for key, value in plain.items() if not math.isfinite(value)]
    if lost:
        raise _beyond_numbers(question, f"{lost[0]} is {plain[lost[0]]}")
    return evaluation, costs, plain


def _measured_there(question: Question, plain: dict[str, float]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Numbers of the configuration in which something was measured, and why its plan cannot be, if so."""
    there = question.measured_at
    if there is None:
        return plain, ()
    evaluation, _, numbers = _evaluated(there)
    return numbers, reasons(there, evaluation, numbers)


def _beyond_numbers(question: Question, what: str) -> SpecError:
    """A division by nothing or an overflow: some number is absurdly small or large."""
    changed = ", ".join(f"{path}={value}" for path, value in question.resolved.overrides.items())
    hint = f"; overridden: {changed}" if changed else ""
    return SpecError(f"{question.resolved.name}: a number is too small or too large to compute with ({what}){hint}")


def _assemble(
    question: Question, evaluation: Evaluation, costs: KeyCosts, plain: dict[str, float], why: tuple[str, ...]
) -> Result:
    resolved, problem, plan = question.resolved, question.problem, question.plan
    role = ROLE[problem.workload.kind]
    tree = _nest(plain)
    there, why_there = _measured_there(question, plain)
    return Result(
        scenario={"name": resolved.name, "sha256": question.sha256},
        question=resolved.scenario.question,
        workload=problem.workload.kind,
        feasible=not why,
        reasons=why,
        plans=(plan_summary(plan, role),),
        time=tree["time"],
        memory=_memory(tree["memory"], evaluation),
        energy=tree["energy"],
        **{part: dict.fromkeys(keys) | tree.get(part, {}) for part, keys in OPTIONAL_KEYS.items()},
        metrics=tree["metrics"],
        uncertainty=Deferred(lambda: intervals(question, plain)),
        operators=DeferredRows(lambda: operator_rows(problem, plan, costs, evaluation, role)),
        communication=DeferredRows(lambda: communication_rows(problem, plan, costs, evaluation)),
        stages=DeferredRows(lambda: stage_rows(evaluation)),
        waterfall=DeferredRows(lambda: waterfall(problem, costs, evaluation)),
        published=published_rows(resolved, plain, there),
        measured=_measured(question, plain, there, why_there),
        inputs=question.inputs,
        roofs=_roofs(question),
        schedule=_schedule(evaluation),
        describe=question.describe,
        version=__version__,
        sources_titles=Deferred(lambda: _titles(resolved)),
        explainer=lambda target: explain_question(question, target),
        warner=lambda: warnings_of(question, evaluation),
        origin=question,
    )


def _measured(
    question: Question, here: Mapping[str, float], there: Mapping[str, float], why: tuple[str, ...]
) -> Mapping[str, Any] | None:
    spec = question.resolved.scenario.measured
    if spec is None or spec.pace is None:
        return None
    return Deferred(lambda: measured_answer(question, here, there, why) or {})


def _titles(resolved: ResolvedScenario) -> dict[str, str]:
    return {key: source.title for key, source in resolved.catalogue.sources().items()}


def _nest(plain: Mapping[str, float]) -> dict[str, Any]:
    """Dotted keys as nested mappings."""
    tree: dict[str, Any] = {}
    for key, value in plain.items():
        *parents, leaf = key.split(".")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = value
    return tree


def _memory(tree: Mapping[str, Any], evaluation: Evaluation) -> dict[str, Any]:
    rank = evaluation.classes[round(number(evaluation.peak_class))]
    return {**tree, "peak_rank": f"stage {round(number(rank.position))}"}


def _roofs(question: Question) -> dict[str, Any]:
    machine = question.problem.machine
    peaks = {name: number(one.peak) for name, one in machine.matmul.items()} | {"vector": number(machine.vector_peak)}
    return {
        "peaks": peaks,
        "bandwidths": {"memory": number(machine.memory_bandwidth), "cache": number(machine.cache_bandwidth)},
    }


def _schedule(evaluation: Evaluation) -> dict[str, Any]:
    """Times of one micro-batch by stage, for the timeline (each stage takes the times of its class)."""
    classes = zip(evaluation.classes, evaluation.stage_times, strict=True)
    times = [time for one, time in classes for _ in range(round(number(one.multiplicity)))]
    return {
        "name": evaluation.numbers.schedule.name,
        "pp": len(times),
        "virtual_stages": round(number(evaluation.numbers.virtual_stages)),
        "num_microbatches": round(number(evaluation.numbers.num_microbatches)),
        "forward_s": [number(time.forward_pass) for time in times],
        "backward_s": [number(time.backward_pass) for time in times],
        "weight_gradient_s": [number(time.weight_gradient) for time in times],
    }
