"""The plan that `estimate` picks: models with experts, and a grid that is the same for every question."""

from __future__ import annotations

from typing import Any

import pytest

from perfmodel.engine.evaluate import evaluate
from perfmodel.engine.result import Result
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.resolve import load_scenario
from perfmodel.study.estimate import Estimate, EstimateQuestion, estimate, plan_grid

CATALOGUE = Catalogue()


def ask(model: str, devices: int, accelerator: str = "h100-sxm5-80gb", **more: Any) -> Estimate:
    return estimate(EstimateQuestion(model, accelerator, devices, **more), CATALOGUE)


@pytest.fixture(scope="module")
def deepseek() -> Estimate:
    """DeepSeek-V3 on 256 H100, where 671 billion parameters only fit when experts are spread."""
    return ask("deepseek-v3", 256)


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


def test_a_neighbouring_spread_of_experts_is_not_faster(deepseek: Estimate) -> None:
    chosen = deepseek.result.plans[0]["ep"]
    others = [_run(deepseek, ep=ep) for ep in (chosen // 2, chosen * 2)]
    times = [one.time["step_s"] for one in others if one.feasible]
    assert times
    assert min(times) >= deepseek.result.time["step_s"] * 0.998


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
    plan = plan_grid(load_scenario(question(model, devices), CATALOGUE))
    assert set(plan.ep.tolist()) == sizes
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
