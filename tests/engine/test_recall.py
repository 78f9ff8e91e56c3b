"""What a session keeps: known by its physics and nothing else, within its limit."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest

from perfmodel.engine.build import build_question
from perfmodel.engine.key_book import HardwarePoints
from perfmodel.engine.recall import NOT_PHYSICS, Recall, Shelf, digest, physics
from perfmodel.specs.resolve import load_scenario

SCENARIO: dict[str, Any] = {
    "kind": "scenario", "name": "one", "model": "llama-3.1-8b", "software": "megatron-core",
    "cluster": {"name": "hgx-h100-ib-ndr", "devices": 64}, "numerics": "bf16-mixed",
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128, "tokens": "1T"},
    "strategy": {"tp": 2}, "pricing": {"kind": "cloud", "device_hour": "2 USD"},
}  # fmt: skip
PATH = "accelerator.memory.bandwidth"


def physics_with(**changes: Any) -> tuple[Any, ...]:
    question = build_question(load_scenario(SCENARIO, overrides=changes))
    return Shelf.of_problem(Recall(), question.problem, HardwarePoints({})).of


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("pricing.device_hour", "3 USD"), ("pricing.utilisation", 0.5), ("workload.tokens", "2T"),
        ("reliability.device_mtbf", "10000 h"), ("site.power_cap", "1 MW"), ("site.grid", "0.2 kg/kWh"),
        ("site.electricity", "0.2 USD/kWh"),
    ],
)  # fmt: skip
def test_prices_and_failures_are_no_physics(path: str, value: Any) -> None:
    assert physics_with(**{path: value}) == physics_with()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cluster.accelerator.memory.bandwidth", "3 TB/s"), ("workload.global_batch", 256), ("site.pue", 1.4),
        ("workload.sequence_length", 4096), ("model.layers", 30), ("numerics", "deepseek-v3-fp8"),
        ("software", "megatron-lm-2021"), ("strategy.order", ["tp", "cp", "pp", "dp"]), ("cluster.devices", 128),
        ("strategy.context_parallel", "ring"), ("cluster.accelerator.power.tdp", "500 W"),
        ("software.behaviour.data_exposed", 0.3),
    ],
)  # fmt: skip
def test_everything_else_is(path: str, value: Any) -> None:
    assert physics_with(**{path: value}) != physics_with()


def test_what_is_left_out_is_there_to_be_left_out() -> None:
    for kind, names in NOT_PHYSICS.items():
        assert names <= {item.name for item in fields(kind)}, kind


def test_hardware_points_are_physics() -> None:
    problem = build_question(load_scenario(SCENARIO)).problem
    several = [
        HardwarePoints({PATH: np.array(values)}) for values in ([1e12, 2e12], [1e12, 3e12], [2e12], [2e12, 1e12])
    ]
    assert len({physics(problem, points) for points in [HardwarePoints({}), *several]}) == 5
    assert physics(problem, several[0]) == physics(problem, HardwarePoints({PATH: np.array([1e12, 2e12])}))


@dataclass(frozen=True)
class Pair:
    first: Any
    second: Any


def test_a_digest_tells_contents_apart() -> None:
    different = [
        None, 0, 0.0, -0.0, False, "", b"", (), (0,), ((0,),), (0, 0), ((0, 0),), ((0,), 0), {"a": 0}, {"a": (0,)},
        {"a": 0, "b": 0}, Pair(0, None), Pair(None, 0), np.zeros(1), np.zeros(2), np.zeros((1, 2)),
        np.zeros(2, dtype=np.int64), frozenset({"a"}), "a;str 'b'", ("a", "b"),
    ]  # fmt: skip
    assert len({digest(one) for one in different}) == len(different)
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(np.arange(6)[::2]) == digest(np.array([0, 2, 4]))
    with pytest.raises(TypeError, match="object"):
        digest(object())


def test_the_oldest_makes_room() -> None:
    recall, made = Recall(3000), []

    def get(name: str, size: int = 100) -> Any:
        return Shelf(recall, ("shelf",)).get((name,), lambda: made.append(name) or np.zeros(size))

    for name in "abc":
        get(name)
    get("a")
    get("d")  # 864 bytes each: three stay
    assert made == list("abcd")
    get("a")
    get("b")
    assert made == list("abcdb")
    get("larger than everything", 1000)
    get("a")
    assert made == [*"abcdb", "larger than everything"]


def test_a_view_counts_as_what_it_looks_at() -> None:
    recall, made = Recall(3000), []
    for _ in range(2):
        recall.get(("view",), lambda: made.append(1) or np.zeros(1000)[:1])
    assert len(made) == 2


def test_it_travels_empty() -> None:
    recall = Recall(1000)
    recall.get(("a",), lambda: 1)
    assert pickle.loads(pickle.dumps(recall)).get(("a",), lambda: 2) == 2  # noqa: S301
