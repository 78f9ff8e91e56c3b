"""Two-dimensional tensor parallelism: what is shared, what travels, what hides, and what has no rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import perfmodel as pm
from perfmodel.engine.result import Result
from perfmodel.engine.session import LoadedScenario

Run = Callable[..., Result]
Ask = Callable[..., LoadedScenario]
BYTES = 2
TOKENS, HIDDEN, FFN, LAYERS = 8192, 4096, 14336, 32  # Llama 3.1 8B, one sequence
QUERY_KEY_VALUE, VOCABULARY = (32 + 2 * 8) * 128, 128256
#: (contraction, columns) of the products of a layer; up and gate are one.
PRODUCTS = ((HIDDEN, QUERY_KEY_VALUE), (HIDDEN, HIDDEN), (HIDDEN, 2 * FFN), (FFN, HIDDEN))


def grid(rows: int, columns: int, blocks: int, neighbours: str = "row") -> dict[str, Any]:
    shape = {"rows": rows, "columns": columns, "blocks": blocks, "neighbours": neighbours}
    return {"strategy__tp": rows * columns, "strategy__tp_grid": shape}


def line(ranks: int) -> dict[str, Any]:
    return {"strategy__tp": ranks, "strategy__sequence_parallel": True}


def flop(result: Result) -> dict[str, float]:
    return {row.name: row.flop for row in result.operators if row.name.startswith(("block.", "head.logits"))}


@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_every_shape_shares_all_work(run: Run, rows: int, columns: int) -> None:
    shared, whole = flop(run("llama-8b", **grid(rows, columns, 8))), flop(run("llama-8b"))
    assert shared.keys() == whole.keys()
    for name, work in whole.items():
        assert 8 * shared[name] == pytest.approx(work, rel=1e-9), name


@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (2, 4), (8, 1)])
def test_weights_and_activations_are_cut_like_those_of_a_line(run: Run, rows: int, columns: int) -> None:
    one, other = run("llama-8b", **grid(rows, columns, 8)), run("llama-8b", **line(8))
    for part in ("weights_bytes", "gradients_bytes", "optimizer_bytes", "activations_bytes"):
        assert one.memory["breakdown"][part] == pytest.approx(other.memory["breakdown"][part], rel=1e-9)


def test_a_stack_that_keeps_gathered_inputs_gathers_none_on_a_grid(run: Run) -> None:
    kept = {"software__saved_inputs": "gathered"}
    on_a_line = run("llama-8b", **line(8), **kept).memory["breakdown"]["activations_bytes"]
    # Two inputs per layer, whole on every rank instead of an eighth of it.
    more = LAYERS * 2 * TOKENS * HIDDEN * BYTES * (1 - 1 / 8)
    sharded = run("llama-8b", **line(8)).memory["breakdown"]["activations_bytes"]
    assert on_a_line - sharded == pytest.approx(more, rel=0.02)  # and that of the head
    on_a_grid = run("llama-8b", **grid(2, 4, 8), **kept).memory["breakdown"]["activations_bytes"]
    assert on_a_grid == pytest.approx(sharded, rel=1e-9)


def test_inputs_that_are_kept_are_gathered_once(run: Run) -> None:
    def gathers(**changes: Any) -> float:
        rows = run("llama-8b", **line(8), **changes).communication
        return sum(row.count for row in rows if row.group == "tensor" and row.operation == "all-gather")

    # Per layer two forward, two backward, and two again for the weight gradients; the head gathers its input again too.
    again = gathers() - gathers(software__saved_inputs="gathered")
    assert again == (2 * LAYERS + 1) * run("llama-8b", **line(8)).plans[0]["num_microbatches"]


def moved(result: Result, operation: str) -> float:
    """Bytes of the buffers of an operation, per micro-batch."""
    rows = [row for row in result.communication if row.group == "tensor" and row.operation == operation]
    return sum(row.count * row.bytes_per_operation for row in rows) / result.plans[0]["num_microbatches"]


@pytest.mark.parametrize("blocks", [4, 8, 16])
def test_panels_carry_both_operands_and_both_gradients(run: Run, blocks: int) -> None:
    rows, columns = 2, 4
    result = run("llama-8b", **grid(rows, columns, blocks))
    products = [*(LAYERS * [one] for one in PRODUCTS), [(HIDDEN, VOCABULARY)]]
    activations = sum(TOKENS / rows * contraction * BYTES for many in products for contraction, _ in many)
    weights = sum(contraction * width / columns * BYTES for many in products for contraction, width in many)
    # Forward: both. Backward: the weight for the data gradient, the input for the weight gradient, sums of both.
    assert moved(result, "broadcast") == pytest.approx(2 * (activations + weights), rel=1e-9)
    assert moved(result, "reduce") == pytest.approx(activations + weights, rel=1e-9)


def test_keys_and_values_are_gathered_over_the_rows(run: Run) -> None:
    # 8 key-value heads over 4 columns; the micro-batch's tokens of all rows. Forward, and again backward.
    per_layer = TOKENS * 2 * (8 // 4) * 128 * BYTES
    table = TOKENS * HIDDEN * BYTES  # backward of the embedding gathers its gradient
    assert moved(run("llama-8b", **grid(2, 4, 8)), "all-gather") == 2 * LAYERS * per_layer + table


def test_nothing_travels_in_a_grid_of_one(run: Run) -> None:
    alone = run("llama-8b", **grid(1, 1, 1))
    assert not [row for row in alone.communication if row.group == "tensor"]
    assert alone.time["step_s"] == pytest.approx(run("llama-8b").time["step_s"], rel=1e-9)


def exposed(run: Run, blocks: int, peak: str) -> float:
    # The ideal stack has no latency, so that the time of all panels does not depend on their number.
    result = run("llama-8b", **grid(2, 4, blocks), accelerator__compute__matrix__bf16__peak=peak, software="ideal")
    return result.time["breakdown"]["tensor_communication_s"]


def test_long_products_hide_all_panels_but_the_first(run: Run) -> None:
    times = {blocks: exposed(run, blocks, "1 TFLOP/s") for blocks in (4, 8, 16)}
    # What is left beside the panels (keys, values, the table) is the same for all.
    assert times[4] - times[8] == pytest.approx(2 * (times[8] - times[16]), rel=1e-6)
    assert times[4] > times[8] > times[16] > 0.0


def test_nothing_hides_behind_short_products(run: Run) -> None:
    long, short = (run("llama-8b", **grid(2, 4, 8), software="ideal", accelerator__compute__matrix__bf16__peak=peak)
                   for peak in ("1 TFLOP/s", "1e6 TFLOP/s"))  # fmt: skip
    assert long.time["overlapped"]["tensor_communication_s"] > 0.0
    assert short.time["breakdown"]["tensor_communication_s"] > 3 * long.time["breakdown"]["tensor_communication_s"]


def test_neighbours_decide_what_crosses_the_nodes(run: Run) -> None:
    def tiers(neighbours: str) -> dict[float, tuple[str, ...]]:
        result = run("llama-8b", **grid(4, 4, 8, neighbours))
        return {row.bytes_per_operation: row.tiers for row in result.communication if row.operation == "broadcast"}

    # Panels of the second product of the network: 8192 / 4 tokens of an eighth of its columns, an eighth of its weight.
    activations, weight = TOKENS / 4 * FFN / 8 * BYTES, FFN / 8 * HIDDEN / 4 * BYTES
    # Rows of four neighbours lie inside a node of eight, columns of every fourth rank do not; and the other way round.
    assert len(tiers("row")[activations]) < len(tiers("row")[weight])
    assert len(tiers("column")[weight]) < len(tiers("column")[activations])


def test_a_table_of_lines_and_grids_is_its_rows(ask: Ask) -> None:
    scenario = ask("llama-8b", **line(8))
    shapes = [(8, 1, 0, 0), (8, 2, 4, 0), (8, 2, 8, 1), (8, 1, 8, 0), (4, 1, 0, 0), (16, 4, 8, 1)]
    tp, rows, blocks, first = np.array(shapes).T
    plans = scenario.plans(tp=tp, tp_rows=rows, tp_blocks=blocks, tp_column_first=first)
    table = pm.evaluate(scenario, plans)
    for position, (ranks, cut, panels, column_first) in enumerate(shapes):
        shape = grid(cut, ranks // cut, panels, "column" if column_first else "row") if panels else line(ranks)
        single = ask("llama-8b", **shape).run()
        assert table["time.step_s"][position] == pytest.approx(single.time["step_s"], rel=1e-12)
        assert table["memory.peak_bytes"][position] == pytest.approx(single.memory["peak_bytes"], rel=1e-12)
        assert bool(table["feasible"][position]) == single.feasible


@pytest.mark.parametrize(
    ("shape", "changes", "words"),
    [
        (grid(2, 4, 6), {}, "tp_grid.blocks = 6 is not a multiple of both the 2 rows and the 4 columns"),
        (grid(2, 4, 12), {}, "tp_grid.blocks = 12 does not divide the 4096 hidden features"),
        (
            grid(1, 64, 64),
            {},
            "tp / tp_grid.rows = 64 / 1 = 64 columns of the grid does not divide the 32 attention heads",
        ),
        (grid(3, 1, 3), {"cluster__devices": 63, "workload__global_batch": 63}, "does not divide the 8192 tokens"),
        (grid(2, 4, 8), {"strategy__cp": 2}, "use cp = 1 and more rows instead of cp = 2"),
    ],
)
def test_impossible_grids_have_a_reason(run: Run, shape: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    result = run("llama-8b", **shape, **changes)
    assert not result.feasible
    assert any(words in reason for reason in result.reasons), result.reasons


@pytest.mark.parametrize("name", ["mixtral", "qwen3-30b-sharded"])
def test_experts_have_no_rule_on_a_grid(run: Run, name: str) -> None:
    shape = grid(2, 2, 4) | {"strategy__ep": 1, "strategy__etp": 1, "strategy__cp": 1}
    result = run(name, **shape)
    assert any("moe.dispatch" in reason and "has no rule on a grid" in reason for reason in result.reasons)
