"""Speed of the engine. Nothing here asserts a time: benchmarks record, and the aims stand beside them."""

from __future__ import annotations

import cProfile
import json
import pstats
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perfmodel.engine.session import LoadedScenario, load

pytestmark = pytest.mark.benchmark

SCENARIO = "llama3.1-405b-8192-h100"
PLANS = 1_000_000
ROOT = Path(__file__).resolve().parents[2]

SEARCH = textwrap.dedent("""
    import json, resource, time
    import numpy as np
    from perfmodel.engine.columns import evaluate_columns
    from perfmodel.engine.session import load
    from perfmodel.parallel.plan import Plan

    count, random = {count}, np.random.default_rng(0)
    pick = lambda *values: random.choice(np.array(values), count)
    pp = pick(1, 2, 4, 8, 16)
    plan = Plan.from_columns({{
        "tp": pick(1, 2, 4, 8), "cp": pick(1, 2, 4), "pp": pp, "dp_shard": pick(8, 16, 32, 64),
        "virtual_stages": np.where(pp > 1, pick(1, 2, 4), 1), "micro_batch": pick(1, 2, 4),
        "num_microbatches": pick(16, 32, 64), "zero": pick(0, 1, 2, 3),
        "sequence_parallel": pick(0, 1), "recompute": pick(0, 1, 2),
    }}, recompute_policies=("none", "selective", "full"))
    problem = load("{scenario}").question.problem
    start = time.perf_counter()
    found = evaluate_columns(problem, plan)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({{"seconds": seconds, "peak_bytes": peak, "rows": len(found["time.step_s"])}}))
""")


@pytest.fixture(scope="module")
def scenario() -> LoadedScenario:
    loaded = load(SCENARIO)
    loaded.run()  # graph and machine are built, the caches are warm
    return loaded


def test_bench_warm_evaluation(benchmark: Callable[..., Any], scenario: LoadedScenario) -> None:
    # The aim is 5 ms. Function calls do not depend on what else the machine does.
    profile = cProfile.Profile()
    profile.runcall(scenario.run)
    benchmark.extra_info["function_calls"] = pstats.Stats(profile).total_calls  # type: ignore[attr-defined]
    assert benchmark(scenario.run).feasible


def test_bench_changed_strategy(benchmark: Callable[..., Any], scenario: LoadedScenario) -> None:
    # What a notebook does: change one number, run again.
    assert benchmark(lambda: scenario.replace(**{"strategy.zero": 1}).run()).plans[0]["zero"] == 1


def test_bench_warnings(benchmark: Callable[..., Any], scenario: LoadedScenario) -> None:
    # One column per assumed number.
    assert benchmark(lambda: scenario.run().warnings)


def test_bench_explain(benchmark: Callable[..., Any], scenario: LoadedScenario) -> None:
    result = scenario.run()
    assert benchmark(result.explain).value > 0.0


def test_bench_million_plans(benchmark: Any) -> None:
    # The aims are 4 s and 2 GiB, in a process of its own.
    def search() -> dict[str, float]:
        code = SEARCH.format(count=PLANS, scenario=SCENARIO)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        return json.loads(done.stdout)

    found = benchmark.pedantic(search, rounds=1, iterations=1)
    benchmark.extra_info.update(found)
    assert found["rows"] == PLANS


@pytest.mark.parametrize("arguments", [("run", SCENARIO, "--format", "json"), ("--help",)], ids=["run", "help"])
def test_bench_command(benchmark: Any, arguments: tuple[str, ...]) -> None:
    # The aims are 1 s for an answer from a cold start and 0.3 s for the help.
    def command() -> str:
        return subprocess.run(
            [sys.executable, "-m", "perfmodel", *arguments], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout

    assert benchmark.pedantic(command, rounds=3, iterations=1)
