"""The pipeline schedule of a result as events, for the figure and for the trace."""

from __future__ import annotations

from perfmodel.engine.result import Result
from perfmodel.parallel.schedule import Timeline, replay


def replayed(result: Result) -> Timeline | None:
    """The replay of the schedule that the result names, or None where no pipeline schedule applies."""
    schedule = result.schedule
    forward, backward = list(schedule.get("forward_s") or ()), list(schedule.get("backward_s") or ())
    microbatches = int(schedule.get("num_microbatches") or 0)
    if not forward or len(forward) != len(backward) or microbatches < 1:
        return None
    chunks = int(schedule.get("virtual_stages") or 1)
    transfer = float(schedule.get("transfer_s") or 0.0)
    weights = schedule.get("weight_gradient_s")
    return replay(
        [float(one) for one in forward],
        [float(one) for one in backward],
        microbatches,
        chunks,
        transfer,
        schedule=schedule.get("name"),
        weight_gradient_s=None if weights is None else [float(one) for one in weights],
    )
