"""A capacity question as text for the terminal, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from perfmodel.report.display import MISSING, clean, count, is_number, percent, quantity
from perfmodel.report.search_words import strategy_words
from perfmodel.report.sentence import answer_sentence
from perfmodel.report.table import Table
from perfmodel.report.tables import detail_lines
from perfmodel.report.text_lines import NARROWEST, Style, table_lines, wrap
from perfmodel.study.capacity import CapacityResult
from perfmodel.study.capacity.result import Row

#: Keys of a row of sizes -> header and unit, in the order of the columns.
_COLUMNS = {
    "days": ("days", "days"), "tokens_per_s": ("tokens/s", "token"), "mfu": ("MFU", "%"), "usd": ("cost", "USD"),
    "energy_kwh": ("energy", "Wh"), "peak_power_w": ("peak power", "W"),
}  # fmt: skip

#: Columns for which names of clusters and prices leave no room.
_LEFT_OUT = ("tokens_per_s", "mfu", "peak_power_w")


def render_text(found: CapacityResult, *, width: int = 100, colour: bool = False) -> str:
    """The answer in a sentence, the sizes around it, how sure they are, and the chosen point as for one plan."""
    width = max(width, NARROWEST)
    style = Style(colour=colour)
    first, *others = answer_lines(found)
    lines = [style(line, "bold" if found.feasible else "red") for line in wrap(first, width)]
    lines += [part for line in others for part in wrap(line, width)]
    for table in capacity_tables(found):
        lines += ["", *table_lines(table, width, style)]
    heading = "The answer in detail" if found.feasible else "The plan that comes nearest in detail"
    return "\n".join([*lines, "", style(heading, "bold"), *detail_lines(found.result, width, style)]) + "\n"


def answer_lines(found: CapacityResult) -> list[str]:
    """The answer, its strategy, how sure it is, and which sizes were tried."""
    lines = [clean(found.sentence) if found.feasible else answer_sentence(found.result)]
    if found.chosen is not None and found.chosen.size.entry is not None:
        lines += [strategy_words(found.chosen.size.entry), answer_sentence(found.result)]
    if any(one is not None for one in found.confidence.values()):
        lines.append(_confidence(found))
    return [*lines, _granularity(found)] if found.chosen is not None else lines


def _granularity(found: CapacityResult) -> str:
    chosen = found.chosen
    if chosen is None or chosen.size.variant.stated is not None:
        return "sizes: those that are listed"
    nodes = found.granularity // chosen.size.variant.node
    beyond = "" if found.goal.bounds_time else ", and coarser ones beyond it"
    return f"sizes: {'every whole node' if nodes == 1 else f'multiples of {nodes} nodes'} up to the answer{beyond}"


def _confidence(found: CapacityResult) -> str:
    """With how many devices the goal is met how surely."""
    said = [
        f"{percent(share, 2)} sure with {_size(one)}" if one is not None else f"{percent(share, 2)} sure with no size"
        for share, one in found.confidence.items()
    ]
    chance = "" if found.chosen is None else f"meets the goal with probability {sure_words(found.chosen)}; "
    return f"{chance}{', '.join(said)}"


def sure_words(row: Row) -> str:
    """A probability; nothing is certain."""
    chance = row.probability
    if chance is None:
        return MISSING
    return ">99.9 %" if chance > 0.999 else "<0.1 %" if chance < 0.001 else percent(chance, 2)


def _size(row: Row) -> str:
    return f"{row.size.devices:,} devices of {clean(row.size.variant.cluster)}"


def capacity_tables(found: CapacityResult) -> list[Table]:
    """Sizes around the answer, and the answers of the other clusters and prices."""
    title = "Sizes around the answer" if found.chosen is not None else "What comes nearest"
    tables = [_table(title, found.sizes, found)] if found.sizes else []
    if found.others and found.chosen is not None:
        tables.append(_table("The other clusters and prices", (found.chosen, *found.others), found))
    return tables


def _table(title: str, rows: Sequence[Row], found: CapacityResult) -> Table:
    dicts = [one.to_dict() for one in rows]
    several = {(one["cluster"], one["pricing"]) for one in dicts}
    named = ["cluster"] if len(several) > 1 else []
    named += ["pricing"] if any(one["pricing"] for one in dicts) and len(several) > 1 else []
    left_out = _LEFT_OUT if named else ()
    keys = [key for key in _COLUMNS if key not in left_out and any(is_number(one[key]) for one in dicts)]
    headers = ("devices", *named, *(_COLUMNS[key][0] for key in keys), "sure", "stopped by")
    cells = tuple(
        (
            count(one["devices"]),
            *(clean(one[name] or MISSING) for name in named),
            *(_cell(key, one[key]) for key in keys),
            sure_words(row),
            clean(", ".join(one["stopped_by"]).replace("_", " ")) or _mark(row, found),
        )
        for row, one in zip(rows, dicts, strict=True)
    )
    left = (*range(1, len(named) + 1), len(headers) - 1)
    return Table(title, headers, cells, left=left)


def _mark(row: Row, found: CapacityResult) -> str:
    return "(the answer)" if found.chosen is not None and row.size == found.chosen.size else ""


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return MISSING
    unit = _COLUMNS[key][1]
    if unit == "%":
        return percent(value)
    if unit == "Wh":
        return quantity(1000.0 * value, unit)
    return quantity(value, unit).removesuffix(" days").removesuffix(" tokens")


def render_csv(found: CapacityResult) -> str:
    """One line per size: the answer, those around it, those of other clusters and prices, and the surer ones."""
    named = [
        ("answer", found.chosen),
        *(("size", one) for one in found.sizes),
        *(("other", one) for one in found.others),
    ]
    named += [(f"sure {100 * share:.0f} %", one) for share, one in found.confidence.items()]
    rows = [{"list": name} | _flat(one) for name, one in named if one is not None]
    header = list(dict.fromkeys(["list", *(key for row in rows for key in row)]))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, header, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _flat(row: Row) -> dict[str, object]:
    said = row.to_dict()
    said["stopped_by"] = " ".join(said["stopped_by"])
    settings = said.pop("settings") or {}
    return {key: "" if value is None else value for key, value in said.items()} | dict(settings)
