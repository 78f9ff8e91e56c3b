"""Why a search does not answer with a plan: against evaluations of every plan of a small space."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from perfmodel.engine.evaluate import evaluate
from perfmodel.engine.result import Result
from perfmodel.errors import SpecError, UsageError
from perfmodel.specs.resolve import ResolvedScenario, load_scenario
from perfmodel.study.search.why_not import WhyNot, why_not

STEP, MFU, PEAK = "time.step_s", "metrics.mfu", "memory.peak_bytes"
AXES: dict[str, list[Any]] = {
    "tp": [1, 2, 4], "pp": [1, 2], "micro_batch": [1, 2], "zero": [0, 2], "sequence_parallel": [True, False],
    "recompute": ["none", "full"],
}  # fmt: skip
SMALL: dict[str, Any] = {
    "kind": "scenario", "name": "small", "question": "search", "model": "llama-3.1-8b",
    "cluster": {"name": "hgx-h100-ib-ndr", "devices": 16}, "software": "megatron-core",
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 32}, "strategy": AXES,
}  # fmt: skip
#: Needs more memory than there is without sharding or recomputation.
TIGHT: dict[str, Any] = {
    **SMALL, "name": "tight", "model": "llama-3.1-70b", "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64},
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128},
    "strategy": {"tp": [2, 4, 8], "pp": [1, 2, 4], "micro_batch": [1, 4], "zero": [0, 1, 2], "recompute": "auto",
                 "sequence_parallel": True},
}  # fmt: skip


def _loaded(data: dict[str, Any], **changes: Any) -> ResolvedScenario:
    return load_scenario({**data, **changes})


@pytest.fixture(scope="module")
def small() -> ResolvedScenario:
    return _loaded(SMALL)


@pytest.fixture(scope="module")
def tight() -> ResolvedScenario:
    return _loaded(TIGHT)


@pytest.fixture(scope="module")
def every(small: ResolvedScenario) -> list[tuple[dict[str, Any], Result]]:
    """All plans of the small space that fit, one evaluation each; the same plan is there once."""
    found: list[tuple[dict[str, Any], Result]] = []
    for values in itertools.product(*AXES.values()):
        chosen = dict(zip(AXES, values, strict=True))
        if chosen["sequence_parallel"] and chosen["tp"] == 1:
            continue
        result = evaluate(small.candidate(**{f"strategy.{name}": one for name, one in chosen.items()}))
        if result.feasible:
            found.append((chosen, result))
    return found


def _run(answer: WhyNot, scenario: ResolvedScenario, **changes: Any) -> Result:
    return evaluate(scenario.candidate(**(dict(answer.plan.settings) | changes)))


@pytest.mark.parametrize("named", [
    {"tp": 4}, {"pp": 2}, {"tp": 2, "pp": 2, "micro_batch": 2}, {"recompute": "full"}, {"zero": 0},
    {"tp": 4, "pp": 2, "micro_batch": 1, "zero": 2, "sequence_parallel": False, "recompute": "full"},
])  # fmt: skip
def test_the_rank_is_that_of_all_evaluations(
    small: ResolvedScenario, every: list[tuple[dict[str, Any], Result]], named: dict[str, Any]
) -> None:
    steps = sorted(result.time["step_s"] for _, result in every)
    mine = min(result.time["step_s"] for chosen, result in every if named.items() <= chosen.items())
    answer = why_not(small, named)
    assert answer.allowed == len(steps)
    assert answer.plan.numbers[STEP] == pytest.approx(mine, rel=1e-12)
    assert answer.rank == 1 + sum(step < mine * (1 - 1e-12) for step in steps)
    assert answer.verdict == ("best" if answer.rank == 1 else "loses")
    assert answer.best is not None
    assert answer.best.numbers[STEP] == pytest.approx(steps[0], rel=1e-12)


def test_numbers_are_those_of_an_evaluation_and_terms_sum_up(small: ResolvedScenario) -> None:
    answer = why_not(small, {"tp": 4, "pp": 2})
    result = _run(answer, small)
    for key in (STEP, MFU, PEAK, "energy.per_step_j", "time.breakdown.pipeline_bubble_s"):
        assert answer.plan.numbers[key] == pytest.approx(result.value(key), rel=1e-12)
    assert answer.best is not None
    apart = answer.plan.numbers[STEP] - answer.best.numbers[STEP]
    assert sum(one.difference for one in answer.terms) == pytest.approx(apart, rel=1e-9)
    sizes = [abs(one.difference) for one in answer.terms]
    assert sizes == sorted(sizes, reverse=True)
    assert answer.completed.keys() == {f"strategy.{name}" for name in AXES if name not in ("tp", "pp")}


def test_other_objectives_order_by_their_own_terms(every: list[tuple[dict[str, Any], Result]]) -> None:
    named = {"tp": 4, "pp": 2}
    by_use = why_not(_loaded(SMALL, objectives={MFU: "max"}), named)
    assert by_use.rank == why_not(_loaded(SMALL), named).rank
    thin = why_not(_loaded(SMALL, objectives={PEAK: "min"}), named)
    peaks = [result.memory["peak_bytes"] for _, result in every]
    assert thin.rank == 1 + sum(peak < thin.plan.numbers[PEAK] * (1 - 1e-12) for peak in peaks)
    assert {one.key.split(".")[0] for one in thin.terms} == {"memory"}


@pytest.mark.parametrize(("named", "path"), [({"tp": 3}, "strategy.tp"), ({"pp": 3}, "strategy.pp"),
                                             ({"micro_batch": 3, "tp": 1}, "strategy.micro_batch")])  # fmt: skip
def test_rules_are_told_with_their_numbers_and_the_nearest_sizes(
    small: ResolvedScenario, named: dict[str, Any], path: str
) -> None:
    answer = why_not(small, named)
    assert answer.verdict == "rules"
    assert not answer.feasible
    assert len(answer.reasons) > 0
    assert set(answer.reasons) <= set(_run(answer, small).reasons)
    assert answer.nearest[path]
    for size in answer.nearest[path]:
        near = why_not(small, named | {path: size})
        assert near.verdict != "rules"
    value = named[path.removeprefix("strategy.")]
    assert min(answer.nearest[path]) < value < max(answer.nearest[path])


def test_the_rule_that_no_completion_keeps_comes_first(small: ResolvedScenario) -> None:
    assert "3" in why_not(small, {"pp": 3, "tp": 1}).reasons[0]
    assert any("32 attention heads" in one for one in why_not(small, {"tp": 3}).reasons)


def test_what_does_not_fit_is_told_with_what_would(tight: ResolvedScenario) -> None:
    named = {"tp": 4, "pp": 2, "micro_batch": 4, "zero": 0, "recompute": "none"}
    answer = why_not(tight, named)
    result = _run(answer, tight)
    assert answer.verdict == "memory"
    assert answer.reasons == result.reasons
    assert answer.plan.numbers[PEAK] == pytest.approx(result.memory["peak_bytes"], rel=1e-12)
    assert answer.remedies
    for remedy in answer.remedies:
        again = _run(answer, tight, **remedy.changes)
        assert again.feasible
        assert again.time["step_s"] == pytest.approx(remedy.entry.numbers[STEP], rel=1e-12)
        assert set(remedy.changes) <= {f"strategy.{one}" for one in (
            "recompute", "zero", "micro_batch", "tp", "sequence_parallel",
        )}  # fmt: skip
    steps = [remedy.entry.numbers[STEP] for remedy in answer.remedies]
    assert steps == sorted(steps)


def test_one_change_is_enough_or_several_are_told(tight: ResolvedScenario) -> None:
    one = why_not(tight, {"tp": 8, "pp": 4, "micro_batch": 4, "zero": 0, "recompute": "none"})
    assert one.verdict == "memory"
    fields = [{path for path in remedy.changes if path != "strategy.sequence_parallel"} for remedy in one.remedies]
    assert {len(changed) for changed in fields} == {1}
    outside = [remedy for remedy in one.remedies if remedy.changes == {"strategy.zero": 3}]
    assert [remedy.in_space for remedy in outside] == [False] * len(outside)
    several = why_not(tight, {"tp": 2, "pp": 1, "micro_batch": 4, "zero": 0, "recompute": "none"})
    assert several.remedies
    assert all(_run(several, tight, **remedy.changes).feasible for remedy in several.remedies)


def test_limits_that_are_not_kept_are_told(small: ResolvedScenario) -> None:
    limited = _loaded(SMALL, constraints={MFU: {"min": 0.4}, "strategy.pp": {"max": 1}, PEAK: {"max": "70 GiB"}})
    answer = why_not(limited, {"pp": 2})
    assert answer.verdict == "constraint"
    assert not answer.feasible
    told = {one["key"]: one for one in answer.to_dict()["constraints"]}
    assert told["strategy.pp"]["value"] == 2
    assert told["strategy.pp"]["max"] == 1
    assert all("limit" in sentence for sentence in answer.reasons)
    result = _run(answer, small)
    for key, one in told.items():
        if key != "strategy.pp":
            assert one["value"] == pytest.approx(result.value(key), rel=1e-12)


def test_values_that_the_space_does_not_have_are_told(small: ResolvedScenario) -> None:
    answer = why_not(small, {"tp": 8, "cp": 2})
    listed, fixed = answer.outside
    assert (listed.path, listed.values, listed.listed) == ("strategy.tp", (1, 2, 4), True)
    assert (fixed.path, fixed.values, fixed.listed) == ("strategy.cp", (1,), False)
    assert answer.verdict == "loses"
    only = _loaded(SMALL, strategy={**AXES, "tp": [4], "recompute": ["full"]})
    winner = why_not(only, {"tp": 1, "recompute": "full"})
    assert winner.verdict == "would-win"
    assert winner.rank == 1
    schedule = why_not(small, {"pp": 2, "schedule": "gpipe"})
    assert [one.path for one in schedule.outside] == ["strategy.pipeline.schedule"]


def test_the_best_is_the_best_however_it_is_written(small: ResolvedScenario) -> None:
    best = why_not(small, {})
    assert best.verdict == "best"
    named = {path.removeprefix("strategy."): value for path, value in best.plan.settings.items()}
    assert why_not(small, named).verdict == "best"
    same = why_not(small, {"tp": 1, "sequence_parallel": True})
    assert same.same_as == {"strategy.sequence_parallel": False}
    assert same.plan.settings == why_not(small, {"tp": 1, "sequence_parallel": False}).plan.settings


def test_parts_of_recomputation_and_numbers_of_the_machine_may_vary() -> None:
    parts = _loaded(SMALL, strategy={
        **{name: one for name, one in AXES.items() if name != "recompute"},
        "recompute": {"policy": ["none", "full"], "fraction": [0.5, 1.0]},
    })  # fmt: skip
    answer = why_not(parts, {"recompute": {"policy": "full", "fraction": 0.5}, "tp": 2})
    assert answer.outside == ()
    assert answer.plan.settings["strategy.recompute"] == {"policy": "full", "fraction": 0.5}
    swept = _loaded({**SMALL, "strategy": {"tp": [1, 2, 4]}}).replace(**{
        "cluster.accelerator.memory.capacity": ["80 GiB", "141 GiB"],
    })  # fmt: skip
    best = why_not(swept, {})
    assert best.verdict == "best"
    assert best.outside == ()
    assert why_not(swept, {"tp": 4}).verdict == "loses"


def test_mistakes_are_told(small: ResolvedScenario) -> None:
    with pytest.raises(UsageError, match=r"dp follows from devices / \(tp\*cp\*pp\)"):
        why_not(small, {"dp": 4})
    with pytest.raises(SpecError, match="micro_batch"):
        why_not(small, {"microbatch": 4})
    with pytest.raises(SpecError, match="at least 1"):
        why_not(small, {"tp": 0})
    with pytest.raises(SpecError, match="everything"):
        why_not(small, {"recompute": "everything"})


@pytest.fixture
def written(tmp_path: Path) -> str:
    path = tmp_path / "tight.yaml"
    with path.open("w") as file:
        YAML().dump(TIGHT, file)
    return str(path)


@pytest.mark.parametrize(("plan", "code", "says"), [
    ("tp=8,pp=4", 0, "loses"),
    ("tp=3", 1, "does not divide the 64 attention heads"),
    ("tp=4,pp=2,micro_batch=4,zero=0,recompute=none", 1, "What of this layout would fit"),
    ("tp=16", 0, "Not in the space: tp = 16"),
    ("dp=2", 2, "dp follows from"),
])  # fmt: skip
def test_the_command_answers_in_words(run: Callable, written: str, plan: str, code: int, says: str) -> None:
    outcome = run("explain", written, "--plan", plan, "--quiet")
    assert outcome.code == code
    assert says in (outcome.out + outcome.err).replace("\n", " ").replace("    ", "")
    assert all(len(line) <= 100 for line in outcome.out.splitlines())
    assert outcome.out.startswith("infeasible") == (code == 1)


def test_the_command_answers_in_json(run: Callable, written: str) -> None:
    told = json.loads(run("explain", written, "--plan", "tp=8,pp=4", "--format", "json").out)
    assert told["schema"] == "perfmodel.why-not/1"
    assert told["named"] == {"strategy.tp": 8, "strategy.pp": 4}
    assert told["rank"] > 1
    assert told["difference"][0]["key"].startswith("time.breakdown.")


def _root(text: str) -> float:
    derivation = json.loads(text)
    return next(step["value"] for step in derivation["steps"] if step["step"] == derivation["root"])


def test_without_a_plan_the_best_is_derived(run: Callable, written: str, tight: ResolvedScenario) -> None:
    derived = _root(run("explain", written, "--format", "json").out)
    best = why_not(tight, {})
    assert derived == pytest.approx(best.plan.numbers[STEP], rel=1e-12)
    other = _root(run("explain", written, "metrics.mfu", "--plan", "tp=8,pp=4", "--format", "json").out)
    assert other == pytest.approx(why_not(tight, {"tp": 8, "pp": 4}).plan.numbers[MFU], rel=1e-12)
