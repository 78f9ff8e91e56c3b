"""The part of the validation page about published training runs: scores by source, device and family; misses."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.validation.kinds import validate
from perfmodel.study.validation.lines import Line
from perfmodel.study.validation.ranking import layout_groups
from perfmodel.study.validation.scoring import Score, score

TIME, MEMORY = "iter_time_s", "mem_peak_gib"
#: A step whose prediction is off by more is named, with its reason.
MISS = 0.25
#: Columns of a row (texts that its columns start with) and why it is off; the first entry that matches is taken.
REASONS = Path(__file__).with_name("validation_misses.csv")


def published_lines() -> list[Line]:
    """Predictions of the shipped table, newest release of each configuration."""
    return validate("training", None, Catalogue(()), ["canonical=1"])


def score_table(lines: Sequence[Line]) -> Iterator[str]:
    """Scores of step time: all, by role, family, source and device."""
    times = [line for line in lines if line.quantity == TIME]
    yield "| steps | number | mean error | median | 90 % below | bias | in the 80 % interval |"
    yield "|---|---|---|---|---|---|---|"
    yield _row("**all**", score(times))
    for column in ("role", "family", "source_key", "gpu"):
        for value in sorted({line.columns[column] for line in times}):
            yield _row(f"{column} {value}", score([line for line in times if line.columns[column] == value]))
    yield _row("**peak memory** (GiB)", score([line for line in lines if line.quantity == MEMORY]))


def _row(name: str, one: Score) -> str:
    errors = (one.mape, one.median_ape, one.p90_ape)
    cells = [f"{100 * (value or 0.0):.1f} %" for value in errors]
    cells += [f"{100 * (one.bias or 0.0):+.1f} %", f"{100 * (one.coverage_80 or 0.0):.0f} %"]
    return f"| {name} | {one.ok} | {' | '.join(cells)} |"


def layout_table(lines: Sequence[Line]) -> Iterator[str]:
    """How much slower the layout that is predicted to be fastest ran than the fastest one."""
    yield "| model | device | devices | layouts | regret | rank correlation |"
    yield "|---|---|---|---|---|---|"
    for one in layout_groups([line for line in lines if line.quantity == TIME]):
        rank = "-" if one.spearman is None else f"{one.spearman:.2f}"
        yield f"| {one.model} | {one.gpu} | {one.devices} | {one.layouts} | {100 * one.regret:.1f} % | {rank} |"


def miss_table(lines: Sequence[Line]) -> Iterator[str]:
    """Predictions that are off by more than :data:`MISS`, each with its reason; one without a reason is an error."""
    with REASONS.open(encoding="utf-8", newline="") as file:
        reasons = list(csv.DictReader(file))
    yield "| run | figure | published | predicted | error | why |"
    yield "|---|---|---|---|---|---|"
    for line in lines:
        error, value = line.relative_error, line.prediction.value
        published = f"| {line.id} | {line.quantity} | {line.measured:.4g} {line.unit}"
        if error is not None and abs(error) > MISS:
            yield f"{published} | {value:.4g} {line.unit} | {100 * error:+.1f} % | {_reason(line, reasons)} |"
        elif error is None and line.quantity == TIME:
            yield f"{published} | - | - | {line.prediction.reason} |"


def _reason(line: Line, reasons: Sequence[Mapping[str, str]]) -> str:
    for entry in reasons:
        wanted = {name: text for name, text in entry.items() if name != "reason" and text}
        if all(line.columns.get(name, "").startswith(text) for name, text in wanted.items()):
            return entry["reason"]
    error = 100 * (line.relative_error or 0.0)
    raise SystemExit(f"{line.id} ({line.quantity}) is off by {error:+.1f} %: say why in {REASONS.name}")


def run_parts() -> dict[str, str]:
    """Parts of the page by name."""
    lines = published_lines()
    tables = {"runs": score_table(lines), "layouts": layout_table(lines), "run_misses": miss_table(lines)}
    parts = {name: "\n".join(rows) for name, rows in tables.items()}
    predicted = sum(line.ok for line in lines if line.quantity == TIME)
    parts["run_count"] = f"{predicted} of {sum(line.quantity == TIME for line in lines)}"
    return parts
