"""Memory of a device, by class of pipeline stage, against the usable capacity."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go

from perfmodel.engine.result import Result
from perfmodel.report.display import is_number, label_of_key, memory, percent, scale, short_percent, significant
from perfmodel.report.palette import MEMORY_PARTS, look_of
from perfmodel.report.plot_style import marker, safe, style
from perfmodel.report.sentence import memory_of_capacity, positive

_MOST_SERIES = 7
#: A part is labelled inside its bar when it takes at least this fraction of the axis.
_LABELLED = 0.06


def memory_figure(result: Result) -> go.Figure | None:
    """One stacked bar per class of stages, with the capacity as a line."""
    bars = _bars(result)
    peak, capacity = result.memory.get("peak_bytes"), result.memory.get("capacity_bytes")
    if not bars or not is_number(peak):
        return None
    limit = capacity if is_number(capacity) else None
    factor, unit = scale([peak, limit], "B", binary=True)
    axis = max([sum(parts.values()) for parts in bars.values()] + ([limit] if limit else [])) * 1.04
    figure = go.Figure()
    for key, amounts in _series(bars).items():
        look = MEMORY_PARTS.get(key, MEMORY_PARTS["other"])
        label = label_of_key(key)
        figure.add_trace(
            go.Bar(
                y=list(bars),
                x=[amount / factor for amount in amounts],
                orientation="h",
                name=label,
                marker=marker(look),
                text=[significant(amount / factor) if amount > _LABELLED * axis else "" for amount in amounts],
                textposition="inside",
                insidetextanchor="middle",
                textangle=0,
                constraintext="none",
                insidetextfont={
                    "color": "white" if key in ("weights_bytes", "gradients_bytes", "optimizer_bytes") else "#1f2933"
                },
                customdata=[
                    f"<b>{label}</b>, {bar}<br>{memory(amount, 5)} ({amount:,.0f} B)"
                    for bar, amount in zip(bars, amounts, strict=True)
                ],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    if limit:
        _add_capacity(figure, limit / factor, f"usable {memory(limit)}")
    figure.update_layout(barmode="stack")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(title=f"memory of one device [{unit}]", range=[0, axis / factor])
    return style(figure, _title(result, peak, limit), height=230 + 46 * len(bars), legend=True)


def _bars(result: Result) -> dict[str, dict[str, float]]:
    """Parts by the name of the bar: the classes of stages, or the fullest device alone."""
    stages = {f"{safe(row.name)} (stage {row.position})": positive(row.memory) for row in result.stages}
    if len(stages) > 1 and any(stages.values()):
        return stages
    parts = positive(result.memory.get("breakdown"))
    return {safe(result.memory.get("peak_rank") or "device"): parts} if parts else {}


def _series(bars: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    """Amounts of each part over the bars in the order of the palette; the smallest are joined as ``other``."""
    largest: dict[str, float] = {}
    for parts in bars.values():
        for key, value in parts.items():
            largest[key] = max(largest.get(key, 0.0), value)
    kept = sorted(largest, key=lambda key: -largest[key])
    if len(kept) > _MOST_SERIES:
        kept = kept[: _MOST_SERIES - 1]
    order = [key for key in MEMORY_PARTS if key in kept] + [key for key in kept if key not in MEMORY_PARTS]
    series = {key: [parts.get(key, 0.0) for parts in bars.values()] for key in order}
    rest = [sum(value for key, value in parts.items() if key not in kept) for parts in bars.values()]
    return series | ({"other": rest} if any(rest) else {})


def _add_capacity(figure: go.Figure, place: float, text: str) -> None:
    colour = look_of("limit").colour
    figure.add_vline(x=place, line={"color": colour, "width": 2, "dash": "dash"})
    figure.add_annotation(
        x=place,
        y=0,
        yref="paper",
        text=text,
        showarrow=False,
        xanchor="right",
        yanchor="bottom",
        xshift=-5,
        font={"color": colour, "size": 12},
    )


def _title(result: Result, peak: float, limit: float | None) -> str:
    rank = safe(result.memory.get("peak_rank") or "the fullest device")
    parts = positive(result.memory.get("breakdown"))
    largest = ""
    if parts:
        key, value = next(iter(parts.items()))
        largest = f"; {label_of_key(key)} take {short_percent(value / peak)}"
    if limit and peak > limit:
        return (
            f"It does not fit: {rank} needs {memory_of_capacity(peak, limit)}, {memory(peak - limit)} too much{largest}"
        )
    free = f", {percent((limit - peak) / limit, 2)} free" if limit else ""
    return f"The fullest device ({rank}) uses {memory_of_capacity(peak, limit)}{free}{largest}"
