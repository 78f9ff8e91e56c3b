"""What a search finds does not depend on how it is cut, in which order its parts end, and which process runs them."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import perfmodel
from perfmodel.errors import UsageError
from perfmodel.study.search import shipment
from perfmodel.study.search.processes import Processes, idle_processors
from perfmodel.study.search.walk import MOST_TASKS, Task, joined, run_task, tasks_of
from perfmodel.study.search.work import Serial, untold

VARIANTS: dict[str, dict[str, Any]] = {
    "one region": {"strategy__order": ["tp", "cp", "dp", "pp"], "strategy__context_parallel": "ring",
                   "strategy__pipeline__schedule": "1f1b"},
    "hardware": {"strategy__order": ["tp", "cp", "dp", "pp"], "strategy__context_parallel": "ring",
                 "strategy__pipeline__schedule": "1f1b",
                 "cluster__accelerator__memory__bandwidth": ["2 TB/s", "3.35 TB/s", "8 TB/s"]},
    "experts": {"strategy__order": ["tp", "cp", "dp", "pp"], "strategy__context_parallel": "ring",
                "strategy__pipeline__schedule": "1f1b", "strategy__ep": [1, 2, 4], "model": "mixtral-8x7b"},
    "what cannot be an answer left out": {
        "strategy__order": ["tp", "cp", "dp", "pp"], "strategy__context_parallel": "ring",
        "strategy__pipeline__schedule": "1f1b", "objectives": {"time.step_s": "min"}, "exhaustive": False,
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def variant(request: pytest.FixtureRequest, ready: Any, small: Any) -> Any:
    return ready(small.file, **VARIANTS[request.param])


def _run(search: Any, tasks: Sequence[Task]) -> Any:
    return joined(search.space, search.wanted, [run_task(search.space, search.wanted, task) for task in tasks])


@st.composite
def _cuts(draw: st.DrawFn, search: Any) -> list[Task]:
    """Tasks that cover every region once, cut anywhere and in any order."""
    tasks: list[Task] = []
    for region in search.space.regions:
        rows = region.space.row_count
        inner = draw(st.sets(st.integers(1, rows - 1), max_size=6))
        ends = [0, *sorted(inner), rows]
        tasks += [Task(region.number, start, stop) for start, stop in pairwise(ends)]
    return draw(st.permutations(tasks))


@settings(max_examples=5)
@given(data=st.data())
def test_any_cut_in_any_order_finds_the_same(data: st.DataObject, variant: Any, numbers: Callable[..., Any]) -> None:
    whole = numbers(_run(variant, tasks_of(variant.space, len(variant.space))))
    assert whole[3] > 0
    assert numbers(_run(variant, data.draw(_cuts(variant)))) == whole


def test_finer_tasks_cover_every_row_once(variant: Any) -> None:
    tasks = tasks_of(variant.space, 5_000)
    assert len(tasks) > len(tasks_of(variant.space)) >= len(variant.space.regions)
    for region in variant.space.regions:
        rows = [row for task in tasks if task.region == region.number for row in range(task.start, task.stop)]
        assert rows == list(range(region.space.row_count))


def test_there_are_never_too_many_tasks(variant: Any) -> None:
    assert len(tasks_of(variant.space, 1)) <= MOST_TASKS + len(variant.space.regions)


def test_a_search_that_travelled_finds_the_same(variant: Any, numbers: Callable[..., Any]) -> None:
    first = numbers(_run(variant, variant.tasks))  # the space now holds costs, by addresses of this process
    sent = pickle.loads(pickle.dumps(shipment.packed(variant.space, variant.wanted)))  # noqa: S301
    parts = [shipment.run_shipped(sent, task) for task in variant.tasks]
    assert numbers(joined(variant.space, variant.wanted, parts)) == first


def test_another_version_is_refused(variant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = shipment.packed(variant.space, variant.wanted)
    monkeypatch.setattr(perfmodel, "__version__", "9.9.9")
    with pytest.raises(UsageError, match=r"has perfmodel 9\.9\.9 \(here: .*\); install the same versions"):
        shipment.run_shipped(sent, variant.tasks[0])


def test_what_cannot_travel_is_told(variant: Any) -> None:
    with pytest.raises(UsageError, match="cannot leave the process"):
        shipment.packed(variant.space, lambda: None)  # type: ignore[arg-type]


def test_processes_find_the_same(small: Any, numbers: Callable[..., Any]) -> None:
    findings = dict(Processes(2).findings(small.space, small.wanted, small.tasks, untold))
    assert set(findings) == set(small.tasks)
    assert len(small.tasks) == 12
    found = joined(small.space, small.wanted, list(findings.values()))
    assert numbers(found) == numbers(_run(small, small.tasks))


def test_a_process_that_is_killed_is_told(small: Any) -> None:
    findings = Processes(2).findings(small.space, small.wanted, small.tasks * 20, untold)
    next(findings)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(UsageError, match="a worker process ended before its task did"):
        list(findings)


def test_small_searches_start_no_processes(small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("perfmodel.study.search.processes.packed", lambda *_: pytest.fail("nothing is worth sending"))
    found = list(Processes().findings(small.space, small.wanted, small.tasks[:2], untold))
    assert [task for task, _ in found] == small.tasks[:2]
    assert [task for task, _ in Serial().findings(small.space, small.wanted, small.tasks[:2], untold)] == small.tasks[
        :2
    ]


def test_busy_processors_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    for load, idle in ((0.4, 8), (3.2, 5), (20.0, 1)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert idle_processors() == idle
