"""Capacity: the fewest devices, the least money or the least energy that meets a deadline or a rate within limits."""

from perfmodel.study.capacity.answer import capacity
from perfmodel.study.capacity.result import CapacityResult

__all__ = ["CapacityResult", "capacity"]
