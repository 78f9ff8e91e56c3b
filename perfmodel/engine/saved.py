"""Which activations a block keeps for its backward pass, given the operators that are recomputed."""

from __future__ import annotations

from functools import lru_cache

from perfmodel.workload.operators import Block, Tensor


def saved_tensors(block: Block, recomputed: frozenset[str], rebuilt: frozenset[str]) -> tuple[Tensor, ...]:
    """Tensors kept per micro-batch and occurrence.

    Parameters
    ----------
    recomputed
        Operators that a recompute policy runs again.
    rebuilt
        Operators whose output a fused backward kernel rebuilds from its own inputs, at no extra cost: it is
        not kept for its consumers.

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
def _saved_tensors(key: _Key, recomputed: frozenset[str], rebuilt: frozenset[str]) -> tuple[Tensor, ...]:
    block = key.block
    made_inside = {operator.output for operator in block.operators if operator.name in recomputed}
    # A slice of a fused projection is made where the projection is.
    made_inside |= {tensor.name for tensor in block.tensors.values() if tensor.part_of in made_inside}
    names: dict[str, None] = {}
    for operator in block.operators:
        if operator.name in recomputed:
            names.update(dict.fromkeys(name for name in operator.inputs if name not in made_inside))
        else:
            names.update(dict.fromkeys(operator.saves))
    dropped = {operator.output for operator in block.operators if operator.name in rebuilt}
    kept = (block.tensors[name] for name in names if name not in dropped)
    return tuple(tensor for tensor in kept if not tensor.shared)
