"""Low-rank adapters: frozen weights, and two small matmuls beside each chosen linear layer.

Hu et al. 2021, arXiv 2106.09685.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from fnmatch import fnmatchcase

from perfmodel.errors import SpecError, nearest
from perfmodel.workload.operators import (
    Block,
    Elementwise,
    ElementwiseKind,
    Extent,
    GroupedMatmul,
    Matmul,
    Operator,
    OperatorGraph,
    Storage,
    Tensor,
    Weight,
    extent,
)
from perfmodel.workload.transforms.precision import WIDE_ROLE

#: Axis of the rank of the adapters.
RANK = "adapter_rank"
_RANK_EXTENT = extent(RANK)


@functools.lru_cache(maxsize=64)
def add_adapters(graph: OperatorGraph, rank: int, targets: tuple[str, ...], *, dropout: bool = False) -> OperatorGraph:
    """The graph of a fine-tuning with low-rank adapters: everything frozen but the adapters.

    Parameters
    ----------
    graph
        A model.
    rank
        Of the adapters.
    targets
        Names of linear layers of the repeating blocks, or shell patterns of them (``attention.*``).
    dropout
        The input of the adapters is dropped out in a kernel of its own.

    Raises
    ------
    SpecError
        A target matches no linear layer.

    Notes
    -----
    A frozen linear layer has no weight gradient and needs no input for the backward pass. An adapter is
    ``x A B``: two matmuls in 16 bits, a scaling of their product and its addition to the output of the layer; backward
    adds the gradient that comes through the adapter to that of the input.
    """
    names = [one.name for block in graph.blocks for one in block.operators if isinstance(one, Matmul)]
    for target in targets:
        if not any(fnmatchcase(name, target) for name in names):
            known = list(dict.fromkeys(names))
            raise SpecError(
                f"workload.lora.targets: {target!r} is no linear layer of {graph.name}; "
                f"linear layers: {', '.join(known)}{nearest(target, known)}"
            )
    blocks = tuple(_adapted(block, targets, dropout=dropout) for block in graph.blocks)
    return replace(
        graph,
        axes={**graph.axes, RANK: rank},
        prologue=_frozen_block(graph.prologue),
        blocks=blocks,
        epilogue=_frozen_block(graph.epilogue),
    )


def _frozen_block(block: Block) -> Block:
    return replace(block, operators=tuple(_frozen(one) for one in block.operators))


def _frozen(operator: Operator) -> Operator:
    """Frozen weights; a linear layer needs its input for the weight gradient only."""
    weights = tuple(replace(weight, frozen=True) for weight in operator.weights)
    linear = isinstance(operator, (Matmul, GroupedMatmul))
    return replace(operator, weights=weights, saves=() if linear else operator.saves)


def _adapted(block: Block, targets: tuple[str, ...], *, dropout: bool) -> Block:
    operators: list[Operator] = []
    tensors = dict(block.tensors)
    for operator in block.operators:
        frozen = _frozen(operator)
        chosen = isinstance(operator, Matmul) and any(fnmatchcase(operator.name, target) for target in targets)
        if not chosen or not isinstance(frozen, Matmul):
            operators.append(frozen)
            continue
        operators += _with_adapter(frozen, tensors, dropout=dropout)
    return replace(block, operators=tuple(operators), tensors=tensors)


def _with_adapter(base: Matmul, tensors: dict[str, Tensor], *, dropout: bool) -> list[Operator]:
    """The layer and its adapter; the sum takes the name of the layer's output, so that readers need not change."""
    name, (source, *_) = base.name, base.inputs
    made = tensors[base.output]

    def tensor(part: str, features: Extent, storage: Storage = Storage.ACTIVATION) -> str:
        tensors[f"{name}.{part}"] = replace(made, name=f"{name}.{part}", features=features, storage=storage)
        return f"{name}.{part}"

    layer = replace(base, output=tensor("base", base.columns))
    entered = tensor("adapter_input", base.contraction)
    mask = (tensor("adapter_mask", base.contraction, Storage.MASK),) if dropout else ()
    # Backward adds two gradients of the input; with dropout the one from the adapter is masked first.
    enter = Elementwise(
        name=entered, inputs=(source,), output=entered, saves=mask, sequence=base.sequence,
        kind=ElementwiseKind.DROPOUT if dropout else ElementwiseKind.RESIDUAL, features=base.contraction,
        forward_elements=2.5 if dropout else 0.0, backward_elements=5.5 if dropout else 3.0,
    )  # fmt: skip
    read = entered if dropout else source
    down = _small("adapter_down", base, read, tensor("adapter_down", _RANK_EXTENT), base.contraction, _RANK_EXTENT)
    up = _small("adapter_up", base, down.output, tensor("adapter_up", base.columns), _RANK_EXTENT, base.columns)
    # Forward scales (2) and adds (3); backward scales the gradient.
    total = Elementwise(
        name=f"{name}.adapter_sum", inputs=(layer.output, up.output), output=base.output, sequence=base.sequence,
        kind=ElementwiseKind.RESIDUAL, features=base.columns, forward_elements=5.0, backward_elements=2.0,
    )  # fmt: skip
    return [layer, enter, down, up, total]


def _small(part: str, base: Matmul, source: str, output: str, contraction: Extent, columns: Extent) -> Matmul:
    name = f"{base.name}.{part}"
    return Matmul(
        name=name, inputs=(source,), output=output, saves=(source,), sequence=base.sequence, contraction=contraction,
        columns=columns, precision=WIDE_ROLE, weights=(Weight(f"{name}.weight", contraction, columns),),
    )  # fmt: skip
