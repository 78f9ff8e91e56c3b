"""Energy by part, and money by part where the result splits it."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from perfmodel.engine.result import Result
from perfmodel.report.display import is_number, label_of_key, percent, quantity, scale, short_percent
from perfmodel.report.palette import look_of_key
from perfmodel.report.plot_style import bar_figure, bars_height, style
from perfmodel.report.sentence import positive


def energy_figure(result: Result) -> go.Figure | None:
    """Energy of one step by part, largest first."""
    parts, total = positive(result.energy.get("breakdown")), result.energy.get("per_step_j")
    if not parts or not is_number(total) or total <= 0:
        return None
    key, value = next(iter(parts.items()))
    share = short_percent(value / total)
    told = f"One step takes {quantity(total, 'J')}; {label_of_key(key)} is the largest part with {share}"
    per_token = result.energy.get("per_token_j")
    if is_number(per_token):
        told += f" ({quantity(per_token, 'J')} per token)"
    return _bars(parts, total, "J", "energy of one step, whole allocation", told)


def money_figure(result: Result) -> go.Figure | None:
    """Cost of one step by part, where the result has parts."""
    breakdown, total = result.money.get("breakdown"), result.money.get("per_step_usd")
    parts = positive(breakdown) if isinstance(breakdown, Mapping) else {}
    if not parts or not is_number(total) or total <= 0:
        return None
    key, value = next(iter(parts.items()))
    told = f"One step costs {quantity(total, 'USD')}; {label_of_key(key)} is {short_percent(value / total)} of it"
    return _bars(parts, total, "USD", "cost of one step", told)


def _bars(parts: Mapping[str, float], total: float, unit: str, axis: str, title: str) -> go.Figure:
    factor, symbol = scale(parts.values(), unit)
    texts = [f" {quantity(value, unit)}, {percent(value / total, 2)}" for value in parts.values()]
    hovers = [
        f"<b>{label_of_key(key)}</b><br>{value:.6g} {unit}<br>{percent(value / total)}" for key, value in parts.items()
    ]
    figure = bar_figure(
        [label_of_key(key) for key in parts],
        [value / factor for value in parts.values()],
        [look_of_key(key) for key in parts],
        texts,
        hovers,
        f"{axis} [{symbol}]",
    )
    return style(figure, title, height=bars_height(len(parts)))
