"""Capacity: the chosen size meets the goal and no smaller one does; limits bind; surer sizes are larger."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import pytest

import perfmodel as pm
from perfmodel.engine.recall import Recall
from perfmodel.errors import SpecError
from perfmodel.specs.resolve import load_scenario
from perfmodel.study.capacity import CapacityResult
from perfmodel.study.capacity.goal import goal_of
from perfmodel.study.capacity.sizes import Sizes
from perfmodel.study.capacity.variants import all_sizes, coarse_sizes, fine_sizes, granularity_of, variants_of

H100, H200 = "hgx-h100-ib-ndr", "hgx-h200-ib-ndr"
SCENARIO: dict[str, Any] = {
    "kind": "scenario", "name": "how many", "question": "capacity", "model": "llama-3.1-8b",
    "cluster": {"name": H100, "devices": "auto"}, "software": "megatron-core",
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 480, "tokens": "1T"},
    "strategy": {"tp": [1, 2, 4], "pp": 1, "micro_batch": [1, 2], "zero": 1, "recompute": ["none", "full"]},
    "pricing": {"kind": "cloud", "device_hour": "2 USD"},
    "goal": {"minimise": "devices", "deadline": "20 day"},
}  # fmt: skip


def answered(**changes: Any) -> CapacityResult:
    return pm.load(SCENARIO | changes).run()


@functools.cache
def fewest() -> CapacityResult:
    return answered()


def devices(found: CapacityResult) -> int:
    assert found.chosen is not None
    return found.chosen.size.devices


def candidate(found: CapacityResult, **changes: Any) -> Any:
    """The ordinary result of the settings of an answer."""
    assert found.chosen is not None
    assert found.chosen.size.entry is not None
    kept = {key: value for key, value in SCENARIO.items() if key not in ("question", "goal")}
    return pm.load(kept | {"strategy": {}}, overrides=dict(found.chosen.size.entry.settings) | changes).run()


def test_the_chosen_size_meets_the_goal_as_an_ordinary_evaluation() -> None:
    found = fewest()
    assert found.feasible
    result = candidate(found)
    assert result.feasible
    assert result.run["days"] <= 20.0
    assert result.run["days"] == pytest.approx(found.result.run["days"], rel=1e-12)
    assert devices(found) % 8 == 0


def test_no_smaller_number_of_whole_nodes_meets_the_goal() -> None:
    found = fewest()
    assert found.granularity == 8
    smaller = list(range(8, devices(found), 8))
    searched = pm.load(
        SCENARIO | {"question": "search", "cluster": {"name": H100, "devices": smaller},
                    "objectives": {"run.days": "min"}, "constraints": {"run.days": {"max": 20}}}
    ).run()  # fmt: skip
    assert not searched.feasible
    assert searched.found.feasible > 0


def test_the_next_smaller_size_says_what_stops_it() -> None:
    said = fewest().to_dict()
    assert (said["binding_constraint"], said["devices"], said["cluster"]) == ("deadline", devices(fewest()), H100)
    below = [one for one in said["sizes"] if one["devices"] < said["devices"]]
    assert all(one["days"] > 20.0 and one["stopped_by"] == ["deadline"] for one in below)
    above = [one for one in said["sizes"] if one["devices"] >= said["devices"]]
    assert any(one["meets_goal"] for one in above)
    assert [one["devices"] for one in said["sizes"]] == sorted(one["devices"] for one in said["sizes"])


def test_surer_sizes_are_not_smaller() -> None:
    found = fewest()
    middle, high = (found.confidence[share] for share in (0.8, 0.95))
    assert middle is not None
    assert high is not None
    assert found.chosen is not None
    assert found.chosen.size.devices <= middle.size.devices <= high.size.devices
    assert middle.probability is not None
    assert middle.probability >= 0.8
    assert high.probability is not None
    assert high.probability >= 0.95


@pytest.mark.parametrize("minimise", ["devices", "money", "energy"])
def test_a_later_deadline_never_needs_more(minimise: str) -> None:
    keys = {"devices": None, "money": ("run", "usd"), "energy": ("run", "energy_kwh")}
    amounts: list[float] = []
    for days in (12, 24):
        found = answered(goal={"minimise": minimise, "deadline": f"{days} day"})
        key = keys[minimise]
        amounts.append(devices(found) if key is None else getattr(found.result, key[0])[key[1]])
    assert amounts[1] <= amounts[0] * (1 + 1e-12)


def test_a_doubled_budget_never_needs_more_time() -> None:
    """With the fastest goal that a budget allows as the deadline, twice the budget still meets it."""
    found = fewest()
    spent, days = found.result.run["usd"], found.result.run["days"]
    for factor in (1.0, 2.0):
        limited = answered(
            goal={"minimise": "devices", "deadline": f"{days * (1 + 1e-9)!r} day"},
            constraints={"run.usd": {"max": factor * spent * (1 + 1e-9)}},
        )
        assert limited.feasible
        assert limited.result.run["days"] <= days * (1 + 1e-9)
        assert devices(limited) <= devices(found)


def test_the_least_money_is_no_more_than_that_of_any_size_that_meets_the_goal() -> None:
    cheapest = answered(goal={"minimise": "money", "deadline": "20 day"})
    assert cheapest.result.run["days"] <= 20.0
    assert cheapest.result.run["usd"] <= fewest().result.run["usd"] * (1 + 1e-12)
    for row in cheapest.sizes:
        if row.size.met:
            assert row.size.value("run.usd") >= cheapest.result.run["usd"] * (1 - 1e-12)


@pytest.mark.parametrize(("minimise", "key"), [("money", "run.usd"), ("energy", "run.energy_kwh")])
@pytest.mark.parametrize("deadline", ["25 day", "60 day"])
def test_the_least_is_that_of_all_whole_nodes(minimise: str, key: str, deadline: str) -> None:
    changes = {
        "workload": SCENARIO["workload"] | {"global_batch": 960},
        "strategy": SCENARIO["strategy"] | {"pp": [1, 2]},
    }
    found = answered(**changes, goal={"minimise": minimise, "deadline": deadline})
    nodes = list(range(8, 8 * 64 + 1, 8))
    searched = pm.load(
        SCENARIO | changes | {
            "question": "search", "cluster": {"name": H100, "devices": nodes}, "goal": None,
            "objectives": {key: "min"}, "constraints": {"run.days": {"max": float(deadline.split(maxsplit=1)[0])}},
        }
    ).run()  # fmt: skip
    assert found.chosen is not None
    assert found.chosen.size.value(key) == searched.best[0].numbers[key]
    assert devices(found) == searched.best[0].plan["devices"]


@pytest.mark.parametrize("minimise", ["devices", "money"])
def test_many_sizes_in_one_pass_are_those_of_single_ones(minimise: str) -> None:
    resolved = load_scenario(SCENARIO | {"goal": {"minimise": minimise, "deadline": "20 day"}})
    (variant,) = variants_of(resolved)
    goal, several = goal_of(variant.resolved, variant.question()), [8, 24, 40, 56, 96, 120, 160, 240]
    together, alone = (Sizes.of(variant, goal, lambda _: None, Recall()) for _ in range(2))
    for one in together.all_of(several, 1.1):
        single = alone.at(one.devices, 1.1)
        assert one.met == single.met
        assert (one.entry is None) == (single.entry is None)
        if one.entry is not None and single.entry is not None:
            assert one.entry == single.entry


def test_a_rate_is_met_and_the_size_before_misses_it() -> None:
    found = answered(goal={"tokens_per_s": "1M"})
    assert found.result.metrics["tokens_per_s"] >= 1e6
    assert found.binding == ("tokens_per_s",)
    below = [one for one in found.sizes if one.size.devices < devices(found)]
    assert all(one.size.value("metrics.tokens_per_s") < 1e6 for one in below)


def test_power_of_a_site_limits_the_peak() -> None:
    peak = fewest().result.energy["peak_power_w"]
    allowed = answered(site={"power_cap": f"{peak * 1.001!r} W"})
    assert devices(allowed) == devices(fewest())
    # A step draws less than its peak on average; the peak must fit all the same.
    capped = answered(site={"power_cap": f"{peak * 0.999!r} W"})
    assert not capped.feasible
    assert capped.binding in {("power",), ("deadline",)}
    assert "energy.peak_power_w at most" in capped.reasons[0]


def test_a_rack_must_carry_a_node() -> None:
    refused = answered(site={"rack_power": "5 kW"})
    assert not refused.feasible
    assert refused.binding == ("rack_power",)
    assert devices(answered(site={"rack_power": "40 kW"})) == devices(fewest())


def test_a_budget_that_cannot_be_says_what_would() -> None:
    refused = answered(constraints={"run.usd": {"max": "1 kUSD"}})
    assert not refused.feasible
    assert refused.binding == ("budget",)
    assert "run.usd at most 1,000 USD would have to be" in refused.reasons[0]
    said = refused.to_dict()
    assert (said["devices"], said["cluster"], said["confidence"]) == (None, None, {"80": None, "95": None})


def test_memory_is_what_stops_a_machine_that_is_too_small() -> None:
    refused = answered(model="llama-3.1-405b", cluster={"name": H100, "devices": 8})
    assert refused.binding == ("memory",)
    assert "no plan fits in memory" in refused.reasons[0]


def test_sizes_that_do_not_divide_are_told() -> None:
    refused = answered(cluster={"name": H100, "devices": [56, 88]})
    assert refused.binding == ("divisibility",)


def test_clusters_and_prices_are_chosen_among() -> None:
    prices = [{"kind": "cloud", "device_hour": "2 USD"}, {"kind": "cloud", "device_hour": "1 USD"}]
    found = answered(cluster=[H100, H200], pricing=prices, goal={"minimise": "money", "deadline": "20 day"})
    assert found.chosen is not None
    assert found.chosen.size.variant.pricing == "cloud 1 USD"
    assert len(found.others) == 3
    assert all(one.size.value("run.usd") >= found.result.run["usd"] for one in found.others)
    assert candidate(found).run["usd"] == pytest.approx(found.result.run["usd"], rel=1e-12)


def test_listed_sizes_are_taken_as_they_are() -> None:
    found = answered(cluster={"name": H100, "devices": [64, 128, 192]})
    assert devices(found) in (64, 128, 192)
    assert {one.size.devices for one in found.sizes} <= {64, 128, 192}
    ranged = answered(cluster={"name": H100, "devices": {"from": 64, "to": 192, "points": 3}})
    assert devices(ranged) == devices(found)
    assert devices(answered(cluster={"name": H100, "devices": 192})) == 192


def test_sizes_are_whole_nodes_and_told_apart_by_powers_of_two_in_large_machines() -> None:
    variant = variants_of(pm.load(SCENARIO).resolved)[0]
    coarse = coarse_sizes(variant)
    assert coarse[:6] == (8, 16, 24, 32, 48, 64)
    assert coarse[-1] == variant.largest
    assert (granularity_of(variant, 512), granularity_of(variant, 520), granularity_of(variant, 4096)) == (8, 16, 64)
    assert list(fine_sizes(variant, 1, 40, 16)) == [16, 32]
    every = all_sizes(variant)
    assert set(coarse) <= set(every)
    assert list(every) == sorted(set(every))
    assert every[-1] == variant.largest
    steps = [larger - smaller for smaller, larger in itertools.pairwise(every)]
    assert all(step <= granularity_of(variant, size) for step, size in zip(steps, every[1:], strict=True))


BAD: list[tuple[dict[str, Any], str]] = [
    ({"goal": {"minimise": "money"}}, "a goal needs a `deadline` (60 day) or `tokens_per_s` (2M)"),
    ({"goal": {"deadline": "60 J"}}, "'60 J' is not a quantity of s"),
    ({"goal": {"minimise": "time", "deadline": "60 day"}}, "allowed: devices, money, energy"),
    ({"goal": None}, "goal: missing"),
    ({"workload": SCENARIO["workload"] | {"tokens": None}}, "a deadline needs workload.tokens"),
    ({"constraints": {"run.days": {"min": 30}}}, "contradicts the goal"),
    ({"constraints": {"run.dayz": {"max": 30}}}, "did you mean 'run.days'"),
    ({"cluster": {"name": H100, "devices": [64, 0]}}, "expected whole numbers of at least 1"),
    ({"cluster": [H100, "hgx-h1000"]}, "no cluster 'hgx-h1000'"),
    ({"cluster": []}, "an empty list leaves nothing"),
    ({"pricing": [{"kind": "cloud"}]}, "pricing.device_hour: missing"),
    (
        {
            "pricing": {"kind": "purchase", "device": "3 USD", "years": 4},
            "goal": {"minimise": "money", "deadline": "9 day"},
        },
        "the scenario needs `site: {electricity:}`",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=lambda one: str(one)[:40])
def test_what_cannot_be_asked_is_said_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        answered(**changes)
    assert message in str(caught.value)
