"""Formulas as text and as MathML."""

import importlib
import pkgutil
import xml.etree.ElementTree as ET

import pytest

import perfmodel.equations
from perfmodel.report.formula import math_of, symbols_of, to_mathml, to_text
from perfmodel.units import EQUATIONS

for module in pkgutil.iter_modules(perfmodel.equations.__path__):
    importlib.import_module(f"perfmodel.equations.{module.name}")

WRITTEN = sorted(name for name in EQUATIONS if math_of(EQUATIONS[name]))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (r"t = \max(W / P, \; Q / B)", "t = max(W / P, Q / B)"),
        (r"t = \frac{W}{\eta P}", "t = W / (η P)"),
        (r"w = 2 \frac{n - 1}{n} S", "w = 2 ((n - 1) / n) S"),
        (r"t = \left(t_1^{-p} + t_2^{-p}\right)^{-1/p}", "t = (t_1^(-p) + t_2^(-p))^(-1/p)"),
        (r"\tau = \sqrt{2\, \delta\, M}", "τ = sqrt(2 δ M)"),
        (r"y = \frac{Q_\mathrm{cold}}{\beta B}", "y = Q_cold / (β B)"),
        (r"T_r \; \text{if available, else } 0", "T_r if available, else 0"),
        (r"x = \sqrt[3]{a} \cdot h_{kv}", "x = root3(a) · h_kv"),
        (r"a &= b \\ c &= d", "a = b\nc = d"),
    ],
)
def test_text_of_a_formula(source, expected):
    assert to_text(source) == expected


def test_mathml_keeps_the_structure():
    root = ET.fromstring(to_mathml(r"y = \frac{a_1^2}{\sqrt{b}}"))  # noqa: S314 - our own text
    assert [child.tag for child in root[0]] == ["mi", "mo", "mfrac"]
    assert root.find(".//msubsup") is not None
    assert root.find(".//msqrt") is not None


def test_mathml_escapes():
    assert "<b>" not in to_mathml(r"\text{<b>} < 1")


@pytest.mark.parametrize("name", WRITTEN)
def test_every_formula_of_the_package_can_be_shown(name):
    for source in math_of(EQUATIONS[name]):
        ET.fromstring(f"<div>{to_mathml(source)}</div>")  # noqa: S314 - our own text
        text = to_text(source)
        assert "\\" not in text
        assert text.count("(") == text.count(")")
        assert "=" in text


def test_most_equations_have_a_formula_and_symbols():
    assert len(WRITTEN) >= 0.9 * len(EQUATIONS)
    assert symbols_of(EQUATIONS["matmul.matmul_flop"])["rows"] == "m"
    assert symbols_of(EQUATIONS["roofline.roofline_time"]) == {
        "flop": "W",
        "traffic": "Q",
        "peak": "P",
        "bandwidth": "B",
    }
