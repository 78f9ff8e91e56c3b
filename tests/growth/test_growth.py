"""The house grows without a change to it: new hardware, a new architecture, a new transform, a new kind of question."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from perfmodel.engine.columns import evaluate_columns
from perfmodel.engine.session import LoadedScenario, load
from perfmodel.workload import registry
from perfmodel.workload.operators import (
    SCALAR,
    Block,
    CrossEntropy,
    Elementwise,
    ElementwiseKind,
    Embedding,
    Extent,
    Matmul,
    OperatorGraph,
    Tensor,
    Weight,
    extent,
)

BASE: dict[str, Any] = {
    "kind": "scenario",
    "name": "growth",
    "model": "llama-3.1-8b",
    "cluster": {"name": "hgx-h100-ib-ndr", "devices": 16},
    "software": "megatron-core",
    "numerics": "bf16-mixed",
    "workload": {"kind": "training", "sequence_length": 4096, "global_batch": 32},
    "strategy": {"tp": 2, "zero": 1},
}

# -- hardware from a folder of one's own -------------------------------------------------------------------
ACCELERATOR = """
kind: accelerator
name: sun-1
title: Sun 1
vendor: Example
year: 2030
status: announced
efficiency_class: generic-accelerator
provenance: {source: sun-brief, basis: vendor}
compute:
  units: 256
  clock: 2 GHz
  matrix: {bf16: {peak: 4000 TFLOP/s}}
  vector: {fp32: 100 TFLOP/s}
memory: {kind: HBM5, capacity: 512 GB, bandwidth: 16 TB/s}
scale_up: {interconnect: sunbeam, bandwidth: 2 TB/s, domain: 32}
power: {tdp: 1500 W}
"""
INTERCONNECT = """
kind: interconnect
name: sunbeam
title: Sunbeam
class: scale-up
provenance: {source: sun-brief, basis: vendor}
bandwidth: 2 TB/s
latency: 1 us
"""
CLUSTER = """
kind: cluster
name: sun-field
title: 256 Sun 1
provenance: {source: sun-brief, basis: vendor}
accelerator: sun-1
devices: 256
devices_per_node: 32
tiers:
  - {name: ring, interconnect: sunbeam, devices: 32}
  - {name: field, interconnect: ib-xdr, devices: 256, bandwidth: 100 GB/s}
"""
SOURCES = """
kind: sources
name: sun-sources
sources:
  sun-brief: {title: "Sun 1 product brief", kind: datasheet, year: 2030}
