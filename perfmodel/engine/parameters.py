"""Classes of parameters: what holds them, how a recipe stores them, and whether they are trained.

The classes of a model are disjoint and known before any plan, so that every sum over parameters is a sum over the
classes that the model has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from typing import Protocol, TypeAlias

import numpy as np

from perfmodel.engine.low_bit import is_quantised
from perfmodel.engine.problem import Formats, Problem, total
from perfmodel.engine.sizes import Sizes
from perfmodel.equations import memory
from perfmodel.parallel.placement import is_of_experts
from perfmodel.units import Numeric
from perfmodel.workload.operators import SCALAR, Block, GroupedMatmul, Matmul, Operator, OperatorGraph, Weight


class ShardCounts(Protocol):
    """What a plan says about the sharding of state."""

    @property
    def zero(self) -> Numeric: ...
    @property
    def state_shards(self) -> Numeric: ...
    @property
    def expert_state_shards(self) -> Numeric: ...


@dataclass(frozen=True)
class ParameterClass:
    """Parameters that are stored, moved and trained in the same way.

    Attributes
    ----------
    expert
        Of routed experts: reduced and sharded over a group of their own.
    low_bit
        Weights of the linear layers of a low-bit recipe.
    frozen
        Not trained: no gradient, no optimizer state.
    matrix
        Hidden matrices, where the optimizer treats them apart.
    tied
        Same storage as another weight on the first stage; a copy of its own on the last of several stages.
    """

    expert: bool = False
    low_bit: bool = False
    frozen: bool = False
    matrix: bool = False
    tied: bool = False

    @property
    def field(self) -> str:
        """Name of the field of section costs and stage times that counts them."""
        words = [word for word in ("expert", "low_bit", "frozen", "matrix", "tied") if getattr(self, word)]
        return "_".join([*words, "parameters"])


#: What a device of a stage holds, by class.
Held: TypeAlias = tuple[tuple[ParameterClass, Numeric], ...]

#: Every class that can be; tied weights are those of the head, which no recipe quantises.
ALL_CLASSES = (
    *(ParameterClass(*kinds) for kinds in product((False, True), repeat=3)),
    *(ParameterClass(*kinds, matrix=True) for kinds in product((False, True), repeat=2)),
    *(ParameterClass(frozen=frozen, tied=True) for frozen in (False, True)),
)


def class_of(formats: Formats, operator: Operator, weight: Weight, *, hidden: bool) -> ParameterClass:
    """The class of a weight of an operator; biases stay in 16 bits. ``hidden``: in a repeating block."""
    if weight.tied_to:
        return ParameterClass(frozen=weight.frozen, tied=True)
    low_bit = is_quantised(formats, operator) and weight.rows != SCALAR
    matrix = formats.orthogonal is not None and hidden and is_matrix(operator, weight) and not weight.frozen
    return ParameterClass(is_of_experts(weight), low_bit, weight.frozen, matrix)


def is_matrix(operator: Operator, weight: Weight) -> bool:
    """The weight of a linear layer, not its bias."""
    return isinstance(operator, (Matmul, GroupedMatmul)) and weight.rows != SCALAR


def moments_width(formats: Formats, one: ParameterClass) -> Numeric:
    """Bytes of the optimizer's moments per parameter."""
    if formats.orthogonal is None or one.matrix:
        return formats.state_moments
    return formats.orthogonal.other_moments


def classes_of(graph: OperatorGraph, formats: Formats) -> tuple[ParameterClass, ...]:
    """The classes that a model has, in a fixed order."""
    found = {
        class_of(formats, operator, weight, hidden=block in graph.blocks)
        for block in graph.all_blocks()
        for operator in block.operators
        for weight in operator.weights
    }
    return tuple(one for one in ALL_CLASSES if one in found)


def trained(held: Held) -> Held:
    """Those that have gradients."""
    return tuple(one for one in held if not one[0].frozen)


def of_experts(held: Held, *, expert: bool) -> Held:
    """Those of the experts, or all others."""
    return tuple(one for one in held if one[0].expert == expert)


def count(held: Held) -> Numeric:
    """All of them together."""
    return total(amount for _, amount in held)


def bytes_of(held: Held, width: Callable[[ParameterClass], Numeric]) -> Numeric:
    """Bytes of parameters (or of their gradients) that are whole on a device."""
    return total(memory.state_bytes(amount, width(one), 1.0) for one, amount in held)


def stored_width(formats: Formats, one: ParameterClass) -> Numeric:
    """Bytes per parameter on the device."""
    return formats.linear.stored if one.low_bit and formats.linear is not None else formats.state_weights


def gathered_width(formats: Formats, one: ParameterClass) -> Numeric:
    """Bytes per parameter of a data-parallel gather."""
    return formats.linear.gather if one.low_bit and formats.linear is not None else formats.weights


def gathered_bytes(formats: Formats, held: Held) -> Numeric:
    """Bytes of weights as they are gathered."""
    return bytes_of(held, lambda one: gathered_width(formats, one))


def shards(plan: ShardCounts, one: ParameterClass, level: float) -> Numeric:
    """Ranks that share a kind of state of a class, sharded from a ZeRO level on.

    Below ZeRO 3 dp_shard is dp; with hybrid sharding every one of the dp_replicate groups holds all of the state.
    """
    ranks = plan.expert_state_shards if one.expert else plan.state_shards
    return np.where(plan.zero >= level, ranks, 1.0)


def amounts(source: object, classes: Iterable[ParameterClass]) -> Held:
    """Counts of section costs or stage times by class."""
    return tuple((one, getattr(source, one.field)) for one in classes)


def section_parameters(problem: Problem, sizes: Sizes, blocks: tuple[tuple[Block, Numeric], ...]) -> dict[str, Numeric]:
    """Local parameters of a section by the field of each class, from its blocks with their weights."""
    counts: dict[str, list[Numeric]] = {one.field: [] for one in ALL_CLASSES}
    for block, weight in blocks:
        for operator in block.operators:
            for one in operator.weights:
                kind = class_of(problem.formats, operator, one, hidden=block in problem.graph.blocks)
                counts[kind.field].append(weight * sizes.local(one.rows) * sizes.local(one.columns))
    return {field: total(parts) for field, parts in counts.items()}
