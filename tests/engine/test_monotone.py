"""Better hardware is never slower, worse latency never faster: over many plans and sizes of the change."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perfmodel.engine.columns import evaluate_columns
from perfmodel.engine.session import LoadedScenario
from perfmodel.parallel.plan import Plan

Ask = Callable[..., LoadedScenario]

FASTER = (
    "accelerator.memory.bandwidth",
    "accelerator.scale_up.bandwidth",
    "accelerator.compute.matrix.bf16.peak",
    "accelerator.compute.vector.fp32",
    "accelerator.memory.cache.bandwidth",
    "accelerator.memory.cache.capacity",
    "cluster.tiers.pod.bandwidth",
    "cluster.tiers.fabric.bandwidth",
    "accelerator.efficiency.matmul.bf16.plateau",
    "accelerator.efficiency.attention.bf16.plateau",
    "interconnects.roce-400gbe.efficiency.link_fraction",
    "interconnects.nvlink4.efficiency.link_fraction",
)
SLOWER = (
    "interconnects.nvlink4.efficiency.base_latency",
    "interconnects.nvlink4.efficiency.step_latency",
    "interconnects.roce-400gbe.efficiency.base_latency",
    "interconnects.roce-400gbe.efficiency.hop_latency",
    "accelerator.efficiency.matmul.bf16.launch_floor",
    "accelerator.efficiency.matmul.bf16.loop_latency",
    "accelerator.efficiency.attention.bf16.launch_floor",
    "cluster.tiers.fabric.oversubscription",
    "software.behaviour.tensor_exposed",
    "software.behaviour.elementwise_inflation",
    "software.behaviour.block_overhead",
    "software.behaviour.fixed_overhead",
    "software.behaviour.jitter_per_doubling",
)
#: A better number must not cost more than rounding.
ROUNDING = 1e-12


def plans() -> Plan:
    tables = np.meshgrid([1, 2, 8, 16], [1, 2], [1, 16], [0, 1, 3], [0, 1], indexing="ij")
    tp, cp, pp, zero, sequence_parallel = (table.ravel() for table in tables)
    return Plan.from_columns(
        {
            "tp": tp,
            "cp": cp,
            "pp": pp,
            "zero": zero,
            "sequence_parallel": sequence_parallel,
            "dp_shard": 64 + 0 * tp,
            "virtual_stages": np.where(pp > 1, 2, 1),
            "num_microbatches": 8,
            "recompute": zero % 3,
        },
        recompute_policies=("none", "selective", "full"),
    )


PLANS = plans()


def steps(ask: Ask, path: str, factor: float) -> tuple[np.ndarray, np.ndarray]:
    problem = ask("llama-405b").question.problem
    machine = problem.machine
    stated = [number.value for number in machine.provenance.values() if number.path == path]
    factors = [one.value for group in machine.derived.values() for one in group if one.path == path]
    own = float([*stated, *factors][0])
    count = len(PLANS)
    twice = PLANS.take(np.tile(np.arange(count), 2))
    column = np.repeat([own, own * factor], count)
    found = evaluate_columns(problem, twice, {path: column})["time.step_s"]
    return found[:count], found[count:]


@pytest.mark.parametrize("path", FASTER)
@settings(max_examples=6)
@given(factor=st.floats(1.001, 8.0))
def test_better_hardware_is_never_slower(ask: Ask, path: str, factor: float) -> None:
    before, after = steps(ask, path, factor)
    assert np.all(after <= before * (1.0 + ROUNDING))


@pytest.mark.parametrize("path", SLOWER)
@settings(max_examples=6)
@given(factor=st.floats(1.001, 8.0))
def test_more_latency_is_never_faster(ask: Ask, path: str, factor: float) -> None:
    before, after = steps(ask, path, factor)
    assert np.all(after >= before * (1.0 - ROUNDING))


@pytest.mark.parametrize("path", FASTER + SLOWER)
def test_every_number_matters_to_some_plan(ask: Ask, path: str) -> None:
    # A number without any effect would pass the tests above.
    factor = 1.0 / 8.0 if path in FASTER else 8.0
    before, after = steps(ask, path, factor)
    assert np.max(after / before) > 1.0 + 1e-6


@pytest.mark.parametrize("tokens", [2048, 4096, 16384])
def test_longer_sequences_cost_more_per_token(ask: Ask, tokens: int) -> None:
    short, long = (ask("llama-8b", workload__sequence_length=length).run() for length in (tokens, 2 * tokens))
    assert long.metrics["model_flop_per_token"] > short.metrics["model_flop_per_token"]
    assert long.time["step_s"] > short.time["step_s"]
