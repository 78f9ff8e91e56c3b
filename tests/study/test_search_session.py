"""A session that has searched before gives the answers of one that has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import perfmodel as pm
from perfmodel.engine import composition
from perfmodel.specs.resolve import load_scenario
from perfmodel.study.search.regions import search_space
from perfmodel.study.search.walk import Found

SCENARIO: dict[str, Any] = {
    "kind": "scenario", "name": "two machines", "question": "search", "model": "llama-3.1-8b", "top": 20,
    "cluster": [{"name": "hgx-h100-ib-ndr", "devices": 64}, {"name": "hgx-a100-ib-hdr", "devices": 64}],
    "software": "megatron-core", "objectives": {"money.per_million_tokens_usd": "min"},
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128, "tokens": "1T"},
    "pricing": {"kind": "purchase", "device": "30000 USD", "years": 4}, "site": {"electricity": "0.1 USD/kWh"},
    "strategy": {
        "tp": [1, 2, 4, 8], "pp": [1, 2, 4], "micro_batch": [1, 2], "zero": "auto", "order": "auto",
        "recompute": ["none", "selective", "full"], "overlap": {"data": "auto"},
    },
}  # fmt: skip
BANDWIDTHS = {"accelerator.memory.bandwidth": ["1 TB/s", "4 TB/s"]}
PRICES: list[dict[str, Any]] = [
    {"pricing.device": "20000 USD"},
    {"site.electricity": "3 USD/kWh"},
    {"workload.tokens": "2T", "reliability": {"device_mtbf": "5000 h", "checkpoint_bandwidth": "10 GB/s",
                                              "restart_time": "10 min"}},
    {"objectives": {"energy.per_step_j": "min"}},
    {"objectives": {"time.step_s": "min", "energy.per_step_j": "min"}},
    {"constraints": {"time.step_s": {"max": "20 s"}}},
    {"top": 3},
]  # fmt: skip
PHYSICS: list[dict[str, Any]] = [
    {"workload.sequence_length": 4096}, {"accelerator.memory.bandwidth": ["1 TB/s", "5 TB/s"]},
    {"strategy.micro_batch": [2, 4]}, {"software.behaviour.data_exposed": 0.5}, {"site.pue": 1.5},
]  # fmt: skip


@pytest.mark.parametrize("every", [True, False])
@pytest.mark.parametrize("changes", [*PRICES, *PHYSICS], ids=lambda changes: next(iter(changes)))
def test_what_is_known_changes_no_answer(
    changes: dict[str, Any], every: bool, numbers: Callable[[Found], list[Any]]
) -> None:
    data = {**SCENARIO, "exhaustive": every}
    session = pm.load(data, overrides=BANDWIDTHS)
    session.run()
    known, fresh = session.replace(**changes).run(), pm.load(data, overrides=BANDWIDTHS).replace(**changes).run()
    assert numbers(known.found) == numbers(fresh.found)
    assert [entry.numbers for entry in known.best] == [entry.numbers for entry in fresh.best]
    # What is shown is evaluated on its own.
    objective = known.wanted.objectives[0]
    shown = [objective.sign * entry.numbers[objective.key] for entry in known.best]
    assert shown == known.found.best.values[:, 0].tolist()


@pytest.mark.parametrize("every", [True, False])
def test_other_prices_compose_nothing(monkeypatch: pytest.MonkeyPatch, every: bool) -> None:
    composed: list[int] = []
    whole = composition.passes_time

    def counted(problem: Any, plan: Any, *rest: Any) -> Any:
        composed.append(int(np.broadcast(plan.tp, plan.zero, plan.recompute_fraction).size))
        return whole(problem, plan, *rest)

    monkeypatch.setattr(composition, "passes_time", counted)
    session = pm.load({**SCENARIO, "exhaustive": every}, overrides=BANDWIDTHS)
    shown = len(session.run().best)
    first = sum(composed)
    composed.clear()
    session.replace(**{"pricing.device": "20000 USD"}).run()
    # What is shown is computed anew with all of its numbers, and nothing else.
    assert sum(composed) <= 2 * shown + 10 < first / 10


def test_orders_share_the_costs_of_keys_that_are_the_same() -> None:
    dense = search_space(load_scenario(SCENARIO))
    first, second = (dense.book(region) for region in dense.regions[:2])
    assert first is not None
    assert second is not None
    assert first.order != second.order
    assert first.costs is second.costs
    # Where the groups of experts lie depends on more of the order.
    model = {
        "model": "mixtral-8x7b",
        "strategy": {"tp": [1, 2], "ep": [1, 8], "pp": [1, 2], "zero": 1, "order": "auto"},
    }
    experts = search_space(load_scenario(SCENARIO | model))
    one, other = (experts.book(region) for region in experts.regions[:2])
    assert one is not None
    assert other is not None
    assert one.costs is not other.costs
