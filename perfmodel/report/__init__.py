"""What people see: text tables, figures, the one-file report, traces and derivations. Computes no physics.

Everything is imported when it is called: the command line stays quick, and plotly is loaded for pictures only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perfmodel.report.explain_text import derivation_dict, render_derivation, render_derivation_json
    from perfmodel.report.page import to_html_fragment, write_report
    from perfmodel.report.plots import figures
    from perfmodel.report.tables import render_compare, render_csv, render_text
    from perfmodel.report.trace import write_trace
    from perfmodel.report.why_not_text import render_why_not, render_why_not_json

_HOMES = {
    "derivation_dict": "explain_text",
    "figures": "plots",
    "render_compare": "tables",
    "render_csv": "tables",
    "render_derivation": "explain_text",
    "render_derivation_json": "explain_text",
    "render_text": "tables",
    "render_why_not": "why_not_text",
    "render_why_not_json": "why_not_text",
    "to_html_fragment": "page",
    "write_report": "page",
    "write_trace": "trace",
}

__all__ = [
    "derivation_dict",
    "figures",
    "render_compare",
    "render_csv",
    "render_derivation",
    "render_derivation_json",
    "render_text",
    "render_why_not",
    "render_why_not_json",
    "to_html_fragment",
    "write_report",
    "write_trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
