"""What a person reads when a file is wrong: file:line, the key, what was allowed, the nearest choice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perfmodel.errors import SpecError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.problems import SHOWN
from perfmodel.specs.resolve import load_scenario

WORLD = Path(__file__).parent / "world"
SCENARIO = (Path(__file__).parent / "question.yaml").read_text(encoding="utf-8")
Write = Callable[[str, str], Path]


def text_of(name: str) -> str:
    """A file of the world."""
    return (WORLD / name).read_text(encoding="utf-8")


GPU = text_of("devices/toy-gpu.yaml")
JARGON = (
    "Input should",
    "pydantic",
    "type=",
    "input_value",
    "For further information",
    "validation error",
    "Traceback",
)


def message(write: Write, text: str, kind: str = "accelerator") -> str:
    path = write("bad.yaml", text)
    with pytest.raises(SpecError) as error:
        Catalogue().load(kind, path)
    said = str(error.value)
    for word in JARGON:
        assert word not in said
    assert str(path) in said
    return said.replace(str(path), "bad.yaml")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "bandwidth: 3 TB/s",
            "bandwith: 3 TB/s",
            "bad.yaml:13: memory.bandwith: unknown key 'bandwith'; allowed: bandwidth",
        ),
        ("bandwidth: 3 TB/s", "bandwith: 3 TB/s", "did you mean 'bandwidth'?"),
        ("bandwidth: 3 TB/s", "bandwidth: 3 TB", "bad.yaml:13: memory.bandwidth: '3 TB' is not a quantity of B/s"),
        (
            "bandwidth: 3 TB/s",
            "bandwidth: 3",
            "bad.yaml:13: memory.bandwidth: 3 has no unit; expected a quantity of B/s",
        ),
        ("bandwidth: 3 TB/s", "bandwidth: '3'", "bad.yaml:13: memory.bandwidth: '3' has no unit"),
        ("bandwidth: 3 TB/s", "bandwidth: 3 TBps", "bad.yaml:13: memory.bandwidth: unknown unit 'TBps'"),
        ("bandwidth: 3 TB/s", "bandwidth: fast", "bad.yaml:13: memory.bandwidth: 'fast' is not a quantity"),
        ("bandwidth: 3 TB/s", "bandwidth: -3 TB/s", "bad.yaml:13: memory.bandwidth: '-3 TB/s' must be larger than 0"),
        ("bandwidth: 3 TB/s", "bandwidth: [3 TB/s]", "bad.yaml:13: memory.bandwidth: expected a quantity of B/s"),
        ("bandwidth: 3 TB/s", "bandwidth: true", "bad.yaml:13: memory.bandwidth: expected a quantity of B/s"),
        (
            "bandwidth: 3 TB/s",
            "bandwidth: {value: 3 TB/s, source: x, basis: guessed}",
            "bad.yaml:13: memory.bandwidth: unknown basis 'guessed'; allowed: vendor, measured, paper",
        ),
        ("bandwidth: 3 TB/s", "bandwidth: {valeu: 3 TB/s}", "bad.yaml:13: memory.bandwidth: a number may say"),
        ("bandwidth: 3 TB/s", "bandwidth: {value: 3 TB/s, low: 4 TB/s}", "bad.yaml:13: memory.bandwidth: low"),
        (
            "bandwidth: 3 TB/s",
            "bandwidth: {value: 3 TB/s, source: [x]}",
            "bad.yaml:13: memory.bandwidth: source: expected a key",
        ),
        ("clock: 1 GHz", "clock: 1 GB", "bad.yaml:8: compute.clock: '1 GB' is not a quantity of 1/s"),
        (
            "{peak: 1000 TFLOP/s}, fp16",
            "{peak: 1000 TFLOP}, fp16",
            "bad.yaml:9: compute.matrix.bf16.peak: '1000 TFLOP'",
        ),
        ("basis: vendor", "basis: vender", "bad.yaml:5: provenance.basis: 'vender' is not allowed; allowed: vendor"),
        ("basis: vendor", "basis: vender", "did you mean 'vendor'?"),
        ("memory:", "memory: 80 GiB\nspare:", "bad.yaml:11: memory: expected a mapping"),
        ("name: toy-gpu", "name: 5", "bad.yaml:2: name: expected text, got 5"),
        ("name: toy-gpu\n", "", "bad.yaml:1: name: missing"),
        (
            "kind: accelerator",
            "kind: acelerator",
            "bad.yaml:1: kind: the file is of kind 'acelerator'; expected accelerator",
        ),
        ("kind: accelerator", "kind: cluster", "bad.yaml:1: kind: the file is of kind 'cluster'; expected accelerator"),
        ("kind: accelerator\n", "", "bad.yaml:1: kind: the file has no `kind:`"),
    ],
)
def test_one_mistake(write: Write, old: str, new: str, expected: str) -> None:
    assert old in GPU
    assert expected in message(write, GPU.replace(old, new))


def test_every_mistake_is_listed_up_to_a_few(write: Write) -> None:
    text = (
        GPU.replace("units: 100", "unit: 100").replace("1 GHz", "1 GB").replace("80 GiB", "80").replace("3 TB/s", "3")
    )
    said = message(write, text)
    assert len(said.splitlines()) == 4
    many = GPU + "".join(f"extra{n}: 1\n" for n in range(20))
    lines = message(write, many).splitlines()
    assert len(lines) == SHOWN + 1
    assert lines[-1] == f"... and {20 - SHOWN} more"


def test_a_truncated_file_is_one_clear_message(write: Write) -> None:
    said = message(write, GPU[: GPU.index("1000 TFLOP/s}, fp16")])
    assert said.startswith("bad.yaml:9: not YAML")
    assert "\n" not in said


def test_needed_numbers_are_named(write: Write, scenario: Path, catalogue: Catalogue) -> None:
    said = message(write, "kind: interconnect\nname: x\n", "interconnect")
    assert said == "bad.yaml:1: class: missing; one of scale-up, scale-out, host is needed"
    scenario.write_text(SCENARIO + "pricing: {kind: cloud}\n")
    with pytest.raises(
        SpecError, match=r"question\.yaml:8: pricing\.device_hour: missing; a quantity in USD is needed"
    ):
        load_scenario(scenario, catalogue)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("strategy:", "stratgy:", "7: stratgy: unknown key 'stratgy'"),
        ("tp: 8", "tpp: 8", "7: strategy.tpp: unknown key 'tpp'"),
        ("tp: 8", "tp: 0", "7: strategy.tp: must be greater than or equal to 1, got 0"),
        ("tp: 8", "tp: eight", "7: strategy.tp: expected a whole number, got 'eight'"),
        ("tp: 8", "zero: 4", "7: strategy.zero: 4 is not allowed; allowed: 0, 1, 2, 3"),
        ("tp: 8", "sequence_parallel: no", "7: strategy.sequence_parallel: expected true or false, got 'no'"),
        ("tp: 8", "dp: 3", "7: strategy.dp: 3 conflicts with devices"),
        (
            "tp: 8",
            "tp: 8, num_microbatches: 7",
            "7: strategy.num_microbatches: 7 conflicts with workload.global_batch 64",
        ),
        (
            "tp: 8",
            "tp: 8, dp: 2, dp_replicate: 2, dp_shard: 2",
            "7: strategy.dp: 2 conflicts with dp_replicate * dp_shard",
        ),
        (
            "recompute: full",
            "recompute: ful",
            "7: strategy.recompute: unknown policy 'ful'; software toy-stack has: none, full",
        ),
        (
            "recompute: full",
            "recompute: {policy: full, blocks: 1, fraction: 0.5}",
            "7: strategy.recompute: say `blocks` or",
        ),
        ("recompute: full", "order: [tp, pp]", "7: strategy.order: name each of tp, cp, dp, pp once"),
        ("recompute: full", "order: [tp, tp, dp, pp]", "7: strategy.order: name each of tp, cp, dp, pp once"),
        (
            "recompute: full",
            "pipeline: {schedule: gpipe, virtual_stages: 2}",
            "7: strategy.pipeline: schedule gpipe has no virtual",
        ),
        ("kind: training", "kind: trainin", "6: workload.kind: 'trainin' is not allowed; allowed: training"),
        ("global_batch: 64, ", "", "6: workload: a workload of kind training needs global_batch"),
        ("tokens: 300B", "tokens: lots", "6: workload.tokens: 'lots' is not a count"),
        ("tokens: 300B", "mean_attended_length: 4096", "6: workload: mean_attended_length 4096.0 exceeds"),
        ("devices: 32", "devices: many", "4: cluster.devices: 'many' is not a count"),
        ("devices: 32", "devices: 0", "4: cluster.devices: expected at least 1"),
        ("devices: 32", "devics: 32", "4: cluster.devics: unknown key 'devics'; allowed: devices, name, path"),
        ("name: toy-cluster, ", "", "4: cluster: expected `name` or `path`"),
        ("{name: toy-cluster, devices: 32}", "toy-clustr", "4: cluster: no cluster 'toy-clustr'; nearest: toy-cluster"),
        ("model: gpt3-175b", "model: 7", "3: model: "),
        ("model: gpt3-175b", "model: gpt3-175", "3: model: no model 'gpt3-175'; nearest: gpt3-175b"),
        ("software: toy-stack", "software: ''", "5: software: "),
        ("software: toy-stack\n", "", "1: software: missing"),
        ("software: toy-stack", "software: toy-stack\nquestion: serch", "6: question: 'serch' is not allowed"),
        (
            "software: toy-stack",
            "software: toy-stack\nnumerics: {weights: bf17}",
            "6: weights: unknown number format 'bf17'",
        ),
        (
            "software: toy-stack",
            "software: toy-stack\nnumerics: bf16-mixd",
            "6: numerics: no numerics 'bf16-mixd'; nearest: bf16-mixed",
        ),
        ("software: toy-stack", "software: toy-stack\nsite: {pue: 0.5}", "6: site.pue: 0.5 is outside 1 .. 10"),
        (
            "software: toy-stack",
            "software: toy-stack\nsite: {grid: 350 g}",
            "6: site.grid: '350 g' is not a quantity of kg/J",
        ),
        (
            "software: toy-stack",
            "software: toy-stack\npricing: {kind: clod}",
            "6: pricing: kind 'clod' is not known; allowed: cloud, purchase",
        ),
        ("software: toy-stack", "software: toy-stack\nassumed: [strategy.zeroo]", "6: assumed[0]: unknown key 'zeroo'"),
        (
            "software: toy-stack",
            "software: toy-stack\npublished: [{key: time.step_s, value: 4 W, source: x}]",
            "6: published[0]: value: '4 W'",
        ),
        ("software: toy-stack", "software: toy-stack\npublished: {key: x}", "6: published: expected a list"),
    ],
)
def test_one_mistake_in_a_scenario(scenario: Path, catalogue: Catalogue, old: str, new: str, expected: str) -> None:
    assert old in SCENARIO
    scenario.write_text(SCENARIO.replace(old, new))
    with pytest.raises(SpecError) as error:
        load_scenario(scenario, catalogue)
    said = str(error.value).replace(str(scenario), "q")
    assert f"q:{expected}" in said
    for word in JARGON:
        assert word not in said


def test_a_mistake_in_an_inline_spec_names_the_line_of_the_scenario(scenario: Path, catalogue: Catalogue) -> None:
    inline = """\
