"""Model FLOP: what the model needs, whatever the machine does (no recomputation, causal half only)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from perfmodel.engine.problem import Problem
from perfmodel.equations import attention, matmul
from perfmodel.parallel.placement import local_size
from perfmodel.units import Numeric
from perfmodel.workload.operators import VISITS, Attention, AttentionMatmul, GroupedMatmul, Matmul

#: Forward, data gradient and weight gradient are three matmuls of the same work.
TRAINING_PASSES = 3.0


@dataclass(frozen=True)
class ModelFlop:
    """FLOP per token of the whole model; LM head included, input embedding excluded (interface page)."""

    causal: Numeric
    full_attention: Numeric


@lru_cache(maxsize=64)
def model_flop_per_token(problem: Problem) -> ModelFlop:
    """FLOP per token of one step: three passes for training, one for a forward-only workload."""
    graph, sequence = problem.graph, problem.workload.sequence_length
    linear: Numeric = 0.0
    causal: Numeric = 0.0
    full: Numeric = 0.0
    for block in graph.all_blocks():
        for operator in block.operators:
            if isinstance(operator, (Matmul, GroupedMatmul)):
                linear = linear + block.count * _linear(problem, operator)
            elif isinstance(operator, (Attention, AttentionMatmul)):
                causal = causal + block.count * _attention(problem, operator, causal=True) / sequence
                full = full + block.count * _attention(problem, operator, causal=False) / sequence
    passes = TRAINING_PASSES if problem.workload.training else 1.0
    return ModelFlop(passes * (linear + causal), passes * (linear + full))


def _linear(problem: Problem, operator: Matmul | GroupedMatmul) -> Numeric:
    """Work of a linear layer per token; a token is a row of every expert that it visits."""
    rows = problem.axes[VISITS] if isinstance(operator, GroupedMatmul) else 1.0
    columns, contraction = (local_size(side, problem.axes, {}) for side in (operator.columns, operator.contraction))
    return matmul.matmul_flop(1.0, rows=rows, columns=columns, contraction=contraction)


@lru_cache(maxsize=64)
def parameter_count(problem: Problem) -> Numeric:
    """Parameters of the whole model from the sizes of its axes (traced where these are); tied ones count once."""
    count: Numeric = 0.0
    for block in problem.graph.all_blocks():
        for operator in block.operators:
            for weight in operator.weights:
                if not weight.tied_to:
                    rows, columns = (local_size(side, problem.axes, {}) for side in (weight.rows, weight.columns))
                    count = count + block.count * rows * columns
    return count


def _attention(problem: Problem, operator: Attention | AttentionMatmul, *, causal: bool) -> Numeric:
    """Work of one sequence: the pairs that the model attends, or (the older convention) all pairs."""
    axes, sequence = problem.axes, problem.workload.sequence_length
    pairs = attended_pairs(problem, operator) if causal else sequence * sequence
    if isinstance(operator, Attention):
        dims = axes[operator.query_dim], axes[operator.value_dim]
    else:
        dims = axes[operator.inner_dim], 0.0
    return attention.attention_flop(1.0, axes[operator.heads], pairs, *dims)


def attended_pairs(problem: Problem, operator: Attention | AttentionMatmul) -> Numeric:
    """(query, key) pairs of one head and sequence that the model attends."""
    sequence = problem.workload.sequence_length
    if problem.workload.mean_attended is not None:
        return sequence * problem.workload.mean_attended
    masked = operator.causal if isinstance(operator, Attention) else operator.causal_mask
    if operator.window is not None and operator.chunked:
        return attention.chunked_pairs(sequence, float(operator.window))
    if operator.window is not None:
        return attention.windowed_pairs(sequence, 0.0, float(operator.window))
    return attention.causal_pairs(sequence, 0.0) if masked else sequence * sequence
