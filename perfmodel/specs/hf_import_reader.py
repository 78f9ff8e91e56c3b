"""Typed reading of a configuration mapping under any of a field's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from perfmodel.errors import SpecError
from perfmodel.specs.hf_import_families import SYNONYMS

#: Larger than any dimension or count of layers of a real configuration.
_MAXIMUM = 10**9
_MAXIMUM_ITEMS = 10_000


class ConfigReader:
    """Looks up canonical fields in a flat configuration; errors name the file and every key that was tried."""

    def __init__(self, config: Mapping[str, Any], where: str) -> None:
        self.config = config
        self.where = where

    def key_of(self, field: str) -> str | None:
        """The key under which the configuration states a field, or None."""
        return next((key for key in SYNONYMS[field] if self.config.get(key) is not None), None)

    def number(self, key: str) -> int | None:
        """The whole number under one key, or None when it is absent or null.

        Raises
        ------
        SpecError
            It is something else.
        """
        value = self.config.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1 or value < 0:
            raise SpecError(f"{self.where}: {key}: expected a whole number, got {value!r}")
        if value > _MAXIMUM:
            raise SpecError(f"{self.where}: {key}: {value!r} is no dimension of a model (above {_MAXIMUM:.0e})")
        return int(value)

    def find(self, field: str) -> int | None:
        """The number of a canonical field, or None."""
        key = self.key_of(field)
        return None if key is None else self.number(key)

    def require(self, field: str) -> int:
        """The number of a canonical field.

        Raises
        ------
        SpecError
            No key states it; the message lists the keys.
        """
        value = self.find(field)
        if value is None:
            first, *others = SYNONYMS[field]
            also = f" (also read as {', '.join(others)})" if others else ""
            raise SpecError(f"{self.where}: the key {first}{also} is missing; it gives {field} of the model")
        return value

    def switch(self, keys: tuple[str, ...], *, default: bool) -> bool:
        """The first of the keys that is stated, as true or false.

        Raises
        ------
        SpecError
            It is neither.
        """
        for key in keys:
            value = self.config.get(key)
            if value is None:
                continue
            if not isinstance(value, bool):
                raise SpecError(f"{self.where}: {key}: expected true or false, got {value!r}")
            return value
        return default

    def sequence(self, key: str) -> list[Any] | None:
        """The list under a key, or None when there is none.

        Raises
        ------
        SpecError
            It is longer than any list of layers.
        """
        value = self.config.get(key)
        if not isinstance(value, (list, tuple)):
            return None
        items = list(cast("Sequence[Any]", value))
        if len(items) > _MAXIMUM_ITEMS:
            raise SpecError(
                f"{self.where}: {key}: a list of {len(items)}; a model has no more than {_MAXIMUM_ITEMS} layers"
            )
        return items
