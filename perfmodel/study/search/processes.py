"""Tasks of a search in processes of this machine.

Processes and not threads: a task is many short NumPy calls, between which threads wait for each other (the figures are
in docs/how-to/run-a-search-on-a-cluster.md).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait

from perfmodel.errors import UsageError
from perfmodel.study.search.regions import SearchSpace
from perfmodel.study.search.shipment import Shipment, packed, run_shipped
from perfmodel.study.search.walk import Found, Task, task_candidates
from perfmodel.study.search.wanted import Wanted
from perfmodel.study.search.work import Findings, Serial, Tell

#: Tasks of the usual size from which processes save more than they take to start (about a second each).
WORTH_TASKS = 32


class Processes:
    """Tasks in several processes of this machine.

    Parameters
    ----------
    workers
        Processes; None: one per idle processor where the search is large enough, otherwise none beside this one.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def findings(self, space: SearchSpace, wanted: Wanted, tasks: Sequence[Task], waiting: Tell, /) -> Findings:
        workers = self._workers
        if workers is None:
            workers = idle_processors() if len(space) >= WORTH_TASKS * task_candidates(wanted) else 1
        workers = min(workers, len(tasks))
        if workers <= 1:
            yield from Serial().findings(space, wanted, tasks, waiting)
        else:
            yield from _findings(workers, packed(space, wanted), tasks)


def idle_processors() -> int:
    """Processors that this process may use and that others leave alone, at least one.

    Where others are at work, more processes share what one would have had, and each has to start first.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        busy = os.getloadavg()[0]
    except (AttributeError, OSError):  # not every system counts
        busy = 0.0
    return max(allowed - int(busy), 1)


def _findings(workers: int, shipment: Shipment, tasks: Sequence[Task]) -> Findings:
    # Forked children would inherit the locks of threads that they do not have: new ones start from nothing.
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(shipment,)
    )
    try:
        running: dict[Future[Found], Task] = {executor.submit(_run, task): task for task in tasks}
        for future in as_completed(running):
            yield running.pop(future), future.result()
    except BrokenProcessPool:
        raise UsageError(
            "a worker process ended before its task did, perhaps for lack of memory; try fewer with --workers"
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


_shipment: list[Shipment] = []


def _begin(shipment: Shipment) -> None:
    """Prepare a worker process."""
    # Ctrl-C reaches every process of a terminal; the one that started the others ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _shipment[:] = [shipment]


def _end_with_parent() -> None:
    """Workers wait for tasks on a pipe that they hold open themselves: they would outlive a parent that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _run(task: Task) -> Found:
    return run_shipped(_shipment[0], task)
