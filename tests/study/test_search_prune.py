"""What a search leaves out: bounds hold for every candidate, and nothing is known better than it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from perfmodel.engine.blocks import Block, blocks_of_rows, possible_rows
from perfmodel.specs.resolve import load_scenario
from perfmodel.study.search.prune import Known, promising_parts
from perfmodel.study.search.regions import search_space
from perfmodel.study.search.wanted import Wanted, wanted

DENSE: dict[str, Any] = {
    "kind": "scenario", "name": "dense", "question": "search", "model": "llama-3.1-8b", "software": "megatron-core",
    "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64}, "top": 200,
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128, "tokens": "1T"},
    "pricing": {"kind": "purchase", "device": "30000 USD", "years": 4}, "site": {"electricity": "0.1 USD/kWh"},
    "strategy": {
        "tp": [1, 2, 4, 8], "cp": [1, 2], "pp": [1, 2, 4, 8], "micro_batch": [1, 2], "zero": "auto",
        "sequence_parallel": [True, False], "recompute": ["none", "selective", "full"],
        "pipeline": {"virtual_stages": [1, 2]}, "overlap": {"data": "auto", "tensor": "auto"},
    },
}  # fmt: skip
EXPERTS: dict[str, Any] = {
    **DENSE, "name": "experts", "model": "mixtral-8x7b",
    "strategy": {
        "tp": [1, 2], "pp": [1, 2, 4], "ep": [1, 4, 8], "micro_batch": [1, 2], "zero": [3, 1],
        "recompute": ["none", "full"], "overlap": {"data": "auto", "expert": "auto"},
        "pipeline": {"schedule": ["1f1b", "zb-h1", "zb-v", "dualpipe"]},
    },
}  # fmt: skip
KEYS = ("time.step_s", "energy.per_step_j", "money.per_million_tokens_usd", "run.usd", "metrics.mfu")


def blocks(data: Mapping[str, Any]) -> Iterator[tuple[Wanted, Block]]:
    resolved = load_scenario(data, overrides={"cluster.accelerator.memory.bandwidth": ["1 TB/s", "4 TB/s"]})
    space = search_space(resolved)
    goal = wanted(resolved, space.regions[0].question)
    for region in space.regions:
        problem, plans = region.question.problem, region.space
        rows = possible_rows(problem, plans, 0, plans.row_count)
        yield from ((goal, block) for block in blocks_of_rows(problem, plans, rows, region.sweep.points))


@pytest.mark.parametrize("data", [DENSE, EXPERTS], ids=lambda data: data["name"])
def test_no_candidate_is_better_than_its_passes_alone(data: Mapping[str, Any]) -> None:
    for _, block in blocks(data):
        fits = block.everywhere(block.fits)
        whole, bound = block.numbers(KEYS), block.of_passes().numbers(KEYS)
        zero = next(axis for axis, one in enumerate(block.space.switches, 1) if "zero" in one.columns)
        for key in KEYS:
            sign = -1.0 if key == "metrics.mfu" else 1.0
            assert np.all((sign * bound[key] <= sign * whole[key])[fits]), key
            # Without ZeRO 3 nothing is gathered: the passes of any level bound those with it.
            level = block.space.switches[zero - 1].columns["zero"]
            lowest = np.take(bound[key], [int(np.argmin(level))], axis=zero)
            assert np.all((sign * lowest <= sign * whole[key])[fits]), key


@pytest.mark.parametrize("data", [DENSE, EXPERTS], ids=lambda data: data["name"])
def test_what_is_known_is_never_better_than_what_is_there(data: Mapping[str, Any]) -> None:
    for goal, block in blocks(data):
        known = Known(np.full((2, 1), np.inf), goal.top)
        parts = list(promising_parts(block, goal, known, np.zeros(len(block.rows), dtype=np.int64)))
        values = goal.values(block)[:, 0].reshape(block.shape)
        fits = block.everywhere(block.fits)
        there = np.sort(values[fits])[: goal.top]
        assert np.all(known.shown >= there[: len(known.shown)])
        assert np.array_equal(known.bests[:, 0], np.where(fits, values, np.inf).reshape(2, -1).min(axis=1))
        kept = [np.sort(goal.values(part)[part.everywhere(part.fits).ravel(), 0]) for part in parts]
        assert np.array_equal(np.sort(np.concatenate(kept))[: goal.top], there)
