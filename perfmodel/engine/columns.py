"""Many plans in one call: columns in, columns out, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from perfmodel.engine.composition import Evaluation, cost_plan_keys, evaluate_rows, intern_keys
from perfmodel.engine.headline import headline_columns
from perfmodel.engine.problem import Problem
from perfmodel.machine.columns import with_columns
from perfmodel.parallel.plan import Plan

#: Rows composed at a time: large enough to amortise calls, small enough to stay in the cache.
CHUNK_ROWS = 16_384


def evaluate_columns(
    problem: Problem, plan: Plan, hardware: Mapping[str, np.ndarray] | None = None, devices: Any = None
) -> dict[str, np.ndarray]:
    """Headline columns of many plans.

    Parameters
    ----------
    problem
        The question without its plan.
    plan
        Plans, length n.
    hardware
        Columns (shape ``(n,)``) of hardware numbers by spec path, for example
        ``accelerator.memory.bandwidth``; row i is evaluated on the hardware of row i.
    devices
        Devices that each plan must use (number or column); default: those of the question. A plan of
        another size is infeasible.

    Returns
    -------
    dict
        One array of shape ``(n,)`` per headline (see :mod:`perfmodel.engine.headline`), SI units.
    """
    swept = {
        path: np.broadcast_to(np.asarray(values, dtype=np.float64), (len(plan),))
        for path, values in (hardware or {}).items()
    }
    points = np.unique(np.stack(list(swept.values())), axis=1, return_inverse=True)[1].ravel() if swept else None
    interned = intern_keys(plan, problem.order, points)
    costs = cost_plan_keys(_on(problem, swept, interned.rows), plan, interned)
    wanted = np.broadcast_to(np.asarray(problem.devices if devices is None else devices), (len(plan),))
    result: dict[str, np.ndarray] = {}
    for start in range(0, len(plan), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        chunk = plan.take(rows)
        local = _on(problem, swept, rows)
        part = headline_columns(local, chunk, evaluate_rows(local, chunk, costs, interned.take[rows]), wanted[rows])
        if not result:
            result = {name: np.empty(len(plan), dtype=column.dtype) for name, column in part.items()}
        for name, column in part.items():
            result[name][rows] = column
    return result


def evaluate_moves(problem: Problem, plan: Plan, hardware: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Headline columns of one plan on many machines: ``hardware`` as in :func:`evaluate_columns`."""
    rows = max((len(column) for column in hardware.values()), default=1)
    return evaluate_columns(problem, plan.take(np.zeros(rows, dtype=np.int64)), hardware)


def _on(problem: Problem, swept: Mapping[str, np.ndarray], rows: Any) -> Problem:
    if not swept:
        return problem
    return replace(
        problem, machine=with_columns(problem.machine, {path: values[rows] for path, values in swept.items()})
    )


def evaluate_one(problem: Problem, plan: Plan) -> tuple[Evaluation, Any]:
    """Evaluation and key costs of a single plan."""
    interned = intern_keys(plan, problem.order)
    costs = cost_plan_keys(problem, plan, interned)
    return evaluate_rows(problem, plan, costs, interned.take), costs