"""


@pytest.fixture
def sun(tmp_path: Path) -> LoadedScenario:
    for name, text in {
        "anything": ACCELERATOR,
        "link": INTERCONNECT,
        "deep/cluster": CLUSTER,
        "sources": SOURCES,
    }.items():
        path = tmp_path / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return load(
        BASE | {"cluster": {"name": "sun-field", "devices": 64}, "strategy": {"tp": 16, "zero": 1}}, specs=[tmp_path]
    )


def test_a_new_accelerator_link_and_cluster_run_from_a_folder(sun: LoadedScenario) -> None:
    result = sun.run()
    assert result.feasible, result.reasons
    assert 0.0 < result.metrics["mfu"] < 1.0
    tensor = next(row for row in result.communication if row.group == "tensor")
    assert tensor.tiers == ("ring",)
    # All-reduce of 16 ranks: 2 * 15 / 16 of the buffer over 2 TB/s at best.
    assert tensor.time_s / tensor.count > 2 * 15 / 16 * tensor.bytes_per_operation / 2e12
    assert "sun-brief" in {entry["key"] for entry in result.to_dict()["sources"]}
    assert {warning.code for warning in result.warnings} >= {"assumed-number"}


def test_a_new_device_is_faster_than_an_old_one_but_not_more_than_its_data_sheet(sun: LoadedScenario) -> None:
    old = load(BASE | {"cluster": {"name": "hgx-h100-ib-ndr", "devices": 64}}).run()
    new = sun.replace(**{"strategy.tp": 2}).run()
    ratio = old.time["breakdown"]["forward_s"] / new.time["breakdown"]["forward_s"]
    assert 1.0 < ratio < max(4000 / 989.4, 16 / 3.35)


# -- a new architecture -------------------------------------------------------------------------------------
HIDDEN, FFN, VOCABULARY = extent("hidden"), extent("ffn"), extent("vocabulary")


def _linear(name: str, source: str, contraction: Extent, columns: Extent, **more: Any) -> Matmul:
    weight = Weight(f"{name}.weight", contraction, columns)
    return Matmul(
        name=name,
        inputs=(source,),
        output=name,
        weights=(weight,),
        saves=(source,),
        contraction=contraction,
        columns=columns,
        **more,
    )


def _block(name: str, tensors: dict[str, Extent], operators: list[Any], count: int = 1) -> Block:
    return Block(
        name, tuple(operators), {one: Tensor(one, of) for one, of in tensors.items()}, count, tuple(tensors)[:1]
    )


def all_mlp(model: Any, attention_kernel: str) -> OperatorGraph:
    """A stack of two-matrix perceptrons without attention; its depth doubles what the file says."""
    mixer = [
        _linear("mix.up", "mix.input", HIDDEN, FFN),
        Elementwise(
            name="mix.gelu",
            inputs=("mix.up",),
            output="mix.gelu",
            saves=("mix.up",),
            kind=ElementwiseKind.ACTIVATION,
            features=FFN,
            forward_elements=2.0,
            backward_elements=3.0,
            flop_per_element=8.0,
        ),
        _linear("mix.down", "mix.gelu", FFN, HIDDEN),
    ]
    table = Embedding(
        name="embedding.tokens",
        inputs=("tokens",),
        output="embedding.tokens",
        weights=(Weight("embedding.tokens.weight", VOCABULARY, HIDDEN),),
    )
    head = [
        _linear("head.logits", "head.input", HIDDEN, VOCABULARY, precision="head"),
        CrossEntropy(name="head.loss", inputs=("head.logits",), output="head.loss"),
    ]
    return OperatorGraph(
        name=model.name,
        axes={"hidden": model.hidden, "ffn": int(model.parameters["width"]), "vocabulary": model.vocabulary},
        prologue=_block("embedding", {"tokens": HIDDEN, "embedding.tokens": HIDDEN}, [table]),
        blocks=(
            _block(
                "block",
                {"mix.input": HIDDEN, "mix.up": FFN, "mix.gelu": FFN, "mix.down": HIDDEN},
                mixer,
                2 * model.layers,
            ),
        ),
        epilogue=_block("head", {"head.input": HIDDEN, "head.logits": VOCABULARY, "head.loss": SCALAR}, head),
    )


@pytest.fixture
def builders() -> Iterator[dict[str, Any]]:
    before = dict(registry.BUILDERS)
    yield registry.BUILDERS
    registry.BUILDERS.clear()
    registry.BUILDERS.update(before)


MLP_MODEL = {
    "kind": "model",
    "name": "all-mlp-test",
    "family": "all-mlp",
    "layers": 12,
    "hidden": 4096,
    "vocabulary": 32000,
    "norm": {"kind": "rmsnorm"},
    "embedding": {"tied": False, "positions": "none"},
    "parameters": {"width": 16384},
}


def test_a_new_architecture_is_one_registered_builder(builders: dict[str, Any]) -> None:
    registry.register_builder("all-mlp")(all_mlp)
    result = load(BASE | {"model": MLP_MODEL}).run()
    matmuls = 24 * 2 * 4096 * 16384 + 4096 * 32000
    assert result.feasible, result.reasons
    assert result.metrics["model_flop_per_token"] == pytest.approx(6 * matmuls, rel=1e-12)
    # Placement knows the axes by name: one collective forward and one backward, as in any perceptron.
    rows = [
        row for row in result.communication if row.group == "tensor" and row.bytes_per_operation == 4096 * 4096 * 2.0
    ]
    per_layer = rows[0].count / result.plans[0]["num_microbatches"]
    assert [row.operation for row in rows] == ["all-reduce"]
    assert per_layer == 24 * 2 + 2  # and one for the embedding, one for the gradient into the head
    assert float(result.explain("mix.down").value) > 0.0


# -- a new transform ----------------------------------------------------------------------------------------
def halve_weight_bits(graph: OperatorGraph, pattern: str, bits: float) -> OperatorGraph:
    """Weights of some operators in fewer bits."""

    def change(block: Block) -> Block:
        operators = tuple(
            dataclasses.replace(one, weight_bits=bits) if pattern in one.name and isinstance(one, Matmul) else one
            for one in block.operators
        )
        return dataclasses.replace(block, operators=operators)

    return dataclasses.replace(graph, blocks=tuple(change(block) for block in graph.blocks))


@pytest.fixture
def transforms() -> Iterator[None]:
    registry.register_transform("halve-weight-bits")(halve_weight_bits)
    yield
    del registry.TRANSFORMS["halve-weight-bits"]


@pytest.mark.usefixtures("transforms")
def test_a_new_transform_is_one_registered_function() -> None:
    # One token per sequence, so that weights are nearly all of the traffic and time follows them.
    question = BASE | {"workload": {"kind": "forward", "sequence_length": 1, "batch": 16}, "strategy": {"tp": 1}}
    change = {"name": "halve-weight-bits", "options": {"pattern": "mlp", "bits": 8}}
    before, after = load(question).run(), load(question | {"transforms": [change]}).run()
    rows = {row.name: row for row in before.operators}
    for row in after.operators:
        traffic, time = row.traffic_bytes / rows[row.name].traffic_bytes, row.time_s / rows[row.name].time_s
        if row.name.startswith("block.mlp.") and row.data_type != "vector":
            assert traffic == pytest.approx(0.5, abs=0.01)
            assert 0.45 < time < 0.75
        else:
            assert (traffic, time) == (1.0, 1.0)
    assert after.time["step_s"] < before.time["step_s"]
    assert after.metrics["model_flop_per_token"] == before.metrics["model_flop_per_token"]


# -- a new workload -----------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def prompt() -> LoadedScenario:
    return load(
        BASE
        | {
            "workload": {"kind": "forward", "sequence_length": 4096, "batch": 1},
            "cluster": {"name": "hgx-h100-ib-ndr", "devices": 8},
            "strategy": {"tp": 8},
        }
    )


def test_a_forward_pass_has_only_a_forward_pass(prompt: LoadedScenario) -> None:
    result = prompt.run()
    breakdown = result.time["breakdown"]
    for key in ("backward_s", "recompute_s", "optimizer_s", "data_communication_s", "pipeline_bubble_s"):
        assert breakdown[key] == 0.0
    assert breakdown["forward_s"] > 0.0
    assert breakdown["tensor_communication_s"] > 0.0
    assert {row.phase for row in result.operators} == {"forward"}
    memory = result.memory["breakdown"]
    assert memory["gradients_bytes"] == memory["optimizer_bytes"] == 0.0
    assert memory["weights_bytes"] == pytest.approx(2 * 8_030_261_248 / 8, rel=1e-3)


def test_a_forward_pass_is_a_third_of_the_training_flop(prompt: LoadedScenario) -> None:
    training = load(BASE).run()
    assert 3 * prompt.run().metrics["model_flop_per_token"] == pytest.approx(
        training.metrics["model_flop_per_token"], rel=1e-12
    )


def test_a_forward_pass_costs_what_it_costs_in_training(prompt: LoadedScenario) -> None:
    alone = {row.name: row for row in prompt.run().operators}
    training = load(BASE | {"cluster": {"name": "hgx-h100-ib-ndr", "devices": 8}, "strategy": {"tp": 8}}).run()
    for row in training.operators:
        if row.phase == "forward" and row.name != "head.loss:forward":  # nothing is differentiated
            assert (row.flop, row.time_s) == (alone[row.name].flop, alone[row.name].time_s)


# -- a new axis of a study ----------------------------------------------------------------------------------
def test_any_hardware_number_can_be_swept(sun: LoadedScenario) -> None:
    bandwidth = np.geomspace(1e12, 64e12, 25)
    question = sun.question
    columns = evaluate_columns(
        question.problem, question.plan.take(np.zeros(25, dtype=np.int64)), {"accelerator.memory.bandwidth": bandwidth}
    )
    assert np.all(np.diff(columns["time.step_s"]) < 0.0)
    assert columns["metrics.mfu"][-1] < 1.0
    # Four times the bandwidth saves ever less: the rest of the step does not use it.
    saved = -np.diff(columns["time.step_s"][::8])
    assert np.all(np.diff(saved) < 0.0)
