"""What searches of a session have computed, by what it follows from: the same is not computed twice.

Times, energies and memory follow from the physics of a question: model, machine, formats, strategy. Prices, failures
and limits come after them. A search in which only these changed composes nothing.
"""

from __future__ import annotations

import enum
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from perfmodel.engine.key_book import HardwarePoints
from perfmodel.engine.problem import Problem, Workload
from perfmodel.machine.machine import Machine

_Kept = TypeVar("_Kept")

#: Bytes that a session keeps: some ten million candidates.
LIMIT = 256 * 2**20
#: Fields that times, energies and memory do not follow from: prices and failures, how sure numbers are, where they come
#: from, and how equations are called. Everything else makes another physics, new fields too.
NOT_PHYSICS: Mapping[type, frozenset[str]] = {
    Problem: frozenset({"call", "label", "utilisation", "power_cap", "order"}),
    Workload: frozenset({"tokens"}),
    Machine: frozenset({
        "prices", "reliability", "provenance", "derived", "confidence", "relative_error", "experts_error",
        "anchored_error", "memory_error", "power_error",
    }),
}  # fmt: skip


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def digest(*values: Any) -> bytes:
    """Hash of plain values, arrays, and dataclasses of them.

    Raises
    ------
    TypeError
        A value of another type, whose content nobody has said how to tell.
    """
    found = hashlib.blake2b(digest_size=16)
    for value in values:
        _feed(found, value)
    return found.digest()


def _feed(into: _Hash, value: Any) -> None:
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        into.update(f"{type(value).__name__} {value!r};".encode())
    elif isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        into.update(f"array {array.dtype} {np.shape(value)};".encode())
        into.update(array.tobytes())
    elif isinstance(value, enum.Enum):
        _feed(into, value.name)
    elif is_dataclass(value):
        left_out = NOT_PHYSICS.get(type(value), frozenset())
        into.update(f"{type(value).__name__}(".encode())
        for item in fields(value):
            if item.name not in left_out:
                _feed(into, getattr(value, item.name))
    elif isinstance(value, Mapping):
        _feed_all(into, sorted(value.items()))
    elif isinstance(value, AbstractSet):
        _feed_all(into, sorted(value))
    elif isinstance(value, Sequence):
        _feed_all(into, value)
    else:
        raise TypeError(f"{type(value).__name__} has no hash of its content")


def _feed_all(into: _Hash, values: Sequence[Any]) -> None:
    into.update(f"{len(values)}[".encode())
    for value in values:
        _feed(into, value)


def physics(problem: Problem, points: HardwarePoints) -> bytes:
    """Hash of what times, energies and memory on some hardware points follow from, but for the order of the groups."""
    return digest(points.spread(problem, (len(points),)), len(points))


class Recall:
    """Results by what they follow from; the ones that were asked for longest ago make room for new ones.

    Parameters
    ----------
    limit
        Bytes of arrays to keep.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._kept: dict[tuple[Any, ...], tuple[Any, int]] = {}
        self._size = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[Any, ...], compute: Callable[[], _Kept]) -> _Kept:
        """What belongs to a key, computed where it is not known."""
        with self._lock:
            if key in self._kept:
                self._kept[key] = self._kept.pop(key)  # the last one is the one that was asked for last
                return self._kept[key][0]
        value = compute()
        with self._lock:
            self._keep(key, value)
        return value

    def _keep(self, key: tuple[Any, ...], value: Any) -> None:
        size = array_bytes(value)
        if size > self._limit or key in self._kept:
            return
        self._kept[key] = value, size
        self._size += size
        while self._size > self._limit:
            self._size -= self._kept.pop(next(iter(self._kept)))[1]

    def __getstate__(self) -> int:
        """Elsewhere it starts empty."""
        return self._limit

    def __setstate__(self, limit: int) -> None:
        self.__init__(limit)


def array_bytes(value: Any) -> int:
    """Bytes of the arrays of a value; something for what is around them."""
    around = 64
    if isinstance(value, np.ndarray):
        # A view keeps all of what it looks at.
        return around + (value.nbytes if value.base is None else value.base.nbytes)
    if is_dataclass(value):
        return around + sum(array_bytes(getattr(value, item.name)) for item in fields(value))
    if isinstance(value, tuple):
        return around + sum(array_bytes(one) for one in value)
    return around


@dataclass(frozen=True)
class Shelf:
    """The results of one physics among those of a session."""

    recall: Recall
    of: tuple[Any, ...]

    @classmethod
    def of_problem(cls, recall: Recall, problem: Problem, points: HardwarePoints, other: Shelf | None = None) -> Shelf:
        """Those of a problem; ``other``: the shelf of one that differs in the order of the groups only."""
        apart = physics(problem, points) if other is None else other.of[0]
        return cls(recall, (apart, problem.order))

    def get(self, key: tuple[Any, ...], compute: Callable[[], _Kept]) -> _Kept:
        """What belongs to a key, computed where it is not known."""
        return self.recall.get((*self.of, *key), compute)

    def narrowed(self, *key: Any) -> Shelf:
        """Those of a part."""
        return replace(self, of=(*self.of, *key))
