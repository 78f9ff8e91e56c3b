"""Optimizers that make updates of hidden matrices orthogonal (Muon): how much work the matrices of a section are."""

from __future__ import annotations

import numpy as np

from perfmodel.engine.parameters import is_matrix
from perfmodel.engine.problem import Problem, total
from perfmodel.engine.sizes import Sizes
from perfmodel.equations import optimizer
from perfmodel.parallel.placement import is_of_experts
from perfmodel.units import Numeric
from perfmodel.workload.operators import EXPERTS, Block, GroupedMatmul, Matmul, Operator


def orthogonal_work(problem: Problem, sizes: Sizes, blocks: tuple[tuple[Block, Numeric], ...]) -> dict[str, Numeric]:
    """FLOP of one optimizer step on the matrices of a section, by field of the section's costs.

    Tensor-parallel ranks work on the slices that they hold (Megatron-Core's block-wise mode); the parts of a fused
    projection are matrices of their own.
    """
    works: dict[str, list[Numeric]] = {"": [], "expert_": []}
    largest: Numeric = 0.0
    for block, weight in blocks:
        if block not in problem.graph.blocks:
            continue
        for operator in block.operators:
            for one, expert in _matrices(problem, sizes, operator):
                works["expert_" if expert else ""].append(weight * one)
                largest = largest if expert else np.maximum(largest, one)
    sums = {f"{kind}orthogonal_flop": total(parts) for kind, parts in works.items()}
    return sums | {"largest_orthogonal_flop": largest}


def _matrices(problem: Problem, sizes: Sizes, operator: Operator) -> list[tuple[Numeric, bool]]:
    """Work on each kind of matrix of an operator, and whether experts hold it."""
    numbers = problem.formats.orthogonal
    if numbers is None or not isinstance(operator, (Matmul, GroupedMatmul)):
        return []
    found: list[tuple[Numeric, bool]] = []
    for weight in operator.weights:
        if weight.frozen or weight.tied_to or not is_matrix(operator, weight):
            continue
        copies = sizes.local(((EXPERTS,),)) if is_of_experts(weight) else 1.0
        rows = sizes.local(operator.contraction)
        for part in operator.columns:
            work = optimizer.newton_schulz_flop(copies, rows, sizes.local((part,)), numbers.iterations)
            found.append((work, is_of_experts(weight)))
    return found
