"""Searches: the same numbers as an evaluation, exact answers, and what is said about spaces that cannot be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import perfmodel as pm
from perfmodel.engine.blocks import blocks_of_rows, possible_rows, redundant
from perfmodel.engine.build import build_question
from perfmodel.engine.columns import evaluate_columns
from perfmodel.engine.evaluate import evaluate
from perfmodel.engine.headline import plan_rules
from perfmodel.errors import SpecError, UsageError
from perfmodel.parallel.rules import violated
from perfmodel.specs.resolve import ResolvedScenario, load_scenario
from perfmodel.study.search import search
from perfmodel.study.search.prune import holds_for
from perfmodel.study.search.regions import search_space
from perfmodel.study.search.walk import Found, Task, joined, run_task, tasks_of
from perfmodel.study.search.wanted import wanted

DENSE: dict[str, Any] = {
    "kind": "scenario", "name": "dense", "question": "search", "model": "llama-3.1-8b",
    "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64}, "software": "megatron-core",
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128},
    "strategy": {
        "tp": [1, 2, 4, 8, 16], "cp": [1, 2], "pp": [1, 2, 4, 8], "micro_batch": [1, 2], "zero": "auto",
        "sequence_parallel": [True, False],
        "recompute": ["none", "selective", {"policy": "full", "fraction": 0.5}, "full"],
        "pipeline": {"virtual_stages": [1, 2]}, "overlap": {"data": "auto", "tensor": "auto"},
    },
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    **DENSE, "name": "experts", "model": "mixtral-8x7b", "numerics": "deepseek-v3-fp8",
    "strategy": {
        "tp": [1, 2, 4], "pp": [1, 2, 4, 8], "ep": "auto", "etp": [1, 2], "micro_batch": [1, 2], "zero": [1, 3],
        "dp_replicate": [1, 2], "sequence_parallel": [True, False], "order": "auto",
        "pipeline": {"schedule": ["1f1b", "zb-h1", "dualpipe"]},
    },
}  # fmt: skip
SWEEP: dict[str, Any] = {
    **DENSE, "name": "sweep",
    "cluster": {"name": "hgx-h100-ib-ndr", "devices": [32, 64]},
    "strategy": {"tp": [1, 2, 4, 8], "pp": [1, 2], "zero": [1, 3], "recompute": ["none", "full"]},
}  # fmt: skip
BANDWIDTHS = {"cluster.accelerator.memory.bandwidth": {"from": "1 TB/s", "to": "8 TB/s", "points": 4, "scale": "log"}}
UNEVEN: dict[str, Any] = {
    **DENSE, "name": "uneven", "strategy": {
        "tp": [1, 2], "pp": [3, 4, 8], "micro_batch": 1, "recompute": "full",
        "pipeline": {"layers_per_stage": "auto", "virtual_stages": [1, 2]},
    },
    "model": {"extends": "llama-3.1-8b", "name": "odd", "layers": 30},
}  # fmt: skip


def resolved(data: Mapping[str, Any], **overrides: Any) -> ResolvedScenario:
    return load_scenario(data, overrides={name.replace("__", "."): value for name, value in overrides.items()})


@pytest.mark.parametrize("data", [DENSE, EXPERTS, UNEVEN], ids=lambda data: data["name"])
def test_every_candidate_of_a_block_has_the_numbers_of_its_plan(data: Mapping[str, Any]) -> None:
    random = np.random.default_rng(3)
    for region in search_space(resolved(data)).regions:
        problem, space = region.question.problem, region.space
        rows = possible_rows(problem, space, 0, space.row_count)
        for block in blocks_of_rows(problem, space, rows, region.sweep.points):
            flat = random.integers(0, block.size, 300)
            _, candidates = block.candidates(flat)
            plans = space.plans(candidates)
            alone = evaluate_columns(problem, plans, devices=plans.devices)
            feasible = alone.pop("feasible") & ~redundant(plans)
            together = block.numbers(list(alone))
            for key, values in alone.items():
                np.testing.assert_allclose(together[key].ravel()[flat], values, rtol=1e-12, err_msg=key)
            assert np.array_equal(block.everywhere(block.fits).ravel()[flat], feasible)


def test_parts_hold_every_candidate_that_fits_once() -> None:
    (region,) = search_space(resolved(DENSE)).regions
    problem, space = region.question.problem, region.space
    rows = possible_rows(problem, space, 0, space.row_count)
    for block in blocks_of_rows(problem, space, rows, region.sweep.points):
        whole = block.candidates(np.flatnonzero(block.everywhere(block.fits).ravel()))[1]
        parts = [part.candidates(np.flatnonzero(part.everywhere(part.fits).ravel()))[1] for part in block.parts()]
        assert np.array_equal(np.sort(np.concatenate(parts)), np.sort(whole))


def test_rows_that_are_dropped_break_a_rule_whatever_the_switches() -> None:
    (region,) = search_space(resolved(DENSE)).regions
    problem, space = region.question.problem, region.space
    kept = set(possible_rows(problem, space, 0, space.row_count).tolist())
    dropped = [row for row in range(space.row_count) if row not in kept]
    candidates = np.array(dropped)[:, None] * space.switch_count + np.arange(space.switch_count)
    assert np.all(violated(plan_rules(problem, space.plans(candidates.ravel()), 64)))


def test_a_hardware_point_is_the_scenario_with_its_number() -> None:
    scenario = resolved(SWEEP, **BANDWIDTHS)
    found = search(scenario)
    assert len(found.bests) == 4 * 2  # points of the sweep times numbers of devices
    for entry in found.bests:
        alone = evaluate(scenario.candidate(**entry.settings))
        assert alone.feasible
        assert entry.numbers["time.step_s"] == pytest.approx(alone.time["step_s"], rel=1e-12)
        assert entry.numbers["energy.per_step_j"] == pytest.approx(alone.energy["per_step_j"], rel=1e-12)


def test_the_best_of_a_sweep_is_the_best_of_each_point_alone() -> None:
    together = search(resolved(SWEEP, **BANDWIDTHS))
    for entry in together.bests:
        fixed = {name: entry.settings[name] for name in ("cluster.devices", *BANDWIDTHS)}
        alone = search(resolved(SWEEP, **fixed))
        assert alone.best[0].numbers["time.step_s"] == pytest.approx(entry.numbers["time.step_s"], rel=1e-12)


def test_the_answer_is_that_of_brute_force() -> None:
    scenario = resolved(DENSE)
    (region,) = search_space(scenario).regions
    every = region.space.plans(np.arange(len(region.space)))
    plans = every.take(every.dp > 0)  # at least one device for each rank
    columns = evaluate_columns(region.question.problem, plans)
    feasible = columns["feasible"] & ~redundant(plans)
    found = search(scenario)
    times = np.sort(columns["time.step_s"][feasible])[: len(found.best)]
    assert [entry.numbers["time.step_s"] for entry in found.best] == pytest.approx(times.tolist(), rel=1e-12)
    assert found.found.feasible == found.found.allowed == int(feasible.sum())
    assert found.found.enumerated == len(region.space)


def test_objectives_give_the_front_and_constraints_cut_it() -> None:
    goals = {"objectives": {"time.step_s": "min", "memory.peak_bytes": "min", "metrics.mfu": "max"}}
    limits = {"constraints": {"memory.peak_bytes": {"max": "40 GiB"}, "strategy.tp": {"max": 4}}}
    free, bound = search(resolved(DENSE | goals)), search(resolved(DENSE | goals | limits))
    assert 0 < bound.found.allowed < free.found.allowed == free.found.feasible == bound.found.feasible
    assert all(one.numbers["memory.peak_bytes"] <= 40 * 2**30 and one.plan["tp"] <= 4 for one in bound.pareto)
    assert bound.best[0].numbers["time.step_s"] >= free.best[0].numbers["time.step_s"]
    points = np.array([[one.numbers["time.step_s"], one.numbers["memory.peak_bytes"]] for one in free.pareto])
    assert np.all(np.diff(points[:, 0]) >= 0)
    for one, other in itertools.permutations(points, 2):
        assert not (np.all(one <= other) and np.any(one < other))


@pytest.mark.parametrize("cuts", [1, 7, 50])
def test_the_answer_does_not_depend_on_how_the_work_is_cut(cuts: int) -> None:
    scenario = resolved(DENSE | {"objectives": {"time.step_s": "min", "energy.per_step_j": "min"}})
    space = search_space(scenario)
    goal = wanted(scenario, space.regions[0].question)
    whole = joined(space, goal, [run_task(space, goal, task) for task in tasks_of(space)])
    rows = space.regions[0].space.row_count
    ends = np.unique(np.linspace(0, rows, cuts + 1).astype(int))
    tasks = [Task(0, int(start), int(stop)) for start, stop in itertools.pairwise(ends)]
    parts = joined(space, goal, [run_task(space, goal, task) for task in reversed(tasks)])
    for name in ("enumerated", "evaluated", "feasible", "allowed"):
        assert getattr(whole, name) == getattr(parts, name)
    for name in ("best", "front", "bests", "least_memory"):
        assert np.array_equal(getattr(whole, name).place, getattr(parts, name).place), name
        assert np.array_equal(getattr(whole, name).values, getattr(parts, name).values), name


def test_more_choices_are_never_worse() -> None:
    narrow = {**DENSE, "strategy": {**DENSE["strategy"], "tp": [2, 4], "zero": [1]}}
    assert (
        search(resolved(DENSE)).best[0].numbers["time.step_s"]
        <= search(resolved(narrow)).best[0].numbers["time.step_s"]
    )


def test_clusters_and_stacks_are_groups() -> None:
    several = {
        **SWEEP,
        "cluster": [{"name": "hgx-h100-ib-ndr", "devices": 64}, {"name": "hgx-a100-ib-hdr", "devices": 64}],
    }
    found = search(resolved(several))
    assert [entry.settings["cluster"]["name"] for entry in found.bests] == ["hgx-h100-ib-ndr", "hgx-a100-ib-hdr"]
    assert found.best[0].settings["cluster"]["name"] == "hgx-h100-ib-ndr"


def test_nothing_fits_says_what_needs_least() -> None:
    found = search(resolved({**DENSE, "model": "llama-3.1-405b"}))
    assert not found.feasible
    assert "the one that needs the least memory" in found.reasons[0]
    assert found.result.reasons[0] in found.reasons


def test_python_runs_a_search() -> None:
    found = pm.load({**DENSE, "top": 3}).run()
    assert len(found.best) == 3
    assert found.to_dict()["question"] == "search"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy.tp": []}, "empty list"),
        ({"strategy.tp": [2, 2]}, "listed twice"),
        ({"strategy.tp": [0, 1]}, "at least 1"),
        ({"strategy.zero": [0, 5]}, "expected 0, 1, 2, 3"),
        ({"strategy.tp": ["many"]}, "whole numbers"),
        ({"cluster.accelerator.memory.bandwidth": {"from": 2, "to": 16, "points": 3}}, "no unit|unit"),
        ({"cluster.accelerator.memory.bandwidth": {"from": "2 TB/s", "to": 16}}, "16 has no unit, and the other end"),
        (
            {"cluster.accelerator.memory.bandwidth": {"from": "2", "to": "16 TB/s"}},
            "'2' has no unit, and the other end",
        ),
        ({"strategy": {"tp": [1, 2], "pipeline": {"virtual_stages": []}}}, "empty list"),
        ({"cluster.accelerator.memory.bandwidth": {"from": "2 TB/s", "to": "1 TB/s", "points": 3}}, "must be larger"),
        ({"cluster.accelerator.memory.bandwidth": {"from": "2 TB/s", "to": "1 TB", "points": 3}}, "larger|quantity"),
        (
            {"cluster.accelerator.memory.bandwidth": {"from": "1 TB/s", "to": "2 TB/s", "scale": "cube"}},
            "linear or log",
        ),
        ({"cluster.accelerator.memory.bandwidth": {"from": "1 TB/s", "to": "2 TB/s", "steps": 3}}, "points"),
        ({"objectives": {"time.step": "min"}}, "time.step_s"),
        ({"objectives": {"run.usd": "min"}}, "pricing"),
        ({"constraints": {"time.step_s": {"max": "3 GB"}}}, "not a quantity of s"),
        ({"constraints": {"time.step_s": {"min": 9.0, "max": 1.0}}}, "nothing can be between"),
        ({"constraints": {"time.step_s": 3}}, "max"),
        ({"constraints": {"time.step_s": {"max": "node"}}}, "size of the machine"),
        ({"strategy.recompute": ["nowhere"]}, "nowhere"),
    ],
)
def test_what_cannot_be_searched_is_said(change: dict[str, Any], message: str) -> None:
    with pytest.raises((SpecError, UsageError), match=message):
        search(load_scenario(DENSE, overrides=change))


def test_an_evaluation_refuses_lists() -> None:
    with pytest.raises(SpecError, match="question: search"):
        resolved({**DENSE, "question": "evaluate"})


def test_a_search_without_axes_says_what_to_write() -> None:
    with pytest.raises(UsageError, match="something to vary"):
        search(resolved({**DENSE, "strategy": {"tp": 8}}))


def test_the_base_of_a_search_is_a_plain_evaluation() -> None:
    assert build_question(resolved(DENSE).candidate()).plan.tp.tolist() == [1]


@pytest.mark.parametrize("objective", ["time.step_s", "energy.per_token_j", "metrics.mfu"])
@pytest.mark.parametrize(
    "data", [DENSE | {"top": 7}, EXPERTS, SWEEP, UNEVEN | {"top": 300}], ids=lambda data: data["name"]
)
def test_leaving_out_what_cannot_be_an_answer_changes_nothing(
    data: Mapping[str, Any], objective: str, numbers: Callable[[Found], list[Any]]
) -> None:
    sense = "max" if objective == "metrics.mfu" else "min"
    goal = data | {"objectives": {objective: sense}, "constraints": {"strategy.tp": {"max": 8}}}
    overrides = BANDWIDTHS if data is SWEEP else {}
    full, quick = (search(resolved(goal | {"exhaustive": every}, **overrides)) for every in (True, False))
    assert numbers(full.found) == numbers(quick.found)


def test_searches_of_other_spaces_have_other_hashes() -> None:
    few = {**DENSE, "strategy": {**DENSE["strategy"], "tp": [1, 2]}}
    assert resolved(DENSE).sha256 == resolved(dict(DENSE)).sha256 != resolved(few).sha256


@pytest.mark.parametrize("name", ["dp", "dp_shard", "num_microbatches"])
def test_what_every_candidate_has_its_own_of_cannot_be_stated(name: str) -> None:
    for value in (8, [4, 8]):
        with pytest.raises(SpecError, match=f"strategy.{name}.*leave"):
            search(resolved({**SWEEP, "strategy": {**SWEEP["strategy"], name: value}, "cluster": "hgx-h100-ib-ndr"}))


def test_replicas_that_are_stated_are_kept() -> None:
    found = search(resolved({**SWEEP, "strategy": {"tp": [1, 2], "zero": 3, "dp_replicate": 2}}))
    assert {entry.plan["dp_replicate"] for entry in found.best} == {2}


OFFLOADED: dict[str, Any] = {
    **DENSE, "name": "offloaded",
    "cluster": {
        "extends": "hgx-h100-ib-ndr", "name": "with hosts", "devices": 64,
        "host": {"memory": {"capacity": "2 TB", "bandwidth": "200 GB/s"}},
    },
    "strategy": {
        "tp": [1, 2], "pp": [1, 2], "micro_batch": [1, 2, 4], "zero": [1, 3],
        "recompute": ["none", "selective", "full"], "offload": {"activations": 0.8},
    },
}  # fmt: skip


def test_virtual_stages_make_1f1b_interleaved() -> None:
    pipeline = {"virtual_stages": [1, 2, 4], "schedule": ["1f1b", "zb-h1"]}
    strategy = {"tp": [2], "pp": [4], "micro_batch": 1, "zero": 1, "pipeline": pipeline}
    found = search(resolved({**DENSE, "strategy": strategy}))
    names = {(one.plan["virtual_stages"], one.plan["schedule"]) for one in found.best}
    assert names == {(1, "1f1b"), (2, "interleaved-1f1b"), (4, "interleaved-1f1b"), (1, "zb-h1")}
    for entry in found.best:
        alone = evaluate(resolved(DENSE).candidate(**entry.settings))
        assert alone.time["step_s"] == entry.numbers["time.step_s"]
        assert alone.plans[0]["schedule"] == entry.plan["schedule"]
    both = strategy | {"pipeline": pipeline | {"schedule": ["interleaved-1f1b", "zb-h1", "1f1b"]}}
    again = search(resolved({**DENSE, "strategy": both}))
    assert {one.numbers["time.step_s"] for one in again.best} == {one.numbers["time.step_s"] for one in found.best}
    assert again.found.feasible == found.found.feasible


def test_the_settings_of_an_even_split_make_its_scenario() -> None:
    strategy = {"tp": 2, "pp": [2, 4], "recompute": "full", "pipeline": {"layers_per_stage": "auto"}}
    data = {**UNEVEN, "top": 20, "strategy": strategy}
    scenario = pm.load(data)
    found = scenario.run()
    splits = {entry.settings["strategy.pipeline.layers_per_stage"] is None for entry in found.best}
    assert splits == {True, False}
    for entry in found.best:
        alone = scenario.replace(question="evaluate", **entry.settings).run()
        assert alone.time["step_s"] == entry.numbers["time.step_s"]


@pytest.mark.parametrize("every", [True, False])
def test_places_of_parameters_are_searched_with_all_of_zero(every: bool) -> None:
    changes = {"offload": {"parameters": ["device", "host"]}, "zero": "auto"}
    data = OFFLOADED | {"strategy": OFFLOADED["strategy"] | changes, "exhaustive": every, "top": 1000}
    found = search(resolved(data))
    levels = {
        place: {one.plan["zero"] for one in found.best if one.settings["strategy.offload.parameters"] == place}
        for place in ("device", "host")
    }
    assert levels["host"] == {3}
    assert levels["device"] > {3}


def test_nothing_is_left_out_for_its_recomputation_where_activations_are_moved() -> None:
    # What is recomputed need not travel to the host: a plan without recomputation is not the fastest of its row.
    every = {"objectives": {"time.step_s": "min"}, "exhaustive": True}
    slow = {"software.behaviour.offload_exposed": 1}
    assert search(load_scenario(OFFLOADED | every, overrides=slow)).best[0].plan["recompute"] != "none"
    stays = {**OFFLOADED, "strategy": {**OFFLOADED["strategy"], "offload": {"activations": 0.0}}}
    moved, kept = (search_space(resolved(data)).regions[0].question.problem for data in (OFFLOADED, stays))
    assert holds_for(kept)
    assert not holds_for(moved)


@pytest.mark.parametrize("values", [["2 TB/s", 4], ["2 TB/s", "-4 TB/s"], ["2 TB/s", "3 TB"]])
def test_every_number_of_a_sweep_is_held_to_the_rules_of_its_field(values: list[Any]) -> None:
    with pytest.raises(SpecError, match=r"memory\.bandwidth"):
        search(load_scenario(SWEEP, overrides={"cluster.accelerator.memory.bandwidth": values}))
