"""The report of a computed result: the parts of the page agree with each other."""

import re

import pytest

import perfmodel as pm
from perfmodel.report import figures, render_derivation, render_text
from perfmodel.report.assumptions import used_equations
from perfmodel.report.display import display_width
from perfmodel.report.page import render_page
from perfmodel.report.sentence import bound_shares, operator_shares, operator_times
from perfmodel.report.timeline import replayed


@pytest.fixture(scope="module")
def computed():
    return pm.load("llama3.1-405b-16384-h100").run()


def test_the_text_fits_and_says_what_the_result_says(computed):
    text = render_text(computed)
    assert all(display_width(line) <= 100 for line in text.splitlines())
    assert text.startswith(f"{computed.time['step_s']:.2f} s per step, {computed.metrics['mfu'] * 100:.1f} % MFU")


def test_figures_add_up_to_the_step(computed):
    drawn = figures(computed)
    assert {"waterfall", "breakdown", "operators", "roofline", "memory", "communication", "pipeline", "energy"} <= set(
        drawn
    )
    assert sum(drawn["breakdown"].data[0].x) == pytest.approx(computed.time["step_s"], rel=1e-9)
    bars = drawn["waterfall"].data[0]
    assert bars.base[-2] + bars.x[-2] == pytest.approx(computed.time["step_s"], rel=1e-9)


def test_the_replayed_schedule_takes_the_time_of_the_closed_form(computed):
    timeline = replayed(computed)
    assert timeline is not None
    breakdown = computed.time["breakdown"]
    after = breakdown["data_communication_s"] + breakdown["optimizer_s"] + breakdown["overhead_s"]
    assert timeline.makespan == pytest.approx(computed.time["step_s"] - after, rel=0.05)


def test_the_page_lists_the_formulas_that_were_used_and_no_others(computed):
    used = used_equations(computed)
    assert {"pipeline_paths.stage_path_time", "matmul.tile_loop_time"} <= set(used)
    assert "reliability.spare_devices" not in used
    assert "<math" in render_page(computed)


def test_the_derivation_of_an_operator_ends_at_its_sources(computed):
    text = render_derivation(computed.explain("block.mlp.down"))
    assert re.search(r"accelerator\.compute\.matrix\.bf16.* \(vendor, ", " ".join(text.split()))
    referred = set(re.findall(r"\[(\d+)\]", text))
    assert referred == set(re.findall(r"^\s*\[(\d+)\] .* = ", text, re.MULTILINE))


def test_shares_of_operators_are_those_of_the_step():
    # One device: the operators of a pass times the micro-batches, and the optimizer once, are the busy time.
    scenario = pm.load("llama3.1-8b-128-h100").replace(
        model="llama-3.2-1b",
        cluster={"name": "dgx-h100", "devices": 1},
        workload={"kind": "training", "sequence_length": 2048, "global_batch": 16},
        strategy={"micro_batch": 1, "recompute": "none"},
    )
    result = scenario.run()
    breakdown = result.time["breakdown"]
    times = operator_times(result)
    optimizer = sum(seconds for row, seconds in times if row.phase == "optimizer")
    assert optimizer == pytest.approx(breakdown["optimizer_s"], rel=1e-12)
    passes = sum(seconds for _, seconds in times) - optimizer
    assert 0.9 < passes / (breakdown["forward_s"] + breakdown["backward_s"]) <= 1.0
    share = {row.phase: share for row, share in operator_shares(result)}["optimizer"]
    assert share == pytest.approx(optimizer / (optimizer + passes), rel=1e-12)
    assert sum(bound_shares(result).values()) == pytest.approx(1.0, rel=1e-9)
