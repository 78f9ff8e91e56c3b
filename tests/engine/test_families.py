"""Every family of models on one machine: it runs, its work is the published count, and tensor parallelism keeps it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import perfmodel
from perfmodel.engine.kernels import cost_kernels
from perfmodel.engine.model_flop import model_flop_per_token, parameter_count
from perfmodel.engine.result import Result
from perfmodel.engine.session import LoadedScenario, load
from perfmodel.engine.sizes import Sizes

Ask = Callable[..., LoadedScenario]
Run = Callable[..., Result]

MODELS = sorted(
    path.stem for path in (Path(perfmodel.__file__).parent / "catalog/models").glob("*.yaml") if path.stem != "sources"
)
#: A large machine, everything sharded and recomputed: whatever the model, it fits.
CLUSTER: dict[str, Any] = {
    "kind": "scenario",
    "name": "catalogue",
    "model": MODELS[0],
    "cluster": {"name": "meta-24k-h100-roce", "devices": 4096},
    "software": "megatron-core",
    "numerics": "bf16-mixed",
    "workload": {"kind": "training", "sequence_length": 1024, "global_batch": 4096},
    "strategy": {"zero": 3, "recompute": "full"},
}


@pytest.fixture(scope="module")
def machine() -> LoadedScenario:
    return load(CLUSTER)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_the_catalogue_runs_one_training_step(machine: LoadedScenario, name: str) -> None:
    scenario = machine.replace(model=name)
    if "experts" in scenario.question.problem.axes:
        scenario = scenario.replace(**{"strategy.ep": 4})  # a gathered layer of all experts is larger than a device
    result, problem = scenario.run(), scenario.question.problem
    assert 0.0 < result.time["step_s"] < 3600.0
    assert 0.0 < result.metrics["mfu"] <= result.metrics["hfu"] < 1.0
    assert parameter_count(problem) == problem.graph.parameter_count()
    parts = sum(result.time["breakdown"].values())
    assert parts == pytest.approx(result.time["step_s"], rel=1e-9)
    assert result.feasible, result.reasons


def _flop(model: str | dict[str, Any], sequence: int) -> float:
    changes: dict[str, Any] = {"model": model, "workload.sequence_length": sequence}
    return float(model_flop_per_token(load(CLUSTER).replace(**changes).question.problem).causal)


def test_model_flop_of_experts_and_latent_attention() -> None:
    """DeepSeek-V3: 6 per parameter that a token meets, and causal-half attention with heads of 192 and 128."""
    hidden, vocabulary, heads = 7168, 129280, 128
    attention = hidden * 1536 + 1536 * heads * 192 + hidden * 576 + 512 * heads * 256 + heads * 128 * hidden
    dense, routed = 3 * hidden * 18432, hidden * 256 + 9 * 3 * hidden * 2048
    active = 61 * attention + 3 * dense + 58 * routed + vocabulary * hidden
    pairs = 61 * heads * (192 + 128) * (4096 + 1)  # 2 x 2 x (s + 1) / 2 per pair of query and key, three passes
    assert _flop("deepseek-v3", 4096) == pytest.approx(6 * active + 3 * pairs, rel=1e-12)


def test_model_flop_of_a_recurrence_do_not_grow_with_the_sequence() -> None:
    """Mamba-2 2.7B: 6 per parameter of its matrices, and two products with the state of 128 x 64 of 80 heads."""
    hidden, inner, heads = 2560, 5120, 80
    matrices = 64 * (hidden * (2 * inner + 2 * 128 + heads) + inner * hidden) + 50288 * hidden
    state = 64 * 2 * 2 * heads * 128 * 64
    assert _flop("mamba2-2.7b", 1024) == pytest.approx(6 * matrices + 3 * state, rel=1e-12)
    assert _flop("mamba2-2.7b", 65536) == _flop("mamba2-2.7b", 1024)


def test_an_encoder_attends_in_both_directions() -> None:
    """BERT base: the whole square of pairs, and a head over the vocabulary; the pooler reads one token."""
    layers = 12 * 12 * 768**2
    square = 12 * 4 * 768 * 512
    pooler = 768**2 / 512
    expected = 3 * (2 * layers + 2 * 30522 * 768 + square + 2 * pooler)
    assert _flop("bert-base", 512) == pytest.approx(expected, rel=1e-12)


def test_an_audio_encoder_works_per_sequence() -> None:
    """Whisper: doubling the text adds the work of the decoder on the second half, and nothing of the encoder."""
    short, long = (_flop("whisper-large-v3", length) * length for length in (224, 448))
    hidden, decoder = 1280, 32
    per_token = 6 * (decoder * (6 * hidden**2 + 2 * 4 * hidden**2) + 51866 * hidden)
    cross = 3 * 4 * decoder * hidden * 1500
    own = 3 * 2 * decoder * hidden * (448 * 449 - 224 * 225)
    assert long - short == pytest.approx(224 * (per_token + cross) + own, rel=1e-12)


def test_chunks_and_chosen_keys_are_full_attention_on_short_sequences() -> None:
    """Llama 4 up to a chunk of 8192, DeepSeek-V3.2 up to 2048 keys; beyond, work per token stops growing."""
    base = {"extends": "llama-4-scout-17b-16e", "name": "full"}
    full = base | {"attention": {"heads": 40, "kv_heads": 8, "head_dim": 128, "window": None, "window_pattern": None}}
    assert _flop("llama-4-scout-17b-16e", 8192) == pytest.approx(_flop(full, 8192), rel=1e-12)
    assert _flop("llama-4-scout-17b-16e", 131072) < 0.6 * _flop(full, 131072)
    sparse, dense = ([_flop(name, length) for length in (2048, 65536)] for name in ("deepseek-v3.2", "deepseek-v3"))
    indexer = 61 * (1536 * 64 * 128 + 7168 * 128 + 7168 * 64)
    scores = 3 * 61 * 64 * 128 * 2049
    assert sparse[0] - dense[0] == pytest.approx(6 * indexer + scores, rel=1e-9)
    assert sparse[1] < 0.5 * dense[1]


@pytest.mark.parametrize("name", ["mamba2-2.7b", "falcon-mamba-7b", "nemotron-h-8b", "deepseek-v2-lite", "vit-22b"])
def test_ranks_of_a_tensor_group_share_the_work(machine: LoadedScenario, name: str) -> None:
    """With sequence parallelism every matrix product and recurrence is split: the ranks together do what one did."""
    problem = machine.replace(model=name).question.problem

    def work(tp: float) -> float:
        sizes = Sizes(1.0, 1024.0, tp, 1.0, 1.0, problem.axes)
        return sum(float(np.ravel(one.flop)[0]) for one in cost_kernels(problem, sizes)) * tp

    ranks = 2.0 if name == "mamba2-2.7b" else 8.0
    # One group of vectors cannot be split: every rank computes its scores (and its share of the projection) again.
    assert work(ranks) == pytest.approx(work(1.0), rel=0.03 if name == "mamba2-2.7b" else 1e-12)


@pytest.mark.parametrize(
    ("name", "tp", "sentence"),
    [
        ("nemotron-h-8b", 3, "tp = 3 does not divide the 128 heads (or channels) of the recurrent mixer"),
        ("nemotron-h-8b", 16, ""),  # the eight groups are copied
        ("qwen3-next-80b-a3b", 12, "tp = 12 neither divides the 16 groups of the recurrent mixer nor is a multiple"),
        ("mimo-v2-flash", 6, "tp = 6 neither divides the 4 key-value heads of the full-attention layers nor is"),
    ],
)
def test_a_tensor_group_that_does_not_fit_says_which_heads(
    machine: LoadedScenario, name: str, tp: int, sentence: str
) -> None:
    change = {"model": name, "strategy.tp": tp, "cluster.devices": 96, "workload.global_batch": 96}
    reasons = [one for one in machine.replace(**change).run().reasons if "recurrent" in one or "key-value" in one]
    assert bool(reasons) == bool(sentence)
    assert not sentence or any(sentence in one for one in reasons)


def test_a_recurrence_is_not_cut_by_context_parallelism(machine: LoadedScenario) -> None:
    result = machine.replace(**{"model": "jamba-v0.1", "strategy.cp": 2, "strategy.ep": 4}).run()
    assert not result.feasible
    assert any("mixer.scan runs along it" in reason for reason in result.reasons)


def test_prediction_layers_lie_on_the_last_stage(run: Run) -> None:
    """The stage of the head becomes the longest, by about a layer and a second head."""
    model = {"extends": "deepseek-v2-lite", "name": "predicting", "moe": {"prediction_layers": 1}}
    plan = {"pp": 3, "ep": 8, "tp": 1, "sequence_parallel": False}
    change = {f"strategy__{name}": size for name, size in plan.items()} | {"workload__global_batch": 96}
    off, on = (
        run("hybrid", model=model | {"train_prediction_layers": switch}, cluster__devices=96, **change)
        for switch in (False, True)
    )
    assert on.time["step_s"] > 1.02 * off.time["step_s"]
    assert on.metrics["model_flop_per_token"] > off.metrics["model_flop_per_token"]
    assert on.stages[-1].forward_s > 1.1 * off.stages[-1].forward_s
    assert on.stages[0].forward_s == pytest.approx(off.stages[0].forward_s, rel=1e-12)


def test_the_output_of_an_encoder_is_kept_once(machine: LoadedScenario) -> None:
    """Cross attention of 24 decoder layers reads it: what a layer adds does not contain it."""
    graph = machine.replace(model="t5-large").question.problem.graph
    decoder = graph.block("decoder")
    assert decoder.tensors["encoder.output"].shared
    assert "encoder.output" not in decoder.saved()
    assert "head.encoder_norm" in graph.epilogue.saved()
