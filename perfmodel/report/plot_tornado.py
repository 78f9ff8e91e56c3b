"""How far each input moves a number: a tornado, the input that moves it most on top."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from perfmodel.report.display import clean, is_number, memory, percent, quantity, scale, signed_percent
from perfmodel.report.palette import CHOICES
from perfmodel.report.plot_style import bars_height, marker, safe, style

_MOST_BARS = 15
#: Room beside the bars for their values, as a fraction of the longest.
_ROOM = 0.4

#: An input, and the number at its low and at its high end.
Bar = tuple[str, float, float]


def tornado(bars: Sequence[Bar], base: float, unit: str, what: str = "the number") -> go.Figure | None:
    """Bars from the base to the number at the low and the high end of each input.

    Parameters
    ----------
    bars
        ``(name of the input, number at its low end, number at its high end)``, in SI.
    base
        The number as it is.
    unit
        SI unit of the number; ``%`` for a fraction that is shown as a percentage.
    what
        Words for the number, for the title and the axis.
    """
    known = [bar for bar in bars if is_number(bar[1]) and is_number(bar[2])]
    shown = sorted(known, key=lambda bar: -_reach(bar, base))[:_MOST_BARS]
    if not shown or not is_number(base):
        return None
    factor, symbol = (0.01, "%") if unit == "%" else scale([base], unit, binary=unit == "B")
    figure = go.Figure()
    for at, (end, words) in enumerate((("low", "input at its low end"), ("high", "input at its high end")), start=1):
        values = [float(bar[at]) for bar in shown]
        figure.add_trace(
            go.Bar(
                y=[safe(bar[0]) for bar in shown], x=[(value - base) / factor for value in values],
                base=base / factor, orientation="h", name=words, marker=marker(CHOICES[end]),
                text=[_beside(bar, at, base, unit) for bar in shown], textposition="outside", cliponaxis=False,
                constraintext="none",
                customdata=[_hover(bar[0], words, value, base, unit) for bar, value in zip(shown, values, strict=True)],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )  # fmt: skip
    figure.update_layout(barmode="overlay")
    ends = [float(value) for bar in shown for value in bar[1:]] + [base]
    room = _ROOM * (max(ends) - min(ends) or abs(base) or 1.0)
    figure.update_xaxes(
        title=f"{clean(what)} [{symbol}]", range=[(min(ends) - room) / factor, (max(ends) + room) / factor]
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.add_vline(x=base / factor, line={"color": "#333333", "width": 1.5})
    return style(figure, _title(shown[0], base, unit, what), height=bars_height(len(shown)) + 30, legend=True)


def _beside(bar: Bar, at: int, base: float, unit: str) -> str:
    """The number at one end; nothing where the other end reaches further on the same side and would cover it."""
    here, there = bar[at] - base, bar[3 - at] - base
    covered = here * there >= 0 and (abs(there), at) > (abs(here), 3 - at)
    return "" if covered else f" {_shown(bar[at], unit)} "


def _reach(bar: Bar, base: float) -> float:
    return max(abs(bar[1] - base), abs(bar[2] - base))


def _shown(value: float, unit: str) -> str:
    if unit == "%":
        return percent(value)
    return memory(value) if unit == "B" else quantity(value, unit)


def _hover(name: str, words: str, value: float, base: float, unit: str) -> str:
    change = signed_percent(value / base - 1) if base else ""
    return f"<b>{safe(name)}</b><br>{words}: {_shown(value, unit)}<br>{change}"


def _title(bar: Bar, base: float, unit: str, what: str) -> str:
    low, high = sorted(bar[1:])
    told = f"{safe(bar[0])} moves {safe(what)} most: {_shown(low, unit)} to {_shown(high, unit)}"
    return f"{told} around {_shown(base, unit)}"
