"""Whatever is searched: what a search leaves out, and what a session knows, change no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import perfmodel as pm
from perfmodel.study.search.walk import Found

OBJECTIVES = ("time.step_s", "energy.per_step_j", "money.per_million_tokens_usd", "run.usd", "metrics.mfu")
CHANGES: list[dict[str, Any]] = [
    {"pricing.device": "5000 USD"}, {"site.electricity": "5 USD/kWh"}, {"site.pue": 1.9},
    {"workload.global_batch": 192}, {"top": 7},
]  # fmt: skip
RECOMPUTE = ["none", "selective", "full", {"policy": "full", "fraction": 0.5}]


def some(*values: Any) -> st.SearchStrategy[list[Any]]:
    """A few of the values, in any order."""
    return st.permutations(values).flatmap(lambda order: st.integers(1, len(values)).map(lambda n: list(order[:n])))


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    experts = draw(st.booleans())
    kinds = ("data", "tensor", "expert") if experts else ("data", "tensor")
    strategy: dict[str, Any] = {
        "tp": draw(some(1, 2, 4, 8)), "pp": draw(some(1, 2, 4)), "micro_batch": draw(some(1, 2)),
        "zero": draw(some(0, 1, 2, 3)), "recompute": draw(some(*RECOMPUTE)),
        "overlap": {kind: "auto" for kind in kinds if draw(st.booleans())},
        "pipeline": {
            "virtual_stages": draw(some(1, 2)), "schedule": draw(some("1f1b", "gpipe", "zb-h1", "zb-v", "dualpipe")),
        },
    }  # fmt: skip
    if experts:
        strategy["ep"] = draw(some(1, 2, 8))
    if draw(st.booleans()):
        strategy["order"] = "auto"
    key = draw(st.sampled_from(OBJECTIVES))
    return {
        "kind": "scenario", "name": "any", "question": "search", "software": "megatron-core",
        "model": "mixtral-8x7b" if experts else "llama-3.1-8b", "top": draw(st.sampled_from([1, 10, 50])),
        "cluster": {"name": "hgx-h100-ib-ndr", "devices": [64, 128]},
        "workload": {"kind": "training", "sequence_length": 4096, "global_batch": 128, "tokens": "1T"},
        "pricing": {"kind": "purchase", "device": "30000 USD", "years": 4}, "site": {"electricity": "0.1 USD/kWh"},
        "objectives": {key: "max" if key == "metrics.mfu" else "min"}, "strategy": strategy,
    }  # fmt: skip


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=scenarios(), change=st.sampled_from(CHANGES), swept=st.booleans())
def test_what_is_left_out_and_what_is_known_change_no_answer(
    numbers: Callable[[Found], list[Any]], data: dict[str, Any], change: dict[str, Any], swept: bool
) -> None:
    overrides = {"cluster.accelerator.memory.bandwidth": ["1 TB/s", "6 TB/s"]} if swept else {}
    full, quick = (pm.load({**data, "exhaustive": every}, overrides=overrides) for every in (True, False))
    assert numbers(full.run().found) == numbers(quick.run().found)
    changed = pm.load({**data, "exhaustive": True}, overrides=overrides).replace(**change).run()
    assert numbers(changed.found) == numbers(full.replace(**change).run().found)
    assert numbers(changed.found) == numbers(quick.replace(**change).run().found)
