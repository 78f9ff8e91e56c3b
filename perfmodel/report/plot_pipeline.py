"""The pipeline schedule as a timeline: its first and last part, the steady state folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from perfmodel.engine.result import Result
from perfmodel.parallel.orders import SCHEDULES
from perfmodel.parallel.schedule import FORWARD, Event, Timeline
from perfmodel.report.display import is_number, quantity, scale, short_percent, significant
from perfmodel.report.palette import look_of
from perfmodel.report.plot_style import style
from perfmodel.report.timeline import replayed

#: More bars than this are neither legible nor quick to draw.
_MOST_BARS = 1600
_MOST_LANES = 16
#: Passes of a stage that can be told apart by the number of their micro-batch.
_MOST_NUMBERS = 28
#: Width of the fold, as a fraction of the time shown.
_FOLD = 0.06


@dataclass(frozen=True)
class _Window:
    """Times up to ``head`` and from ``tail`` on are shown; what lies between is folded to ``gap``."""

    head: float
    tail: float
    end: float

    @property
    def folded(self) -> bool:
        return self.tail > self.head

    @property
    def gap(self) -> float:
        return _FOLD * (self.head + self.end - self.tail) if self.folded else 0.0

    def place(self, time: float) -> float:
        return time if time <= self.head else time - self.tail + self.head + self.gap

    def shows(self, event: Event) -> bool:
        return not self.folded or event.end <= self.head or event.start >= self.tail


def pipeline_figure(result: Result) -> go.Figure | None:
    """The replayed schedule, where there is more than one stage."""
    timeline = replayed(result)
    if timeline is None or len(result.schedule["forward_s"]) < 2:
        return None
    stages = len(result.schedule["forward_s"])
    lanes = _lanes(stages)
    events = [event for event in timeline.events if event.stage in lanes]
    window = _window(events, timeline.makespan)
    shown = [event for event in events if window.shows(event)]
    factor, unit = scale([timeline.makespan], "s")
    paired = frozenset((event.stage, event.start) for event in shown if event.beside)
    numbered = len(shown) <= _MOST_NUMBERS * len(lanes)
    figure = go.Figure()
    for phase in dict.fromkeys(event.phase for event in shown):
        _add_phase(
            figure,
            [event for event in shown if event.phase == phase],
            phase,
            window,
            factor,
            numbered=numbered,
            paired=paired,
        )
    if window.folded:
        _add_fold(figure, window, factor, unit, timeline, shown, stages)
    _axes(figure, window, factor, unit, lanes)
    style(figure, _title(result, timeline, stages), height=200 + 22 * max(len(lanes), 4), legend=True)
    return figure.update_layout(bargap=0.12, barcornerradius=0, plot_bgcolor="#ececec")


def _axes(figure: go.Figure, window: _Window, factor: float, unit: str, lanes: Sequence[int]) -> None:
    ticks = _ticks(window)
    figure.update_layout(barmode="overlay", bargap=0.12, barcornerradius=0)
    figure.update_yaxes(
        autorange="reversed",
        showgrid=False,
        type="category",
        title="pipeline stage",
        categoryorder="array",
        categoryarray=[str(lane) for lane in lanes],
    )
    figure.update_xaxes(
        title=f"time from the start of the step [{unit}], grey: idle",
        tickmode="array",
        showgrid=False,
        tickvals=[window.place(tick) / factor for tick in ticks],
        ticktext=[significant(tick / factor) for tick in ticks],
        range=[0, window.place(window.end) / factor],
    )


def _lanes(stages: int) -> list[int]:
    """All stages, or the first and last ones of a deep pipeline."""
    if stages <= _MOST_LANES:
        return list(range(stages))
    half = _MOST_LANES // 2
    return [*range(half), *range(stages - half, stages)]


def _window(events: Sequence[Event], makespan: float) -> _Window:
    """As much of the start and of the end as can be drawn, equally long."""
    if len(events) <= _MOST_BARS:
        return _Window(makespan, makespan, makespan)
    low, high = 0.0, makespan / 2
    for _ in range(40):
        middle = (low + high) / 2
        window = _Window(middle, makespan - middle, makespan)
        low, high = (middle, high) if sum(window.shows(event) for event in events) <= _MOST_BARS else (low, middle)
    return _Window(low, makespan - low, makespan)


def _add_phase(
    figure: go.Figure,
    events: Sequence[Event],
    phase: str,
    window: _Window,
    factor: float,
    *,
    numbered: bool,
    paired: frozenset[tuple[int, float]],
) -> None:
    look = look_of(phase)
    pairs = _in_pairs(paired, events)
    figure.add_trace(
        go.Bar(
            y=[str(event.stage) for event in events],
            x=[(event.end - event.start) / factor for event in events],
            base=[window.place(event.start) / factor for event in events],
            orientation="h",
            name=phase,
            **_halves(pairs, phase),
            # Shades of one colour tell neighbouring micro-batches apart.
            marker={
                "color": look.colour,
                "opacity": [1.0 if event.microbatch % 2 == 0 else 0.72 for event in events],
                "line": {"color": "white", "width": 0.6},
            },
            text=[str(event.microbatch) for event in events] if numbered else None,
            textposition="inside",
            textangle=0,
            insidetextanchor="middle",
            insidetextfont={"size": 10, "color": "white"},
            customdata=[
                f"stage {event.stage}, {phase}<br>micro-batch {event.microbatch}, chunk {event.chunk}<br>"
                f"{event.start:.6g} s to {event.end:.6g} s"
                for event in events
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )
    )


#: Height of a bar, as a share of its lane.
_HEIGHT = 0.88


def _in_pairs(paired: frozenset[tuple[int, float]], events: Sequence[Event]) -> list[bool]:
    """Which passes share their time with another pass of the stage."""
    return [(event.stage, event.start) in paired for event in events]


def _halves(pairs: Sequence[bool], phase: str) -> dict[str, list[float]]:
    """Passes side by side are bars of half the height, the forward one above."""
    if not any(pairs):
        return {}
    below = 0.0 if phase == FORWARD else _HEIGHT / 2
    return {
        "width": [_HEIGHT / 2 if pair else _HEIGHT for pair in pairs],
        "offset": [below - _HEIGHT / 2 if pair else -_HEIGHT / 2 for pair in pairs],
    }


def _add_fold(
    figure: go.Figure,
    window: _Window,
    factor: float,
    unit: str,
    timeline: Timeline,
    shown: Sequence[Event],
    stages: int,
) -> None:
    """A break in the axis, named with what it leaves out."""
    start, end = window.head / factor, (window.head + window.gap) / factor
    hidden = len(timeline.events) - len(shown)
    text = f"folded: {significant((window.tail - window.head) / factor)} {unit}, {hidden:,} passes on {stages} stages"
    figure.add_vrect(x0=start, x1=end, fillcolor="white", opacity=1, line_width=0, layer="above")
    figure.add_annotation(
        x=(start + end) / 2, y=0.5, yref="paper", text=text, textangle=-90, showarrow=False, font={"size": 12}
    )


def _ticks(window: _Window) -> list[float]:
    if not window.folded:
        return [window.end * at / 6 for at in range(7)]
    head = [0.0, window.head / 3, window.head * 2 / 3, window.head]  # no rounding beyond the fold
    return [*head, *(window.tail + (window.end - window.tail) * at / 3 for at in range(4))]


def _title(result: Result, timeline: Timeline, stages: int) -> str:
    microbatches, chunks = int(result.schedule["num_microbatches"]), int(result.schedule.get("virtual_stages") or 1)
    way = f"{chunks} chunks each" if chunks > 1 else "one chunk each"
    kind = SCHEDULES.get(str(result.schedule.get("name")))
    if kind is not None and kind.copies > 1.0:
        way = "from both ends"
    elif kind is not None and kind.folded:
        way = "there and back"
    told = f"{microbatches} micro-batches pass {stages} stages ({way}) in {quantity(timeline.makespan, 's')}"
    bubble, step = (result.time.get("breakdown") or {}).get("pipeline_bubble_s"), result.time.get("step_s")
    if is_number(bubble) and is_number(step) and step > 0:
        told += f"; the bubble costs {quantity(bubble, 's')}, {short_percent(bubble / step)} of the step"
    return told
