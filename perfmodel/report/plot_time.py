"""Where the time goes: the waterfall of causes, the parts of the step, and the operators."""

from __future__ import annotations

import plotly.graph_objects as go

from perfmodel.engine.result import CauseRow, Result
from perfmodel.report.display import is_number, label_of_key, percent, quantity, scale, short_percent
from perfmodel.report.palette import Look, look_of, look_of_key
from perfmodel.report.plot_style import VALUE_ROOM, bar_figure, bars_height, safe, style
from perfmodel.report.sentence import operator_label, operator_shares, operator_times, positive

_MOST_OPERATORS = 14


def waterfall_figure(result: Result) -> go.Figure | None:
    """From the pure roofline to the step time: each bar is a cause that one could remove."""
    step = result.time.get("step_s")
    causes = [row for index, row in enumerate(result.waterfall) if index == 0 or row.seconds != 0]
    if not causes or not is_number(step) or step <= 0:
        return None
    factor, unit = scale([step], "s")
    names = [safe(row.name) for row in causes] + ["step"]
    lengths = [row.seconds / factor for row in causes] + [step / factor]
    bases, height = [], 0.0
    for length in lengths[:-1]:
        bases.append(min(height, height + length))
        height += length
    texts = [
        ("+" if index and row.seconds > 0 else "") + quantity(row.seconds, "s") for index, row in enumerate(causes)
    ]
    hovers = [
        f"<b>{name}</b><br>{row.seconds:.6g} s<br>{percent(row.seconds / step)} of the step"
        for name, row in zip(names, causes, strict=False)
    ]
    looks = [*(_cause_look(row) for row in causes), look_of("total")]
    said = [f" {text}" for text in (*texts, quantity(step, "s"))]
    told = [*hovers, f"<b>step</b><br>{step:.6g} s"]
    figure = bar_figure(names, [abs(length) for length in lengths], looks, said, told, f"time [{unit}]")
    figure.update_traces(base=[*bases, 0.0])
    reach = max(base + abs(length) for base, length in zip([*bases, 0.0], lengths, strict=True))
    figure.update_xaxes(range=[0, reach * VALUE_ROOM])
    for index in range(len(causes)):  # a thin line carries each level to the next bar
        level = sum(lengths[: index + 1])
        figure.add_shape(type="line", y0=index, y1=index + 1, x0=level, x1=level, line={"color": "#9aa5b1", "width": 1})
    return style(figure, _waterfall_title(result, step), height=bars_height(len(names)))


def _cause_look(row: CauseRow) -> Look:
    """The look of a cause; communication has that of its group where the name tells it."""
    groups = ("tensor", "data", "context", "expert", "pipeline") if row.meaning == "communication" else ()
    return look_of(next((group for group in groups if group in row.name), row.meaning))


def _waterfall_title(result: Result, step: float) -> str:
    first, *others = result.waterfall
    told = f"{quantity(first.seconds, 's')} of the {quantity(step, 's')} step are {safe(first.name)}"
    losses = sorted((row for row in others if row.seconds > 0), key=lambda row: -row.seconds)[:2]
    if not losses:
        return told
    said = " and ".join(f"{safe(row.name)} ({quantity(row.seconds, 's')})" for row in losses)
    return f"{told}; {said} cost most of the rest"


def breakdown_figure(result: Result) -> go.Figure | None:
    """Parts of the step on the critical stage, with what is hidden behind them."""
    parts, step = positive(result.time.get("breakdown")), result.time.get("step_s")
    if not parts or not is_number(step) or step <= 0:
        return None
    hidden = positive(result.time.get("overlapped"))
    keys = [*parts, *(key for key in hidden if key not in parts)]
    factor, unit = scale([step], "s")
    values = [parts.get(key, 0.0) / factor for key in keys]
    texts = [_part_text(parts.get(key, 0.0), hidden.get(key, 0.0), step) for key in keys]
    hovers = [
        f"<b>{label_of_key(key)}</b><br>exposed {parts.get(key, 0.0):.6g} s<br>hidden {hidden.get(key, 0.0):.6g} s"
        for key in keys
    ]
    figure = bar_figure(
        [label_of_key(key) for key in keys],
        values,
        [look_of_key(key) for key in keys],
        texts,
        hovers,
        f"exposed time [{unit}]",
    )
    figure.update_xaxes(range=[0, max(values) * 1.45])
    passes = sum(parts.get(key, 0.0) for key in ("forward_s", "backward_s", "recompute_s"))
    communication = sum(value for key, value in parts.items() if "communication" in key)
    told = f"Operators run for {short_percent(passes / step)} of the step"
    if communication:
        told += f"; exposed communication takes {short_percent(communication / step)}"
    if parts.get("pipeline_bubble_s"):
        told += f", the pipeline bubble {short_percent(parts['pipeline_bubble_s'] / step)}"
    return style(figure, told, height=bars_height(len(keys)))


def _part_text(exposed: float, hidden: float, step: float) -> str:
    said = f" {quantity(exposed, 's')}, {percent(exposed / step, 2)}"
    return f"{said} (+ {quantity(hidden, 's')} hidden)" if hidden else said


def operators_figure(result: Result) -> go.Figure | None:
    """Operators by their share of operator time, all phases together, coloured by what limits them."""
    shares = operator_shares(result)
    if not shares:
        return None
    total = sum(seconds for _, seconds in operator_times(result))
    grouped: dict[str, float] = {}
    bounds: dict[str, dict[str, float]] = {}
    for row, share in shares:
        label = operator_label(row)
        grouped[label] = grouped.get(label, 0.0) + share
        found = bounds.setdefault(label, {})
        found[row.bound] = found.get(row.bound, 0.0) + share
    ordered = sorted(grouped, key=lambda label: -grouped[label])
    shown, rest = ordered[:_MOST_OPERATORS], ordered[_MOST_OPERATORS:]
    main = {label: max(bounds[label], key=lambda bound: bounds[label][bound]) for label in shown}
    labels, values = list(shown), [grouped[label] * 100 for label in shown]
    looks = [look_of(main[label]) for label in shown]
    texts = [f" {percent(grouped[label])} ({main[label]})" for label in shown]
    if rest:
        labels.append(f"{len(rest)} others")
        values.append(sum(grouped[label] for label in rest) * 100)
        looks.append(look_of("idle"))
        texts.append(f" {percent(values[-1] / 100)}")
    hovers = [
        f"<b>{safe(label)}</b><br>{value:.4g} % of operator time<br>of {total:.4g} s per step over the pipeline stages"
        for label, value in zip(labels, values, strict=True)
    ]
    figure = bar_figure(labels, values, looks, texts, hovers, "share of operator time, before overlap [%]")
    top = shown[:2]
    names = " and ".join(safe(label) for label in top)
    share = short_percent(sum(grouped[label] for label in top))
    told = f"{names} take{'s' if len(top) == 1 else ''} {share} of operator time"
    return style(figure, told, height=bars_height(len(labels)))
