"""Which part of a communication is not hidden: what the stack cannot hide, or all of it where a plan hides nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.engine.networks import plain
from perfmodel.engine.problem import Problem
from perfmodel.engine.stages import PlanNumbers
from perfmodel.units import Numeric


@dataclass(frozen=True)
class ExposedShares:
    """Fraction of each kind of communication that can never be hidden."""

    tensor: Numeric
    regather: Numeric
    expert: Numeric
    pipeline: Numeric
    data: Numeric


def exposed_shares(problem: Problem, plan: PlanNumbers) -> ExposedShares:
    """The shares of the software stack, and 1 where the plan switches an overlap off."""
    step = problem.machine.step
    return ExposedShares(
        tensor=_share(step.tensor_exposed, plan.tensor_overlap),
        regather=_share(step.regather_exposed, plan.tensor_overlap),
        expert=_share(step.expert_exposed, plan.expert_overlap),
        pipeline=_share(step.pipeline_exposed, plan.pipeline_overlap),
        data=_share(step.data_exposed, plan.data_overlap),
    )


def _share(of_the_stack: Numeric, overlapped: Numeric) -> Numeric:
    on = plain(overlapped) > 0.0
    return of_the_stack if np.all(on) else np.where(overlapped > 0.0, of_the_stack, 1.0)
