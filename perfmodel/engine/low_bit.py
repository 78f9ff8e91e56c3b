"""Low-bit recipes: which operators compute in the low format, the widths of their operands, what they quantise."""

from __future__ import annotations

from typing import NamedTuple

from perfmodel.engine.problem import Formats, Problem, total
from perfmodel.engine.sizes import Sizes
from perfmodel.equations import elementwise
from perfmodel.units import Numeric
from perfmodel.workload.operators import SCALAR, GroupedMatmul, Matmul, Operator

#: Role of the operators that a low-bit recipe quantises; all others stay in 16 bits.
QUANTISED_ROLE = "matmul"


class OperandWidths(NamedTuple):
    """Bytes per element of the operands of a matmul as its kernels read them."""

    input: Numeric
    weight: Numeric
    gradient: Numeric  # of the output


def has_low_bit_role(operator: Operator) -> bool:
    """The operator computes in the low format when the recipe has one."""
    return isinstance(operator, (Matmul, GroupedMatmul)) and operator.precision == QUANTISED_ROLE


def is_quantised(formats: Formats, operator: Operator) -> bool:
    """The operator is a linear layer, and the recipe is a low-bit one."""
    return formats.linear is not None and has_low_bit_role(operator)


def operand_widths(formats: Formats, operator: Matmul | GroupedMatmul) -> OperandWidths:
    """Widths of the operands; a transform that changed the weights of one operator wins over the recipe."""
    own = None if operator.weight_bits is None else operator.weight_bits / 8.0
    if formats.linear is None or not is_quantised(formats, operator):
        weight = formats.weights if own is None else own
        return OperandWidths(formats.activations, weight, formats.activations)
    weight = formats.linear.weights if own is None else own
    return OperandWidths(formats.linear.inputs, weight, formats.linear.gradients)


def quantise_traffic(
    problem: Problem, sizes: Sizes, operator: Matmul | GroupedMatmul, routed_rows: Numeric, *, forward: bool
) -> Numeric | None:
    """Bytes of the kernel that makes a low-bit operand of a linear layer; None where nothing is quantised.

    With sequence parallelism a rank quantises its own share of the tokens, before the gather; experts quantise the
    ``routed_rows`` that were sent to them. Stacks that make the low-bit weights anew do it in the forward pass.
    """
    linear, step = problem.formats.linear, problem.machine.step
    if linear is None or not is_quantised(problem.formats, operator):
        return None
    features = operator.contraction if forward else operator.columns
    if isinstance(operator, GroupedMatmul):
        elements = routed_rows * sizes.local(features)
    else:
        elements = sizes.elements(features, per_score=False)
    traffic = elementwise.quantise_traffic(elements, linear.quantise, step.quantise_inflation)
    if not forward:
        return traffic
    matrices = [one for one in operator.weights if one.rows != SCALAR]
    weights = total(sizes.local(one.rows) * sizes.local(one.columns) for one in matrices)
    return traffic + elementwise.weight_cast_traffic(weights, linear.cast, step.recast_weights)
