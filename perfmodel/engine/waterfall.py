"""From the pure roofline of a model to its step, cause by cause."""

from __future__ import annotations

from perfmodel.engine.composition import Evaluation
from perfmodel.engine.model_flop import model_flop_per_token
from perfmodel.engine.problem import Problem
from perfmodel.engine.result import CauseRow
from perfmodel.engine.rows import amount, occurrences_of
from perfmodel.engine.section_costs import KeyCosts
from perfmodel.equations import roofline


def waterfall(problem: Problem, costs: KeyCosts, evaluation: Evaluation) -> tuple[CauseRow, ...]:
    """From the pure roofline of the model's FLOP to the step: each bar is a cause that one could remove."""
    step, numbers = evaluation.step, evaluation.numbers
    tokens = amount(numbers.dp * numbers.micro_batch * numbers.num_microbatches) * amount(
        problem.workload.sequence_length
    )
    peak = problem.machine.matmul[problem.formats.compute["matmul"]].peak
    work = amount(model_flop_per_token(problem).causal) * tokens / amount(numbers.devices)
    ideal = amount(roofline.plateau_time(work, amount(peak), 1.0))
    busy = amount(step.of_all_microbatches("forward")) + amount(step.of_all_microbatches("backward"))
    matrix = _share_of_matrix(problem, costs, evaluation) * busy
    passes = {"tensor communication": "tensor", "context communication": "context"}
    passes |= {"expert communication": "expert"} if problem.has_experts else {}
    passes |= {"pipeline transfers": "pipeline"}
    bars = [
        ("model FLOP at peak", ideal, "compute"),
        ("matmul and attention below peak", matrix - ideal, "efficiency"),
        ("memory-bound operators", busy - matrix, "efficiency"),
        ("recomputation", amount(step.of_all_microbatches("recompute")), "recompute"),
        *((name, amount(step.of_all_microbatches(kind)), "communication") for name, kind in passes.items()),
        ("data-parallel communication", amount(step.data), "communication"),
        ("pipeline bubble", amount(step.bubble), "bubble"),
        ("optimizer", amount(step.optimizer), "optimizer"),
        ("transfers to and from the host", amount(step.offload), "communication"),
        ("overhead", amount(step.overhead), "overhead"),
    ]
    return tuple(CauseRow(*bar) for bar in bars)


def _share_of_matrix(problem: Problem, costs: KeyCosts, evaluation: Evaluation) -> float:
    """Share of matmuls and attention in the kernel time of the critical stage."""
    occurrences = occurrences_of(problem, evaluation)
    times = [
        (kernel.data_type != "vector", amount(kernel.time) * occurrences[kernel.block]) for kernel in costs.kernels
    ]
    return sum(time for matrix, time in times if matrix) / sum(time for _, time in times)
