"""Solutions: the value of one input for which one result reaches a target."""

from perfmodel.study.solve.answer import SolveResult, solve

__all__ = ["SolveResult", "solve"]
