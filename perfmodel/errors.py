"""Errors for people. Each says what is wrong, where, what was allowed and the nearest valid choice."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PerfmodelError(Exception):
    """Base of every error that a user can cause; the command line prints it without a traceback."""


class SpecError(PerfmodelError):
    """A file says something that cannot be: malformed, unknown key, wrong unit, missing number (exit 2)."""


class UsageError(PerfmodelError):
    """A command or a call was used wrongly (exit 2)."""


class UnsupportedOperator(PerfmodelError):
    """A construct of a model or a plan has no equations here yet; the message names it (exit 2)."""


class InfeasiblePlan(PerfmodelError):
    """Raised only at the edges (for example ``explain`` of a plan that cannot be); a search returns reasons."""


class MissingDependency(PerfmodelError):
    """An optional extra is not installed; the message says how to install it (exit 2)."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """A phrase ``; did you mean 'x'?`` for the closest of ``choices``, or an empty string."""
    matches = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]!r}?" if matches else ""
