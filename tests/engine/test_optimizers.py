"""Optimizers beside Adam: state per parameter, traffic, and the matrix products of Muon."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from perfmodel.engine.result import Result
from perfmodel.equations.optimizer import dealt_out_flop, newton_schulz_flop

Run = Callable[..., Result]

# Llama 3.1 8B (arXiv 2407.21783, table 3).
LAYERS, HIDDEN, QKV, FFN, VOCABULARY = 32, 4096, 6144, 14336, 128256
MATRICES = LAYERS * (HIDDEN * QKV + HIDDEN * HIDDEN + 3 * HIDDEN * FFN)
PARAMETERS = 8_030_261_248


def optimizer_bytes(run: Run, numerics: object) -> float:
    return run("llama-8b", numerics=numerics, strategy__zero=0).memory["breakdown"]["optimizer_bytes"]


@pytest.mark.parametrize(
    ("optimizer", "moments"),
    [("adam", 8.0), ("adam-bf16", 4.0), ("adam-8bit", 2 * (1 + 4 / 2048)), ("lion", 4.0), ("sgd", 0.0)],
)
def test_state_of_one_optimizer_for_all_parameters(run: Run, optimizer: str, moments: float) -> None:
    numerics = {"extends": "bf16-mixed", "optimizer": optimizer}
    assert optimizer_bytes(run, numerics) == pytest.approx((4.0 + moments) * PARAMETERS, rel=1e-12)


@pytest.mark.parametrize("numerics", ["muon", {"extends": "bf16-mixed", "optimizer": "muon"}])
def test_muon_keeps_one_momentum_for_matrices_and_two_moments_for_the_rest(run: Run, numerics: object) -> None:
    expected = 8.0 * MATRICES + 12.0 * (PARAMETERS - MATRICES)
    assert optimizer_bytes(run, numerics) == pytest.approx(expected, rel=1e-12)


def test_less_state_is_read_and_written_faster(run: Run) -> None:
    times = [
        run("llama-8b", numerics={"extends": "bf16-mixed", "optimizer": name}).time["breakdown"]["optimizer_s"]
        for name in ("sgd", "adam-8bit", "adam-bf16", "adam")
    ]
    assert times == sorted(times)
    # One pass: gradient, two visits of master weight and moments, the working weight.
    assert times[3] / times[0] == pytest.approx((4 + 8 + 16 + 2) / (4 + 8 + 2), rel=1e-9)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (64, 256), (256, 64)])
def test_the_products_of_one_iteration(rows: int, columns: int) -> None:
    # An independent count: X X^T, A A, B X, with 2 m n k FLOP each.
    x = np.random.default_rng(0).normal(size=(rows, columns))
    x = x if rows <= columns else x.T
    a = x @ x.T
    b = a @ a
    y = b @ x
    counted = 2 * a.size * x.shape[1] + 2 * b.size * a.shape[1] + 2 * y.size * b.shape[1]
    assert float(newton_schulz_flop(1.0, float(rows), float(columns), 1.0)) == counted


@pytest.mark.parametrize("columns", [4096.0, 6144.0, 14336.0])
def test_the_overhead_of_muon_is_below_its_published_bound(columns: float) -> None:
    # At most T m / B of the FLOP of a step with B tokens, for the shorter side m of a matrix and T iterations.
    tokens, iterations = 2.0**21, 5.0
    training = 6.0 * 4096.0 * columns * tokens
    assert float(newton_schulz_flop(1.0, 4096.0, columns, iterations)) <= iterations * 4096.0 / tokens * training


def test_muon_costs_less_than_one_per_cent_of_a_large_step(run: Run) -> None:
    shape = {"workload__global_batch": 512, "strategy__zero": 1}
    adam, muon = (run("llama-8b", numerics=numerics, **shape).time["step_s"] for numerics in ("bf16-mixed", "muon"))
    assert 1.0 < muon / adam < 1.01


def test_without_sharded_state_every_rank_does_all_matrices(run: Run) -> None:
    whole, shared = (
        run("llama-8b", numerics="muon", strategy__zero=zero).time["breakdown"]["optimizer_s"] for zero in (0, 1)
    )
    assert whole > 20 * shared


def test_more_ranks_than_matrices_do_not_help(run: Run) -> None:
    assert float(dealt_out_flop(100.0, 1.0, 50.0)) == 2.0
    assert float(dealt_out_flop(100.0, 1.0, 1000.0)) == 1.0
    cluster = {"name": "hgx-h100-ib-ndr"}
    times = [
        run(
            "llama-8b", numerics="muon", cluster=cluster | {"devices": devices}, workload__global_batch=devices
        ).time["breakdown"]["optimizer_s"]
        for devices in (512, 4096)
    ]  # fmt: skip
    adam = run("llama-8b", cluster=cluster | {"devices": 4096}, workload__global_batch=4096)
    assert times[1] > 0.5 * times[0]
    assert times[1] > 10 * adam.time["breakdown"]["optimizer_s"]


def test_the_row_of_the_optimizer_has_the_products(run: Run) -> None:
    rows = {row.name: row for row in run("llama-8b", numerics="muon", strategy__zero=0).operators}
    parts = (
        (HIDDEN, 4096),
        (HIDDEN, 1024),
        (HIDDEN, 1024),
        (4096, HIDDEN),
        (HIDDEN, FFN),
        (HIDDEN, FFN),
        (FFN, HIDDEN),
    )
    flop = LAYERS * sum(5 * (4 * min(one) ** 2 * max(one) + 2 * min(one) ** 3) for one in parts)
    assert rows["optimizer.step:optimizer"].flop == pytest.approx(flop, rel=1e-12)
