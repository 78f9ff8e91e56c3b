"""The pipeline step as a trace in the Chrome trace-event format, for Perfetto.

Format: "Trace Event Format", Google; complete events (``ph: X``) with times in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from perfmodel.engine.result import Result
from perfmodel.files import write_whole
from perfmodel.parallel.orders import INTERLEAVED, ONE_F_ONE_B, SCHEDULES, WEIGHT_GRADIENT, Schedule
from perfmodel.parallel.schedule import FORWARD, Event, Timeline
from perfmodel.report.display import clean, is_number, label_of_key
from perfmodel.report.sentence import answer_sentence, positive
from perfmodel.report.timeline import replayed

_COMPUTE, _COMMUNICATION, _BESIDE = 1, 2, 3
_MICROSECONDS = 1e6
#: More events than this are slow to open; the first stages are kept whole, later stages are left out.
_MOST_EVENTS = 300_000
#: Colour names that the trace viewers reserve.
_COLOURS = {
    "forward": "thread_state_running",
    "backward": "thread_state_runnable",
    "input gradient": "thread_state_runnable",
    "weight gradient": "thread_state_iowait",
}
#: What follows the pipeline in a step, in order (parts of ``time.breakdown``).
_TAIL = ("data_communication_s", "optimizer_s", "overhead_s")


def write_trace(result: Result, path: str | Path) -> None:
    """Write the trace, whole or not at all: one process per pipeline stage, every micro-batch.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    write_whole(path, json.dumps(trace_object(result), allow_nan=False, separators=(",", ":")) + "\n")


def trace_object(result: Result) -> dict[str, Any]:
    """The trace as plain Python: ``traceEvents`` and what the viewer shows about the file."""
    timeline = replayed(result)
    events = list(_stage_events(result, timeline)) if timeline is not None else list(_parts(result, 0, 0.0))
    about = {
        "scenario": clean(result.scenario.get("name", "")),
        "answer": answer_sentence(result),
        "version": result.version,
    }
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def _stage_events(result: Result, timeline: Timeline) -> Iterator[dict[str, Any]]:
    by_stage: dict[int, list[Event]] = {}
    for event in timeline.events:
        by_stage.setdefault(event.stage, []).append(event)
    transfer = float(result.schedule.get("transfer_s") or 0.0)
    chunks = int(result.schedule.get("virtual_stages") or 1)
    kind = SCHEDULES[result.schedule.get("name") or (INTERLEAVED if chunks > 1 else ONE_F_ONE_B)]
    written = 0
    for stage, events in sorted(by_stage.items()):
        written += len(events)
        if stage and written > _MOST_EVENTS:
            return
        yield from _names(stage)
        if any(event.beside for event in events):
            yield _metadata("thread_name", stage, {"name": "compute beside a forward pass"}, _BESIDE)
        yield from (_pass(event) for event in events)
        if transfer > 0:
            yield from _transfers(events, transfer, len(by_stage), chunks, kind)
        yield from _parts(result, stage, timeline.makespan)


def _names(stage: int) -> Iterator[dict[str, Any]]:
    yield _metadata("process_name", stage, {"name": f"pipeline stage {stage}"})
    yield _metadata("process_sort_index", stage, {"sort_index": stage})
    for thread, name in ((_COMPUTE, "compute"), (_COMMUNICATION, "communication")):
        yield _metadata("thread_name", stage, {"name": name}, thread)


def _metadata(name: str, process: int, arguments: Mapping[str, Any], thread: int = 0) -> dict[str, Any]:
    return {"name": name, "ph": "M", "ts": 0, "pid": process, "tid": thread, "args": dict(arguments)}


def _complete(
    name: str, category: str, stage: int, thread: int, start: float, seconds: float, **arguments: Any
) -> dict[str, Any]:
    event: dict[str, Any] = {
        "name": name,
        "cat": category,
        "ph": "X",
        "ts": start * _MICROSECONDS,
        "dur": seconds * _MICROSECONDS,
        "pid": stage,
        "tid": thread,
        "args": arguments,
    }
    return event | ({"cname": _COLOURS[category]} if category in _COLOURS else {})


def _pass(event: Event) -> dict[str, Any]:
    name = f"{event.phase} {event.microbatch}"
    return _complete(
        name,
        event.phase,
        event.stage,
        _BESIDE if event.beside else _COMPUTE,
        event.start,
        event.end - event.start,
        microbatch=event.microbatch,
        chunk=event.chunk,
    )


def _transfers(
    events: list[Event], transfer: float, stages: int, chunks: int, kind: Schedule
) -> Iterator[dict[str, Any]]:
    """What a stage sends after each pass; the end of the model sends nothing forward, its start nothing back."""
    places = {
        (kind.depth(stage, chunk, stages), chunk if kind.copies > 1.0 else 0): stage
        for stage in range(stages)
        for chunk in range(max(chunks, int(kind.copies)))
    }
    for event in events:
        if event.phase == WEIGHT_GRADIENT:
            continue
        depth = kind.depth(event.stage, event.chunk, stages) + (1 if event.phase == FORWARD else -1)
        to = places.get((depth, event.chunk if kind.copies > 1.0 else 0), event.stage)
        if to == event.stage:  # the next chunk is at hand, or this was the last one
            continue
        what = "activations" if event.phase == FORWARD else "gradients"
        yield _complete(
            f"send {what} {event.microbatch}",
            "pipeline communication",
            event.stage,
            _COMMUNICATION,
            event.end,
            transfer,
            microbatch=event.microbatch,
            chunk=event.chunk,
            to_stage=to,
        )


def _parts(result: Result, stage: int, start: float) -> Iterator[dict[str, Any]]:
    """Parts of the step that follow the pipeline (or, without a schedule, all parts one after the other)."""
    breakdown = result.time.get("breakdown") or {}
    if start == 0.0:
        yield from _names(stage)
    for key in _TAIL if start > 0.0 else positive(breakdown):
        seconds = breakdown.get(key)
        if not is_number(seconds) or seconds <= 0:
            continue
        thread = _COMMUNICATION if "communication" in key else _COMPUTE
        name = f"{'exposed ' if thread == _COMMUNICATION else ''}{label_of_key(key)}"
        yield _complete(name, "step", stage, thread, start, seconds)
        start += seconds
