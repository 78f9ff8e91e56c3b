"""Searches on a Dask cluster with real worker processes, of which some die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import perfmodel
from perfmodel.errors import MissingDependency, UsageError
from perfmodel.study.search import cluster
from perfmodel.study.search.cluster import Cluster
from perfmodel.study.search.walk import joined, run_task
from perfmodel.study.search.work import Work, found_by, untold

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[Any]:
    """Two worker processes. A task whose worker dies once is given up, so that it has to be asked for again."""
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as running,
    ):
        yield running


def _tasks_left(running: Any) -> int:
    deadline = time.monotonic() + 5.0
    while running.scheduler.tasks and time.monotonic() < deadline:
        time.sleep(0.02)
    return len(running.scheduler.tasks)


def test_the_answer_is_that_of_one_process(
    dask_cluster: Any, small: Any, answer: dict[str, Any], written: Any, run: Any, tmp_path: Path
) -> None:
    output = tmp_path / "answer.json"
    where = ["--engine", "dask", "--scheduler", dask_cluster.scheduler_address, "--checkpoint", str(tmp_path / "kept")]
    outcome = run("run", str(small.file), "--format", "json", "--output", str(output), "--quiet", *where)
    assert (outcome.code, outcome.err) == (0, "")
    assert written(output) == answer
    assert len(list((tmp_path / "kept").glob("*.parquet"))) == len(small.tasks)
    assert _tasks_left(dask_cluster) == 0


def test_the_tasks_of_a_worker_that_is_killed_run_elsewhere(
    dask_cluster: Any, small: Any, numbers: Callable[..., Any]
) -> None:
    found: dict[Any, Any] = {}
    for task, finding in Cluster(dask_cluster.scheduler_address).findings(
        small.space, small.wanted, small.tasks, untold
    ):
        assert task not in found
        found[task] = finding
        if len(found) in (2, 9):
            workers = [nanny for nanny in dask_cluster.workers.values() if nanny.process.is_alive()]
            os.kill(workers[0].pid, signal.SIGKILL)
    assert set(found) == set(small.tasks)
    parts = [run_task(small.space, small.wanted, task) for task in small.tasks]
    assert numbers(joined(small.space, small.wanted, list(found.values()))) == numbers(
        joined(small.space, small.wanted, parts)
    )


def test_ctrl_c_cancels_what_was_asked_for(dask_cluster: Any, small: Any, tmp_path: Path) -> None:
    where = ["--engine", "dask", "--scheduler", dask_cluster.scheduler_address, "--checkpoint", str(tmp_path)]
    command = [sys.executable, "-m", "perfmodel", "run", str(small.file), "--format", "json", *where]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("*.parquet")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "interrupted\n")
    assert _tasks_left(dask_cluster) == 0
    assert len(list(tmp_path.glob("*.parquet"))) < len(small.tasks)


def test_workers_of_another_version_are_refused(dask_cluster: Any, small: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perfmodel, "__version__", "9.9.9")
    with pytest.raises(UsageError, match=r"the worker tcp://.* has perfmodel .* \(here: 9\.9\.9\); install the same"):
        found_by(Work(Cluster(dask_cluster.scheduler_address)), small.space, small.wanted, lambda *_: None)


def test_workers_that_come_later_are_checked_too(
    dask_cluster: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perfmodel, "__version__", "9.9.9")
    monkeypatch.setattr(cluster, "_checked_workers", lambda *_: 1)
    with pytest.raises(UsageError, match=r"the worker on .* has perfmodel .* \(here: 9\.9\.9\)"):
        found_by(Work(Cluster(dask_cluster.scheduler_address)), small.space, small.wanted, lambda *_: None)
    assert _tasks_left(dask_cluster) == 0


def test_a_worker_is_no_scheduler(dask_cluster: Any, small: Any) -> None:
    address = next(iter(dask_cluster.scheduler.workers))
    with pytest.raises(UsageError, match="a Dask worker answers there, not a scheduler"):
        found_by(Work(Cluster(address)), small.space, small.wanted, lambda *_: None)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "somewhere", "nothing://x:1"])
def test_a_scheduler_that_is_not_there_is_told_soon(small: Any, run: Any, address: str) -> None:
    start = time.monotonic()
    outcome = run("run", str(small.file), "--engine", "dask", "--scheduler", address)
    assert time.monotonic() - start < 5.0
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: --scheduler {address}: no Dask scheduler answers there (")


def test_a_cluster_without_workers_is_waited_for(small: Any, numbers: Callable[..., Any]) -> None:
    seen: list[str] = []
    with distributed.LocalCluster(
        n_workers=0, processes=False, host="127.0.0.1", dashboard_address="127.0.0.1:0", protocol="tcp"
    ) as running:

        def progress(what: str, _done: int, _total: int | None = None) -> None:
            if what.startswith("waiting"):
                running.scale(1)
            seen.append(what)

        found = found_by(Work(Cluster(running.scheduler_address)), small.space, small.wanted, progress)
    assert f"waiting for workers of {running.scheduler_address}" in seen
    assert numbers(found) == numbers(found_by(Work(), small.space, small.wanted, lambda *_: None))


def test_without_the_extra_the_message_names_it(small: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependency, match=r"--engine dask needs distributed.*pip install 'perfmodel\[cluster\]'"):
        found_by(Work(Cluster("tcp://127.0.0.1:1")), small.space, small.wanted, lambda *_: None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "perfmodel.study.search.found_files", raising=False)
    monkeypatch.delattr("perfmodel.study.search.found_files", raising=False)
    with pytest.raises(MissingDependency, match=r"--checkpoint needs pyarrow.*pip install 'perfmodel\[cluster\]'"):
        found_by(Work(checkpoint=tmp_path), small.space, small.wanted, lambda *_: None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "dask"], "--engine dask needs --scheduler"),
        (["--scheduler", "tcp://h:1"], "--scheduler tcp://h:1 needs --engine dask"),
        (["--engine", "dask", "--scheduler", "tcp://h:1", "--workers", "2"], "--workers is for --engine local"),
    ],
)
def test_options_that_do_not_go_together(small: Any, run: Any, options: list[str], message: str) -> None:
    outcome = run("run", str(small.file), *options)
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize("options", [["--workers", "2"], ["--engine", "local"], ["--checkpoint", "folder"]])
def test_other_questions_take_no_engine(run: Any, options: list[str], tmp_path: Path) -> None:
    outcome = run("run", "llama3.1-70b-64-h100", *options)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{options[0]} is for `question: search`; this scenario has `question: evaluate`" in outcome.err
    assert not Path("folder").exists()
