"""Model FLOP: what the model needs, whatever the machine does (no recomputation, causal half only)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from perfmodel.engine.problem import Problem, model_number
from perfmodel.equations import attention, matmul, scan
from perfmodel.parallel.placement import local_size
from perfmodel.units import Numeric
from perfmodel.workload.operators import (
    VISITS,
    Attention,
    AttentionMatmul,
    GroupedMatmul,
    Matmul,
    Operator,
    Scan,
    ScanKind,
)

#: Products with the state per token of a recurrence: update and output; a delta rule also reads the old value.
_STATE_PRODUCTS = {ScanKind.SELECTIVE: 2.0, ScanKind.STATE_SPACE: 2.0, ScanKind.DELTA_RULE: 3.0}
#: Forward, data gradient and weight gradient are three matmuls of the same work.
TRAINING_PASSES = 3.0
#: A frozen layer has no weight gradient.
FROZEN_PASSES = 2.0


@dataclass(frozen=True)
class ModelFlop:
    """FLOP per token of the whole model; LM head included, input embedding excluded (interface page).

    Of routed experts those that a token visits; of attention the pairs that are attended (half of them when causal, the
    window, the chunk or the chosen keys), of a recurrence its products with the state. What an encoder with a length
    of its own works per sequence is shared out over the tokens of the workload.
    """

    causal: Numeric
    full_attention: Numeric


@lru_cache(maxsize=64)
def model_flop_per_token(problem: Problem) -> ModelFlop:
    """FLOP per token of one step: three passes for training (two of frozen layers), one for a forward-only workload."""
    graph, sequence = problem.graph, problem.workload.sequence_length
    linear: Numeric = 0.0
    frozen: Numeric = 0.0
    causal: Numeric = 0.0
    full: Numeric = 0.0
    for block in graph.all_blocks():
        for operator in block.operators:
            if isinstance(operator, (Matmul, GroupedMatmul)) and operator.frozen:
                frozen = frozen + block.count * _linear(problem, operator)
            elif isinstance(operator, (Matmul, GroupedMatmul)):
                linear = linear + block.count * _linear(problem, operator)
            elif isinstance(operator, Scan):
                linear = linear + block.count * _recurrence(problem, operator)
            elif isinstance(operator, (Attention, AttentionMatmul)):
                causal = causal + block.count * _attention(problem, operator, causal=True) / sequence
                full = full + block.count * _attention(problem, operator, causal=False) / sequence
    passes = TRAINING_PASSES if problem.workload.training else 1.0
    if problem.has_frozen:
        fixed = (FROZEN_PASSES if problem.workload.training else 1.0) * frozen
        return ModelFlop(fixed + passes * (linear + causal), fixed + passes * (linear + full))
    return ModelFlop(passes * (linear + causal), passes * (linear + full))


def _linear(problem: Problem, operator: Matmul | GroupedMatmul) -> Numeric:
    """Work of a linear layer per token; a token is a row of every expert that it visits."""
    rows = problem.axes[VISITS] if isinstance(operator, GroupedMatmul) else _rows_per_token(problem, operator)
    columns, contraction = (local_size(side, problem.axes, {}) for side in (operator.columns, operator.contraction))
    return matmul.matmul_flop(1.0, rows=rows, columns=columns, contraction=contraction)


def _recurrence(problem: Problem, operator: Scan) -> Numeric:
    """Work of a recurrence per token, however its kernel cuts it into chunks."""
    axes = problem.axes
    return scan.recurrence_flop(
        _rows_per_token(problem, operator), heads=axes[operator.heads], state=axes[operator.state],
        head_dim=axes[operator.head_dim], products=_STATE_PRODUCTS[operator.kind],
    )  # fmt: skip


def _rows_per_token(problem: Problem, operator: Operator) -> Numeric:
    """Tokens of the operator per token of the workload."""
    if operator.sequence is None:
        return 1.0
    return problem.axes[operator.sequence] / problem.workload.sequence_length


@lru_cache(maxsize=64)
def parameter_count(problem: Problem, *, trained_only: bool = False) -> Numeric:
    """Parameters of the whole model from the sizes of its axes (traced where these are); tied ones count once."""
    count: Numeric = 0.0
    for block in problem.graph.all_blocks():
        for operator in block.operators:
            for weight in operator.weights:
                if not weight.tied_to and not (trained_only and weight.frozen):
                    rows, columns = (local_size(side, problem.axes, {}) for side in (weight.rows, weight.columns))
                    count = count + block.count * rows * columns
    return count


def _attention(problem: Problem, operator: Attention | AttentionMatmul, *, causal: bool) -> Numeric:
    """Work of one sequence: the pairs that the model attends, or (the older convention) all pairs."""
    axes = problem.axes
    queries, keys = _lengths(problem, operator)
    pairs = attended_pairs(problem, operator) if causal else queries * keys
    if isinstance(operator, Attention):
        dims = axes[operator.query_dim], axes[operator.value_dim]
    else:
        dims = axes[operator.inner_dim], 0.0
    return attention.attention_flop(1.0, axes[operator.heads], pairs, *dims)


def _lengths(problem: Problem, operator: Attention | AttentionMatmul) -> tuple[Numeric, Numeric]:
    """Queries and keys of one sequence."""
    own = problem.workload.sequence_length
    queries = own if operator.sequence is None else problem.axes[operator.sequence]
    return queries, queries if operator.keys is None else problem.axes[operator.keys]


def attended_pairs(problem: Problem, operator: Attention | AttentionMatmul) -> Numeric:
    """(query, key) pairs of one head and sequence that the model attends."""
    sequence, keys = _lengths(problem, operator)
    if operator.keys is not None:
        return sequence * keys
    if problem.workload.mean_attended is not None and operator.sequence is None:
        return sequence * problem.workload.mean_attended
    masked = operator.causal if isinstance(operator, Attention) else operator.causal_mask
    if operator.window is not None:
        window = model_number(problem, float(operator.window), "window")
        if operator.chunked:
            return attention.chunked_pairs(sequence, window)
        return attention.windowed_pairs(sequence, 0.0, window)
    return attention.causal_pairs(sequence, 0.0) if masked else sequence * sequence
