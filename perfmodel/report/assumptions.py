"""The last page of the report: inputs, formulas, warnings, versions and hashes, enough to reproduce it."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from typing import Any

from perfmodel.engine.result import Result
from perfmodel.provenance import Traced
from perfmodel.report.content import inputs_table, plan_lines, uncertainty_lines, warning_groups
from perfmodel.report.formula import math_of, summary_of, symbols_of, to_mathml
from perfmodel.report.html_parts import list_html, table_html, text
from perfmodel.units import EQUATIONS

#: The derivations that name the formulas of a result.
_EXPLAINED = ("time.step_s", "memory.peak_bytes", "energy.per_step_j", "money.per_step_usd")


def assumptions_section(result: Result) -> str:
    """Warnings first, then the inputs, the formulas, and what identifies the calculation."""
    warnings = "".join(f"<h3>{text(title)}</h3>{list_html(lines)}" for title, lines in warning_groups(result))
    interval = list_html(line for line in uncertainty_lines(result) if line)
    inputs = inputs_table(result)
    parts = [warnings, "<h3>Uncertainty</h3>" + interval if result.uncertainty else "", _reproduce(result)]
    if inputs:
        parts.append(f'<div class="inputs">{table_html(inputs)}</div>')
    return "".join(parts) + _formulas(result)


def _reproduce(result: Result) -> str:
    rows = [
        ("version", result.version),
        ("question", f"{result.question}, {result.workload}"),
        *(("plan", line) for line in plan_lines(result)),
    ]
    facts = "".join(f"<p>{text(name)}: {text(value)}</p>" for name, value in rows if value)
    digest = result.scenario.get("sha256")
    facts += f'<p>scenario sha256: <span class="hash">{text(digest)}</span></p>' if digest else ""
    return f'<h3>What identifies this calculation</h3><div class="facts">{facts}</div>'


def _formulas(result: Result) -> str:
    used = used_equations(result)
    entries = "".join(_formula(name, EQUATIONS[name]) for name in used if math_of(EQUATIONS[name]))
    return f'<h3>Formulas</h3><div class="formulas">{entries}</div>' if entries else ""


def _formula(name: str, function: Callable[..., Any]) -> str:
    shown = "".join(to_mathml(source) for source in math_of(function))
    symbols = ", ".join(
        f"{to_inline(symbol)}: {text(word.replace('_', ' '))}" for word, symbol in symbols_of(function).items()
    )
    reference = text(getattr(function, "reference", ""))
    return (
        f'<div class="formula"><span class="name">{text(name)}</span>: {text(summary_of(function))}{shown}'
        f'<div class="reference">{symbols}{". " if symbols else ""}{reference}</div></div>'
    )


def to_inline(source: str) -> str:
    """A symbol inside a sentence."""
    return to_mathml(source).replace('<math display="block">', "<math>")


def used_equations(result: Result) -> list[str]:
    """Names of the equations behind the headlines; all equations when the result cannot explain itself."""
    load_equations()
    if result.explainer is None or not result.feasible:
        return sorted(EQUATIONS)
    labels = set(_labels(result))
    return [name for name in sorted(EQUATIONS) if name.rsplit(".", 1)[-1] in labels] or sorted(EQUATIONS)


def _labels(result: Result) -> Iterable[str]:
    for key in _EXPLAINED:
        group, name = key.split(".")
        if getattr(result, group).get(name) is None:
            continue
        derivation = result.explain(key)
        if isinstance(derivation, Traced):
            yield from (one.node.label for one in derivation.walk() if one.node.is_call)


def load_equations() -> None:
    """Import every equations module, so that the registry is complete."""
    package = importlib.import_module("perfmodel.equations")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"perfmodel.equations.{module.name}")
