"""Writes one block operator by operator, so that builders read like the architecture they describe."""

from __future__ import annotations

from dataclasses import replace

from perfmodel.specs.model import NormSpec
from perfmodel.workload.operators import (
    SCALAR,
    Block,
    Elementwise,
    ElementwiseKind,
    Extent,
    Matmul,
    Operator,
    Storage,
    Tensor,
    Weight,
)

#: Vector-unit work per element, forward: multiply-adds, comparisons and special functions of the usual kernels.
VECTOR_FLOP = {
    ElementwiseKind.NORM: 5.0,
    ElementwiseKind.ACTIVATION: 8.0,
    ElementwiseKind.ROTARY: 3.0,
    ElementwiseKind.RESIDUAL: 1.0,
    ElementwiseKind.DROPOUT: 2.0,
    ElementwiseKind.SOFTMAX: 5.0,
    ElementwiseKind.PERMUTE: 1.0,
    ElementwiseKind.LOSS: 2.0,
}


class Assembler:
    """Collects the operators and tensors of one block. An operator's output tensor has the operator's name.

    Operators and tensors run over the tokens of the workload, or over the axis ``sequence`` where it is set:
    for all of an assembler, or for the operators added while it is.
    """

    def __init__(self, name: str, inputs: dict[str, Extent], sequence: str | None = None) -> None:
        self.name = name
        self.inputs = tuple(inputs)
        self.sequence = sequence
        self.operators: list[Operator] = []
        self.tensors: dict[str, Tensor] = {}
        for tensor, features in inputs.items():
            self.tensor(tensor, features)

    def tensor(
        self,
        name: str,
        features: Extent,
        *,
        storage: Storage = Storage.ACTIVATION,
        per_score: bool = False,
        part_of: str | None = None,
        shared: bool = False,
    ) -> str:
        """Declare a tensor and return its name."""
        self.tensors[name] = Tensor(name, features, storage, per_score, part_of, self.sequence, shared)
        return name

    def add(
        self,
        operator: Operator,
        features: Extent,
        *,
        per_score: bool = False,
        storage: Storage = Storage.ACTIVATION,
    ) -> str:
        """Append an operator, declare its output and return the output's name."""
        self.operators.append(operator if self.sequence is None else replace(operator, sequence=self.sequence))
        return self.tensor(operator.output, features, per_score=per_score, storage=storage)

    def matmul(
        self,
        name: str,
        source: str,
        contraction: Extent,
        columns: Extent,
        *,
        bias: Extent = (),
        precision: str = "matmul",
        tied_to: str | None = None,
        storage: Storage = Storage.ACTIVATION,
        also: tuple[str, ...] = (),
        keeps: bool = True,
    ) -> str:
        """A linear layer; it saves its input if it ``keeps`` it. ``bias`` is the extent of the bias (empty: none).

        ``also`` names tensors that pass through beside the product (and follow the placement of the input).
        """
        weights = [Weight(f"{name}.weight", contraction, columns, tied_to)]
        if bias:
            weights.append(Weight(f"{name}.bias", SCALAR, bias))
        operator = Matmul(
            name=name, inputs=(source, *also), output=name, weights=tuple(weights),
            saves=(source,) if keeps else (), contraction=contraction, columns=columns, precision=precision,
        )  # fmt: skip
        return self.add(operator, columns, storage=storage)

    def norm(self, name: str, source: str, features: Extent, norm: NormSpec, *, weight: Extent | None = None) -> str:
        """A normalisation: reads and writes every element; backward also reads its saved input."""
        scale = features if weight is None else weight
        weights = [Weight(f"{name}.scale", SCALAR, scale)]
        if norm.has_bias:
            weights.append(Weight(f"{name}.bias", SCALAR, scale))
        return self.elementwise(
            name, ElementwiseKind.NORM, (source,), features, forward=2, backward=3,
            weights=tuple(weights), saves=(source,),
        )  # fmt: skip

    def residual(self, name: str, sources: tuple[str, ...], features: Extent) -> str:
        """The sum of its sources; backward adds as many gradients. Nothing is saved."""
        moved = len(sources) + 1
        return self.elementwise(name, ElementwiseKind.RESIDUAL, sources, features, forward=moved, backward=moved)

    def dropout(self, name: str, source: str, features: Extent) -> str:
        """Dropout fused with the addition after it: only its one-byte mask (half an element) moves forward."""
        mask = self.tensor(f"{name}.mask", features, storage=Storage.MASK)
        return self.elementwise(
            name, ElementwiseKind.DROPOUT, (source,), features, forward=0.5, backward=2.5, saves=(mask,)
        )

    def elementwise(
        self,
        name: str,
        kind: ElementwiseKind,
        sources: tuple[str, ...],
        features: Extent,
        *,
        forward: float,
        backward: float,
        weights: tuple[Weight, ...] = (),
        saves: tuple[str, ...] = (),
        output: Extent | None = None,
        per_score: bool = False,
        storage: Storage = Storage.ACTIVATION,
        flop: float | None = None,
    ) -> str:
        """A memory-bound operator; ``output`` is the extent of its result where it is not ``features``.

        ``flop`` replaces the usual work per element of the kind.
        """
        operator = Elementwise(
            name=name, inputs=sources, output=name, weights=weights, saves=saves, kind=kind, features=features,
            forward_elements=forward, backward_elements=backward,
            flop_per_element=VECTOR_FLOP[kind] if flop is None else flop, per_score=per_score,
        )  # fmt: skip
        return self.add(operator, features if output is None else output, per_score=per_score, storage=storage)

    def block(self, count: int = 1) -> Block:
        """The finished block."""
        return Block(self.name, tuple(self.operators), dict(self.tensors), count, self.inputs)
