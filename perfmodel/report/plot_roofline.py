"""The roofline: operators as points on the machine's roofs."""

from __future__ import annotations

import math
from collections.abc import Callable

import plotly.graph_objects as go

from perfmodel.engine.result import OperatorRow, Result
from perfmodel.report.display import percent, positive_numbers, quantity, short_percent
from perfmodel.report.palette import look_of
from perfmodel.report.plot_style import safe, style
from perfmodel.report.sentence import operator_label, operator_shares

_SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star")
_LARGEST_POINT = 46
_NAMED = 5
#: Decades between the names of points.
_LINE = 0.3
_DASHES = ("solid", "dash", "dot", "dashdot")


def roofline_figure(result: Result) -> go.Figure | None:
    """Achieved rate against arithmetic intensity; the area of a point is its share of operator time."""
    peaks = positive_numbers(result.roofs.get("peaks"))
    bandwidths = positive_numbers(result.roofs.get("bandwidths"))
    points = [
        (row, share)
        for row, share in operator_shares(result)
        if row.flop > 0 and row.traffic_bytes > 0 and row.time_s > 0
    ]
    if not peaks or not bandwidths or not points:
        return None
    used = {row.data_type for row, _ in points}
    peaks = {dtype: peak for dtype, peak in peaks.items() if dtype in used} or peaks
    figure = go.Figure()
    intensities = [row.flop / row.traffic_bytes for row, _ in points]
    low, high = _decades([*intensities, max(peaks.values()) / min(bandwidths.values())])
    _add_roofs(figure, peaks, bandwidths, low, high)
    symbols = {
        dtype: _SYMBOLS[at % len(_SYMBOLS)] for at, dtype in enumerate(dict.fromkeys(r.data_type for r, _ in points))
    }
    largest = max(share for _, share in points)
    for bound in sorted({row.bound for row, _ in points}):
        _add_points(figure, [(row, share) for row, share in points if row.bound == bound], bound, symbols, largest)
    _name_largest(figure, points)
    slowest = min(row.flop / row.time_s for row, _ in points)
    floor, ceiling = math.log10(slowest) - 0.4, math.log10(max(peaks.values())) + 0.45
    _log_axis(figure.update_xaxes, "arithmetic intensity [FLOP/B]", math.log10(low), math.log10(high))
    _log_axis(figure.update_yaxes, "rate per device [FLOP/s]", floor, ceiling)
    return style(figure, _title(points, peaks), height=520, legend=True)


def _log_axis(update: Callable[..., object], title: str, low: float, high: float) -> None:
    """Decades with SI prefixes."""
    ticks = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]
    words = [quantity(tick, "#", 1).replace("#", "").strip() if tick >= 1 else f"{tick:g}" for tick in ticks]
    update(type="log", title=title, range=[low, high], tickvals=ticks, ticktext=words)


def _decades(values: list[float]) -> tuple[float, float]:
    return 10 ** (math.floor(math.log10(min(values))) - 0.2), 10 ** (math.ceil(math.log10(max(values))) + 0.3)


def _add_roofs(
    figure: go.Figure, peaks: dict[str, float], bandwidths: dict[str, float], low: float, high: float
) -> None:
    """Lines for each bandwidth (rising) and each peak (flat), named on the line."""
    top = max(peaks.values())
    for at, (level, bandwidth) in enumerate(bandwidths.items()):
        knee = top / bandwidth
        name = f"{safe(level)} {quantity(bandwidth, 'B/s')}"
        figure.add_trace(_roof([low, knee], [low * bandwidth, top], name, _DASHES[at % len(_DASHES)]))
        # Written along the lower part of the line, one level above the other.
        place = math.log10(low) + (0.16 + 0.16 * at) * (math.log10(knee) - math.log10(low))
        figure.add_annotation(
            x=place,
            y=place + math.log10(bandwidth),
            text=name,
            showarrow=False,
            xanchor="right",
            yanchor="bottom",
            font={"size": 12, "color": "#52606d"},
            xshift=-4,
        )
    best = max(bandwidths.values())
    for at, (dtype, peak) in enumerate(sorted(peaks.items(), key=lambda item: -item[1])):
        name = f"{safe(dtype)} {quantity(peak, 'FLOP/s')}"
        figure.add_trace(_roof([peak / best, high], [peak, peak], name, _DASHES[at % len(_DASHES)]))
        figure.add_annotation(
            x=math.log10(peak / best),
            y=math.log10(peak),
            text=name,
            showarrow=False,
            xanchor="right",
            yanchor="bottom",
            xshift=-6,
            font={"size": 12, "color": "#52606d"},
        )


