"""The plan that `estimate` picks: models with experts, and a grid that is the same for every question."""

from __future__ import annotations

from typing import Any

import pytest

from perfmodel.engine.evaluate import evaluate
from perfmodel.engine.result import Result
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.resolve import load_scenario
from perfmodel.study.estimate import Estimate, EstimateQuestion, estimate
from perfmodel.study.estimate_grid import natural_splits, plan_grid, uneven_splits

CATALOGUE = Catalogue()


def ask(model: str, devices: int, accelerator: str = "h100-sxm5-80gb", **more: Any) -> Estimate:
    return estimate(EstimateQuestion(model, accelerator, devices, **more), CATALOGUE)


@pytest.fixture(scope="module")
def deepseek() -> Estimate:
    """DeepSeek-V3 on 256 H100, where 671 billion parameters only fit when experts are spread."""
    return ask("deepseek-v3", 256)


@pytest.fixture(scope="module")
def trained() -> Estimate:
    """DeepSeek-V3 on the devices, and with the batch, that it was trained with; its 61 layers are a prime number."""
    return ask("deepseek-v3", 2048, accelerator="h800-sxm5-80gb", sequence_length=4096, global_batch=15360)


def _run(found: Estimate, **strategy: Any) -> Result:
    """The answer to the scenario that was handed out, with some of its strategy changed."""
    changed = {**found.scenario, "strategy": {**found.scenario["strategy"], **strategy}}
    return evaluate(load_scenario(changed, CATALOGUE))


def test_deepseek_v3_on_256_devices_has_a_plan(deepseek: Estimate) -> None:
    assert deepseek.result.feasible
    plan = deepseek.result.plans[0]
    assert plan["ep"] > 1
    assert 256 % plan["ep"] == 0
    assert deepseek.result.memory["peak_bytes"] <= deepseek.result.memory["capacity_bytes"]


def test_the_sentences_say_which_and_why(deepseek: Estimate) -> None:
    told = "\n".join(deepseek.reasons)
    assert f" ep={deepseek.result.plans[0]['ep']} " in told
    assert "no expert parallelism: nothing fits" in told
    if deepseek.result.plans[0]["ep"] > 8:
        assert "experts inside a domain of 8: " in told


