"""A question in four lines, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perfmodel.parallel.collective_rules import GATHERED

if TYPE_CHECKING:
    from perfmodel.engine.build import Question


def describe(question: Question) -> tuple[str, ...]:
    """Model, machine, workload and strategy, a line each."""
    resolved, plan, workload = question.resolved, question.plan, question.problem.workload
    graph, machine = question.problem.graph, question.problem.machine
    sizes = ", ".join(f"{name.upper()} {int(getattr(plan, name)[0])}" for name in ("tp", "cp", "pp", "dp"))
    if plan.tp_blocks[0] > 0:
        sizes += f" (tensor group {plan.tp_rows[0]} x {plan.tp_columns[0]}, {plan.tp_blocks[0]} panels)"
    if plan.ep[0] * plan.etp[0] > 1:
        sizes += f", EP {int(plan.ep[0])}" + (f", ETP {int(plan.etp[0])}" if plan.etp[0] > 1 else "")
    if plan.cp[0] > 1 and question.problem.context.kind != GATHERED:
        sizes += f" (context by {question.problem.context.kind})"
    policy = plan.recompute_policies[int(plan.recompute[0])]
    device, place = resolved.accelerator.title or machine.accelerator, resolved.cluster.title or machine.cluster
    recipe, model = resolved.numerics.title or resolved.numerics.name, resolved.model.title or resolved.model.name
    if not workload.training:  # the title of a recipe names the state of the optimizer
        recipe = f"products in {question.problem.formats.compute['matmul']}"
    schedule = f"{plan.schedule} with {int(plan.virtual_stages[0])} virtual stages"
    steps = f"micro-batch {int(plan.micro_batch[0])} x {int(plan.num_microbatches[0])}"
    stack = resolved.software.title or machine.software
    batch = f"{workload.global_batch:,} sequences of {workload.sequence_length:,.0f} tokens per step"
    return (
        f"{model}: {_count_in_words(graph.parameter_count())} parameters, {graph.layers} layers",
        f"{resolved.devices:,} of {machine.devices:,} x {device} in {place}; {stack}",
        f"{workload.kind}: {batch}, {recipe}",
        f"{sizes}; {steps}, {schedule}, ZeRO {int(plan.zero[0])}, recompute {policy}",
    )


def _count_in_words(count: float) -> str:
    """``405.9 billion``, ``43.85 million``."""
    factor, word = (1e9, "billion") if count >= 0.9995e9 else (1e6, "million")
    return f"{count / factor:,.4g} {word}"
