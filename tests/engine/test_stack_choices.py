"""What a stack declares in words: where the floor of a kernel stands, rates in place of tiles, what is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perfmodel.engine.result import Result

Run = Callable[..., Result]
FLOOR = 20e-6
PLATEAU, PEAK, VECTOR, BANDWIDTH = 0.8, 312e12, 78e12, 1555e9


def study(run: Run, **changes: Any) -> Result:
    device = {
        "accelerator__compute__vector__fp32": f"{VECTOR / 1e12} TFLOP/s",
        "accelerator__memory__bandwidth": f"{BANDWIDTH / 1e9} GB/s",
        "accelerator__memory__cache__capacity": "0 B",
    }
    return run("gpt-layers", **device, **changes)


def test_a_kernel_pays_its_floor_beside_the_arithmetic_or_not_at_all(run: Run) -> None:
    bound = set()
    for row in study(run, strategy__micro_batch=8).operators:
        if row.data_type == "vector" and row.phase != "optimizer":
            arithmetic, moved = FLOOR + row.flop / VECTOR, row.traffic_bytes / BANDWIDTH
            assert row.time_s == pytest.approx(max(arithmetic, moved), rel=1e-9), row.name
            bound.add(arithmetic > moved)
        elif row.phase == "forward" and "core" not in row.name:
            moved = row.traffic_bytes / BANDWIDTH
            assert row.time_s == pytest.approx(max(FLOOR + row.flop / (PLATEAU * PEAK), moved), rel=1e-9), row.name
    assert bound == {True, False}


def test_the_softmax_follows_the_products_at_the_vector_rate(run: Run) -> None:
    result = study(run, workload__mean_attended_length=2048)
    (core,) = [row for row in result.operators if row.name == "block.attention.core:forward"]
    # 40 heads over 4 ranks, 2048 queries over 2, all keys; two products, and four operations per score.
    scores = 10 * 1024 * 2048
    products = 2 * 2 * 128 * scores
    assert core.flop == pytest.approx(products + 4 * scores, rel=1e-12)
    arithmetic = (products / PEAK + 4 * scores / VECTOR) / PLATEAU
    assert core.time_s == pytest.approx(FLOOR + arithmetic, rel=1e-9)
    (backward,) = [row for row in result.operators if row.name == "block.attention.core:backward"]
    arithmetic = (2.5 * products / PEAK + 9 * scores / VECTOR) / PLATEAU
    assert backward.time_s == pytest.approx(FLOOR + arithmetic, rel=1e-9)


def test_layers_alone_have_neither_embedding_nor_head(run: Run) -> None:
    result = study(run)
    assert {row.name.split(".")[0] for row in result.operators} == {"block", "optimizer"}
    assert result.memory["breakdown"]["logits_bytes"] == 0.0
    # A layer: 12 h^2 of the products, their biases (9 h with those of the network) and two norms (4 h).
    whole = run("gpt-layers", model__layers_only=False)
    assert result.metrics["model_flop_per_token"] < whole.metrics["model_flop_per_token"]
    hidden = 5120  # 40 heads of 128
    parameters = 40 * (12 * hidden**2 + 13 * hidden)
    weights = result.memory["breakdown"]["weights_bytes"]
    assert weights == pytest.approx(parameters / 16 * 2, rel=1e-3)  # norms and biases of h are not cut by tp


def test_the_last_layer_of_a_pass_has_nothing_to_hide_behind(run: Run) -> None:
    def data(overlap: str, **changes: Any) -> tuple[float, float]:
        result = study(run, software__data_overlap=overlap, **changes)
        parts = result.time["breakdown"], result.time["overlapped"]
        exposed, hidden = (part["data_communication_s"] for part in parts)
        return exposed, exposed + hidden

    fast = {"cluster__tiers__fabric__bandwidth": "1 TB/s", "strategy__micro_batch": 8}
    exposed, everything = data("layer", **fast)
    assert exposed == pytest.approx(everything / 10, rel=1e-9)  # 40 layers on 4 stages
    assert data("step", **fast) == (0.0, pytest.approx(everything, rel=1e-9))
    # Slow links: nearly all of it is exposed either way.
    slow = {"cluster__tiers__fabric__bandwidth": "0.01 GB/s"}
    assert data("layer", **slow)[0] == pytest.approx(data("step", **slow)[0], rel=0.05)
