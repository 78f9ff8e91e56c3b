"""Precision recipes: bytes per parameter as published, and the short form."""

from __future__ import annotations

from typing import Any

import pytest

from perfmodel.errors import SpecError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.consistency import format_problems, unknown_sources
from perfmodel.specs.numerics import StateBytes
from perfmodel.specs.resolve import ResolvedScenario, load_scenario


@pytest.mark.parametrize(
    ("name", "total"),
    [
        # Megatron-Core, distributed optimizer: 18 bytes with bf16 parameters and fp32 gradients (6 + 12/d).
        ("bf16-mixed", 18.0),
        # Rajbhandari et al. 2020, section 3.1: 2 + 2 + 12 = 16 bytes per parameter.
        ("fp16-mixed", 16.0),
        ("fp32", 16.0),
        ("bf16-pure", 8.0),
        ("bf16-moments", 14.0),
        # Dettmers et al. 2022: two moments of one byte, and one fp32 maximum per block of 2048 values for each.
        ("adam-8bit", 10.0 + 2 * (1 + 4 / 2048)),
        # FSDP2 shards the fp32 parameters themselves: 4 + 4 + 8.
        ("fp8-tensorwise", 16.0),
    ],
)
def test_bytes_per_parameter_are_those_of_the_literature(name: str, total: float) -> None:
    assert Catalogue().load("numerics", name).state.total == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("name", Catalogue().names("numerics"))
def test_a_shipped_recipe_is_consistent_with_the_formats(name: str) -> None:
    catalogue = Catalogue()
    formats = catalogue.load("formats", "formats")
    recipe = catalogue.load("numerics", name)
    assert format_problems(recipe, formats, catalogue.document("numerics", catalogue.find("numerics", name))) == []
    assert unknown_sources(recipe, catalogue.sources()) == {}
    # Where there is no master weight the stored weight may be wider than what kernels read.
    stored, moved = recipe.state.weights.value, formats.bytes_per_value(recipe.formats.weights)
    assert stored == moved or (stored > moved and recipe.state.master_weights.value == 0.0)
    optimizer = formats.optimizers[recipe.optimizer]
    assert recipe.state.moments.value == pytest.approx(optimizer.moments * formats.bytes_per_value(optimizer.format))


@pytest.mark.parametrize(
    ("name", "bits"),
    # OCP MX v1.0: blocks of 32 with a scale of 8 bits. NVFP4: blocks of 16 with a scale of 8 bits.
    [
        ("mxfp8", 8 + 8 / 32),
        ("mxfp6", 6 + 8 / 32),
        ("mxfp4", 4 + 8 / 32),
        ("mxint8", 8 + 8 / 32),
        ("nvfp4", 4 + 8 / 16),
    ],
)
def test_shared_scales_count_as_bits(name: str, bits: float) -> None:
    assert Catalogue().load("formats", "formats").format(name).bits.value == bits


def test_every_format_and_optimizer_names_known_formats() -> None:
    formats = Catalogue().load("formats", "formats")
    assert unknown_sources(formats, Catalogue().sources()) == {}
    for name, one in formats.formats.items():
        assert one.element is None or one.element in formats.formats, name
        digits = "".join(sign for sign in name.split("-")[0] if sign.isdigit())
        if one.element is None and name != "tf32":
            assert one.bits.value == int(digits), name
    assert all(one.format in formats.formats for one in formats.optimizers.values())


def test_an_unknown_format_is_answered_with_the_nearest() -> None:
    formats = Catalogue().load("formats", "formats")
    with pytest.raises(SpecError, match=r"unknown number format 'bf61'; formats: .*did you mean 'bf16'"):
        formats.bytes_per_value("bf61")


def asked(catalogue: Catalogue, numerics: Any) -> ResolvedScenario:
    return load_scenario(
        {
            "name": "q",
            "model": "gpt3-175b",
            "cluster": "toy-cluster",
            "software": "toy-stack",
            "numerics": numerics,
            "workload": {"kind": "training", "sequence_length": 8, "global_batch": 64},
        },
        catalogue,
    )


def parts(state: StateBytes) -> tuple[float, ...]:
    return (state.weights.value, state.gradients.value, state.master_weights.value, state.moments.value)


@pytest.mark.parametrize(
    ("short", "expected"),
    [
        ({"weights": "bf16", "activations": "bf16", "gradients": "fp32", "optimizer": "adam"}, (2, 4, 4, 8)),
        ({"weights": "bf16"}, (2, 2, 4, 8)),
        ({"weights": "fp32"}, (4, 4, 0, 8)),
        ({"weights": "bf16", "master_weights": None, "optimizer": "adam-bf16"}, (2, 2, 0, 4)),
        ({"weights": "bf16", "master_weights": "none", "optimizer": "sgd"}, (2, 2, 0, 0)),
        ({"extends": "bf16-mixed", "optimizer": "adam-bf16"}, (2, 4, 4, 4)),
        ({"extends": "bf16-mixed", "gradients": "bf16"}, (2, 2, 4, 8)),
        ({"extends": "bf16-mixed", "state": {"gradients": "2 B"}}, (2, 2, 4, 8)),
    ],
)
def test_the_short_form(catalogue: Catalogue, short: dict[str, Any], expected: tuple[float, ...]) -> None:
    numerics = asked(catalogue, short).numerics
    assert parts(numerics.state) == expected


def test_the_short_form_says_how_arithmetic_and_messages_follow(catalogue: Catalogue) -> None:
    numerics = asked(
        catalogue, {"weights": "bf16", "activations": "mxfp8", "gradients": "fp32", "kv_cache": "fp8"}
    ).numerics
    assert numerics.compute.matmul == "fp8"
    assert numerics.formats.communication == "mxfp8"
    assert numerics.formats.gradient_reduction == "fp32"
    assert numerics.formats.kv_cache == "fp8"
    assert numerics.formats.logits == "fp32"


@pytest.mark.parametrize(
    ("short", "words"),
    [
        ({"weights": "bf61"}, "weights: unknown number format 'bf61'; allowed: .*did you mean 'bf16'"),
        ({"weights": 16}, "weights: expected the name of a number format, got 16"),
        ({"weights": "bf16", "optimizer": "adm"}, "optimizer: unknown optimizer 'adm'; allowed: .*did you mean 'adam'"),
        ({"weights": "bf16", "wieghts": "bf16"}, "unknown key 'wieghts'"),
        (
            {"extends": "bf16-mixed", "formats": {"weights": "bf61"}},
            "numerics.formats.weights: unknown number format 'bf61'",
        ),
        ({"extends": "bf16-mixed", "optimizer": "adm"}, "unknown optimizer 'adm'"),
    ],
)
def test_mistakes_in_the_short_form(catalogue: Catalogue, short: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        asked(catalogue, short)
