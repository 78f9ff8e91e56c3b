"""What the tables of a report say, before it is known whether they become text or HTML.

One :class:`Table` per question. The cells are strings for people; only ratios are computed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from perfmodel.engine.result import Result
from perfmodel.report.display import (
    MISSING,
    clean,
    column,
    count,
    is_number,
    key_quantity,
    label_of_key,
    memory,
    percent,
    quantity,
    scale,
    signed_percent,
)
from perfmodel.report.measured_table import measured_table
from perfmodel.report.sensitivity_table import sensitivity_table
from perfmodel.report.sentence import (
    CONFIDENCE,
    interval_of,
    operator_label,
    operator_shares,
    positive,
)
from perfmodel.report.table import Table


def _share_table(
    title: str, part: str, values: dict[str, float], unit: str, total: tuple[str, float | None], *, binary: bool = False
) -> Table:
    """Parts of a sum, largest first, with share and bar."""
    whole = total[1] if is_number(total[1]) else sum(values.values())
    factor, symbol = scale([*values.values(), whole], unit, binary=binary)
    cells = column(list(values.values()), factor)
    shares = [value / whole if whole else 0.0 for value in values.values()]
    rows = [(label_of_key(key), cell, percent(share)) for key, cell, share in zip(values, cells, shares, strict=True)]
    rows.append((total[0], column([whole], factor)[0], percent(1.0) if whole else MISSING))
    return Table(title, (part, symbol, "share"), tuple(rows), (*shares, None), 1)


def time_table(result: Result) -> Table | None:
    """Exposed time of the critical stage by part, with what is hidden behind it."""
    parts = positive(result.time.get("breakdown"))
    step = result.time.get("step_s")
    if not parts or not is_number(step):
        return None
    hidden = positive(result.time.get("overlapped"))
    table = _share_table("Time", "part of the step", parts, "s", ("step", step))
    if not hidden:
        return table
    factor, symbol = scale([*parts.values(), step], "s")
    keys = [*parts, *(key for key in hidden if key not in parts)]
    shares = [parts.get(key, 0.0) / step for key in keys]
    cells, hidden_cells = (column([found.get(key, 0.0) for key in keys], factor) for found in (parts, hidden))
    rows = [
        (label_of_key(key), cell, other if key in hidden else "", percent(share))
        for key, cell, other, share in zip(keys, cells, hidden_cells, shares, strict=True)
    ]
    rows.append(("step", column([step], factor)[0], "", percent(1.0)))
    return Table("Time", ("part of the step", symbol, f"hidden {symbol}", "share"), tuple(rows), (*shares, None), 1)


def memory_table(result: Result) -> Table | None:
    """Memory of the fullest device by part, against the usable capacity."""
    parts = positive(result.memory.get("breakdown"))
    peak, capacity = result.memory.get("peak_bytes"), result.memory.get("capacity_bytes")
    if not parts or not is_number(peak):
        return None
    rank = clean(result.memory.get("peak_rank") or "")
    title = f"Memory of the fullest device ({rank})" if rank else "Memory of the fullest device"
    table = _share_table(title, "part", parts, "B", ("peak", peak), binary=True)
    if not is_number(capacity):
        return table
    factor, _ = scale([*parts.values(), peak], "B", binary=True)
    limit = ("usable capacity", column([capacity], factor)[0], "")
    left = capacity - peak
    word = "free" if left >= 0 else "short by"
    extra = (word, column([abs(left)], factor)[0], "")
    return Table(title, table.headers, (*table.rows, limit, extra), (*table.bars, None, None), 3)


def energy_table(result: Result) -> Table | None:
    """Energy of one step by part, whole allocation."""
    parts = positive(result.energy.get("breakdown"))
    total = result.energy.get("per_step_j")
    if not parts or not is_number(total):
        return None
    table = _share_table("Energy of one step (whole allocation)", "part", parts, "J", ("step", total))
    said = (("per_token_j", "per token"), ("average_power_w", "average power"), ("peak_power_w", "peak power"))
    values = [
        f"{word} {key_quantity(key, result.energy[key])}" for key, word in said if is_number(result.energy.get(key))
    ]
    return Table(table.title, table.headers, table.rows, table.bars, 1, notes=("; ".join(values),) if values else ())


def speed_table(result: Result) -> Table | None:
    """Rates and utilisations."""
    metrics = dict(result.metrics)
    variants = metrics.pop("mfu_variants", None) or {}
    rows = [(label_of_key(key), key_quantity(key, value)) for key, value in metrics.items() if value is not None]
    rows += [(f"MFU, {label_of_key(key)}", percent(value)) for key, value in variants.items() if is_number(value)]
    return Table("Speed", ("figure", "value"), tuple(rows)) if rows else None


def money_table(result: Result) -> Table | None:
    """Money, carbon and the whole run."""
    run = {f"run.{key}": value for key, value in result.run.items()}
    entries = {f"money.{key}": value for key, value in result.money.items()}
    entries |= {f"carbon.{key}": value for key, value in result.carbon.items()} | run
    rows = [(label_of_key(key), key_quantity(key, value)) for key, value in entries.items()]
    if all(cell == MISSING for _, cell in rows):
        return None
    notes = [
        f"{subject}: not declared"
        for subject, group in (("money", result.money), ("carbon", result.carbon))
        if not positive(group)
    ]
    return Table("Money and run", ("figure", "value"), tuple(rows), notes=tuple(notes))


def operators_table(result: Result, limit: int | None = 12) -> Table | None:
    """Operators that take most time; numbers of one occurrence, shares over all occurrences."""
    shares = operator_shares(result)
    if not shares:
        return None
    shown = shares if limit is None else shares[:limit]
    factor, symbol = scale([row.time_s for row, _ in shown], "s")
    flop_factor, flop_symbol = scale([row.flop for row, _ in shown], "FLOP")
    byte_factor, byte_symbol = scale([row.traffic_bytes for row, _ in shown], "B")
    rows = tuple(
        (
            operator_label(row),
            clean(row.phase),
            clean(row.bound),
            f"{row.count:,}",
            column([row.time_s], factor)[0],
            column([row.flop], flop_factor)[0],
            column([row.traffic_bytes], byte_factor)[0],
            percent(share),
        )
        for row, share in shown
    )
    notes = ["one occurrence, one micro-batch, one device; share = of operator time before overlap"]
    if len(shares) > len(shown):
        rest = sum(share for _, share in shares[len(shown) :])
        notes.append(
            f"{len(shares) - len(shown)} more operators take {percent(rest)} (all of them in the JSON and CSV)"
        )
    headers = ("operator", "phase", "bound", "count", symbol, flop_symbol, byte_symbol, "share")
    bars = tuple(share for _, share in shown)
    return Table("Operators that take most time", headers, rows, bars, left=(0, 1, 2), notes=tuple(notes))


def communication_table(result: Result) -> Table | None:
    """Collectives by group and tier, largest total time first."""
    if not result.communication:
        return None
    ordered = sorted(result.communication, key=lambda row: -row.time_s)
    factor, symbol = scale([row.time_s for row in ordered], "s")
    byte_factor, byte_symbol = scale([row.bytes_per_operation for row in ordered], "B")
    rows = tuple(
        (
            clean(row.group),
            clean(row.operation),
            clean(row.binding_tier),
            f"{row.ranks:,}",
            count(row.count),
            column([row.bytes_per_operation], byte_factor)[0],
            *column([row.time_s, row.exposed_s, row.overlapped_s], factor),
        )
        for row in ordered
    )
    headers = (
        "group",
        "operation",
        "binding tier",
        "ranks",
        "times",
        byte_symbol,
        symbol,
        f"exposed {symbol}",
        f"hidden {symbol}",
    )
    return Table("Communication of one step (device of the critical stage)", headers, rows, left=(0, 1, 2))


def stages_table(result: Result) -> Table | None:
    """Classes of pipeline stages, when there is more than one."""
    if len(result.stages) < 2:
        return None
    times = [time for row in result.stages for time in (row.forward_s, row.backward_s)]
    factor, symbol = scale(times, "s")
    rows = tuple(
        (
            clean(row.name),
            str(row.position),
            count(row.layers),
            *column([row.forward_s, row.backward_s], factor),
            count(row.in_flight),
            memory(sum(positive(row.memory).values())),
        )
        for row in result.stages
    )
    headers = ("stage", "position", "layers", f"forward {symbol}", f"backward {symbol}", "in flight", "memory")
    return Table("Pipeline stages (one micro-batch)", headers, rows)


def published_table(result: Result) -> Table | None:
    """Published or measured figures beside the prediction."""
    if not result.published:
        return None
    rows = tuple(
        (
            label_of_key(row.key),
            key_quantity(row.key, row.value),
            key_quantity(row.key, row.predicted),
            signed_percent(row.predicted / row.value - 1 if row.value else None),
            clean(row.source),
            clean(f"{row.note}, at {row.at}" if row.at else row.note),
        )
        for row in result.published
    )
    headers = ("figure", "published", "predicted", "difference", "source", "note")
    return _without_empty_last(Table("Published or measured", headers, rows, left=(0, 4, 5)))


def _source(result: Result, key: str) -> str:
    return clean(result.sources_titles.get(key, key))


def plan_lines(result: Result) -> list[str]:
    """Each plan in one line."""
    lines = []
    for plan in result.plans:
        said = [
            f"{key.replace('_', ' ')} {_plan_value(value)}" for key, value in plan.items() if value not in (None, "")
        ]
        lines.append(", ".join(said))
    return lines


def _plan_value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return count(value) if is_number(value) else clean(value)


def uncertainty_lines(result: Result) -> list[str]:
    """The 80 % interval of each headline, and what it rests on."""
    intervals = [(key, interval_of(result, key)) for key in result.uncertainty]
    said = [f"{label_of_key(key)} {text}" for key, text in intervals if text]
    bases = sorted({str(entry.get("basis", "")) for entry in result.uncertainty.values()} - {""})
    meanings = [f"{basis} ({CONFIDENCE[basis]})" if basis in CONFIDENCE else clean(basis) for basis in bases]
    if not said:
        return []
    return [f"80 % interval: {'; '.join(said)}", f"It rests on: {'; '.join(meanings)}" if meanings else ""]


_WARNING_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Assumed numbers that matter (change of the step time when the number is off by 20 %)", ("assumed",)),
    ("Outside calibrated ranges", ("extrapolat", "range")),
    ("Features of the machine that are not used", ("unused", "not-used")),
    ("Not declared", ("missing", "no-price", "no-grid")),
)


#: Assumed numbers that move the step time by less are named together.
_LEAST_EFFECT = 0.001


def warning_groups(result: Result) -> list[tuple[str, list[str]]]:
    """Warnings in groups, those that move the answer most first."""
    groups: dict[str, list[tuple[float, str]]] = {title: [] for title, _ in _WARNING_GROUPS} | {"Other": []}
    small: list[str] = []
    for warning in result.warnings:
        title = next((t for t, codes in _WARNING_GROUPS if any(code in warning.code for code in codes)), "Other")
        effect = abs(warning.effect) if is_number(warning.effect) else 0.0
        if title == _WARNING_GROUPS[0][0] and effect < _LEAST_EFFECT:
            small.append(clean(warning.path) or clean(warning.message))
            continue
        moved = f" [moves the step time by {percent(effect, 2)}]" if effect > 0 else ""
        groups[title].append((effect, f"{_warning_text(clean(warning.path), clean(warning.message))}{moved}"))
    ordered = {title: [text for _, text in sorted(found, key=lambda one: -one[0])] for title, found in groups.items()}
    if small:
        told = (
            f"{len(small)} more that move it by less than {percent(_LEAST_EFFECT, 1)} each: {', '.join(sorted(small))}"
        )
        ordered[_WARNING_GROUPS[0][0]].append(told)
    return [(title, texts) for title, texts in ordered.items() if texts]


def _warning_text(path: str, message: str) -> str:
    return message if not path or message.startswith(path) else f"{path}: {message}"


def shortfall_lines(result: Result) -> list[str]:
    """What it would take to fit, when the memory does not."""
    peak, capacity = result.memory.get("peak_bytes"), result.memory.get("capacity_bytes")
    if not is_number(peak) or not is_number(capacity) or peak <= capacity:
        return []
    over = peak - capacity
    lines = [f"{memory(over)} too much: a device would need {memory(peak)} of usable memory"]
    for key, value in positive(result.memory.get("breakdown")).items():
        if value >= over:
            lines.append(f"or {percent(over / value, 2)} less of {label_of_key(key)} (now {memory(value)})")
    return [*lines, "or several parts together"] if len(lines) == 1 else lines


_QUESTIONS: tuple[Callable[[Result], Table | None], ...] = (
    time_table,
    speed_table,
    memory_table,
    energy_table,
    money_table,
    operators_table,
    communication_table,
    stages_table,
    published_table,
    measured_table,
    sensitivity_table,
)


def all_tables(result: Result) -> list[Table]:
    """Every table that applies, in the order of the questions."""
    return [table for table in (question(result) for question in _QUESTIONS) if table is not None]


def inputs_table(result: Result) -> Table | None:
    """Every input number with unit, source and basis."""
    if not result.inputs:
        return None
    rows = tuple(
        (
            clean(one.path),
            _input_value(one.value, one.unit),
            clean(one.basis),
            _source(result, one.source),
            clean(one.note),
        )
        for one in sorted(result.inputs, key=lambda one: one.path)
    )
    headers = ("number", "value", "basis", "source", "note")
    return _without_empty_last(Table("Input numbers", headers, rows, left=(0, 2, 3, 4)))


def _without_empty_last(table: Table) -> Table:
    """Drop the last column when it says nothing."""
    if any(row[-1] for row in table.rows):
        return table
    return replace(table, headers=table.headers[:-1], rows=tuple(row[:-1] for row in table.rows), left=table.left[:-1])


def _input_value(value: object, unit: str) -> str:
    if is_number(value):
        shown = {"J/s": "W", "1": "", "1/s": "Hz"}.get(unit, unit)
        return _trimmed(quantity(value, shown, 5)) if shown else f"{value:.6g}"
    return _column_range(value, unit) if isinstance(value, Iterable) and not isinstance(value, str) else clean(value)


def _trimmed(shown: str) -> str:
    """Input numbers are shown as given: no zeros that the digits would add."""
    number, space, unit = shown.partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{space}{unit}"


def _column_range(value: Iterable[object], unit: str) -> str:
    numbers: Sequence[float] = [float(one) for one in value if is_number(one)]
    if not numbers:
        return MISSING
    low, high = quantity(min(numbers), unit, 4), quantity(max(numbers), unit, 4)
    return low if low == high else f"{low} to {high}"
