"""Derivations: complete, without repetition, down to the sources."""

import json
import re

import numpy as np
import pytest

from perfmodel.equations import matmul, roofline
from perfmodel.provenance import Traced
from perfmodel.report import derivation_dict, render_derivation, render_derivation_json
from perfmodel.report.display import display_width


def derivation():
    peak = Traced.leaf(989.4e12, "accelerator.peak", "FLOP/s", "datasheet", "vendor")
    plateau = Traced.leaf(0.81, "efficiency.plateau", "1", "kernel-fit", "measured")
    tokens = Traced.leaf(np.array([8192.0]), "workload.tokens", "1", "scenario", "user")
    flop = matmul.matmul_flop(1.0, tokens, 6656.0, 16384.0)
    compute = roofline.plateau_time(flop, peak, plateau).named("compute time", "s")
    total = np.maximum(compute, 1e-3) * 126.0 + compute + 0.37
    return total.named("time.step_s", "s")


def test_values_units_formulas_and_sources_are_there():
    text = render_derivation(derivation())
    flop = 2 * 8192 * 6656 * 16384
    seconds = flop / (0.81 * 989.4e12)
    assert f"matmul_flop = {flop / 1e12:.3f} TFLOP" in text
    assert f"plateau_time = {seconds * 1e3:.3f} ms" in text
    assert text.startswith(f"[1] time.step_s = {(seconds * 127 + 0.37) * 1e3:.1f} ms")
    assert "W / (η P)" in text
    assert "W = 2 b m n k" in text
    assert "η: plateau = 0.81  efficiency.plateau (measured, kernel-fit)" in text
    assert "P: peak = 989.4 TFLOP/s  accelerator.peak (vendor, datasheet)" in text
    assert "workload.tokens (user, scenario)" in text
    assert "Williams" in text


def test_a_step_is_written_once_and_referred_to_by_number():
    text = render_derivation(derivation())
    number = re.search(r"\[(\d+)\] compute time = ", text).group(1)
    assert len(re.findall(r"\] compute time = ", text)) == 1
    first_line = text.splitlines()[1]
    assert first_line.count(f"[{number}] compute time") == 2
    assert len(re.findall(r"^\s*\[\d+\] matmul_flop = ", text, re.MULTILINE)) == 1


def test_every_number_that_is_referred_to_is_explained():
    text = render_derivation(derivation())
    referred = set(re.findall(r"\[(\d+)\]", text))
    explained = set(re.findall(r"^\s*\[(\d+)\] .* = ", text, re.MULTILINE))
    assert referred == explained


def test_depth_limits_what_is_written():
    text = render_derivation(derivation(), depth=0)
    assert "Deeper steps are not shown." in text
    assert "plateau_time(" not in text


@pytest.mark.parametrize("width", [60, 100])
def test_lines_fit(width):
    assert all(display_width(line) <= width for line in render_derivation(derivation(), width=width).splitlines())


def test_long_sums_do_not_exhaust_the_stack():
    parts = [Traced.leaf(float(at), f"operator{at}", "s", "fit", "measured") for at in range(3000)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    text = render_derivation(total.named("sum", "s"))
    assert "operator2999" in text
    assert "[1] sum = 4.498" in text or "4.499 Ms" in text
    assert len(derivation_dict(total)["steps"]) == 2999


def test_infix_keeps_the_meaning_of_brackets():
    a, b, c = (Traced.leaf(value, name) for value, name in ((7.0, "a"), (2.0, "b"), (3.0, "c")))
    for expression in (
        a - (b - c),
        (a + b) * c,
        a / (b * c),
        a / b / c,
        a**b**c,
        (a**b) ** c,
        a - b - c,
        -(a + b) * c,
        a * (b / c),
    ):
        written = re.search(r"= (.+)", render_derivation(expression).splitlines()[1]).group(1)
        names = {"a": 7.0, "b": 2.0, "c": 3.0}
        python = written.replace("·", "*").replace("^", "**")
        assert eval(python, {}, names) == pytest.approx(expression.value)  # noqa: S307 - our own text


def test_the_data_form_is_json_and_each_step_stands_once():
    data = json.loads(render_derivation_json(derivation()))
    numbers = [step["step"] for step in data["steps"]]
    assert numbers == sorted(set(numbers))
    assert data["steps"][data["root"] - 1]["name"] == "time.step_s"
    plateau = next(step for step in data["steps"] if step["name"] == "plateau_time")
    assert plateau["unit"] == "s"
    assert plateau["formula"] == [r"t = \frac{W}{\eta P}"]
    peak = next(one["value"] for one in plateau["operands"] if one["name"] == "peak")
    assert peak == {
        "name": "accelerator.peak",
        "value": 989.4e12,
        "unit": "FLOP/s",
        "source": "datasheet",
        "basis": "vendor",
    }


def test_an_input_alone_can_be_explained():
    leaf = Traced.leaf(3.35e12, "accelerator.memory.bandwidth", "B/s", "datasheet", "vendor")
    text = render_derivation(leaf)
    assert "3.350 TB/s" in text
    assert "vendor, datasheet" in text
    assert derivation_dict(leaf)["root"]["value"] == 3.35e12
