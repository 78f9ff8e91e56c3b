"""Tasks of a search on the workers of a Dask cluster that somebody else has started."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from perfmodel.errors import MissingDependency, UsageError
from perfmodel.study.search.regions import SearchSpace
from perfmodel.study.search.shipment import Shipment, packed, run_shipped, version_difference, versions
from perfmodel.study.search.walk import Found, Task
from perfmodel.study.search.wanted import Wanted
from perfmodel.study.search.work import Findings, Tell

if TYPE_CHECKING:
    from distributed import Client, Future

#: Seconds until a scheduler has answered.
_PATIENCE = 2.5
#: How often a task may be given up by a scheduler, which itself tries each several times, before the search is.
_GIVEN_UP_AT_MOST = 10
#: What comes of an address that is none, and of asking a server that speaks another language.
_NO_SCHEDULER = (OSError, ValueError, TypeError, RuntimeError, ImportError, LookupError, EOFError, MemoryError)


class Cluster:
    """Tasks on a Dask cluster.

    Parameters
    ----------
    address
        Of the scheduler, as in ``tcp://host:8786``.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def findings(self, space: SearchSpace, wanted: Wanted, tasks: Sequence[Task], waiting: Tell, /) -> Findings:
        shipment = packed(space, wanted)
        with _connected(self._address) as client:
            if not _checked_workers(client, self._address):
                waiting(f"waiting for workers of {self._address}")
            yield from _findings(client, self._address, shipment, tasks)


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """A client of the scheduler; what it asked for is given back when the block ends, however it ends."""
    try:
        from distributed import Client
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"--engine dask needs {error.name}, which is not installed: pip install 'perfmodel[cluster]'"
        ) from None
    with _quiet():
        _check_scheduler(address)
        client = Client(address, timeout=_PATIENCE, set_as_default=False)
        try:
            yield client
        finally:
            client.close(timeout=_PATIENCE)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the logs of distributed: it tells lost connections at length while it tries again."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "tornado.application")]
    before = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


def _check_scheduler(address: str) -> None:
    """Ask who is there, before a client begins to try again and again.

    Raises
    ------
    UsageError
        Nobody answers, or not a scheduler.
    """
    with ThreadPoolExecutor(1) as thread:  # where this is called, as in a notebook, a loop may be running already
        try:
            kind = thread.submit(asyncio.run, _kind_of(address)).result()
        except _NO_SCHEDULER as error:
            raise UsageError(
                f"--scheduler {address}: no Dask scheduler answers there ({_sentence(error)}); "
                "expected an address as in tcp://host:8786"
            ) from None
    if kind != "Scheduler":
        raise UsageError(f"--scheduler {address}: a Dask {str(kind).lower()} answers there, not a scheduler")


async def _kind_of(address: str) -> Any:
    """What a Dask server says it is."""
    from distributed.core import rpc
    from distributed.security import Security

    arguments = Security().get_connection_args("client")
    async with asyncio.timeout(_PATIENCE):
        async with rpc(address, timeout=_PATIENCE, connection_args=arguments) as server:
            identity: Any = await server.identity()
    return identity.get("type")


def _sentence(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing within {_PATIENCE:g} s"
    if isinstance(error, MemoryError):  # the length of a message, read from an answer in another language
        return "but something else does"
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _checked_workers(client: Client, address: str) -> int:
    """Workers that are there now; those that come later are checked by every task.

    Raises
    ------
    UsageError
        One of them cannot run the tasks of this version.
    """
    found: Any = client.run(versions, on_error="return")
    for worker, answer in sorted(found.items()):
        if isinstance(answer, ModuleNotFoundError):
            raise UsageError(f"{address}: the worker {worker} {_without(answer)}")
        if isinstance(answer, dict):
            difference = version_difference(versions(), answer)
            if difference:
                raise UsageError(f"{address}: the worker {worker} {difference}")
    return len(found)


def _without(error: ModuleNotFoundError) -> str:
    """What a worker lacks, where a module was not found."""
    told = "perfmodel" if (error.name or "perfmodel").startswith("perfmodel") else error.name
    return f"does not have {told} in the version that is here ({versions()['perfmodel']}); install it there"


def _findings(client: Client, address: str, shipment: Shipment, tasks: Sequence[Task]) -> Findings:
    from distributed import as_completed

    # A task of its own and not scattered data: when the workers that hold it die, the scheduler makes it again.
    sent = client.submit(_received, shipment, key=f"perfmodel-search-{shipment.digest}")

    def submit(task: Task) -> Future:
        # Not pure: tasks of two people who ask the same must not cancel each other's.
        return client.submit(run_shipped, sent, task, pure=False)

    running = {submit(task): task for task in tasks}
    given_up: dict[Task, int] = {}
    try:
        # With results: they arrive by themselves, and nothing but a queue is waited for when Ctrl-C comes.
        ended = as_completed(list(running), loop=client.loop, with_results=True, raise_errors=False)
        for future, outcome in ended:
            task = running.pop(future)
            future.release()  # left to its finaliser, it could swallow a Ctrl-C
            if isinstance(outcome, Found):
                yield task, outcome
                continue
            _raise_unless_killed(outcome, address)
            _count_up(given_up, task, address)
            again = submit(task)
            running[again] = task
            ended.add(again)
    finally:
        client.cancel(list(running))


def _received(shipment: Shipment) -> Shipment:
    """The shipment, on the worker that it was sent to."""
    return shipment


def _count_up(given_up: dict[Task, int], task: Task, address: str) -> None:
    given_up[task] = given_up.get(task, 0) + 1
    if given_up[task] > _GIVEN_UP_AT_MOST:
        raise UsageError(
            f"{address}: the workers that ran a part of the search ended again and again, perhaps for lack of memory; "
            "give them more memory, or fewer threads"
        )


def _raise_unless_killed(outcome: Any, address: str) -> None:
    """Raise what ended a task; nothing where that was the end of its worker."""
    from distributed import KilledWorker

    error = outcome[1] if isinstance(outcome, tuple) else outcome
    if isinstance(error, KilledWorker):
        return
    if isinstance(error, ModuleNotFoundError):
        raise UsageError(f"{address}: a worker {_without(error)}") from None
    if isinstance(error, CancelledError):
        raise UsageError(
            f"{address}: the scheduler is gone, or somebody cancelled the tasks; with --checkpoint, what was finished "
            "is kept"
        ) from None
    raise error