cluster:
  devices: 32
  devices_per_node: 8
  accelerator:
    efficiency_class: toy-class
    memory: {bandwidth: 3 TB}
  tiers: [{name: node, interconnect: toy-link, devices: 32}]
"""
    scenario.write_text(SCENARIO.replace("cluster: {name: toy-cluster, devices: 32}\n", inline))
    with pytest.raises(SpecError, match=r"question\.yaml:9: memory\.bandwidth: '3 TB' is not a quantity of B/s"):
        load_scenario(scenario, catalogue)


def test_a_mistake_in_a_base_names_the_file_of_the_base(write: Write) -> None:
    write("base.yaml", GPU.replace("3 TB/s", "3 TB").replace("toy-gpu", "base"))
    path = write("child.yaml", "kind: accelerator\nname: child\nextends: base.yaml\nmemory: {capacity: 8}\n")
    with pytest.raises(SpecError) as error:
        Catalogue().load("accelerator", path)
    lines = str(error.value).splitlines()
    assert any("base.yaml:13: memory.bandwidth" in line for line in lines)
    assert any("child.yaml:4: memory.capacity" in line for line in lines)


@pytest.mark.parametrize("junk", [None, [], 5, "text", {}, [[]], True, {"a": [1]}])
@pytest.mark.parametrize(
    "key", ["model", "cluster", "software", "numerics", "workload", "strategy", "site", "pricing", "assumed"]
)
def test_any_value_anywhere_is_taken_or_refused_in_words(catalogue: Catalogue, key: str, junk: Any) -> None:
    data: dict[str, Any] = {
        "name": "q",
        "model": "gpt3-175b",
        "cluster": "toy-cluster",
        "software": "toy-stack",
        "workload": {"kind": "training", "sequence_length": 8, "global_batch": 64},
    }
    said = ""
    try:
        load_scenario({**data, key: junk}, catalogue)
    except SpecError as error:
        said = str(error)
    assert not any(word in said for word in JARGON)
