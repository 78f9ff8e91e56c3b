"""Families and transforms that users add, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from perfmodel.errors import UnsupportedOperator, UsageError
from perfmodel.workload import apply_transforms, build_graph, register_builder, register_transform
from perfmodel.workload.builders import build_decoder
from perfmodel.workload.operators import Matmul, Weight, extent
from perfmodel.workload.registry import BUILDERS, TRANSFORMS


@pytest.fixture(autouse=True)
def _clean_registries(monkeypatch):
    monkeypatch.setattr("perfmodel.workload.registry.BUILDERS", dict(BUILDERS))
    monkeypatch.setattr("perfmodel.workload.registry.TRANSFORMS", dict(TRANSFORMS))


def test_a_user_registers_a_family_with_free_dimensions(llama):
    """A low-rank adapter beside the output projection: a family of the user's own on top of the decoder."""

    @register_builder("adapted-decoder")
    def build(model, attention_kernel):
        graph = build_decoder(model, attention_kernel)
        axes = dict(graph.axes) | {"rank": int(model.parameters["rank"])}
        block = graph.blocks[0]
        adapter = Matmul(
            name="adapter.down", inputs=("attention.norm",), output="adapter.down", saves=("attention.norm",),
            weights=(Weight("adapter.down.weight", extent("hidden"), extent("rank")),),
            contraction=extent("hidden"), columns=extent("rank"),
        )  # fmt: skip
        tensors = dict(block.tensors) | {
            "adapter.down": replace(block.tensors["block.input"], name="adapter.down", features=extent("rank"))
        }
        return replace(
            graph, axes=axes, blocks=(replace(block, operators=(*block.operators, adapter), tensors=tensors),)
        )

    graph = build_graph(llama(family="adapted-decoder", parameters={"rank": 16}))
    graph.validate()
    assert graph.parameter_count() - build_graph(llama()).parameter_count() == 4 * 1024 * 16


def test_registering_again_replaces_cached_graphs(llama):
    model = llama(family="once")
    register_builder("once")(build_decoder)
    first = build_graph(model)
    register_builder("once")(build_decoder)
    assert build_graph(model) is not first


def test_a_transform_halves_the_bits_of_the_mlp(llama):
    @register_transform("narrow-weights")
    def narrow(graph, bits=8.0, prefix="mlp."):
        def change(operator):
            chosen = isinstance(operator, Matmul) and operator.name.startswith(prefix)
            return replace(operator, weight_bits=bits) if chosen else operator

        blocks = tuple(replace(one, operators=tuple(map(change, one.operators))) for one in graph.blocks)
        return replace(graph, blocks=blocks)

    graph = build_graph(llama())
    changed = apply_transforms(graph, ["narrow-weights", {"name": "narrow-weights", "bits": 4.0, "prefix": "mlp.down"}])
    changed.validate()
    bits = {one.name: one.weight_bits for one in changed.blocks[0].operators if isinstance(one, Matmul)}
    assert bits == {"attention.query_key_value": None, "attention.output": None, "mlp.up": 8.0, "mlp.down": 4.0}
    assert changed.parameter_count() == graph.parameter_count()
    assert apply_transforms(graph, []) is graph


def test_unknown_names_are_refused_with_the_nearest(llama):
    register_transform("narrow-weights")(lambda graph: graph)
    with pytest.raises(UsageError, match="did you mean 'narrow-weights'"):
        apply_transforms(build_graph(llama()), ["narow-weights"])
    with pytest.raises(UnsupportedOperator, match=r"small-llama.*'decodr'.*did you mean 'decoder'"):
        build_graph(llama(family="decodr"))
    with pytest.raises(UsageError, match="flash, unfused"):
        build_graph(llama(), attention_kernel="sparse")


def test_an_unknown_family_names_the_blocks_of_the_model(llama):
    with pytest.raises(UnsupportedOperator, match=r"'hybird' \(blocks: ssm \(state-space.*known families: .*decoder"):
        build_graph(llama(family="hybird", ssm={"kind": "mamba2", "state": 128}))
