"""Low-bit recipes: what is counted, what is left in 16 bits, and the speed-ups that were published."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from perfmodel.engine.composition import cost_plan_keys, intern_keys
from perfmodel.engine.kernels import Kernel
from perfmodel.engine.result import Result
from perfmodel.engine.session import LoadedScenario
from perfmodel.errors import SpecError
from perfmodel.workload.operators import Matmul
from perfmodel.workload.transforms import keep_layers_wide

Ask = Callable[..., LoadedScenario]
Run = Callable[..., Result]

# Llama 3.1 8B (arXiv 2407.21783, table 3).
LAYERS, HIDDEN, HEADS, KV_HEADS, DIM, FFN, VOCABULARY = 32, 4096, 32, 8, 128, 14336, 128256
SEQUENCE = 8192
LINEAR = LAYERS * (HIDDEN * (HEADS + 2 * KV_HEADS) * DIM + HEADS * DIM * HIDDEN + 3 * HIDDEN * FFN)
PARAMETERS = 8_030_261_248


def kernels(loaded: LoadedScenario) -> list[Kernel]:
    problem, plan = loaded.question.problem, loaded.question.plan
    return list(cost_plan_keys(problem, plan, intern_keys(plan, problem.order)).kernels)


def casts(loaded: LoadedScenario) -> dict[str, float]:
    """Bytes of the quantise kernels of one layer, by phase."""
    moved = {"forward": 0.0, "backward": 0.0}
    graph = loaded.question.problem.graph
    linear = {one.name for one in graph.blocks[0].operators if isinstance(one, Matmul)}
    for kernel in kernels(loaded):
        if kernel.data_type == "vector" and kernel.operator in linear:
            moved[kernel.phase] += np.asarray(kernel.traffic).item()
    return moved


def test_every_linear_layer_quantises_its_input_and_the_gradient_of_its_output(ask: Ask) -> None:
    # One 16-bit read, two 8-bit writes per element: 4 bytes.
    moved = casts(ask("llama-8b", numerics="fp8-delayed"))
    heads = HEADS * DIM
    assert moved["forward"] == pytest.approx(4 * SEQUENCE * (HIDDEN + heads + HIDDEN + FFN), rel=1e-12)
    outputs = (HEADS + 2 * KV_HEADS) * DIM + HIDDEN + 2 * FFN + HIDDEN
    assert moved["backward"] == pytest.approx(4 * SEQUENCE * outputs, rel=1e-12)


def test_sequence_parallelism_quantises_before_the_gather(ask: Ask) -> None:
    shared = {"numerics": "fp8-delayed", "strategy__tp": 8}
    plain, split = (casts(ask("llama-8b", **shared, strategy__sequence_parallel=on)) for on in (False, True))
    inner = (HEADS * DIM + FFN) / 8
    assert plain["forward"] == pytest.approx(4 * SEQUENCE * (2 * HIDDEN + inner), rel=1e-12)
    assert split["forward"] == pytest.approx(4 * SEQUENCE * (2 * HIDDEN / 8 + inner), rel=1e-12)


def test_a_stack_that_casts_weights_every_micro_batch_moves_them_again(ask: Ask) -> None:
    once, again = (casts(ask("llama-8b", numerics="fp8-block", software__behaviour__recast_weights=x)) for x in (0, 1))
    assert again["forward"] - once["forward"] == pytest.approx(4 * LINEAR / LAYERS, rel=1e-9)
    assert again["backward"] == once["backward"]


def test_the_core_the_head_and_the_norms_stay_in_16_bits(ask: Ask) -> None:
    types = {(kernel.operator, kernel.data_type) for kernel in kernels(ask("llama-8b", numerics="fp8-delayed"))}
    assert ("head.logits", "bf16") in types
    assert ("attention.core", "bf16") in types
    low = {operator for operator, data_type in types if data_type == "fp8"}
    assert low == {"attention.query_key_value", "attention.output", "mlp.up", "mlp.down"}


def test_inputs_of_linear_layers_are_kept_in_one_byte(run: Run) -> None:
    wide, low = (
        run("llama-8b", numerics=numerics).memory["breakdown"]["activations_bytes"]
        for numerics in ("bf16-mixed", "fp8-delayed")
    )
    # Two norm outputs and the activation shrink by a byte; attention keeps its output, the projection a copy of it.
    assert wide - low == pytest.approx(LAYERS * SEQUENCE * (2 * HIDDEN + FFN - HEADS * DIM), rel=1e-9)


def test_inputs_of_activation_functions_in_one_byte(run: Run) -> None:
    recipe = {"extends": "fp8-delayed", "name": "stored"}
    linear = {"linear": {"activation_inputs": "fp8"}}
    wide, low = (
        run("llama-8b", numerics=numerics).memory["breakdown"]["activations_bytes"]
        for numerics in (recipe | {"linear": {}}, recipe | linear)
    )
    assert wide - low == pytest.approx(LAYERS * SEQUENCE * 2 * FFN, rel=1e-9)


@pytest.mark.parametrize(
    ("numerics", "stored"), [("fp8-delayed", 1.0), ("fp8-block", 4.0), ("mxfp8", 2.0625), ("nvfp4", 3.125)]
)
def test_weights_are_stored_as_the_recipe_says(run: Run, numerics: str, stored: float) -> None:
    software = {"extends": "ideal", "name": "any"}
    cluster = {"name": "hgx-b200-ib-ndr", "devices": 64}
    result = run("llama-8b", numerics=numerics, software=software, cluster=cluster)
    expected = stored * LINEAR + 2.0 * (PARAMETERS - LINEAR)
    assert result.memory["breakdown"]["weights_bytes"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("numerics", "width"), [("fp8-delayed", 1.0), ("mxfp8", 2.0)])
def test_weights_travel_as_the_recipe_says(run: Run, numerics: str, width: float) -> None:
    cluster = {"name": "hgx-b200-ib-ndr", "devices": 64}
    result = run("llama-8b", numerics=numerics, cluster=cluster)
    gather = next(row for row in result.communication if (row.group, row.operation) == ("data", "all-gather"))
    assert gather.bytes_per_operation == pytest.approx(width * LINEAR + 2.0 * (PARAMETERS - LINEAR), rel=1e-12)


def test_with_every_layer_left_in_16_bits_nothing_is_low_bit(run: Run) -> None:
    recipe = {"extends": "fp8-mixed", "name": "all wide", "linear": {"wide_layers": LAYERS}}
    assert run("llama-8b", numerics=recipe).time["step_s"] == pytest.approx(run("llama-8b").time["step_s"], rel=1e-12)


def test_layers_left_in_16_bits_cost_in_proportion(run: Run) -> None:
    times = [
        run("llama-8b", numerics={"extends": "fp8-mixed", "name": "x", "linear": {"wide_layers": n}}).time["breakdown"]
        for n in (0, 8, 16)
    ]
    work = [one["forward_s"] + one["backward_s"] for one in times]
    assert work[2] - work[1] == pytest.approx(work[1] - work[0], rel=1e-9)
    assert work[2] > work[1] > work[0]


def test_wide_layers_of_every_type_add_up(ask: Ask) -> None:
    graph = ask("llama-8b", model="gemma-2-9b").question.problem.graph
    changed = keep_layers_wide(graph, 3)
    assert changed.layers == graph.layers
    assert sum(block.count for block in changed.blocks if block.name.endswith(".wide")) == 3
    assert changed.parameter_count() == graph.parameter_count()


def test_more_wide_layers_than_layers_is_a_mistake(run: Run) -> None:
    recipe = {"extends": "fp8-mixed", "name": "x", "linear": {"wide_layers": 33}}
    with pytest.raises(SpecError, match=r"numerics\.linear\.wide_layers = 33: llama-3\.1-8b has 32 layers"):
        run("llama-8b", numerics=recipe)


def test_fused_quantisation_is_free(ask: Ask) -> None:
    assert sum(casts(ask("llama-8b", numerics="fp8-delayed", software="ideal")).values()) == 0.0


# -- published speed-ups ------------------------------------------------------------------------------------
TORCHTITAN = {
    # pytorch/torchtitan, docs/performance.md (December 2024): Llama 3.1 8B on H100 (500 W), compiled.
    "software": "torchtitan",
    "cluster": {"extends": "hgx-h100-ib-ndr", "name": "x", "accelerator": "h100-sxm-96gb-500w", "devices": 8},
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 16},
    "strategy": {"zero": 3, "micro_batch": 2, "recompute": "selective"},
}
COMPILED, COMPILED_FP8 = 6667.0, 8532.0  # tokens per second and device


def test_fp8_of_torchtitan_is_as_much_faster_as_published(run: Run) -> None:
    wide, low = (
        run("llama-8b", **TORCHTITAN, numerics=numerics).time["step_s"] for numerics in ("bf16-mixed", "fp8-tensorwise")
    )
    assert 1.13 < wide / low < 1.35
    assert wide / low == pytest.approx(COMPILED_FP8 / COMPILED, rel=0.06)


BLACKWELL: dict[str, Any] = {
    # NVIDIA Megatron-Bridge, performance summary 26.06: Llama 3.1 405B on 256 GB200.
    "model": "llama-3.1-405b",
    "software": "megatron-core",
    "cluster": {"name": "gb200-nvl72-ib-ndr", "devices": 256},
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 1536},
    "strategy": {
        "tp": 4, "pp": 16, "zero": 1, "sequence_parallel": True,
        "pipeline": {"virtual_stages": 8, "embedding_and_head_as_layers": True},
    },
}  # fmt: skip


def test_nvfp4_over_mxfp8_is_in_the_published_range(run: Run) -> None:
    # 1.26 to 1.49 over dense models and Blackwell devices; the peak of the products doubles.
    mx, nv = (run("llama-405b", **BLACKWELL, numerics=numerics).time["step_s"] for numerics in ("mxfp8", "nvfp4"))
    assert 1.26 < mx / nv < 1.49


@pytest.mark.parametrize("numerics", ["fp8-mixed", "fp8-delayed", "fp8-block", "fp8-autocast"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-3.1-70b"])
def test_twice_the_peak_is_never_half_the_time(run: Run, numerics: str, model: str) -> None:
    shape = {"model": model, "strategy": {"tp": 8 if "70b" in model else 1, "sequence_parallel": True, "zero": 1}}
    wide, low = (run("llama-8b", **shape, numerics=one).time["step_s"] for one in ("bf16-mixed", numerics))
    assert 1.1 < wide / low < 1.5


def test_the_peak_memory_of_a_benchmark_run(run: Run) -> None:
    # MLPerf Training v5.0, Llama 3.1 405B on 512 H100 (NVIDIA, eos): 58.8 GB logged at most.
    result = run(
        "llama-405b",
        software="megatron-core",
        numerics="fp8-bf16-gradients",
        cluster={"name": "hgx-h100-ib-ndr", "devices": 512},
        workload={"kind": "training", "sequence_length": 8192, "global_batch": 1152},
        strategy={"tp": 8, "pp": 8, "cp": 2, "zero": 1, "sequence_parallel": True,
                  "pipeline": {"virtual_stages": 8, "embedding_and_head_as_layers": True}},
    )  # fmt: skip
    assert result.memory["peak_bytes"] == pytest.approx(58.8e9, rel=0.1)