def test_a_neighbouring_spread_of_experts_is_not_faster(trained: Estimate) -> None:
    chosen = trained.result.plans[0]["ep"]
    others = [_run(trained, ep=ep) for ep in (chosen // 2, chosen * 2)]
    times = [one.time["step_s"] for one in others if one.feasible]
    assert times
    assert min(times) >= trained.result.time["step_s"] * 0.998


def test_the_scenario_that_is_handed_out_is_the_answer(deepseek: Estimate) -> None:
    again = _run(deepseek)
    assert again.time == deepseek.result.time
    assert again.memory == deepseek.result.memory


@pytest.mark.parametrize(
    ("model", "devices", "sizes"),
    [
        ("deepseek-v3", 256, {1, 2, 4, 8, 16, 32, 64, 128, 256}),
        ("mixtral-8x7b", 64, {1, 2, 4, 8}),  # eight experts
        ("deepseek-v3", 96, {1, 2, 4, 8, 16, 32}),  # 96 = 3 * 32
        ("llama-3.1-8b", 64, {1}),
    ],
)
def test_experts_are_spread_over_powers_of_two_that_divide_them_and_the_ranks(
    model: str, devices: int, sizes: set[int]
) -> None:
    grid = plan_grid(load_scenario(question(model, devices), CATALOGUE))
    assert set(grid.columns()["ep"].tolist()) == sizes
    for plan in grid.tables:
        assert not ((plan.tp * plan.cp * plan.dp) % plan.ep).any()
        # Among plans that are equally fast the first is taken: those whose experts stay inside a node of eight.
        assert (plan.ep > 8).tolist() == sorted((plan.ep > 8).tolist())


def question(model: str, devices: int) -> dict[str, Any]:
    return {
        "kind": "scenario", "name": "grid", "question": "evaluate", "model": model,
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": devices}, "software": "megatron-core",
        "numerics": "bf16-mixed", "workload": {"kind": "training", "sequence_length": 4096, "global_batch": 256},
    }  # fmt: skip


def test_a_larger_domain_keeps_experts_inside_it() -> None:
    # 72 devices in one domain: experts spread over 64 of them never leave it, so the exchange is no longer a question.
    inside = ask("deepseek-v3", 256, accelerator="gb200-nvl72")
    assert inside.result.feasible
    assert 1 < inside.result.plans[0]["ep"] <= 72
    assert not any("experts inside" in reason for reason in inside.reasons)


def test_a_dense_model_says_nothing_about_experts() -> None:
    dense = ask("llama-3.1-8b", 64)
    assert "ep" not in dense.scenario["strategy"]
    assert not any("expert" in reason or " ep=" in reason for reason in dense.reasons)


def test_a_prime_number_of_layers_gets_a_pipeline(trained: Estimate) -> None:
    plan, pipeline = trained.result.plans[0], trained.scenario["strategy"]["pipeline"]
    assert trained.result.feasible
    assert plan["pp"] > 1
    assert sum(pipeline["layers_per_stage"]) == 61
    assert len(pipeline["layers_per_stage"]) == plan["pp"] * plan["virtual_stages"]
    assert any(reason.startswith("no pipeline: ") and "slower" in reason for reason in trained.reasons)
    assert not any("as many layers on every stage" in reason for reason in trained.reasons)


def test_an_uneven_split_is_told_and_is_the_answer(trained: Estimate) -> None:
    told = "\n".join(trained.reasons)
    assert " layers_per_stage=" in told
    again = _run(trained)
    assert again.time == trained.result.time


def test_the_split_that_is_taken_beats_its_neighbours(trained: Estimate) -> None:
    pipeline = trained.scenario["strategy"]["pipeline"]
    split = list(pipeline["layers_per_stage"])
    longer = [*split[:-2], split[-2] - 1, split[-1] + 1]
    worse = _run(trained, pipeline={**pipeline, "layers_per_stage": longer})
    assert worse.time["step_s"] >= trained.result.time["step_s"] * 0.999


@pytest.mark.parametrize(
    ("layers", "stages", "virtual", "splits"),
    [
        (61, 16, 1, [(3, 3, *[4] * 13, 3), (*[4] * 15, 1)]),
        (61, 4, 8, [(1, 1, *[2] * 29, 1)]),  # 31 chunks of two leave none for the last
        (126, 16, 1, [(7, *[8] * 14, 7), (*[8] * 15, 6)]),  # the first one: how Llama 3 405B was trained
        (61, 4, 1, [(15, 15, 16, 15), (16, 16, 16, 13)]),
        (96, 8, 8, []),  # half of the chunks of every stage would be a layer short
        (5, 3, 1, [(2, 2, 1)]),  # both ways are the same
    ],
)
def test_natural_splits(layers: int, stages: int, virtual: int, splits: list[tuple[int, ...]]) -> None:
    assert natural_splits(layers, stages, virtual) == splits


def test_every_split_holds_every_layer_and_leaves_no_chunk_empty() -> None:
    for layers in range(2, 130):
        for stages, virtual, split in uneven_splits(layers, 2**10):
            assert (sum(split), len(split)) == (layers, stages * virtual)
            assert min(split) >= 1
            assert max(split) == -(-layers // len(split))  # no stage is longer than it must be


def test_layers_that_divide_are_not_split_otherwise() -> None:
    grid = plan_grid(load_scenario(question("llama-3.1-8b", 64), CATALOGUE))
    assert grid.is_even().all()
    assert len(grid.tables) == 1


def test_a_row_of_the_grid_is_its_plan() -> None:
    grid = plan_grid(load_scenario(question("deepseek-v3", 64), CATALOGUE))
    first, last = grid.plan(0), grid.plan(len(grid) - 1)
    assert first.layers_per_stage is None
    assert last.layers_per_stage == grid.tables[-1].layers_per_stage
    assert int(last.pp[0]) == grid.columns()["pp"][-1]
    with pytest.raises(IndexError):
        grid.plan(len(grid))
