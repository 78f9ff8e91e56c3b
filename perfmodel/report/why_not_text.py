"""Why a search does not answer with a plan, in words: the verdict first, then what stands behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from perfmodel.report.content import memory_table
from perfmodel.report.display import (
    clean,
    column,
    key_quantity,
    label_of_key,
    memory,
    scale,
    signed_percent,
    unit_of_key,
)
from perfmodel.report.table import Table
from perfmodel.report.tables import table_text, wrapped
from perfmodel.report.why_not_words import cause, path_name, setting_text, settings_text, values_text
from perfmodel.study.search.remedies import Remedy
from perfmodel.study.search.why_not import BEST, CONSTRAINT, LOSES, MEMORY, RULES, Term, WhyNot

#: Share of the difference that the other parts may have for one to be all of it.
_ALONE = 0.005
#: Neighbours that fit and are shown.
_REMEDIES = 8


def render_why_not_json(answer: WhyNot) -> str:
    """The answer as its published JSON."""
    return json.dumps(answer.to_dict(), indent=2, allow_nan=False)


def render_why_not(answer: WhyNot, *, width: int = 100, colour: bool = False) -> str:
    """The answer as text: the verdict, how the plan was completed, reasons, and the difference to the best."""
    lines = wrapped(clean(_verdict(answer)), width, style="bold" if answer.feasible else "red", colour=colour)
    for sentence in _told(answer):
        lines += wrapped(clean(sentence), width)
    lists = list(_lists(answer))
    for title, points in lists:
        lines += ["", *wrapped(title, width, style="bold", colour=colour)]
        lines += [line for point in points for line in wrapped(clean(point), width, first="  - ")]
    lines += ["", *wrapped(clean(_best(answer)), width)] if lists else wrapped(clean(_best(answer)), width)
    for table in _tables(answer):
        lines += ["", *table_text(table, width, colour=colour)]
    return "\n".join(lines) + "\n"


def _verdict(answer: WhyNot) -> str:
    named = settings_text(answer.named) or "the plan"
    if answer.verdict == RULES:
        return f"infeasible: {named} cannot be"
    if answer.verdict == MEMORY:
        return f"infeasible: {named} does not fit{_shortfall(answer)}"
    if answer.verdict == CONSTRAINT:
        return f"infeasible: {named} fits and is not allowed: {'; '.join(answer.reasons)}"
    if answer.verdict == BEST:
        return f"{named} is the best: {_objective(answer)}, first of {answer.allowed:,} allowed candidates"
    word = "loses" if answer.verdict == LOSES else "would win"
    best = _objective(answer, of_best=True)
    return f"{named} {word}: {_objective(answer)} against {best} of the best{_gap(answer)}"


def _shortfall(answer: WhyNot) -> str:
    needed, usable = (answer.plan.numbers[f"memory.{name}_bytes"] for name in ("peak", "capacity"))
    return f": it needs {memory(needed)} of {memory(usable)}" if needed > usable else ""


def _objective(answer: WhyNot, *, of_best: bool = False) -> str:
    key = answer.objective.key
    entry = answer.best if of_best else answer.plan
    if entry is None:
        return "nothing"
    shown = key_quantity(key, entry.numbers[key])
    return shown if of_best else f"{label_of_key(key)} {shown}"


def _gap(answer: WhyNot) -> str:
    """How far behind, and the place among the candidates."""
    key = answer.objective.key
    if answer.best is None:
        return ""
    gap = signed_percent(answer.plan.numbers[key] / answer.best.numbers[key] - 1.0)
    whose = "would be " if answer.outside else ""
    return f" ({gap}); {whose}number {answer.rank:,} of {answer.allowed:,} allowed candidates"


def _told(answer: WhyNot) -> Iterator[str]:
    for path, value in answer.same_as.items():
        said = setting_text(path, answer.named.get(path, value))
        yield f"{said} changes nothing here: taken as {setting_text(path, value)}."
    for one in answer.outside:
        name = path_name(one.path)
        known = f"takes {values_text(one.values)}"
        if not one.listed:
            known = f"is not varied, it is {values_text(one.values)} in all candidates"
        yield f"Not in the space: {setting_text(one.path, one.value)} ({name} {known})."
    if answer.completed:
        yield f"{_COMPLETED.get(answer.verdict, _BEST_COMPLETION)}: {settings_text(answer.completed)}."
    yield from _cause(answer)


_BEST_COMPLETION = "The rest is completed with the best of the space"
#: How a plan that cannot be was completed.
_COMPLETED = {
    MEMORY: "The rest is completed with what needs the least memory",
    CONSTRAINT: "The rest is completed with the best that fits",
    RULES: "No completion keeps the rules; the nearest has",
}


def _best(answer: WhyNot) -> str:
    """What the search answers with; empty where that is the plan."""
    if answer.best is None:
        return "No candidate of the search is allowed."
    if answer.verdict == BEST:
        return ""
    settings = answer.best.settings
    told = {path: value for path, value in settings.items() if path in answer.completed or path in answer.named}
    best = _objective(answer, of_best=True)
    return f"The best is {settings_text(told or settings)}: {label_of_key(answer.objective.key)} {best}."


def _cause(answer: WhyNot) -> Iterator[str]:
    """The largest part of what the plan spends more."""
    term = next((one for one in answer.terms if one.difference > 0.0), None)
    if term is None or answer.best is None or answer.verdict not in (LOSES, CONSTRAINT):
        return
    total = sum(one.difference for one in answer.terms)
    other = abs(total - term.difference) > abs(total) * _ALONE
    whole = f"; {_signed(term.key, total)} with all other parts" if other else ""
    words = cause(term.key, answer.plan.plan, answer.best.plan)
    amount = f"{_signed(term.key, term.difference)}{whole}"
    because = f": {words}" if words else ""
    yield f"The largest part of the difference is {label_of_key(term.key)} ({amount}){because}."


def _signed(key: str, value: float) -> str:
    return f"{'+' if value >= 0 else '-'}{key_quantity(key, abs(value))}"


def _lists(answer: WhyNot) -> Iterator[tuple[str, list[str]]]:
    if answer.verdict in (RULES, MEMORY):
        yield "Why", list(answer.reasons)
    if answer.nearest:
        points = [f"{path_name(path)} = {' or '.join(map(str, sizes))}" for path, sizes in answer.nearest.items()]
        yield "Nearest sizes that keep the rules, each alone", points
    if answer.verdict == MEMORY:
        yield "What of this layout would fit", [
            *(_remedy(answer, one) for one in answer.remedies[:_REMEDIES]),
            *([] if answer.remedies else ["no value of recompute, zero, micro_batch and tp makes it fit"]),
        ]  # fmt: skip


def _remedy(answer: WhyNot, remedy: Remedy) -> str:
    key = answer.objective.key
    numbers = remedy.entry.numbers
    but = [*([] if remedy.in_space else ["not in the space"]), *([] if remedy.allowed else ["not allowed"])]
    told = f"{memory(numbers['memory.peak_bytes'])}, {label_of_key(key)} {key_quantity(key, numbers[key])}"
    return f"{settings_text(remedy.changes)}: {told}" + (f" ({', '.join(but)})" if but else "")


def _tables(answer: WhyNot) -> list[Table]:
    """What it needs where it does not fit, else what it spends beside the best."""
    if answer.verdict == MEMORY and answer.result is not None:
        table = memory_table(answer.result)
    else:
        table = difference_table(answer)
    return [] if table is None else [table]


def difference_table(answer: WhyNot) -> Table | None:
    """The plan and the best, part by part, largest difference first; None where there is nothing to compare."""
    terms = answer.terms
    if not terms or answer.verdict in (BEST, RULES):
        return None
    unit = unit_of_key(terms[0].key)
    total = Term(_total_key(terms[0].key), sum(one.plan for one in terms), sum(one.best for one in terms))
    factor, symbol = scale([total.plan, total.best], unit, binary=unit == "B")
    mine, theirs, apart = (
        column([getattr(one, name) for one in (*terms, total)], factor) for name in ("plan", "best", "difference")
    )
    labels = [label_of_key(one.key) for one in (*terms, total)]
    rows = tuple(zip(labels, mine, theirs, map(_plus, apart), strict=True))
    return Table("Difference to the best", ("part", f"plan {symbol}", f"best {symbol}", "difference"), rows, totals=1)


def _total_key(key: str) -> str:
    return {"time": "time.step_s", "energy": "energy.per_step_j"}.get(
        key.split(".", maxsplit=1)[0], "memory.peak_bytes"
    )


def _plus(cell: str) -> str:
    """A difference with its sign."""
    return cell if cell == "0" or cell.startswith(("-", ">")) else f"+{cell}"
