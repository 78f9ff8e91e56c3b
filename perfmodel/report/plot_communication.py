"""Communication by group and network tier: exposed and hidden time, bytes, and the link that binds."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from perfmodel.engine.result import CommunicationRow, Result
from perfmodel.report.display import count, is_number, quantity, scale, short_percent
from perfmodel.report.palette import Look, look_of
from perfmodel.report.plot_style import bars_height, markers, safe, style

_PALE = 0.35


def communication_figure(result: Result) -> go.Figure | None:
    """One bar per group, operation and binding tier: exposed (solid) and hidden (pale) time of one step."""
    rows = sorted((row for row in result.communication if row.time_s > 0), key=lambda row: -row.time_s)
    if not rows:
        return None
    factor, unit = scale([row.time_s for row in rows], "s")
    labels = [_label(row) for row in rows]
    looks = [look_of(row.group) for row in rows]
    figure = go.Figure()
    _add(figure, "exposed", labels, [row.exposed_s / factor for row in rows], looks, rows)
    _add(figure, "hidden", labels, [row.overlapped_s / factor for row in rows], looks, rows, opacity=_PALE)
    for label, row in zip(labels, rows, strict=True):
        text = f"{quantity(row.exposed_s, 's')} exposed, {quantity(row.overlapped_s, 's')} hidden"
        figure.add_annotation(
            x=(row.exposed_s + row.overlapped_s) / factor,
            y=label,
            text=text,
            showarrow=False,
            xanchor="left",
            xshift=6,
            font={"size": 12},
        )
    figure.update_layout(barmode="stack")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    longest = max(row.exposed_s + row.overlapped_s for row in rows) / factor
    figure.update_xaxes(title=f"time per step [{unit}]: solid exposed, pale hidden", range=[0, longest * 1.55 or 1])
    return style(figure, _title(result, rows), height=bars_height(len(rows)) + 14 * len(rows))


def _label(row: CommunicationRow) -> str:
    what = f"{safe(row.group)}, {safe(row.operation)}"
    name = "" if row.name == f"{row.group} {row.operation}" else f"{safe(row.name)} "
    return f"{what}<br>{name}on {safe(row.binding_tier)}"


def _add(
    figure: go.Figure,
    name: str,
    labels: Sequence[str],
    values: Sequence[float],
    looks: Sequence[Look],
    rows: Sequence[CommunicationRow],
    opacity: float = 1.0,
) -> None:
    figure.add_trace(
        go.Bar(
            y=list(labels),
            x=list(values),
            orientation="h",
            name=name,
            marker=markers(looks),
            opacity=opacity,
            customdata=[_hover(row) for row in rows],
            hovertemplate="%{customdata}<extra></extra>",
        )
    )


def _hover(row: CommunicationRow) -> str:
    return (
        f"<b>{safe(row.group)} {safe(row.operation)}</b>: {safe(row.name)}<br>{row.ranks} ranks over "
        f"{safe(' > '.join(row.tiers))}; {safe(row.binding_tier)} binds<br>"
        f"{count(row.count)} operations of {quantity(row.bytes_per_operation, 'B', 4)}<br>"
        f"{row.time_s:.6g} s before overlap: {row.exposed_s:.6g} s exposed, {row.overlapped_s:.6g} s hidden"
    )


def _title(result: Result, rows: Sequence[CommunicationRow]) -> str:
    exposed = sum(row.exposed_s for row in rows)
    total = sum(row.time_s for row in rows)
    if exposed <= 0:
        return f"All {quantity(total, 's')} of communication is hidden behind operators"
    step = result.time.get("step_s")
    groups: dict[str, float] = {}
    tiers: dict[str, float] = {}
    for row in rows:
        groups[row.group] = groups.get(row.group, 0.0) + row.exposed_s
        tiers[row.binding_tier] = tiers.get(row.binding_tier, 0.0) + row.exposed_s
    group, tier = max(groups, key=lambda one: groups[one]), max(tiers, key=lambda one: tiers[one])
    share = f" ({short_percent(exposed / step)} of the step)" if is_number(step) and step > 0 else ""
    return (
        f"{quantity(exposed, 's')} of {quantity(total, 's')} communication is exposed{share}; "
        f"{safe(group)} groups cause {short_percent(groups[group] / exposed)}, links of the tier {safe(tier)} bind most"
    )
