"""Speed of the equations on columns: what a search of millions of strategies rests on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from perfmodel.equations import attention, collectives, matmul, roofline

SHAPES = 200_000

pytestmark = pytest.mark.benchmark


@pytest.fixture(scope="module")
def shapes() -> tuple[np.ndarray[Any, Any], ...]:
    random = np.random.default_rng(0)
    return tuple(np.floor(2.0 ** random.uniform(4.0, 15.0, SHAPES)) for _ in range(3))


def test_bench_tile_loop(benchmark: Callable[..., Any], shapes: tuple[np.ndarray[Any, Any], ...]) -> None:
    # The aim is 0.25 us per shape on one core: 50 ms for this column.
    time = benchmark(matmul.tile_loop_time, 1.0, *shapes, 989.4e12, 132.0, 0.81, 1.30e-9, 0.0, 0.53e-6, 3.14e-6)
    assert time.shape == (SHAPES,)


def test_bench_kernel_time(benchmark: Callable[..., Any], shapes: tuple[np.ndarray[Any, Any], ...]) -> None:
    time = benchmark(roofline.kernel_time, 2e-6, shapes[0] * 1e-9, shapes[1] * 1e-9)
    assert time.shape == (SHAPES,)


def test_bench_attention(benchmark: Callable[..., Any], shapes: tuple[np.ndarray[Any, Any], ...]) -> None:
    queries = shapes[0]
    time = benchmark(
        attention.attention_on_chip_time, 8.0, queries, queries, (queries + 1.0) / 2.0, 32.0, 8.0, 128.0, 128.0,
        989.4e12, 132.0, 0.67, 3.6e-11, 4.8e-6, 1.0,
    )  # fmt: skip
    assert time.shape == (SHAPES,)


def test_bench_switched_ring(benchmark: Callable[..., Any], shapes: tuple[np.ndarray[Any, Any], ...]) -> None:
    size = shapes[0] * 1e3
    time = benchmark(
        collectives.switched_ring_time, 1.75 * size, size / 16.0, 14.0, 450e9, 0.85, 2.23, 2.81e-6, 5.3e-6, 0.72e-6
    )
    assert time.shape == (SHAPES,)
