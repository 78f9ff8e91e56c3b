"""Guards shared by the equations: safe division, exact zeros, and the pieces of the smooth extrema.

They work on floats, arrays, quantities with units and traced operands, like the equations themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from perfmodel.units import Numeric


def divisor(value: Numeric) -> Numeric:
    """Return ``value`` where it is positive and NaN elsewhere, for a division whose result is discarded there.

    NaN and not a small number: it has no unit of its own and raises no floating-point warning.
    """
    return np.where(value > 0.0, value, np.nan)


def only_where(condition: Any, value: Numeric) -> Numeric:
    """Return ``value`` where the condition holds and exactly zero elsewhere."""
    # The unary plus turns the zero-dimensional array of a scalar call into a number.
    return +np.where(condition, value, 0.0)


def safe_ratio(numerator: Numeric, denominator: Numeric) -> Numeric:
    """Return ``numerator / denominator``, or zero where the denominator is not positive."""
    return only_where(denominator > 0.0, numerator / divisor(denominator))


def larger_and_ratio(first: Numeric, second: Numeric) -> tuple[Numeric, Numeric]:
    """Return the larger term and (smaller / larger), the ratio being zero when both terms are zero."""
    larger = np.maximum(first, second)
    return larger, safe_ratio(np.minimum(first, second), larger)


def smaller_and_ratio(first: Numeric, second: Numeric) -> tuple[Numeric, Numeric]:
    """Return the smaller term and (smaller / larger), the ratio being zero when both terms are zero."""
    smaller = np.minimum(first, second)
    return smaller, safe_ratio(smaller, np.maximum(first, second))


def inverse_count(count: Numeric) -> Numeric:
    """Return ``1 / count``, for a count of at least one."""
    return 1.0 / np.maximum(count, 1.0)
