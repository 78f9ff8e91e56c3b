"""What kernels a micro-batch runs on one device: work and traffic per operator and phase, not yet timed.

Every operator becomes one to three *drafts* (forward; data and weight gradients). A draft holds the
arguments of its equations; ``perfmodel.engine.kernels`` costs the drafts of one kind in one stacked call.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from perfmodel.engine.clocks import at_clock, sustained_rate
from perfmodel.engine.draft import BACKWARD, FORWARD, Draft
from perfmodel.engine.low_bit import operand_widths, quantise_traffic
from perfmodel.engine.model_flop import attended_pairs
from perfmodel.engine.problem import Problem
from perfmodel.engine.routing import is_routed, permuted_elements, touched
from perfmodel.engine.scans import scan_work
from perfmodel.engine.sizes import Sizes, panels
from perfmodel.equations import attention, elementwise, scan, softmax, training
from perfmodel.errors import UnsupportedOperator
from perfmodel.machine.machine import AttentionParameters
from perfmodel.parallel.collective_rules import EXCHANGED
from perfmodel.parallel.grid_rules import is_on_grid
from perfmodel.units import Numeric
from perfmodel.workload.operators import (
    EXPERTS,
    VISITS,
    Attention,
    AttentionMatmul,
    Block,
    Combine,
    CrossEntropy,
    Dispatch,
    Elementwise,
    ElementwiseKind,
    Embedding,
    GroupedMatmul,
    Matmul,
    Operator,
    Scan,
    ScanKind,
)


@dataclass
class _Writer:
    """Collects the drafts of one graph."""

    problem: Problem
    workload: Sizes  # over the tokens of the workload
    sizes: Sizes  # over the tokens of the current operator
    drafts: list[Draft] = field(default_factory=list)

    def write(self, block: Block, operator: Operator) -> None:
        self.sizes = self.workload.at(operator.sequence)
        match operator:
            case Matmul():
                self._matmul(block, operator, batch=1.0, rows=self.sizes.rows(operator))
            case GroupedMatmul():
                self._grouped_matmul(block, operator)
            case Dispatch() | Combine():
                self._permutation(block, operator)
            case Attention():
                self._attention(block, operator)
            case AttentionMatmul():
                self._attention_matmul(block, operator)
            case Elementwise():
                self._elementwise(block, operator)
            case Scan():
                self._scan(block, operator)
            case Embedding():
                self._embedding(block, operator)
            case CrossEntropy():
                self._cross_entropy(block, operator)
            case _:
                raise UnsupportedOperator(
                    f"operator {operator.name!r} ({type(operator).__name__}) has no cost equations"
                )

    # -- matmuls -------------------------------------------------------------------------------
    def _grouped_matmul(self, block: Block, operator: GroupedMatmul) -> None:
        """One call for all local experts that have work: their tiles share the units."""
        rows = self.sizes.elements(((VISITS,),), per_score=False)
        batch = touched(self.problem.routing, self.sizes.local(((EXPERTS,),)), rows)
        self._matmul(block, operator, batch=batch, rows=rows / batch, mean_share=self.sizes.routed_mean)

    def _matmul(
        self, block: Block, operator: Matmul | GroupedMatmul, *, batch: Numeric, rows: Numeric,
        mean_share: Numeric = 1.0,
    ) -> None:  # fmt: skip
        columns, contraction = self.sizes.local(operator.columns), self.sizes.local(operator.contraction)
        if self.sizes.grid is not None and is_on_grid(operator):
            batch, rows, columns, contraction = panels(self.sizes, self.sizes.grid, operator, columns, contraction)
        data_type = self.problem.formats.compute[operator.precision]
        formats = self.problem.formats
        widths = operand_widths(formats, operator)
        logits = formats.logits if operator.name.endswith("logits") else formats.activations
        shape = {
            "block": block,
            "operator": operator,
            "data_type": data_type,
            "batch": batch,
            "slowdown": self.problem.machine.step.grouped_slowdown if isinstance(operator, GroupedMatmul) else 1.0,
            "mean_share": mean_share,
        }
        tokens = batch * rows
        self._one_matmul(
            **shape, phase=FORWARD, m=rows, n=columns, k=contraction, widths=(widths.input, widths.weight, logits)
        )
        self._quantise(block, operator, FORWARD, tokens, mean_share)
        if not self.problem.workload.training:
            return
        self._one_matmul(
            **shape, phase=BACKWARD, m=rows, n=contraction, k=columns,
            widths=(widths.gradient, widths.weight, formats.activations),
        )  # fmt: skip
        self._quantise(block, operator, BACKWARD, tokens, mean_share)
        if operator.frozen:
            return
        accumulate = 2.0 * formats.state_gradients  # the weight gradient is read and written: it accumulates
        self._one_matmul(
            **shape, phase=BACKWARD, m=columns, n=contraction, k=rows,
            widths=(widths.gradient, widths.input, accumulate), weight_gradient=True,
        )  # fmt: skip

    def _quantise(
        self, block: Block, operator: Matmul | GroupedMatmul, phase: str, tokens: Numeric, mean_share: Numeric
    ) -> None:
        """The kernel that makes the low-bit operand: of the input (forward) or of the output's gradient (backward)."""
        traffic = quantise_traffic(self.problem, self.sizes, operator, tokens, forward=phase == FORWARD)
        if traffic is None:
            return
        kind = self.problem.machine.elementwise[ElementwiseKind.CAST.value]
        cast = Draft(block.name, operator.name, phase, "vector", kind, streamed=traffic, mean_share=mean_share)
        self.drafts.append(cast)

    def _attention_matmul(self, block: Block, operator: AttentionMatmul) -> None:
        """Scores or context of unfused attention: ``batch * heads`` matmuls over all pairs, causal or not."""
        activation = self.problem.formats.activations
        inner = self.sizes.local(((operator.inner_dim,),))
        queries, heads, _ = self._attention_share(operator)
        keys = self._keys(operator)
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
        self, *, block: Block, operator: Operator, phase: str, data_type: str, batch: Numeric, m: Numeric, n: Numeric,
        k: Numeric, widths: tuple[Numeric, Numeric, Numeric], slowdown: Numeric = 1.0, mean_share: Numeric = 1.0,
        weight_gradient: bool = False,
    ) -> None:  # fmt: skip
        machine = self.problem.machine
        parameters = machine.matmul[data_type]
        dims = {"batch": batch, "rows": m, "columns": n, "contraction": k}
        tile = dims | {
            "peak": parameters.peak,
            "units": machine.units,
            "plateau": parameters.plateau * sustained_rate(machine) / (machine.step.matmul_slowdown * slowdown),
            "loop_latency": parameters.loop_latency,
            "loop_growth": parameters.loop_growth,
            "tile_overhead": parameters.tile_overhead,
            "split_overhead": parameters.split_overhead,
        }
        self.drafts.append(
            Draft(
                block.name, operator.name, phase, data_type, parameters, matmul=dims | {"widths": widths}, tile=tile,
                mean_share=mean_share, weight_gradient=weight_gradient,
            )
        )  # fmt: skip

    # -- attention -----------------------------------------------------------------------------
    def _attention(self, block: Block, operator: Attention) -> None:
        problem, sizes = self.problem, self.sizes
        data_type = problem.formats.compute["attention"]
        parameters = problem.machine.attention[data_type]
        queries, heads, kv_heads = self._attention_share(operator)
        pairs, slowest = attended_pairs(problem, operator), self._slowest_slice(operator)
        if problem.context.kind != EXCHANGED:
            pairs = pairs / sizes.full_sequence * sizes.queries * slowest
        shape = {
            "batch": sizes.micro_batch,
            "heads": heads,
            "query_dim": problem.axes[operator.query_dim],
            "value_dim": problem.axes[operator.value_dim],
        }
        rows = {
            "queries": queries,
            "keys": self._keys(operator),
            "kv_heads": kv_heads,
        }
        flop = attention.attention_flop(**shape, pairs=pairs)
        width = problem.formats.activations
        traffic = attention.attention_traffic(**shape, **rows, activation_bytes=width, cache_bytes=0.0)
        shared = {
            "data_type": data_type,
            "parameters": parameters,
            "cacheable": False,
            "mean_share": 1.0 / slowest,
        }
        if problem.machine.choices.attention_arithmetic == "rates":
            work, backward = self._at_rates(parameters, flop, softmax.softmax_flop(sizes.micro_batch, heads, pairs))
        else:
            inputs = shape | rows | self._attention_kernel(parameters) | {"mean_keys": pairs / queries}
            work = {"flop": flop, "attention": inputs}
            again = attention.attention_backward_flop(flop)
            backward = {"flop": again, "attention": inputs, "attention_backward": True}
        self.drafts.append(Draft(block.name, operator.name, FORWARD, cold=traffic, **work, **shared))
        if problem.workload.training:
            self.drafts.append(Draft(block.name, operator.name, BACKWARD, cold=2.0 * traffic, **backward, **shared))

    def _at_rates(
        self, parameters: AttentionParameters, flop: Numeric, scores: Numeric
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Forward and backward kernel of an attention without tiles; ``scores`` is the vector work of the softmax."""
        again, gradients = attention.attention_backward_flop(flop), softmax.softmax_backward_flop(scores)
        return (
            self._two_units(parameters, flop, scores, 1.0),
            self._two_units(parameters, again, gradients, parameters.backward_fraction),
        )

    def _two_units(
        self, parameters: AttentionParameters, flop: Numeric, vector_flop: Numeric, fraction: Numeric
    ) -> dict[str, Any]:
        """Matrix products and softmax, each at its rate."""
        machine = self.problem.machine
        inputs = {"flop": flop, "peak": parameters.peak, "plateau": at_clock(parameters.plateau, machine) * fraction}
        inputs |= {"vector_flop": vector_flop, "vector_peak": at_clock(machine.vector_peak, machine)}
        return {"flop": flop, "vector_flop": vector_flop, "two_units": inputs}

    def _attention_share(self, operator: Attention | AttentionMatmul) -> tuple[Numeric, Numeric, Numeric]:
        """Queries, heads and key-value heads of one rank: a part of the tokens, or of the heads once exchanged."""
        exchanged = self.problem.context.kind == EXCHANGED
        local = self.sizes.exchanged if exchanged else self.sizes.heads
        queries = self.sizes.full_sequence if exchanged else self.sizes.queries
        return queries, local(((operator.heads,),)), local(((operator.kv_heads,),))

    def _keys(self, operator: Attention | AttentionMatmul) -> Numeric:
        """Keys of a whole sequence."""
        return self.sizes.full_sequence if operator.keys is None else self.workload.at(operator.keys).full_sequence

    def _slowest_slice(self, operator: Attention) -> Numeric:
        """Pairs of the slowest rank over the mean: causal work of consecutive slices is uneven."""
        context = self.problem.context
        even = context.balanced or context.kind == EXCHANGED or not operator.causal or operator.window is not None
        return 1.0 if even else training.last_slice_factor(self.sizes.cp)

    def _attention_kernel(self, parameters: AttentionParameters) -> dict[str, Any]:
        machine = self.problem.machine
        return {
            "peak": parameters.peak,
            "units": machine.units,
            "plateau": at_clock(parameters.plateau, machine),
            "softmax_latency": parameters.softmax_latency,
            "tile_overhead": parameters.tile_overhead,
            "packed": float(machine.packed_attention),
        }

    # -- recurrences ---------------------------------------------------------------------------
    def _scan(self, block: Block, operator: Scan) -> None:
        """Matrix products of chunks at the plateau of large matmuls, or a serial scan on the vector units."""
        formats, machine = self.problem.formats, self.problem.machine
        flop, traffic = scan_work(self.problem, self.sizes, operator)
        data_type = formats.compute["attention"]
        matrix = machine.matmul[data_type]
        plateau = matrix.plateau * sustained_rate(machine) / machine.step.matmul_slowdown
        rate = {"peak": matrix.peak, "plateau": plateau}
        passes = [(FORWARD, flop, traffic)]
        if self.problem.workload.training:
            passes.append((BACKWARD, scan.scan_backward_flop(flop), scan.scan_backward_traffic(traffic)))
        for phase, work, moved in passes:
            kernel = {"parameters": machine.elementwise[ElementwiseKind.SCAN.value], "streamed": moved}
            if operator.kind == ScanKind.SELECTIVE:
                draft = Draft(block.name, operator.name, phase, "vector", vector_flop=work, **kernel)
            else:
                inputs = rate | {"flop": work}
                draft = Draft(block.name, operator.name, phase, data_type, flop=work, plateau=inputs, **kernel)
            self.drafts.append(draft)

    # -- memory-bound --------------------------------------------------------------------------
    def _elementwise(self, block: Block, operator: Elementwise) -> None:
        features = self.sizes.elements(operator.features, per_score=operator.per_score)
        width = self.problem.formats.activations
        mean_share = self.sizes.routed_mean if is_routed(operator.features) else 1.0
        self._memory_bound(
            block,
            operator,
            operator.kind,
            FORWARD,
            features,
            operator.forward_elements,
            width,
            operator.flop_per_element,
            mean_share,
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
                mean_share,
            )

    def _permutation(self, block: Block, operator: Dispatch | Combine) -> None:
        """Copies of tokens brought into the order of the experts, and back: memory-bound."""
        forward, backward = permuted_elements(self.problem, self.sizes, operator)
        width, kind = self.problem.formats.activations, ElementwiseKind.PERMUTE
        flop = 0.0 if isinstance(operator, Dispatch) else 2.0
        self._memory_bound(block, operator, kind, FORWARD, forward, 1.0, width, flop, self.sizes.routed_mean)
        if self.problem.workload.training:
            self._memory_bound(block, operator, kind, BACKWARD, backward, 1.0, width, 1.0, self.sizes.routed_mean)

    def _embedding(self, block: Block, operator: Embedding) -> None:
        features = self.sizes.elements(((operator.hidden,),), per_score=False)
        width = self.problem.formats.activations
        self._memory_bound(block, operator, ElementwiseKind.EMBEDDING, FORWARD, features, 2.0, width, 0.0)
        if self.problem.workload.training and not operator.frozen:
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
        mean_share: Numeric = 1.0,
    ) -> None:
        if moved == 0.0:
            return  # the operator has no kernel in this phase
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
                mean_share=mean_share,
                weight_gradient=kind == ElementwiseKind.EMBEDDING and phase == BACKWARD,
            )
        )


def draft_kernels(problem: Problem, sizes: Sizes) -> list[Draft]:
    """Drafts of every operator of the graph, one occurrence each, in a fixed order."""
    writer = _Writer(problem, sizes, sizes)
    for block in problem.graph.all_blocks():
        for operator in block.operators:
            writer.write(block, operator)
    return writer.drafts
