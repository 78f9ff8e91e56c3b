"""What a pipeline schedule asks of a plan: chunks per stage, stages, micro-batches. Each with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from perfmodel.parallel.orders import DUALPIPE, INTERLEAVED, ONE_F_ONE_B, SCHEDULES, ZB_H1, ZB_V
from perfmodel.parallel.plan import Plan

#: Name of the rule, where plans break it, and the sentence for one row.
Rule: TypeAlias = tuple[str, NDArray[np.bool_], Callable[[int], str]]


def schedule_rules(plan: Plan) -> Iterator[Rule]:
    """The rules of the schedule of a plan."""
    yield (
        "virtual stages need a pipeline",
        (plan.virtual_stages > 1) & (plan.pp == 1),
        lambda row: f"virtual_stages = {plan.virtual_stages[row]} needs pp > 1",
    )
    yield from _RULES.get(plan.schedule, _one_chunk)(plan)


def _interleaved(plan: Plan) -> Iterator[Rule]:
    uneven = np.not_equal(np.mod(plan.num_microbatches, np.maximum(plan.pp, 1)), 0)
    yield (
        "interleaved micro-batches",
        (plan.virtual_stages > 1) & uneven,
        lambda row: (
            f"the interleaved schedule needs a multiple of pp = {plan.pp[row]} micro-batches; "
            f"each replica has {plan.num_microbatches[row]}"
        ),
    )


def _one_chunk(plan: Plan) -> Iterator[Rule]:
    yield (
        "chunks of the schedule",
        plan.virtual_stages > 1,
        lambda row: (
            f"schedule {plan.schedule} has one chunk of the model per stage: virtual_stages must be 1, "
            f"not {plan.virtual_stages[row]}"
        ),
    )


def _zb_h1(plan: Plan) -> Iterator[Rule]:
    yield from _one_chunk(plan)
    yield (
        "micro-batches of zb-h1",
        plan.num_microbatches < plan.pp,
        lambda row: (
            f"schedule zb-h1 needs at least pp = {plan.pp[row]} micro-batches, so that weight gradients can wait; "
            f"each replica has {plan.num_microbatches[row]}"
        ),
    )


def _zb_v(plan: Plan) -> Iterator[Rule]:
    chunks = SCHEDULES[ZB_V].chunks
    yield (
        "chunks of zb-v",
        plan.virtual_stages != chunks,
        lambda row: (
            f"schedule zb-v places two chunks of the model on every stage, the second on the way back: "
            f"virtual_stages must be {chunks}, not {plan.virtual_stages[row]}"
        ),
    )
    yield (
        "micro-batches of zb-v",
        plan.num_microbatches < 2 * plan.pp - 1,
        lambda row: (
            f"schedule zb-v needs at least 2*pp - 1 = {2 * plan.pp[row] - 1} micro-batches; "
            f"each replica has {plan.num_microbatches[row]}"
        ),
    )


def _dualpipe(plan: Plan) -> Iterator[Rule]:
    yield from _one_chunk(plan)
    yield (
        "stages of dualpipe",
        np.mod(plan.pp, 2) != 0,
        lambda row: f"schedule dualpipe pairs each stage with the one opposite: pp must be even, not {plan.pp[row]}",
    )
    count = plan.num_microbatches
    yield (
        "micro-batches of dualpipe",
        (np.mod(count, 2) != 0) | (count < 2 * plan.pp),
        lambda row: (
            f"schedule dualpipe feeds micro-batches in at both ends: it needs an even number of them, at least "
            f"2*pp = {2 * plan.pp[row]}; each replica has {count[row]}"
        ),
    )


_RULES: Mapping[str, Callable[[Plan], Iterator[Rule]]] = {
    ONE_F_ONE_B: _interleaved, INTERLEAVED: _interleaved, ZB_H1: _zb_h1, ZB_V: _zb_v, DUALPIPE: _dualpipe,
}  # fmt: skip
