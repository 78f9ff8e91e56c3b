"""Kernels with their times: the drafts of one kind are costed in one stacked call of the equation.

Nothing here is a formula: the physics is in ``perfmodel.equations``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from perfmodel.engine.clocks import at_clock, energy_per_flop
from perfmodel.engine.draft import Draft
from perfmodel.engine.drafts import draft_kernels
from perfmodel.engine.problem import Problem
from perfmodel.engine.sizes import Sizes
from perfmodel.equations import attention, elementwise, energy, matmul, roofline, softmax
from perfmodel.errors import UnsupportedOperator
from perfmodel.machine.machine import AttentionParameters
from perfmodel.units import Numeric


def operator_path(block: str, operator: str) -> str:
    """Path of an operator in results: ``block.mlp.down``, but ``head.logits`` (the name says its block)."""
    return operator if operator.startswith(f"{block}.") else f"{block}.{operator}"


@dataclass(frozen=True)
class Kernel:
    """One costed kernel of one micro-batch on one device; numbers or columns over shard keys."""

    block: str
    operator: str
    phase: str
    data_type: str
    flop: Numeric
    vector_flop: Numeric
    traffic: Numeric
    compute_time: Numeric
    memory_time: Numeric
    floor: Numeric
    time: Numeric
    mean_share: Numeric = 1.0  # work of the mean rank over that of the slowest
    weight_gradient: bool = False

    @property
    def path(self) -> str:
        return operator_path(self.block, self.operator)


@dataclass(frozen=True)
class KernelEnergy:
    """Dynamic energy of one kernel, in joules."""

    matrix: Numeric
    vector: Numeric
    memory: Numeric

    @property
    def total(self) -> Numeric:
        return self.matrix + self.vector + self.memory


def cost_kernels(problem: Problem, sizes: Sizes) -> list[Kernel]:
    """Cost every operator of the graph, one occurrence each, in a fixed order."""
    return _time(problem, draft_kernels(problem, sizes))


def _time(problem: Problem, drafts: list[Draft]) -> list[Kernel]:
    drafts = _with_matmul_traffic(problem, drafts)
    call = problem.call
    compute = _on_chip(problem, drafts)
    hot = _hot_traffic(problem, drafts)
    memory = call(
        roofline.memory_time, [_memory_arguments(problem, draft, warm) for draft, warm in zip(drafts, hot, strict=True)]
    )
    inside = problem.machine.choices.kernel_floor == "inside"
    times = call(
        roofline.floored_roofline_time if inside else roofline.kernel_time,
        [
            {"launch_floor": draft.parameters.launch_floor, "on_chip_time": on_chip, "memory_time": moved}
            for draft, on_chip, moved in zip(drafts, compute, memory, strict=True)
        ],
    )
    return [_kernel(problem, *one) for one in zip(drafts, compute, memory, times, strict=True)]


def _memory_arguments(problem: Problem, draft: Draft, hot: Numeric) -> dict[str, Numeric]:
    return {
        "cold_traffic": draft.cold + draft.streamed - hot,
        "hot_traffic": hot,
        "bandwidth": problem.machine.memory_bandwidth,
        "cache_bandwidth": problem.machine.cache_bandwidth,
        "bandwidth_fraction": draft.parameters.bandwidth_fraction,
        "ramp_time": draft.parameters.ramp_time,
    }


def _kernel(problem: Problem, draft: Draft, on_chip: Numeric, moved: Numeric, time: Numeric) -> Kernel:
    path = operator_path(draft.block, draft.operator)
    return Kernel(
        block=draft.block,
        operator=draft.operator,
        phase=draft.phase,
        data_type=draft.data_type,
        flop=draft.flop,
        vector_flop=draft.vector_flop,
        traffic=draft.cold + draft.streamed,
        compute_time=on_chip,
        memory_time=moved,
        floor=draft.parameters.launch_floor,
        time=problem.label(time, f"time of {path}:{draft.phase}", "s"),
        mean_share=draft.mean_share,
        weight_gradient=draft.weight_gradient,
    )


def _with_matmul_traffic(problem: Problem, drafts: list[Draft]) -> list[Draft]:
    """Work and traffic of all matmuls in three stacked calls: activations may stay in the cache, weights do not."""
    chosen = [(i, draft.matmul) for i, draft in enumerate(drafts) if draft.matmul is not None]
    dims = [{name: value for name, value in one.items() if name != "widths"} for _, one in chosen]
    widths = [one["widths"] for _, one in chosen]
    flop = problem.call(matmul.matmul_flop, dims)
    streamed = problem.call(
        matmul.matmul_traffic,
        [
            one | {"input_bytes": width[0], "weight_bytes": 0.0, "output_bytes": width[2]}
            for one, width in zip(dims, widths, strict=True)
        ],
    )
    cold = problem.call(
        matmul.matmul_traffic,
        [
            one | {"input_bytes": 0.0, "weight_bytes": width[1], "output_bytes": 0.0}
            for one, width in zip(dims, widths, strict=True)
        ],
    )
    complete = list(drafts)
    for (i, _), work, activations, weights in zip(chosen, flop, streamed, cold, strict=True):
        complete[i] = replace(drafts[i], flop=work, streamed=activations, cold=weights)
    return complete


def _hot_traffic(problem: Problem, drafts: list[Draft]) -> list[Numeric]:
    """Bytes that the cache serves: a producer's output is still there when producer and consumer fit together.

    The footprint of a matmul is its weight and twice its activations; of other kernels, what they move.
    """
    chosen = [draft for draft in drafts if draft.cacheable]
    rows = [
        {
            "footprint": draft.cold + (2.0 if draft.matmul is not None else 1.0) * draft.streamed,
            "cache_capacity": problem.machine.cache_capacity,
        }
        for draft in chosen
    ]
    fractions = iter(problem.call(roofline.hot_fraction, rows))
    return [draft.streamed * next(fractions) if draft.cacheable else 0.0 for draft in drafts]


def _on_chip(problem: Problem, drafts: list[Draft]) -> list[Any]:
    call = problem.call
    compute: list[Any] = [None] * len(drafts)
    tiles = [i for i, draft in enumerate(drafts) if draft.tile is not None]
    fused = [i for i, draft in enumerate(drafts) if draft.attention is not None]
    steady = [i for i, draft in enumerate(drafts) if draft.plateau is not None]
    paired = [i for i, draft in enumerate(drafts) if draft.two_units is not None]
    vector = [i for i, one in enumerate(drafts) if one.on_vector_units]
    for i, time in zip(tiles, _on_chip_matmul(problem, [drafts[i] for i in tiles]), strict=True):
        compute[i] = time
    for i, time in zip(
        fused, call(attention.attention_on_chip_time, [drafts[i].attention or {} for i in fused]), strict=True
    ):
        compute[i] = _backward(time, drafts[i])
    for i, time in zip(steady, call(roofline.plateau_time, [drafts[i].plateau or {} for i in steady]), strict=True):
        compute[i] = time
    for i, time in zip(paired, call(softmax.two_unit_time, [drafts[i].two_units or {} for i in paired]), strict=True):
        compute[i] = time
    peak = at_clock(problem.machine.vector_peak, problem.machine)
    rows = [{"flop": drafts[i].vector_flop, "vector_peak": peak} for i in vector]
    for i, time in zip(vector, call(elementwise.vector_time, rows), strict=True):
        compute[i] = time
    return compute


def _on_chip_matmul(problem: Problem, drafts: list[Draft]) -> list[Any]:
    """The one structural choice of a stack: the tile loop, or the two lines of the roofline."""
    if problem.machine.kernel_model == "roofline":
        rows = [
            {"flop": draft.flop, "peak": draft.tile["peak"], "plateau": draft.tile["plateau"]}
            for draft in drafts
            if draft.tile
        ]
        return problem.call(roofline.plateau_time, rows)
    return problem.call(matmul.tile_loop_time, [draft.tile for draft in drafts if draft.tile])


def _backward(forward_time: Numeric, draft: Draft) -> Numeric:
    if not draft.attention_backward:
        return forward_time
    if not isinstance(draft.parameters, AttentionParameters):
        raise UnsupportedOperator(f"{draft.operator}: attention without attention parameters")
    return attention.attention_backward_time(forward_time, draft.parameters.backward_fraction)


def kernel_energies(problem: Problem, kernels: Sequence[Kernel]) -> list[KernelEnergy]:
    """Dynamic energy of every kernel: matrix unit, vector units, memory traffic."""
    numbers, call = problem.machine.energy, problem.call
    per_flop = {name: energy_per_flop(one, problem.machine) for name, one in numbers.matrix_per_flop.items()}
    on_vector = energy_per_flop(numbers.vector_per_flop, problem.machine)
    matrix = [
        {"flop": one.flop * one.mean_share, "energy_per_flop": per_flop.get(one.data_type, 0.0)} for one in kernels
    ]
    vector = [{"flop": one.vector_flop * one.mean_share, "energy_per_flop": on_vector} for one in kernels]
    moved = [{"traffic": one.traffic * one.mean_share, "energy_per_byte": numbers.memory_per_byte} for one in kernels]
    parts = (
        call(energy.arithmetic_energy, matrix),
        call(energy.arithmetic_energy, vector),
        call(energy.movement_energy, moved),
    )
    return [KernelEnergy(*one) for one in zip(*parts, strict=True)]
