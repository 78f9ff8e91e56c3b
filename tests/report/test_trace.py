"""The trace: valid for Perfetto, and the schedule that it shows is possible."""

import json
from collections import defaultdict
from itertools import pairwise

import pytest

from perfmodel.report import write_trace
from perfmodel.report.trace import trace_object


@pytest.fixture
def events(result):
    return trace_object(result)["traceEvents"]


def test_events_have_the_required_fields(events):
    assert {event["ph"] for event in events} == {"M", "X"}
    for event in events:
        assert {"name", "ph", "ts", "pid", "tid"} <= set(event)
        if event["ph"] == "X":
            assert event["dur"] > 0
            assert event["ts"] >= 0


def test_stages_and_threads_are_named(events):
    names = {(event["pid"], event["args"]["name"]) for event in events if event["name"] == "process_name"}
    assert names == {(stage, f"pipeline stage {stage}") for stage in range(16)}
    threads = {(event["pid"], event["args"]["name"]) for event in events if event["name"] == "thread_name"}
    assert threads == {(stage, name) for stage in range(16) for name in ("compute", "communication")}


def test_every_micro_batch_passes_every_chunk_forward_and_back(events):
    passes = [event for event in events if event.get("cat") in ("forward", "backward")]
    assert len(passes) == 16 * 8 * 32 * 2
    assert len({(one["cat"], one["pid"], one["args"]["chunk"], one["args"]["microbatch"]) for one in passes}) == len(
        passes
    )


def test_a_stage_computes_one_thing_at_a_time(events):
    spans = defaultdict(list)
    for event in events:
        if event["ph"] == "X" and event["tid"] == 1:
            spans[event["pid"]].append((event["ts"], event["ts"] + event["dur"]))
    for found in spans.values():
        ordered = sorted(found)
        assert all(first[1] <= second[0] + 1e-3 for first, second in pairwise(ordered))


def test_a_stage_waits_for_what_is_sent_to_it(events):
    begins = {(one["cat"], one["pid"], one["args"]["chunk"], one["args"]["microbatch"]): one["ts"]
              for one in events if one.get("cat") in ("forward", "backward")}  # fmt: skip
    sent = [event for event in events if event.get("cat") == "pipeline communication"]
    assert len(sent) == 2 * (16 * 8 - 1) * 32
    for event in sent:
        stage, chunk, to = event["pid"], event["args"]["chunk"], event["args"]["to_stage"]
        if "activations" in event["name"]:
            key = ("forward", to, chunk + (stage == 15), event["args"]["microbatch"])
        else:
            key = ("backward", to, chunk - (stage == 0), event["args"]["microbatch"])
        assert begins[key] >= event["ts"] + event["dur"] - 1e-3


def test_the_parts_after_the_pipeline_are_those_of_the_step(events, result):
    tail = [event for event in events if event.get("cat") == "step" and event["pid"] == 0]
    breakdown = result.time["breakdown"]
    expected = breakdown["data_communication_s"] + breakdown["optimizer_s"] + breakdown["overhead_s"]
    assert sum(event["dur"] for event in tail) == pytest.approx(expected * 1e6)


def test_without_a_schedule_the_parts_of_the_step_stand_in_a_row(make_result, result):
    events = [event for event in trace_object(make_result(schedule={}))["traceEvents"] if event["ph"] == "X"]
    assert sum(event["dur"] for event in events) == pytest.approx(result.time["step_s"] * 1e6)


def test_the_file_is_valid_json_and_written_whole(tmp_path, result, impossible):
    for one in (result, impossible):
        target = tmp_path / "step.json"
        write_trace(one, target)
        assert "traceEvents" in json.loads(target.read_text(encoding="utf-8"))
        assert [path.name for path in tmp_path.iterdir()] == ["step.json"]


@pytest.fixture(params=[("zb-h1", 1), ("zb-v", 2), ("dualpipe", 1), ("gpipe", 1)], ids=lambda one: one[0])
def scheduled(request, make_result):
    """The trace of a small pipeline under a schedule."""
    name, chunks = request.param
    schedule = {
        "name": name, "pp": 4, "virtual_stages": chunks, "num_microbatches": 8, "transfer_s": 0.01,
        "forward_s": [1.0] * 4, "backward_s": [2.0] * 4, "weight_gradient_s": [0.9] * 4,
    }  # fmt: skip
    events = trace_object(make_result(schedule=schedule))["traceEvents"]
    return name, chunks, [event for event in events if event["ph"] == "X"]


def test_phases_of_a_schedule_fill_the_time_of_the_work(scheduled):
    name, _, events = scheduled
    phases = defaultdict(float)
    for event in events:
        if event["pid"] == 1 and "microbatch" in event["args"]:
            phases[event["cat"]] += event["dur"] / 1e6
    assert {"forward"} < set(phases)
    assert ("weight gradient" in phases) == (name in ("zb-h1", "zb-v", "dualpipe"))
    if name != "dualpipe":  # passes side by side share their time
        assert sum(one for phase, one in phases.items() if phase != "pipeline communication") == pytest.approx(24.0)


def test_passes_of_a_thread_do_not_overlap(scheduled):
    spans = defaultdict(list)
    for event in scheduled[2]:
        if event["cat"] != "pipeline communication":
            spans[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for found in spans.values():
        assert all(first[1] <= second[0] + 1e-3 for first, second in pairwise(sorted(found)))


def test_every_sent_tensor_is_used_by_the_stage_that_it_goes_to(scheduled):
    name, _, events = scheduled
    sent = [event for event in events if event["cat"] == "pipeline communication"]
    # Chunks of a micro-batch that lie on different stages: the fold of zb-v is on one stage.
    hops = {"zb-v": 6}.get(name, 3)
    assert len(sent) == 2 * hops * 8
    starts = defaultdict(list)
    for event in events:
        if event["cat"] in ("forward", "backward", "input gradient"):
            kind = "activations" if event["cat"] == "forward" else "gradients"
            starts[kind, event["pid"], event["args"]["microbatch"]].append(event["ts"])
    for event in sent:
        kind = "activations" if "activations" in event["name"] else "gradients"
        arrived = event["ts"] + event["dur"]
        assert max(starts[kind, event["args"]["to_stage"], event["args"]["microbatch"]]) >= arrived - 1e-3
