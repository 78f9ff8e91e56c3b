"""Operators of one micro-batch on one device as kernels: work, traffic and time per shard key.

Every operator becomes one to three *drafts* (forward; data and weight gradients). Drafts of one kind
are costed in one stacked call of the equation. Nothing here is a formula: the physics is in
``perfmodel.equations``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from perfmodel.engine.model_flop import attended_pairs
from perfmodel.engine.problem import Problem
from perfmodel.engine.sizes import Sizes
from perfmodel.equations import attention, elementwise, matmul, roofline, training
from perfmodel.errors import UnsupportedOperator
from perfmodel.machine.machine import AttentionParameters, ElementwiseParameters, MatmulParameters
from perfmodel.units import Numeric
from perfmodel.workload.operators import (
    Attention,
    AttentionMatmul,
    Block,
    CrossEntropy,
    Elementwise,
    ElementwiseKind,
    Embedding,
    Matmul,
    Operator,
)

FORWARD, BACKWARD = "forward", "backward"


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

    @property
    def path(self) -> str:
        return operator_path(self.block, self.operator)


@dataclass(frozen=True)
class Draft:
    """A kernel before its times are known."""

    block: str
    operator: str
    phase: str
    data_type: str
    parameters: MatmulParameters | AttentionParameters | ElementwiseParameters
    flop: Numeric = 0.0
    streamed: Numeric = 0.0  # bytes that the cache may hold: activations
    cold: Numeric = 0.0  # bytes that come from memory in any case: weights
    cacheable: bool = True
    matmul: Mapping[str, Any] | None = None  # dimensions and element widths
    vector_flop: Numeric = 0.0
    tile: Mapping[str, Any] | None = None
    attention: Mapping[str, Any] | None = None
    attention_backward: bool = False


@dataclass
class _Writer:
    """Collects the drafts of one graph."""

    problem: Problem
    sizes: Sizes
    drafts: list[Draft] = field(default_factory=list)

    def write(self, block: Block, operator: Operator) -> None:
        match operator:
            case Matmul():
                self._matmul(block, operator)
            case Attention():
                self._attention(block, operator)
            case AttentionMatmul():
                self._attention_matmul(block, operator)
            case Elementwise():
                self._elementwise(block, operator)
            case Embedding():
                self._embedding(block, operator)
            case CrossEntropy():
                self._cross_entropy(block, operator)
            case _:
                raise UnsupportedOperator(
                    f"operator {operator.name!r} ({type(operator).__name__}) has no cost equations"
                )

    # -- matmuls -------------------------------------------------------------------------------
    def _matmul(self, block: Block, operator: Matmul) -> None:
        tokens = self.sizes.tokens
        columns, contraction = self.sizes.local(operator.columns), self.sizes.local(operator.contraction)
        data_type = self.problem.formats.compute[operator.precision]
        formats = self.problem.formats
        weight = formats.weights if operator.weight_bits is None else operator.weight_bits / 8.0
        logits = formats.logits if operator.name.endswith("logits") else formats.activations
        shape = {"block": block, "operator": operator, "data_type": data_type, "batch": 1.0}
        activation = formats.activations
        self._one_matmul(
            **shape, phase=FORWARD, m=tokens, n=columns, k=contraction, widths=(activation, weight, logits)
        )
        if not self.problem.workload.training:
            return
        self._one_matmul(
            **shape, phase=BACKWARD, m=tokens, n=contraction, k=columns, widths=(activation, weight, activation)
        )
        accumulate = 2.0 * formats.state_gradients  # the weight gradient is read and written: it accumulates
        self._one_matmul(
            **shape, phase=BACKWARD, m=columns, n=contraction, k=tokens, widths=(activation, activation, accumulate)
        )

    def _attention_matmul(self, block: Block, operator: AttentionMatmul) -> None:
        """Scores or context of unfused attention: ``batch * heads`` matmuls over all pairs, causal or not."""
        activation = self.problem.formats.activations
        inner = self.sizes.local(((operator.inner_dim,),))
        queries, keys = self.sizes.sequence, self.sizes.full_sequence
        heads = self.sizes.local(((operator.heads,),))
        m, n, k = (queries, keys, inner) if operator.makes_scores else (queries, inner, keys)
        shape = {
            "block": block,
            "operator": operator,
            "data_type": self.problem.formats.compute["attention"],
            "batch": self.sizes.micro_batch * heads,
            "widths": (activation, activation, activation),
        }
        self._one_matmul(**shape, phase=FORWARD, m=m, n=n, k=k)
        if self.problem.workload.training:
            self._one_matmul(**shape, phase=BACKWARD, m=m, n=k, k=n)
            self._one_matmul(**shape, phase=BACKWARD, m=n, n=k, k=m)

    def _one_matmul(
        self,
        *,
        block: Block,
        operator: Operator,
        phase: str,
        data_type: str,
        batch: Numeric,
        m: Numeric,
        n: Numeric,
        k: Numeric,
        widths: tuple[Numeric, Numeric, Numeric],
    ) -> None:
        machine = self.problem.machine
        parameters = machine.matmul[data_type]
        dims = {"batch": batch, "rows": m, "columns": n, "contraction": k}
        tile = dims | {
            "peak": parameters.peak,
            "units": machine.units,
            "plateau": parameters.plateau / machine.step.matmul_quality,
            "loop_latency": parameters.loop_latency,
            "loop_growth": parameters.loop_growth,
            "tile_overhead": parameters.tile_overhead,
            "split_overhead": parameters.split_overhead,
        }
        self.drafts.append(
            Draft(block.name, operator.name, phase, data_type, parameters, matmul=dims | {"widths": widths}, tile=tile)
        )

    # -- attention -----------------------------------------------------------------------------
    def _attention(self, block: Block, operator: Attention) -> None:
        problem, sizes = self.problem, self.sizes
        machine, data_type = problem.machine, problem.formats.compute["attention"]
        parameters = machine.attention[data_type]
        heads, kv_heads = sizes.local(((operator.heads,),)), sizes.local(((operator.kv_heads,),))
        query_dim, value_dim = problem.axes[operator.query_dim], problem.axes[operator.value_dim]
        # Context parallelism is load balanced: every rank has the mean number of pairs.
        pairs = attended_pairs(problem, operator) / sizes.cp
        shape = {"batch": sizes.micro_batch, "heads": heads}
        dims = {"query_dim": query_dim, "value_dim": value_dim}
        flop = attention.attention_flop(**shape, pairs=pairs, **dims)
        width = problem.formats.activations
        traffic = attention.attention_traffic(
            **shape,
            queries=sizes.sequence,
            keys=sizes.full_sequence,
            kv_heads=kv_heads,
            **dims,
            activation_bytes=width,
            cache_bytes=0.0,
        )
        inputs = {
            **shape,
            "queries": sizes.sequence,
            "keys": sizes.full_sequence,
            "mean_keys": pairs / sizes.sequence,
            "kv_heads": kv_heads,
            **dims,
            "peak": parameters.peak,
            "units": machine.units,
            "plateau": parameters.plateau,
            "softmax_latency": parameters.softmax_latency,
            "tile_overhead": parameters.tile_overhead,
            "packed": float(machine.packed_attention),
        }
        shared = {"data_type": data_type, "parameters": parameters, "cacheable": False, "attention": inputs}
        self.drafts.append(Draft(block.name, operator.name, FORWARD, flop=flop, cold=traffic, **shared))
        if problem.workload.training:
            backward = attention.attention_backward_flop(flop)
            self.drafts.append(
                Draft(
                    block.name,
                    operator.name,
                    BACKWARD,
                    flop=backward,
                    cold=2.0 * traffic,
                    attention_backward=True,
                    **shared,
                )
            )

    # -- memory-bound --------------------------------------------------------------------------
    def _elementwise(self, block: Block, operator: Elementwise) -> None:
        features = self.sizes.elements(operator.features, per_score=operator.per_score)
        width = self.problem.formats.activations
        self._memory_bound(
            block,
            operator,
            operator.kind,
            FORWARD,
            features,
            operator.forward_elements,
            width,
            operator.flop_per_element,
        )
        if self.problem.workload.training:
            self._memory_bound(
                block,
                operator,
                operator.kind,
                BACKWARD,
                features,
                operator.backward_elements,
                width,
                2.0 * operator.flop_per_element,
            )

    def _embedding(self, block: Block, operator: Embedding) -> None:
        features = self.sizes.elements(((operator.hidden,),), per_score=False)
        width = self.problem.formats.activations
        self._memory_bound(block, operator, ElementwiseKind.EMBEDDING, FORWARD, features, 2.0, width, 0.0)
        if self.problem.workload.training:
            self._memory_bound(block, operator, ElementwiseKind.EMBEDDING, BACKWARD, features, 3.0, width, 1.0)

    def _cross_entropy(self, block: Block, operator: CrossEntropy) -> None:
        features = self.sizes.tokens * self.sizes.local(((operator.vocabulary,),))
        width = self.problem.formats.activations
        self._memory_bound(
            block, operator, ElementwiseKind.LOSS, FORWARD, features, operator.forward_elements, width, 4.0
        )
        if self.problem.workload.training:
            self._memory_bound(
                block, operator, ElementwiseKind.LOSS, BACKWARD, features, operator.backward_elements, width, 2.0
            )

    def _memory_bound(
        self,
        block: Block,
        operator: Operator,
        kind: ElementwiseKind,
        phase: str,
        elements: Numeric,
        moved: float,
        width: Numeric,
        flop_per_element: float,
    ) -> None:
        machine = self.problem.machine
        traffic = machine.step.elementwise_inflation * elementwise.elementwise_traffic(elements, 1.0, moved, width)
        flop = training.vector_flop(elements, flop_per_element)
        self.drafts.append(
            Draft(
                block.name,
                operator.name,
                phase,
                "vector",
                machine.elementwise[kind.value],
                streamed=traffic,
                vector_flop=flop,
            )
        )


def cost_kernels(problem: Problem, sizes: Sizes) -> list[Kernel]:
    """Cost every operator of the graph, one occurrence each, in a fixed order."""
    writer = _Writer(problem, sizes)
    for block in problem.graph.all_blocks():
        for operator in block.operators:
            writer.write(block, operator)
    return _time(problem, writer.drafts)


def _time(problem: Problem, drafts: list[Draft]) -> list[Kernel]:
    drafts = _with_matmul_traffic(problem, drafts)
    machine, call = problem.machine, problem.call
    compute = _on_chip(problem, drafts)
    hot = _hot_traffic(problem, drafts)
    memory = call(
        roofline.memory_time,
        [
            {
                "cold_traffic": draft.cold + draft.streamed - warm,
                "hot_traffic": warm,
                "bandwidth": machine.memory_bandwidth,
                "cache_bandwidth": machine.cache_bandwidth,
                "bandwidth_fraction": draft.parameters.bandwidth_fraction,
                "ramp_time": draft.parameters.ramp_time,
            }
            for draft, warm in zip(drafts, hot, strict=True)
        ],
    )
    times = call(
        roofline.kernel_time,
        [
            {"launch_floor": draft.parameters.launch_floor, "on_chip_time": on_chip, "memory_time": moved}
            for draft, on_chip, moved in zip(drafts, compute, memory, strict=True)
        ],
    )
    return [
        Kernel(
            draft.block,
            draft.operator,
            draft.phase,
            draft.data_type,
            draft.flop,
            draft.vector_flop,
            draft.cold + draft.streamed,
            on_chip,
            moved,
            draft.parameters.launch_floor,
            time,
        )
        for draft, on_chip, moved, time in zip(drafts, compute, memory, times, strict=True)
    ]


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
    vector = [i for i, draft in enumerate(drafts) if draft.tile is None and draft.attention is None]
    for i, time in zip(tiles, _on_chip_matmul(problem, [drafts[i] for i in tiles]), strict=True):
        compute[i] = time
    for i, time in zip(
        fused, call(attention.attention_on_chip_time, [drafts[i].attention or {} for i in fused]), strict=True
    ):
        compute[i] = _backward(time, drafts[i])
    rows = [{"flop": drafts[i].vector_flop, "vector_peak": problem.machine.vector_peak} for i in vector]
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
