"""A measured step: its terms, and what it says about another configuration."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from perfmodel.engine.measured import TERMS
from perfmodel.engine.result import Result
from perfmodel.engine.result_schema import result_schema
from perfmodel.engine.session import LoadedScenario, load
from perfmodel.errors import SpecError, UsageError
from perfmodel.study.compare import compare

Ask = Callable[..., LoadedScenario]
Run = Callable[..., Result]
EXACT = 1e-12


def seconds(value: float) -> str:
    return f"{value!r} s"


def told(result: Result) -> dict[str, Any]:
    found = result.to_dict()["measured"]
    assert found is not None
    return found


def numbers(prefix: str, branch: object) -> dict[str, float]:
    """Numbers below a key of the result, by dotted key."""
    if isinstance(branch, (int, float)) and not isinstance(branch, bool):
        return {prefix: float(branch)}
    pairs = branch.items() if isinstance(branch, dict) else enumerate(branch) if isinstance(branch, list) else ()
    return {key: value for name, one in pairs for key, value in numbers(f"{prefix}.{name}", one).items()}


def test_without_a_measured_step_there_is_nothing_to_say(run: Run) -> None:
    for changes in ({}, {"measured": {"peak_memory": "60 GiB"}}):
        result = run("llama-8b", **changes)
        assert result.to_dict()["measured"] is None
        with pytest.raises(UsageError, match="states no measured step"):
            result.explain("measured.ratio")


@pytest.mark.parametrize("name", ["llama-8b", "llama-405b", "mixtral"])
def test_a_ratio_of_one_leaves_the_prediction(run: Run, name: str) -> None:
    there = {"workload.global_batch": 512}
    predicted = run(name, **there).time["step_s"]
    plain, scaled = run(name), run(name, measured={"step_time": seconds(predicted), "at": there})
    found = told(scaled)
    assert found["ratio"] == 1.0
    anchored = found["anchored"]
    assert anchored["step_s"] == pytest.approx(plain.time["step_s"], rel=EXACT)
    assert anchored["tokens_per_s"] == pytest.approx(plain.metrics["tokens_per_s"], rel=EXACT)
    assert anchored["mfu"] == pytest.approx(plain.metrics["mfu"], rel=EXACT)
    days = plain.run["days"]
    assert anchored["days"] == (None if days is None else pytest.approx(days, rel=EXACT))
    assert all(row["factor"] in (None, 1.0) for row in found["terms"])


def test_anchored_at_its_own_configuration_it_is_the_measurement(run: Run) -> None:
    here = told(run("llama-8b", measured={"step_time": "3.7 s"}))["anchored"]
    assert here["step_s"] == here["p10"] == here["p90"] == 3.7
    named = told(run("llama-8b", measured={"step_time": "3.7 s", "at": {"cluster.devices": 64}}))["anchored"]
    assert named["step_s"] == 3.7


def test_the_range_of_the_measurement_is_the_interval(run: Run) -> None:
    step = {"value": "4 s", "low": "3.8 s", "high": "4.2 s"}
    anchored = told(run("llama-8b", measured={"step_time": step}))["anchored"]
    assert (anchored["p10"], anchored["p90"]) == pytest.approx((3.8, 4.2), rel=3e-3)


def test_the_factor_holds_at_any_number_of_devices(run: Run) -> None:
    """Measured 30 % slower at 32 devices: 30 % slower at 64 and at 128, and more devices still make a shorter step."""
    there = {"cluster.devices": 32}
    measured = {"step_time": seconds(1.3 * run("llama-8b", **there).time["step_s"]), "at": there}
    steps = []
    for devices in (64, 128):
        result = run("llama-8b", cluster__devices=devices, measured=measured)
        steps.append(told(result)["anchored"]["step_s"])
        assert steps[-1] == pytest.approx(1.3 * result.time["step_s"], rel=EXACT)
    assert steps[1] < 0.6 * steps[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"software.behaviour.matmul_slowdown": 1.4},
        {"accelerator.compute.matrix.bf16.peak": "700 TFLOP/s"},
        {"software.behaviour.tensor_exposed": 1.0},
    ],
)
def test_a_wrong_input_is_mostly_corrected_at_another_scale(run: Run, wrong: dict[str, Any]) -> None:
    """The world differs from the model in one number; a step measured in it at 1024 devices corrects 8192."""
    base = {"software": "megatron-core"}
    there = {"cluster.devices": 1024, "workload.global_batch": 256}
    measured = {"step_time": seconds(run("llama-405b", **base, **there, **wrong).time["step_s"]), "at": there}
    truth = run("llama-405b", **base, **wrong).time["step_s"]
    result = run("llama-405b", **base, measured=measured)
    alone, anchored = result.time["step_s"], told(result)["anchored"]["step_s"]
    assert abs(alone / truth - 1.0) > 0.02
    assert abs(anchored / truth - 1.0) < 0.15 * abs(alone / truth - 1.0)


def test_a_profile_shares_out_the_whole_difference(run: Run) -> None:
    predicted = run("llama-405b").time
    profile = {"forward": "2.9 s", "pipeline_bubble": "0.2 s", "recompute": "0.1 s"}
    found = told(run("llama-405b", measured={"step_time": "12.5 s", "breakdown": profile}))
    rows = {row["term"]: row for row in found["terms"]}
    assert set(rows) == {*profile, "rest"}
    assert sum(row["difference_s"] for row in rows.values()) == pytest.approx(12.5 - predicted["step_s"], rel=1e-9)
    assert sum(row["measured_s"] for row in rows.values()) == pytest.approx(12.5, rel=EXACT)
    assert rows["forward"]["difference_s"] == pytest.approx(2.9 - predicted["breakdown"]["forward_s"], rel=EXACT)
    assert rows["rest"]["measured_s"] == pytest.approx(12.5 - 3.2, rel=EXACT)


@pytest.mark.parametrize("factor", [1.07, 0.8])
def test_the_sole_factor_explains_the_step(run: Run, factor: float) -> None:
    step = run("llama-405b").time["step_s"]
    found = told(run("llama-405b", measured={"step_time": seconds(factor * step)}))
    terms = {row["term"]: row for row in found["terms"]}
    assert tuple(terms) == TERMS
    for name, row in terms.items():
        others = sum(one["predicted_s"] for other, one in terms.items() if other != name)
        if row["factor"] is None:
            assert row["predicted_s"] == 0.0 or others > factor * step
        else:
            assert others + row["factor"] * row["predicted_s"] == pytest.approx(factor * step, rel=1e-12)
    assert terms["backward"]["factor"] is not None
    assert terms["recompute"]["factor"] is None


def test_terms_can_be_measured_by_the_names_that_results_have(run: Run) -> None:
    assert {f"{name}_s" for name in TERMS} == set(run("llama-8b").time["breakdown"])


@pytest.mark.parametrize("name", ["step_time", "tokens_per_second", "mfu"])
def test_every_way_to_say_the_pace_says_the_same(run: Run, name: str) -> None:
    slow = run("llama-405b", software__behaviour__matmul_slowdown=1.5)
    value: Any = {
        "step_time": seconds(slow.time["step_s"]),
        "tokens_per_second": f"{slow.metrics['tokens_per_s']!r} token/s",
        "mfu": slow.metrics["mfu"],
    }[name]
    assert told(run("llama-405b", measured={name: value}))["step_s"] == pytest.approx(slow.time["step_s"], rel=EXACT)


def test_a_measured_figure_stands_beside_the_prediction_of_its_configuration(run: Run) -> None:
    there = {"cluster.devices": 32}
    measured = {"mfu": "40 %", "peak_memory": "60 GiB", "at": there}
    published = [{"key": "metrics.mfu", "value": "38 %", "source": "scenario"}]
    rows = run("llama-8b", measured=measured, published=published).published
    here, other = run("llama-8b"), run("llama-8b", **there)
    assert [row.predicted for row in rows] == [
        here.metrics["mfu"],
        other.metrics["mfu"],
        other.memory["peak_bytes"],
    ]
    assert [row.at for row in rows] == ["", *["cluster.devices = 32"] * 2]


def width(interval: Any) -> float:
    return interval["p90"] / interval["p10"]


def test_the_interval_is_narrower_than_without_a_measurement(run: Run) -> None:
    for name in ("llama-405b", "mixtral"):
        result = run(name, measured={"mfu": "40 %", "at": {"workload.global_batch": 512}})
        assert told(result)["anchored"]["basis"] == "anchored"
        assert 1.05 < width(told(result)["anchored"]) < width(result.uncertainty["time.step_s"])


def test_a_measurement_of_another_stack_does_not_narrow_it(run: Run) -> None:
    there = {"software": "megatron-core", "strategy.recompute": "none"}
    result = run("llama-405b", measured={"mfu": "40 %", "at": there})
    assert told(result)["anchored"]["basis"] == result.uncertainty["time.step_s"]["basis"]
    assert width(told(result)["anchored"]) > width(result.uncertainty["time.step_s"])


def test_the_residual_of_the_class_widens_the_interval(run: Run) -> None:
    measured = {"mfu": "40 %", "at": {"workload.global_batch": 512}}
    widths = [
        width(
            told(run("llama-405b", measured=measured, **{"efficiency_class.relative_error.anchored": value}))[
                "anchored"
            ]
        )
        for value in (0.02, 0.05, 0.1, 5.0)
    ]
    assert widths == sorted(widths)
    assert widths[0] < widths[2]
    # Whatever the class says, the measurement does not make it worse than a prediction alone.
    assert widths[3] <= width(run("llama-405b").uncertainty["time.step_s"])


@pytest.mark.parametrize(
    ("name", "measured"),
    [
        ("llama-405b", {"mfu": "40 %", "at": {"cluster.devices": 4096}}),
        ("mixtral", {"tokens_per_second": "250000 token/s", "average_power": "60 kW"}),
        (
            "llama-8b",
            {"step_time": "4 s", "breakdown": {"forward": "1 s", "optimizer": "30 ms"}, "at": {"strategy.zero": 3}},
        ),
    ],
)
def test_every_number_is_its_derivation(run: Run, name: str, measured: dict[str, Any]) -> None:
    result = run(name, measured=measured)
    found = numbers("measured", told(result)) | numbers("published", result.to_dict()["published"])
    assert len(found) > 12
    for key, value in found.items():
        assert float(result.explain(key).value) == pytest.approx(value, rel=EXACT, abs=1e-300), key


def test_results_with_a_measurement_keep_to_the_schema(run: Run) -> None:
    validator = Draft202012Validator(result_schema())
    for measured in (
        {"mfu": "40 %", "at": {"cluster.devices": 32}},
        {"step_time": "4 s", "breakdown": {"forward": "1 s"}},
    ):
        result = json.loads(run("llama-8b", measured=measured).to_json())
        assert [error.message for error in validator.iter_errors(result)] == []
        del result["measured"]["terms"][0]["factor"]
        assert len(list(validator.iter_errors(result))) == 1


def test_what_is_set_holds_in_both_configurations(ask: Ask) -> None:
    scenario = ask("llama-8b", measured={"mfu": "40 %", "at": {"cluster.devices": 32, "strategy.zero": 3}})
    changed = scenario.replace(**{"strategy.zero": 2, "strategy.micro_batch": 2})
    plan, there = changed.question.plan, changed.question.measured_at
    assert there is not None
    assert (int(plan.zero[0]), int(plan.micro_batch[0]), int(plan.devices[0])) == (2, 2, 64)
    assert (int(there.plan.zero[0]), int(there.plan.micro_batch[0]), int(there.plan.devices[0])) == (3, 2, 32)
    assert changed.resolved.sha256 != scenario.resolved.sha256


def test_a_plan_that_cannot_have_run_is_told(run: Run) -> None:
    found = told(run("llama-8b", measured={"mfu": "40 %", "at": {"strategy.tp": 64}}))
    assert any("64" in reason for reason in found["reasons"])
    there = {"cluster.devices": 32, "strategy.recompute": "full"}
    assert told(run("llama-8b", measured={"mfu": "40 %", "at": there}))["reasons"] == []


def test_a_comparison_takes_the_scaled_step(run: Run) -> None:
    """Two scenarios of one prediction: the one that was measured at half the pace is the slower one."""
    plain = run("llama-405b")
    slower = run("llama-405b", measured={"step_time": seconds(2.0 * plain.time["step_s"])})
    assert compare([plain, plain]).probabilities[0] == pytest.approx(0.5)
    assert compare([plain, slower]).probabilities[0] > 0.95  # type: ignore[operator]


def test_the_published_run_on_8192_devices_predicts_that_on_16384() -> None:
    """Table 4 of the Llama 3 paper: 43 % on 8192 H100, 41 % on 16384 at the same tokens per step."""
    scenario = load("llama3.1-405b-16384-h100")
    anchored = scenario.replace(measured={"mfu": "43 %", "at": {"cluster.devices": 8192}}).run()
    (published,) = (row for row in anchored.published if not row.at)
    assert published.value == pytest.approx(0.41)
    scaled = told(anchored)["anchored"]
    assert scaled["mfu"] == pytest.approx(published.value, rel=0.02)
    step_published = anchored.time["step_s"] * anchored.metrics["mfu"] / published.value
    assert scaled["p10"] < step_published < scaled["p90"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("at: {cluster.devcies: 32}", r"own.yaml:7: cluster.devcies: unknown key 'devcies'.*did you mean 'devices'"),
        ("at: {strategy.tpp: 8}", r"own.yaml:7: strategy.tpp: unknown key 'tpp'.*did you mean 'tp'"),
        ("at: {clutser.devices: 8}", r"own.yaml:7: measured.at.clutser.devices: .*did you mean 'cluster'"),
        ("at: {published: []}", r"own.yaml:7: measured.at.published: 'published' is no part of a configuration"),
        ("at: {cluster.devices: many}", r"own.yaml:7: cluster.devices: 'many' is not a count"),
        ("at: {strategy.dp: 7}", r"own.yaml:7: strategy.dp: 7 conflicts with devices"),
        ("at: {strategy..tp: 7}", r"own.yaml:7: strategy..tp: an empty part"),
        ("at: {software: no-such}", r"own.yaml:7: software: no software 'no-such'"),
        ("at: {interconnects.none.latency: 1 us}", r"own.yaml:7: interconnects.none.latency: no interconnect 'none'"),
        ("at: [cluster.devices]", r"own.yaml:7: measured.at: expected a mapping"),
        ("breakdown: {forwrd: 1 s}", r"own.yaml:7: measured.breakdown.forwrd: unknown key.*did you mean 'forward'"),
        ("breakdown: {forward: 1}", r"own.yaml:7: measured.breakdown.forward: 1 has no unit"),
        ("breakdown: {forward: 8 s}", r"own.yaml:5: measured: .*add up to 8 s, more than step_time 6 s"),
    ],
)
def test_bad_input_is_told_with_file_and_line(tmp_path: Path, line: str, answer: str) -> None:
    path = tmp_path / "own.yaml"
    head = "kind: scenario\nextends: llama3.1-405b-16384-h100\nname: own\ntitle: own\nmeasured:\n  step_time: 6 s\n"
    path.write_text(f"{head}  {line}\n", encoding="utf-8")
    with pytest.raises((SpecError, UsageError), match=answer):
        load(path)


def test_a_profile_needs_the_step_beside_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="breakdown needs step_time"):
        load("llama3.1-405b-16384-h100").replace(measured={"breakdown": {"forward": "1 s"}})


def test_a_conflict_with_the_rest_of_the_scenario_names_the_measurement(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "kind: scenario\nextends: llama3.1-405b-16384-h100\nname: own\ntitle: own\nstrategy: {dp: 128}\n"
        "measured:\n  step_time: 6 s\n  at: {cluster.devices: 8192}\n",
        encoding="utf-8",
    )
    with pytest.raises(SpecError, match=r"own.yaml:8: measured.at: this configuration cannot be: .*dp: 128 conflicts"):
        load(path)
