"""How long work tells how far it is. Who shows it, and whether anybody does, is for the caller to decide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Called often while work goes on; must be cheap and must not fail."""

    def __call__(self, what: str, done: int, total: int | None = None) -> None:
        """Tell how far the work is.

        Parameters
        ----------
        what
            Words for the kind of steps, such as ``rows predicted``; another word begins another part of the work.
        done, total
            Steps that are finished, of how many; None where nobody knows.
        """
        ...


def unseen(what: str, done: int, total: int | None = None) -> None:
    """Progress that nobody looks at."""


def tracked(items: Sequence[T], what: str, progress: Progress) -> Iterator[T]:
    """The items; each is told as finished when the next one is asked for."""
    total = len(items)
    for done, item in enumerate(items):
        progress(what, done, total)
        yield item
    progress(what, total, total)