def _roof(x: list[float], y: list[float], name: str, dash: str) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": "#52606d", "width": 1.6, "dash": dash},
        showlegend=False,
        name=name,
        hovertemplate=f"{name.replace('%', '&#37;')}<extra></extra>",
    )


def _add_points(
    figure: go.Figure, points: list[tuple[OperatorRow, float]], bound: str, symbols: dict[str, str], largest: float
) -> None:
    look = look_of(bound)
    figure.add_trace(
        go.Scatter(
            x=[row.flop / row.traffic_bytes for row, _ in points],
            y=[row.flop / row.time_s for row, _ in points],
            mode="markers",
            name=f"limited by {safe(bound)}",
            customdata=[_hover(row, share) for row, share in points],
            hovertemplate="%{customdata}<extra></extra>",
            marker={
                "color": look.colour,
                "opacity": 0.75,
                "sizemode": "area",
                "sizemin": 4,
                "sizeref": 2 * largest / _LARGEST_POINT**2,
                "size": [share for _, share in points],
                "symbol": [symbols[row.data_type] for row, _ in points],
                "line": {"color": "white", "width": 1},
            },
        )
    )


def _hover(row: OperatorRow, share: float) -> str:
    return (
        f"<b>{safe(operator_label(row))}</b> ({safe(row.phase)}, {safe(row.data_type)})<br>"
        f"{percent(share)} of operator time, {row.count:,} occurrences<br>"
        f"{quantity(row.flop, 'FLOP', 4)}, {quantity(row.traffic_bytes, 'B', 4)}, {quantity(row.time_s, 's', 4)}<br>"
        f"{row.flop / row.traffic_bytes:.4g} FLOP/B, {quantity(row.flop / row.time_s, 'FLOP/s', 4)}"
    )


def _name_largest(figure: go.Figure, points: list[tuple[OperatorRow, float]]) -> None:
    """Write the names of the largest points in a column beside them; the order keeps the leaders from crossing."""
    named: dict[str, tuple[float, float]] = {}
    for row, _ in points:
        if len(named) < _NAMED:
            named.setdefault(operator_label(row), (row.flop / row.traffic_bytes, row.flop / row.time_s))
    left = math.log10(min(intensity for intensity, _ in named.values())) - 0.75
    top = math.log10(min(rate for _, rate in named.values())) - 1.0
    for at, (label, (intensity, rate)) in enumerate(sorted(named.items(), key=lambda item: item[1])):
        figure.add_annotation(
            x=math.log10(intensity),
            y=math.log10(rate),
            ax=left,
            ay=top - _LINE * at,
            axref="x",
            ayref="y",
            text=safe(label),
            showarrow=True,
            arrowhead=0,
            arrowwidth=1,
            arrowcolor="#9aa5b1",
            font={"size": 12},
            xanchor="right",
        )


def _title(points: list[tuple[OperatorRow, float]], peaks: dict[str, float]) -> str:
    compute = [(row, share) for row, share in points if row.bound == "compute" and row.data_type in peaks]
    memory = sum(share for row, share in points if row.bound == "memory")
    if not compute:
        return f"Memory limits operators that take {short_percent(memory)} of operator time"
    time = sum(share for _, share in compute)
    dtype = max({row.data_type for row, _ in compute}, key=lambda one: sum(s for r, s in compute if r.data_type == one))
    same = [row for row, _ in compute if row.data_type == dtype]
    rate = sum(row.count * row.flop for row in same) / sum(row.count * row.time_s for row in same)
    return (
        f"Compute-limited operators take {short_percent(time)} of operator time and reach "
        f"{short_percent(rate / peaks[dtype])} of the {safe(dtype)} peak; memory limits {short_percent(memory)}"
    )
