"""Records whose fields are computed when they are first read: a search reads a few of what a result has."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

_Record = TypeVar("_Record")


def lazy(kind: type[_Record], compute: Callable[[str], Any]) -> _Record:
    """A record of a dataclass without defaults.

    Parameters
    ----------
    kind
        The dataclass. A field with a default is never computed: Python finds the default first.
    compute
        Value of a field from its name; called once per field that is read.
    """
    record: _Record = object.__new__(_lazy_kind(kind))
    object.__setattr__(record, "_compute", compute)
    return record


@functools.cache
def _lazy_kind(kind: type[Any]) -> type[Any]:
    def read(self: Any, name: str) -> Any:
        if name not in kind.__dataclass_fields__:
            raise AttributeError(name)
        value = self._compute(name)
        object.__setattr__(self, name, value)
        return value

    return type(f"Lazy{kind.__name__}", (kind,), {"__getattr__": read})
