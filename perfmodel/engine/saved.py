"""Which activations a block keeps for its backward pass, given the operators that are recomputed, and in which form."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache

from perfmodel.engine.low_bit import has_low_bit_role
from perfmodel.engine.problem import Formats, Problem, total
from perfmodel.engine.sizes import Sizes
from perfmodel.parallel.placement import gathered_tensors
from perfmodel.units import Numeric
from perfmodel.workload.operators import Block, Elementwise, ElementwiseKind, Operator, Storage, Tensor


class Form(StrEnum):
    """The form in which a tensor is kept; only low-bit recipes tell them apart."""

    STORED = "stored"  # in the format of its storage role
    LINEAR = "linear"  # linear layers alone need it: in the format of their kept inputs
    COPY = "copy"  # linear layers need it beside another operator, and keep a low-bit copy of their own
    ACTIVATION = "activation"  # input of an activation function and of nothing else


def kept_bytes(formats: Formats, tensor: Tensor, form: Form) -> Numeric:
    """Bytes per element of a kept tensor."""
    linear = formats.linear
    if linear is None or tensor.storage != Storage.ACTIVATION or form == Form.STORED:
        return 0.0 if form == Form.COPY else formats.of(tensor.storage)
    if form == Form.ACTIVATION:
        return linear.activation_inputs
    return linear.saved if form == Form.LINEAR or linear.saves_a_copy else 0.0


def saved_bytes(
    problem: Problem, sizes: Sizes, blocks: tuple[tuple[Block, Numeric], ...], recomputed: frozenset[str]
) -> Numeric:
    """Bytes of activations that blocks with these weights keep for backward, per micro-batch."""
    if not problem.workload.training:
        return 0.0
    keeps_gathered = problem.machine.choices.saved_inputs == "gathered"
    return total(
        [
            weight * elements * kept_bytes(problem.formats, tensor, form)
            for block, weight in blocks
            for gathered in (gathered_tensors(block) if keeps_gathered else frozenset[str](),)
            for tensor, form in saved_tensors(block, recomputed, problem.rebuilt | (problem.discarding & recomputed))
            for elements in (
                sizes.gathered_elements(tensor) if tensor.name in gathered else sizes.tensor_elements(tensor),
            )
        ]
    )


def saved_tensors(block: Block, recomputed: frozenset[str], rebuilt: frozenset[str]) -> tuple[tuple[Tensor, Form], ...]:
    """Tensors kept per micro-batch and occurrence, and the form of each.

    Parameters
    ----------
    recomputed
        Operators that a recompute policy runs again.
    rebuilt
        Operators whose output is not kept for its consumers: a fused backward kernel rebuilds it from its own inputs,
        or it is discarded and recomputed before they need it.

    Every operator that is not recomputed keeps what it declares. A recomputed region keeps its boundary
    instead: the tensors that it reads and that are made outside of it (Chen et al. 2016, arXiv
    1604.06174; Korthikanti et al. 2022, arXiv 2205.05198, section 5).
    """
    return _saved_tensors(_Key(block), recomputed, rebuilt)


class _Key:
    """Hashes a block by identity: its mapping of tensors cannot be hashed."""

    def __init__(self, block: Block) -> None:
        self.block = block

    def __hash__(self) -> int:
        return id(self.block)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.block is self.block


@lru_cache(maxsize=1024)
def _saved_tensors(key: _Key, recomputed: frozenset[str], rebuilt: frozenset[str]) -> tuple[tuple[Tensor, Form], ...]:
    block = key.block
    made_inside = {operator.output for operator in block.operators if operator.name in recomputed}
    # A slice of a fused projection is made where the projection is.
    made_inside |= {tensor.name for tensor in block.tensors.values() if tensor.part_of in made_inside}
    needs: dict[str, list[Form]] = {}
    for operator in block.operators:
        again = operator.name in recomputed
        names = [name for name in operator.inputs if name not in made_inside] if again else operator.saves
        # An operator that runs again alone keeps its input as its backward pass does; a region keeps what it is given.
        form = Form.STORED if again and operator.name not in rebuilt else _form_for(operator)
        for name in names:
            needs.setdefault(name, []).append(form)
    dropped = {operator.output for operator in block.operators if operator.name in rebuilt}
    dropped |= {tensor.name for tensor in block.tensors.values() if tensor.part_of in dropped}
    kept = ((block.tensors[name], forms) for name, forms in needs.items() if name not in dropped)
    return tuple((tensor, form) for tensor, forms in kept if not tensor.shared for form in _kept_forms(forms))


def _form_for(operator: Operator) -> Form:
    """The form that is enough for the backward pass of an operator."""
    if has_low_bit_role(operator):
        return Form.LINEAR
    if isinstance(operator, Elementwise) and operator.kind == ElementwiseKind.ACTIVATION:
        return Form.ACTIVATION
    return Form.STORED


def _kept_forms(needed: list[Form]) -> tuple[Form, ...]:
    """One form when all agree; else the stored one, and a copy for linear layers among them."""
    kinds = set(needed)
    if len(kinds) == 1:
        return (needed[0],)
    return (Form.STORED, Form.COPY) if Form.LINEAR in kinds else (Form.STORED,)
