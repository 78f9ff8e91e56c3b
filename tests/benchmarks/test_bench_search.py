"""Speed of searches. Nothing here asserts a time: benchmarks record, and the aims stand beside them."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.benchmark

ROOT = Path(__file__).resolve().parents[2]
#: Megatron-1T on 4096 A100 with a batch of 4096: every split of devices and batch, every schedule and switch.
SPACE: dict[str, Any] = {
    "kind": "scenario", "name": "megatron-1t on 4096 A100", "question": "search", "model": "megatron-1t",
    "cluster": {"name": "hgx-a100-ib-hdr", "devices": 4096}, "software": "megatron-core",
    "workload": {"kind": "training", "sequence_length": 2048, "global_batch": 4096, "tokens": "450B"},
    "strategy": {
        "tp": [1, 2, 4, 8, 16, 32, 64], "pp": "auto", "micro_batch": [2**power for power in range(13)],
        "zero": "auto", "sequence_parallel": [True, False], "order": "auto",
        "overlap": {"tensor": "auto", "pipeline": "auto", "data": "auto"},
        "pipeline": {"virtual_stages": [2**power for power in range(8)]},
    },
    "objectives": {"time.step_s": "min", "energy.per_step_j": "min"},
}  # fmt: skip
#: Clusters of 4096 devices, and the memory bandwidths that each could have.
CLUSTERS = ("hgx-a100-ib-hdr", "hgx-h100-ib-ndr", "hgx-h200-ib-ndr", "hgx-b200-ib-ndr", "gb200-nvl72-ib-ndr",
            "mi300x-roce-400gbe", "mi325x-roce-400gbe", "meta-24k-h100-roce")  # fmt: skip
BANDWIDTHS = {"from": "1 TB/s", "to": "16 TB/s", "points": 9, "scale": "log"}
CODE = textwrap.dedent("""
    import json, resource, sys, time
    import perfmodel as pm
    data, overrides, again = json.loads(sys.argv[1])
    start = time.perf_counter()
    scenario = pm.load(data, overrides=overrides)
    found = scenario.run()
    cold = time.perf_counter() - start
    start, processor = time.perf_counter(), time.process_time()
    # A session knows what it has computed: without a change the question is asked in a new one.
    found = scenario.replace(**again).run() if again else pm.load(data, overrides=overrides).run()
    warm, processor = time.perf_counter() - start, time.process_time() - processor
    print(json.dumps({
        "enumerated": found.found.enumerated, "evaluated": found.found.evaluated, "feasible": found.found.feasible,
        "cold_s": cold, "warm_s": warm, "processor_s": processor, "best_step_s": found.best[0].numbers["time.step_s"],
        "evaluated_per_s": found.found.evaluated / warm, "feasible_per_s": found.found.feasible / warm,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))
""")


def measured(data: dict[str, Any], overrides: dict[str, Any] | None = None, again: dict[str, Any] | None = None) -> Any:
    """A search in a process of its own, cold and warm."""
    question = json.dumps([data, overrides or {}, again or {}])
    done = subprocess.run([sys.executable, "-c", CODE, question], capture_output=True, text=True, check=True, cwd=ROOT)
    return json.loads(done.stdout)


def with_recompute(fractions: int) -> dict[str, Any]:
    """The space with full recomputation of so many different shares of the layers."""
    shares = [{"policy": "full", "fraction": (i + 1) / fractions} for i in range(fractions)]
    return {**SPACE, "strategy": {**SPACE["strategy"], "recompute": ["none", "selective", *shares]}}


def test_bench_exhaustive_search(benchmark: Any) -> None:
    # The aims: 7 million candidates, 1,000,000 evaluated per second and core, 15 s, 2 GiB.
    found = benchmark.pedantic(lambda: measured(with_recompute(8)), rounds=1, iterations=1)
    benchmark.extra_info.update(found)
    assert found["enumerated"] >= 7_000_000


@pytest.mark.parametrize("fractions", [1, 16, 128])
def test_bench_growth(benchmark: Any, fractions: int) -> None:
    # 1e5 (one order, one schedule) to 1e8 candidates: time should grow no faster than they do.
    data = with_recompute(fractions)
    if fractions == 1:
        data["strategy"] |= {"order": ["tp", "cp", "dp", "pp"], "overlap": {"data": "auto"}}
    found = benchmark.pedantic(lambda: measured(data), rounds=1, iterations=1)
    benchmark.extra_info.update(found)
    assert found["feasible"] > 0


def test_bench_machines_and_bandwidths(benchmark: Any) -> None:
    # The aims: 20 s, and 1 s in a warm session with one input changed.
    data = {
        **with_recompute(8), "exhaustive": False, "objectives": {"money.per_million_tokens_usd": "min"},
        "cluster": [{"name": name, "devices": 4096} for name in CLUSTERS],
        "pricing": {"kind": "cloud", "device_hour": "2.1 USD"},
        "reliability": {"device_mtbf": "50000 h", "checkpoint_bandwidth": "200 GB/s", "restart_time": "10 min"},
    }  # fmt: skip
    overrides = {"accelerator.memory.bandwidth": BANDWIDTHS}
    found = benchmark.pedantic(
        lambda: measured(data, overrides, {"pricing.device_hour": "2.4 USD"}), rounds=1, iterations=1
    )
    benchmark.extra_info.update(found)
    assert found["feasible"] > 0


@pytest.mark.parametrize("scenario", ["deepseek-v3", "llama-3.1-405b"])
def test_bench_published_runs(benchmark: Any, scenario: str) -> None:
    # The aim is 10 s for the whole command.
    found = benchmark.pedantic(lambda: measured(PUBLISHED[scenario]), rounds=1, iterations=1)
    benchmark.extra_info.update(found)
    assert found["feasible"] > 0


PUBLISHED: dict[str, dict[str, Any]] = {
    "deepseek-v3": {
        "kind": "scenario", "name": "deepseek-v3 on 2048 H800", "question": "search", "model": "deepseek-v3",
        "cluster": {"name": "deepseek-h800", "devices": 2048}, "software": "deepseek-hai-llm",
        "numerics": "deepseek-v3-fp8",
        "workload": {"kind": "training", "sequence_length": 4096, "global_batch": 15360, "tokens": "14.8T"},
        "strategy": {
            "tp": "auto", "pp": "auto", "ep": "auto", "micro_batch": "auto", "zero": "auto",
            "sequence_parallel": [True, False], "recompute": "auto",
            "pipeline": {
                "virtual_stages": "auto", "layers_per_stage": "auto", "schedule": ["1f1b", "zb-h1", "zb-v", "dualpipe"],
            },
        },
    },
    "llama-3.1-405b": {
        "kind": "scenario", "name": "llama-3.1-405b on 16384 H100", "question": "search", "model": "llama-3.1-405b",
        "cluster": {"name": "meta-24k-h100-roce", "devices": 16384}, "software": "meta-llama3",
        "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 2048, "tokens": "15.6T"},
        "strategy": {
            "tp": "auto", "cp": "auto", "pp": "auto", "micro_batch": "auto", "zero": "auto",
            "sequence_parallel": [True, False], "recompute": "auto", "order": "auto",
            "pipeline": {"virtual_stages": "auto", "embedding_and_head_as_layers": True},
        },
    },
}  # fmt: skip
