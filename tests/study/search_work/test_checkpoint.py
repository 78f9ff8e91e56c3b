"""A search that was stopped, at whatever moment, goes on and finds the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import perfmodel
from perfmodel.errors import UsageError
from perfmodel.study.search import shipment
from perfmodel.study.search.checkpoint import MANIFEST, Checkpoint
from perfmodel.study.search.walk import run_task
from perfmodel.study.search.work import Work, found_by

pytest.importorskip("pyarrow")


def _kept(search: Any, folder: Path, progress: Any = lambda *_: None) -> tuple[Any, list[str]]:
    """What a search with a checkpoint finds, and what it tells."""
    told: list[str] = []
    return found_by(Work(checkpoint=folder, tell=told.append), search.space, search.wanted, progress), told


@pytest.fixture(scope="module")
def kept_once(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("once") / "kept"
    _kept(small, folder)
    return folder


@pytest.fixture
def finished(kept_once: Path, tmp_path: Path) -> Path:
    """The checkpoint of a search that went to its end."""
    return Path(shutil.copytree(kept_once, tmp_path / "kept"))


@pytest.fixture(scope="module")
def complete(small: Any, numbers: Callable[..., Any]) -> list[Any]:
    """What a search finds that keeps nothing."""
    return numbers(found_by(Work(), small.space, small.wanted, lambda *_: None))


def test_every_task_is_one_file(small: Any, finished: Path, numbers: Callable[..., Any]) -> None:
    with Checkpoint(finished, small.space, small.wanted, small.tasks) as kept:
        files = {kept.path_of(task) for task in small.tasks}
        assert files == set(finished.glob("*.parquet"))
        assert len(files) == len(small.tasks)
        for task in small.tasks[:5]:
            read = kept.read(task, pytest.fail)
            assert read is not None
            assert numbers(read) == numbers(run_task(small.space, small.wanted, task))


def test_finished_tasks_are_not_run_again(
    small: Any, finished: Path, numbers: Callable[..., Any], complete: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = sorted(finished.glob("*.parquet"))[3:5]
    for path in gone:
        path.unlink()
    run: list[Any] = []
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        "perfmodel.study.search.work.run_task",
        lambda space, wanted, task: run.append(task) or run_task(space, wanted, task),
    )
    found, told = _kept(small, finished, lambda *state: seen.append(state))
    assert (len(run), told) == (2, [])
    assert ("parts of the space searched (10 more were finished before)", 1, 2) in seen
    assert numbers(found) == complete


def test_a_half_written_file_is_ignored(small: Any, finished: Path) -> None:
    path = min(finished.glob("*.parquet"))
    path.rename(path.with_suffix(".part")).write_bytes(b"PAR1 and no more")
    _, told = _kept(small, finished)
    assert told == []
    assert path.exists()
    assert list(finished.glob("*.part")) == []


def _cut_off(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _one_bit(content: bytes) -> bytes:
    """A number that is another one, in a file that reads as before."""
    at = len(content) // 3
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("harm", [_cut_off, _one_bit, lambda _: b"", lambda _: b"PAR1"], ids=range(4))
def test_a_damaged_file_is_told_and_its_task_runs_again(
    small: Any, finished: Path, numbers: Callable[..., Any], complete: list[Any], harm: Callable[[bytes], bytes]
) -> None:
    path = sorted(finished.glob("*.parquet"))[2]
    whole = path.read_bytes()
    path.write_bytes(harm(whole))
    found, told = _kept(small, finished)
    assert told == [f"{path}: damaged; this part is searched again"]
    assert path.read_bytes() == whole
    assert numbers(found) == complete


def test_every_byte_matters(small: Any, finished: Path) -> None:
    with Checkpoint(finished, small.space, small.wanted, small.tasks) as kept:
        task = small.tasks[0]
        whole, path = kept.path_of(task).read_bytes(), kept.path_of(task)
        before = kept._files.found_bytes(kept.read(task, pytest.fail), "")
        for at in random.Random(1).sample(range(len(whole)), 150):  # noqa: S311
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
            read = kept.read(task, lambda _: None)
            assert read is None or kept._files.found_bytes(read, "") == before


def test_the_file_of_another_task_is_told(small: Any, finished: Path) -> None:
    one, other = sorted(finished.glob("*.parquet"))[:2]
    one.write_bytes(other.read_bytes())
    assert "damaged" in _kept(small, finished)[1][0]


def test_another_search_is_refused(small: Any, ready: Any, finished: Path) -> None:
    with pytest.raises(UsageError, match=r"another search is kept there \(what is varied: strategy.tp \[1, 2, 4, 8\]"):
        _kept(ready(small.file, strategy__tp=[1, 2]), finished)
    with pytest.raises(UsageError, match="content of the scenario or of the specs behind it"):
        _kept(ready(small.file, workload__global_batch=256), finished)
    with pytest.raises(UsageError, match="content of the scenario"):
        _kept(ready(small.file, cluster__accelerator__memory__bandwidth="3 TB/s"), finished)


def test_another_version_is_refused(small: Any, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = perfmodel.__version__
    monkeypatch.setattr(perfmodel, "__version__", "9.9.9")
    with pytest.raises(UsageError, match=rf"version: perfmodel {version} there, 9\.9\.9 here"):
        _kept(small, finished)


def test_other_code_is_refused(small: Any, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipment, "code_digest", lambda _: "changed")
    with pytest.raises(UsageError, match=r"version: code of perfmodel \w{12} there, changed here"):
        _kept(small, finished)


def test_code_is_told_by_its_modules(tmp_path: Path) -> None:
    def digest(**files: str) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("_", ".")).write_text(content)
        return shipment.code_digest(folder)

    assert digest(a_py="1", b_py="2") == digest(a_py="1", b_py="2", notes_txt="3")
    assert len({digest(a_py="1", b_py="2"), digest(a_py="2", b_py="1"), digest(a_py="12"), digest(b_py="12")}) == 4


def test_a_folder_in_use_is_refused(small: Any, finished: Path) -> None:
    with (
        Checkpoint(finished, small.space, small.wanted, small.tasks),
        pytest.raises(UsageError, match="another search is using this folder"),
    ):
        _kept(small, finished)
    _kept(small, finished)


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_manifest_that_is_none_is_refused(small: Any, tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(UsageError, match="not what a search has written"):
        _kept(small, tmp_path)


def test_a_folder_that_cannot_be_is_refused(small: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be used"):
        _kept(small, tmp_path / "file")


# -- searches that are killed ------------------------------------------------------------------------------


def _command(search: Any, folder: Path, output: Path, *more: str) -> list[str]:
    run = [sys.executable, "-m", "perfmodel", "run", str(search.file), "--format", "json", "--output", str(output)]
    return [*run, "--checkpoint", str(folder), "--quiet", *more]


def _kill_after(command: list[str], folder: Path, parts: int, seconds: float) -> None:
    """Start a search, and kill it some time after it has finished so many more parts."""
    already = len(list(folder.glob("*.parquet")))
    process = subprocess.Popen(command, start_new_session=True)
    try:
        while process.poll() is None and len(list(folder.glob("*.parquet"))) < already + parts:
            time.sleep(0.002)
        time.sleep(seconds)
    finally:
        process.kill()
    assert process.wait() in (-signal.SIGKILL, 0)
    _wait_for_the_end_of_group(process.pid)


def _wait_for_the_end_of_group(group: int) -> None:
    """Worker processes must not outlive the one that started them."""
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("a worker process is still there")


def _check_kills(kills: int, search: Any, folder: Path, expected: dict[str, Any], *more: str) -> None:
    chance = random.Random(kills)  # noqa: S311
    output = folder / "answer.json"
    for _ in range(kills):
        _kill_after(_command(search, folder, output, *more), folder, chance.randint(0, 2), chance.uniform(0.0, 0.06))
    subprocess.run(_command(search, folder, output, *more), check=True)
    answer = json.loads(output.read_text())
    del answer["seconds"], answer["version"]
    assert answer == expected
    assert len(list(folder.glob("*.parquet"))) == len(search.tasks)
    assert answer["candidates_enumerated"] == len(search.space)


def test_a_killed_search_goes_on(small: Any, answer: dict[str, Any], tmp_path: Path) -> None:
    _check_kills(2, small, tmp_path, answer)


def test_a_killed_search_with_processes_goes_on(small: Any, answer: dict[str, Any], tmp_path: Path) -> None:
    _check_kills(1, small, tmp_path, answer, "--workers", "2")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_twenty_kills(small: Any, ready: Any, written: Any, tmp_path: Path, workers: str) -> None:
    scenario = json.loads(small.file.read_text())
    scenario["strategy"] |= {"context_parallel": "auto", "pipeline": {"schedule": "auto"}}  # more tasks than kills
    file, folder = tmp_path / "search.yaml", tmp_path / "kept"
    file.write_text(json.dumps(scenario))
    folder.mkdir()
    subprocess.run(_command(ready(file), tmp_path / "other", tmp_path / "expected.json"), check=True)
    _check_kills(20, ready(file), folder, written(tmp_path / "expected.json"), "--workers", workers)
