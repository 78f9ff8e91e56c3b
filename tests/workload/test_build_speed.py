"""Building a graph is cheap enough to be done for every candidate of a search."""

from __future__ import annotations

import pytest

from perfmodel.workload.builders import build_decoder


@pytest.mark.benchmark
@pytest.mark.parametrize("kernel", ["flash", "unfused"])
def test_building_takes_less_than_a_millisecond(benchmark, llama, kernel):
    attention = {"heads": 16, "kv_heads": 4, "head_dim": 128, "window": 512, "window_pattern": ["sliding", "full"]}
    model = llama(attention=attention)
    benchmark(build_decoder, model, kernel)
    assert benchmark.stats["median"] < 1e-3
