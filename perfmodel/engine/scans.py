"""Work and traffic of recurrences on one device."""

from __future__ import annotations

from perfmodel.engine.problem import Problem, model_number
from perfmodel.engine.sizes import Sizes
from perfmodel.equations import scan
from perfmodel.units import Numeric
from perfmodel.workload.operators import Scan, ScanKind


def scan_work(problem: Problem, sizes: Sizes, operator: Scan) -> tuple[Numeric, Numeric]:
    """FLOP and bytes of the forward pass over the tokens and heads of this rank; states are kept in 32 bits."""
    activation_bytes, state_bytes = problem.formats.activations, problem.formats.full_precision
    tokens = sizes.tokens
    heads, groups, state, head_dim = (
        sizes.local(((axis,),)) for axis in (operator.heads, operator.groups, operator.state, operator.head_dim)
    )
    if operator.kind == ScanKind.SELECTIVE:
        shape = {"tokens": tokens, "channels": heads, "state": state}
        moved = scan.selective_scan_traffic(**shape, activation_bytes=activation_bytes)
        return scan.selective_scan_flop(**shape), moved
    chunk = model_number(problem, float(operator.chunk), "chunk")
    shape = {"tokens": tokens, "heads": heads, "state": state, "head_dim": head_dim, "chunk": chunk}
    widths = {"activation_bytes": activation_bytes, "state_bytes": state_bytes}
    if operator.kind == ScanKind.DELTA_RULE:
        return scan.delta_rule_flop(**shape), scan.delta_rule_traffic(**shape, groups=groups, **widths)
    return scan.chunked_scan_flop(**shape, groups=groups), scan.chunked_scan_traffic(**shape, groups=groups, **widths)
