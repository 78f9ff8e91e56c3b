"""The table of what moves the answer: numbers of the machine, each alone at its two ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perfmodel.engine.result import Result
from perfmodel.report.display import MISSING, is_number, label_of_key, percent, quantity, signed_percent, significant
from perfmodel.report.table import Table

#: Numbers that the table shows.
SHOWN = 12
#: Letters of a path.
_LONGEST_PATH = 34
#: Effects below this share of a result are not worth a line.
_SMALL = 5e-4


def sensitivity_table(result: Result) -> Table | None:
    """Numbers that move the first result most; None where nobody asked."""
    told = result.sensitivities
    if told is None or not told["base"]:
        return None
    key = next(iter(told["base"]))
    rows = [row for row in told["numbers"] if _moves(row, key, told["base"][key])]
    change = percent(told["change"], 2).removesuffix(" %")
    cost = told["cost"]
    headers = ("number", "value", f"-{change} %", f"+{change} %", "elasticity")
    wanted = (*(["USD of 1 %"] if cost else []), "W of 1 %")
    shown = rows[:SHOWN]
    title = f"What moves the {label_of_key(key)}: each number alone by {change} %, the plan held"
    return Table(
        title,
        (*headers, *wanted),
        tuple(_cells(row, key, told["base"][key], with_cost=bool(cost)) for row in shown),
        notes=tuple(_notes(told, shown, len(rows))),
    )


def _moves(row: Mapping[str, Any], key: str, base: float) -> bool:
    ends = row["results"][key]
    return max(abs(ends["low"] - base), abs(ends["high"] - base)) > _SMALL * abs(base)


def _cells(row: Mapping[str, Any], key: str, base: float, *, with_cost: bool) -> tuple[str, ...]:
    ends = row["results"][key]
    elasticity = ends["elasticity"]
    cells = [
        _short(row["path"]),
        _value(row["value"], row["unit"]),
        *(
            signed_percent(ends[end] / base - 1.0) + ("" if row[f"feasible_{end}"] else " (cannot be)")
            for end in ("low", "high")
        ),
        f"{elasticity:+.2f}" if is_number(elasticity) else MISSING,
    ]
    cells += [_signed(row["usd_of_one_percent"])] if with_cost else []
    return (*cells, _signed(row["watts_of_one_percent"]))


def _short(path: str) -> str:
    """A path whose end tells what it is: of a long one the middle is left out."""
    first, *rest = path.split(".")
    left_out = False
    while len(first) + len(".".join(rest)) > _LONGEST_PATH and len(rest) > 1:
        rest, left_out = rest[1:], True
    return ".".join([first, *(["…"] if left_out else []), *rest])


def _value(value: float, unit: str) -> str:
    return significant(value) if unit == "1" else quantity(value, unit)


def _signed(value: Any) -> str:
    if not is_number(value):
        return MISSING
    return f"{'+' if value >= 0 else '-'}{significant(abs(value))}"


def _notes(told: Mapping[str, Any], shown: list[Any], moving: int) -> list[str]:
    every = len(told["numbers"])
    rest = moving - len(shown)
    notes = [f"{every} numbers were moved; {every - moving} of them move it by less than 0.05 %"]
    if rest:
        notes[0] += f", {rest} more are in the JSON"
    whole = "run" if told["cost"] == "run.usd" else "step"
    money = f"USD of 1 %: how the cost of the {whole} changes when the number is 1 % larger; " if told["cost"] else ""
    notes.append(f"{money}W of 1 %: how the average power does")
    notes += [f"{label_of_key(key)}: {reason}" for key, reason in told["missing"].items()]
    notes += _searched(shown)
    return notes


def _searched(shown: list[Any]) -> list[str]:
    again = [row for row in shown if "searched" in row]
    if not again:
        return []
    other = [row["path"] for row in again if row["searched"]["best_changes"]]
    if not other:
        return [f"the best plan stays the best at both ends of the first {len(again)} numbers"]
    return [f"another plan becomes the best at an end of {', '.join(other)}"]
