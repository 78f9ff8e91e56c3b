"""Costs of the three sections of a model (embedding, one mean layer, head) per shard key.

Operators see only the shard key (micro-batch, tp, cp, sequence parallelism, strides of the groups on the
network); a million plans share a few hundred of them. Layers of several types (sliding and full
attention) are averaged with their counts: stages are taken to hold the same mix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from perfmodel.engine.communication import CommunicationCost, communication_costs
from perfmodel.engine.draft import BACKWARD, FORWARD
from perfmodel.engine.kernels import Kernel, KernelEnergy, cost_kernels, kernel_energies, operator_path
from perfmodel.engine.networks import Group
from perfmodel.engine.orthogonal import orthogonal_work
from perfmodel.engine.parameters import section_parameters
from perfmodel.engine.problem import Problem, keep, model_number, total
from perfmodel.engine.saved import saved_bytes
from perfmodel.engine.section_costs import POLICY_FIELDS, KeyCosts, SectionCosts, Sections
from perfmodel.engine.sizes import Grid, Sizes
from perfmodel.equations import overlap, summa
from perfmodel.parallel.collective_rules import EXCHANGED, GATHERED, TENSOR_GROUPS
from perfmodel.parallel.grid_rules import PANELS
from perfmodel.units import Numeric
from perfmodel.workload.operators import Attention, AttentionMatmul, Block, Dispatch, GroupedMatmul, Matmul

#: Parts of the dynamic energy of kernels.
MATRIX, VECTOR, MEMORY = "matrix", "vector", "memory"


def cost_keys(problem: Problem, sizes: Sizes, groups: Mapping[str, Group], policies: Sequence[str]) -> KeyCosts:
    """Cost all operators and collectives for the shard keys, and fold them into sections per policy."""
    kernels = cost_kernels(problem, sizes)
    energies = kernel_energies(problem, kernels)
    rows = communication_costs(problem, sizes, groups)
    costed = list(zip(kernels, energies, strict=True))
    ends = [
        _folded(problem, sizes, name, ((block, 1.0),), costed, rows, (frozenset(),))[0]
        for name, block in (("the embedding", problem.graph.prologue), ("the head", problem.graph.epilogue))
    ]

    def layers(name: str, blocks: Sequence[Block]) -> list[SectionCosts]:
        recomputed = [problem.policies[policy] for policy in policies]
        return _folded(problem, sizes, name, _mean_layer(problem, blocks), costed, rows, recomputed)

    leading = problem.graph.leading
    others = layers("one layer", [block for block in problem.graph.blocks if not block.leading])
    first = layers("one leading layer", leading) if leading else [None] * len(others)
    sections = tuple(Sections(ends[0], layer, ends[1], lead) for layer, lead in zip(others, first, strict=True))
    return KeyCosts(sections, tuple(kernels), tuple(energies), rows, groups)


def _named(problem: Problem, name: str, costs: SectionCosts) -> SectionCosts:
    """Names for the derivation; nothing in an ordinary evaluation."""
    if problem.label is keep:
        return costs
    labelled = {
        item.name: problem.label(
            getattr(costs, item.name), f"{item.name.replace('_', ' ')} of {name}", _unit(item.name)
        )
        for item in fields(SectionCosts)
    }
    return SectionCosts(**labelled)


def _unit(field: str) -> str:
    """Unit of a field of a section."""
    units = {"energy": "J", "flop": "FLOP", "parameters": "1", "saved": "B", "recompute": "s"}
    return "B" if field.startswith("saved") else units.get(field.rsplit("_", 1)[-1], "s")


def _mean_layer(problem: Problem, blocks: Sequence[Block]) -> tuple[tuple[Block, Numeric], ...]:
    """Kinds of layers and their shares among themselves."""
    if len(blocks) == 1:
        return ((blocks[0], 1.0),)
    layers = total([model_number(problem, float(block.count), f"layers ({block.name})") for block in blocks])
    return tuple(
        (block, model_number(problem, float(block.count), f"layers ({block.name})") / layers) for block in blocks
    )


@dataclass(frozen=True)
class _Fold:
    """The rows of the blocks of one section, with their weights."""

    kernels: list[tuple[Kernel, KernelEnergy, Numeric]]
    rows: list[tuple[CommunicationCost, Numeric]]
    recomputed: frozenset[str]
    repeated: Mapping[tuple[str, str], Numeric]  # share of an operator of a block that recomputation runs; default all
    attending: frozenset[tuple[str, str]]  # block and operator of the attention kernels

    def time(self, phase: str, *, recomputed_only: bool = False) -> Numeric:
        return total(
            [kernel.time * weight for kernel, _, weight in self.select(phase, recomputed_only=recomputed_only)]
        )

    def weight_gradient(self) -> Numeric:
        return total([kernel.time * weight for kernel, _, weight in self.kernels if kernel.weight_gradient])

    def select(self, phase: str, *, recomputed_only: bool = False) -> list[tuple[Kernel, KernelEnergy, Numeric]]:
        chosen = [one for one in self.kernels if one[0].phase == phase]
        if not recomputed_only:
            return chosen
        return [
            (kernel, energies, weight * self.repeated.get((kernel.block, kernel.operator), 1.0))
            for kernel, energies, weight in chosen
            if kernel.operator in self.recomputed
        ]

    def communication(self, *groups: str, phase: str, regather: bool = False, recomputed_only: bool = False) -> Numeric:
        return total(
            [
                row.time * row.applied * weight
                for row, weight in self.rows
                if row.use.group in groups
                and row.use.operation not in PANELS
                and row.use.phase == phase
                and row.use.regather == regather
                and (not recomputed_only or row.use.operator in self.recomputed)
            ]
        )

    def panels(
        self, phase: str, *, recomputed_only: bool = False
    ) -> list[tuple[str, list[CommunicationCost], Numeric]]:
        """Operator, collectives and weight of every product that is made of panels."""
        found: dict[tuple[str, str], tuple[str, list[CommunicationCost], Numeric]] = {}
        for row, weight in self.rows:
            wanted = not recomputed_only or row.use.operator in self.recomputed
            if row.use.operation in PANELS and row.use.phase == phase and wanted:
                name = row.use.block, row.use.operator
                found.setdefault(name, (operator_path(*name), [], weight))[1].append(row)
        return list(found.values())


def _folded(
    problem: Problem,
    sizes: Sizes,
    name: str,
    blocks: tuple[tuple[Block, Numeric], ...],
    costed: list[tuple[Kernel, KernelEnergy]],
    rows: tuple[CommunicationCost, ...],
    policies: Sequence[frozenset[str]],
) -> list[SectionCosts]:
    """A section for every set of recomputed operators; what does not depend on them is the same object in all."""
    weights = {block.name: weight for block, weight in blocks}
    fold = _Fold(
        [(kernel, energies, weights[kernel.block]) for kernel, energies in costed if kernel.block in weights],
        [(row, weights[row.use.block]) for row in rows if row.use.block in weights],
        frozenset(),
        {},
        frozenset(
            (block.name, one.name)
            for block, _ in blocks
            for one in block.operators
            if isinstance(one, (Attention, AttentionMatmul))
        ),
    )
    always, stopped = _always(problem, sizes, blocks, fold), stopped_early(problem, [block for block, _ in blocks])
    found: list[SectionCosts] = []
    for recomputed in policies:
        again = replace(fold, recomputed=recomputed, repeated=stopped if recomputed else {})
        costs = SectionCosts(**always, **_of_policy(problem, sizes, blocks, again))
        found.append(_named(problem, name, costs))
    return found


def _always(
    problem: Problem, sizes: Sizes, blocks: tuple[tuple[Block, Numeric], ...], fold: _Fold
) -> dict[str, Numeric]:
    """Fields that do not depend on what is recomputed."""
    overhead = _overhead(problem, blocks)
    launched = overhead if problem.workload.training else 0.0
    return {
        "forward": fold.time(FORWARD) + overhead,
        "backward": fold.time(BACKWARD) + 2.0 * launched,
        # Weight gradients are about half of the kernels of a backward pass, and of its launches.
        "weight_gradient": fold.weight_gradient() + launched,
        "tensor_regather": fold.communication("tp", phase=BACKWARD, regather=True),
        **_communication(problem, sizes, fold, "forward", FORWARD),
        **_communication(problem, sizes, fold, "backward", BACKWARD),
        "saved_without_recompute": saved_bytes(problem, sizes, blocks, frozenset()),
        **section_parameters(problem, sizes, blocks),
        **orthogonal_work(problem, sizes, blocks),
        **_energies(fold.kernels),
        "link_energy": total([row.energy * row.applied * weight for row, weight in fold.rows]),
        "matrix_flop": _executed_flop(fold.kernels),
    }


def _of_policy(
    problem: Problem, sizes: Sizes, blocks: tuple[tuple[Block, Numeric], ...], fold: _Fold
) -> dict[str, Numeric]:
    """Fields that depend on what is recomputed."""
    if not fold.recomputed:
        return dict.fromkeys(POLICY_FIELDS, 0.0) | {"saved": saved_bytes(problem, sizes, blocks, frozenset())}
    again = fold.select(FORWARD, recomputed_only=True)
    launched = _launched_again(_overhead(problem, blocks), blocks, fold.recomputed)
    return {
        "recompute": fold.time(FORWARD, recomputed_only=True) + launched,
        **_communication(problem, sizes, fold, "recompute", FORWARD, recomputed_only=True),
        "saved": saved_bytes(problem, sizes, blocks, fold.recomputed),
        **{f"recompute_{name}": value for name, value in _energies(again).items()},
        "recompute_flop": _executed_flop(again),
    }


def _executed_flop(kernels: list[tuple[Kernel, KernelEnergy, Numeric]]) -> Numeric:
    """Work of the mean rank on the matrix units."""
    return total([kernel.flop * kernel.mean_share * weight for kernel, _, weight in kernels])


def _communication(
    problem: Problem, sizes: Sizes, fold: _Fold, name: str, phase: str, *, recomputed_only: bool = False
) -> dict[str, Numeric]:
    """Fields of the communication of one pass, by kind."""
    chosen = {"phase": phase, "recomputed_only": recomputed_only}
    context = fold.communication("cp", **chosen)
    return {
        f"tensor_{name}": fold.communication(*TENSOR_GROUPS, **chosen),
        f"panels_{name}": _panels(fold, **chosen) if sizes.grid else 0.0,
        f"panels_exposed_{name}": _exposed_panels(sizes.grid, fold, **chosen) if sizes.grid else 0.0,
        f"context_{name}": context,
        f"context_exposed_{name}": _exposed_context(problem, sizes, fold, context, **chosen),
        f"expert_{name}": fold.communication("ep", "etp", **chosen) if problem.has_experts else 0.0,
    }


def _panels(fold: _Fold, *, phase: str, recomputed_only: bool) -> Numeric:
    """Collectives of products on a grid."""
    return total(
        row.time * row.applied * weight
        for _, rows, weight in fold.panels(phase, recomputed_only=recomputed_only)
        for row in rows
    )


def _exposed_panels(grid: Grid, fold: _Fold, *, phase: str, recomputed_only: bool) -> Numeric:
    """Collectives of products on a grid that the products themselves do not hide."""
    products: dict[str, list[Numeric]] = {}
    for kernel, _, _ in fold.select(phase):
        products.setdefault(kernel.path, []).append(kernel.time)
    return total(
        grid.active
        * weight
        * summa.panels_exposed_time(total(row.time for row in rows), grid.blocks, total(products[path]))
        for path, rows, weight in fold.panels(phase, recomputed_only=recomputed_only)
    )


def _exposed_context(
    problem: Problem, sizes: Sizes, fold: _Fold, moved: Numeric, *, phase: str, recomputed_only: bool
) -> Numeric:
    """Part of the context-parallel communication ``moved`` that computation does not hide.

    Blocks that go round in a ring travel while the ones that have arrived are attended to; all but the last. An
    exchange of tokens for heads has nothing to hide behind.
    """
    exposed = problem.machine.step.context_exposed
    if problem.context.kind == GATHERED:
        return exposed * moved
    if problem.context.kind == EXCHANGED:
        return moved
    attended = total(
        [
            kernel.time * weight
            for kernel, _, weight in fold.select(phase, recomputed_only=recomputed_only)
            if (kernel.block, kernel.operator) in fold.attending
        ]
    )
    return overlap.exposed_time(moved, exposed, attended * (1.0 - 1.0 / sizes.cp))


def _overhead(problem: Problem, blocks: tuple[tuple[Block, Numeric], ...]) -> Numeric:
    """Launch overhead of one pass of the mean layer; none of the embedding and the head."""
    if blocks[0][0] not in problem.graph.blocks:
        return 0.0
    step = problem.machine.step
    routed = [weight for block, weight in blocks if any(isinstance(one, Dispatch) for one in block.operators)]
    return step.block_overhead + total(routed) * step.expert_block_overhead if routed else step.block_overhead


def _launched_again(
    overhead: Numeric, blocks: tuple[tuple[Block, Numeric], ...], recomputed: frozenset[str]
) -> Numeric:
    """Launch overhead of a recomputation: that of a pass, for the share of the operators that run again."""
    names = [operator.name for block, _ in blocks for operator in block.operators]
    return overhead * float(sum(name in recomputed for name in names)) / float(len(names))


def stopped_early(problem: Problem, blocks: Iterable[Block]) -> dict[tuple[str, str], Numeric]:
    """Share of the last matmul of a block that recomputation runs: stacks that stop early do not need its output.

    Keys are (block, operator).
    """
    share = 1.0 - problem.machine.step.early_stop_recompute
    matmuls = {
        block.name: [one.name for one in block.operators if isinstance(one, (Matmul, GroupedMatmul))]
        for block in blocks
    }
    return {(block, names[-1]): share for block, names in matmuls.items() if names}


def _energies(kernels: list[tuple[Kernel, KernelEnergy, Numeric]]) -> dict[str, Numeric]:
    return {
        f"{part}_energy": total([getattr(one, part) * weight for _, one, weight in kernels])
        for part in (MATRIX, VECTOR, MEMORY)
    }
