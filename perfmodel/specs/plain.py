"""Tests for plain data (what YAML can say), with the types that they establish."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """A mapping; keys are text everywhere in this package."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[Sequence[Any]]:
    """A list (or tuple, in values made in Python); text is not one."""
    return isinstance(value, (list, tuple))
