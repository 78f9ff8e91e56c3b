"""A search that is over in seconds and still has many tasks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perfmodel.specs.resolve import load_scenario
from perfmodel.study.search import search
from perfmodel.study.search.regions import SearchSpace, search_space
from perfmodel.study.search.walk import Task, tasks_of
from perfmodel.study.search.wanted import Wanted, wanted

#: Every choice of schedule, order and context parallelism is a region, and every region at least one task.
SEARCH: dict[str, Any] = {
    "kind": "scenario", "name": "many small regions", "question": "search", "model": "llama-3.1-8b",
    "cluster": {"name": "meta-24k-h100-roce", "devices": [64, 128]}, "software": "megatron-core",
    "workload": {"kind": "training", "sequence_length": 8192, "global_batch": 128},
    "strategy": {
        "tp": [1, 2, 4, 8], "pp": [1, 2, 4], "cp": [1, 2], "micro_batch": [1, 2], "zero": "auto", "recompute": "auto",
        "sequence_parallel": "auto", "order": "auto", "context_parallel": ["ring", "all-gather"],
        "pipeline": {"schedule": ["1f1b", "gpipe", "zb-h1"]},
    },
    "objectives": {"time.step_s": "min", "energy.per_step_j": "min"},
}  # fmt: skip


@dataclass(frozen=True)
class Search:
    """A search that is ready to be run, and the file of its scenario."""

    file: Path
    space: SearchSpace
    wanted: Wanted
    tasks: list[Task]


@pytest.fixture(scope="session")
def ready() -> Callable[..., Search]:
    """Makes a search ready."""

    def prepare(file: Path, **overrides: Any) -> Search:
        resolved = load_scenario(file, None, {path.replace("__", "."): value for path, value in overrides.items()})
        space = search_space(resolved)
        return Search(file, space, wanted(resolved, space.regions[0].question), tasks_of(space))

    return prepare


@pytest.fixture(scope="session")
def small(ready: Callable[..., Search], tmp_path_factory: pytest.TempPathFactory) -> Search:
    """The search of :data:`SEARCH`."""
    file = tmp_path_factory.mktemp("search") / "search.yaml"
    file.write_text(json.dumps(SEARCH), encoding="utf-8")  # JSON is YAML
    return ready(file)


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    """What two identical results agree in."""
    return {key: value for key, value in answer.items() if key not in ("seconds", "version")}


@pytest.fixture(scope="session")
def answer(small: Search) -> dict[str, Any]:
    """The answer of the small search, as one process gives it."""
    return without_times(json.loads(search(load_scenario(small.file)).to_json()))


@pytest.fixture(scope="session")
def written() -> Callable[[Path], dict[str, Any]]:
    """Reads an answer that a command has written."""
    return lambda path: without_times(json.loads(path.read_text(encoding="utf-8")))
