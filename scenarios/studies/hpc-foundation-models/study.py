"""The best plans of the HPC foundation-model study, by enumeration, beside the published days of training.

Run it from the root of the repository (needs pandas)::

    python scenarios/studies/hpc-foundation-models/study.py

Three kinds of plans, as in the study (Subramanian et al. 2024, arXiv 2410.00273): tensor parallelism on a line,
together with context parallelism, and on a grid (SUMMA). All sizes that divide are tried; nothing here is a formula.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import perfmodel as pm

FOLDER = Path(__file__).parent
GPT, VIT = "gpt3-1t", "vit-64k"
GENERATIONS, DOMAINS = ("a100", "h200", "b200"), (4, 8, 64)
SYSTEMS = tuple(f"{generation}-nvs{domain}" for generation in GENERATIONS for domain in DOMAINS)
#: Kinds of tensor parallelism.
LINE, CONTEXT, GRID = "1D", "2D context", "2D SUMMA"
#: Fewest features of a column, fewest tokens of a row, and narrowest panel that the study tries.
NARROWEST_COLUMN, SHORTEST_ROW, NARROWEST_PANEL = 128, 128, 512
#: One-dimensional tensor parallelism without context parallelism, whatever the plan of the scenario.
PLAIN = {"cp": 1, "tp_rows": 1, "tp_blocks": 0, "tp_column_first": 0}
#: Which group lies inside the domain first.
ORDERS = (("tp", "cp", "dp", "pp"), ("cp", "tp", "dp", "pp"))


@dataclass(frozen=True)
class Best:
    """The fastest plan that fits, with the sizes that differ from their neutral value."""

    days: float
    sizes: dict[str, int]
    memory_gb: float
    shares: dict[str, float]  # of the step, by part


@functools.cache
def scenario(model: str, system: str, devices: int) -> pm.Scenario:
    """The shipped scenario of a model on a system, on this many devices."""
    return pm.load(FOLDER / f"hpc-{model}-{system}.yaml").replace(**{"cluster.devices": devices})


@functools.cache
def best(model: str, system: str, devices: int, kind: str) -> Best | None:
    """The fastest plan of a kind, or None when none fits."""
    question = scenario(model, system, devices)
    found: list[Best] = []
    for order in ORDERS if kind == CONTEXT else ORDERS[:1]:
        asked = question.replace(**{"strategy.order": list(order)})
        rows = list({LINE: _lines, CONTEXT: _contexts, GRID: _grids}[kind](asked, devices))
        if rows:
            found += _fastest(asked, rows)
    return min(found, key=lambda one: one.days, default=None)


def _fastest(asked: pm.Scenario, rows: list[dict[str, int]]) -> list[Best]:
    columns = PLAIN | {name: np.array([row[name] for row in rows]) for name in rows[0]}
    table = pm.evaluate(asked, asked.plans(**columns))
    fitting = table[table["feasible"]]
    if fitting.empty:
        return []
    place = fitting["time.step_s"].idxmin()
    row = fitting.loc[place]
    prefix = "time.breakdown."
    shares = {key.removeprefix(prefix): row[key] / row["time.step_s"] for key in table if key.startswith(prefix)}
    return [Best(float(row["run.days"]), rows[place], float(row["memory.peak_bytes"]) / 1e9, shares)]


def _lines(asked: pm.Scenario, devices: int) -> Iterator[dict[str, int]]:
    for tp in _column_counts(asked, devices):
        yield from ({"tp": tp} | rest for rest in _stages(asked, devices, tp))


def _contexts(asked: pm.Scenario, devices: int) -> Iterator[dict[str, int]]:
    for tp in _column_counts(asked, devices):
        for cp in _row_counts(asked, devices // tp):
            yield from ({"tp": tp, "cp": cp} | rest for rest in _stages(asked, devices, tp * cp))


def _grids(asked: pm.Scenario, devices: int) -> Iterator[dict[str, int]]:
    for columns in _column_counts(asked, devices):
        for rows in _row_counts(asked, devices // columns):
            for rest in _stages(asked, devices, rows * columns):
                for blocks in _block_counts(asked, max(rows, columns)):
                    for first in (0, 1):
                        shape = {"tp_rows": rows, "tp_blocks": blocks, "tp_column_first": first}
                        yield {"tp": rows * columns} | shape | rest


def _column_counts(asked: pm.Scenario, devices: int) -> list[int]:
    axes = asked.question.problem.graph.axes
    narrow = axes["hidden"] // NARROWEST_COLUMN
    return [one for one in _divisors(devices) if axes["heads"] % one == axes["hidden"] % one == 0 and one <= narrow]


def _row_counts(asked: pm.Scenario, devices: int) -> list[int]:
    length = int(asked.question.problem.workload.sequence_length)
    return [one for one in _divisors(devices) if length % one == 0 and length // one >= SHORTEST_ROW]


def _block_counts(asked: pm.Scenario, fewest: int) -> list[int]:
    hidden, counts = asked.question.problem.graph.axes["hidden"], [fewest]
    while hidden // (2 * counts[-1]) >= NARROWEST_PANEL:
        counts.append(2 * counts[-1])
    return [one for one in counts if hidden % one == 0]


def _stages(asked: pm.Scenario, devices: int, ranks: int) -> Iterator[dict[str, int]]:
    """Pipeline stages and micro-batches beside so many tensor- and context-parallel ranks."""
    problem = asked.question.problem
    for pp in _divisors(problem.layers):
        replicas, rest = divmod(devices, ranks * pp)
        if replicas and not rest and problem.workload.global_batch % replicas == 0:
            for micro_batch in _divisors(problem.workload.global_batch // replicas):
                yield {"pp": pp, "micro_batch": micro_batch}


@functools.cache
def _divisors(number: int) -> list[int]:
    return [one for one in range(1, number + 1) if number % one == 0]


def published_days() -> dict[tuple[str, int], float]:
    """Days of training of GPT3-1T with the best one-dimensional plan, by system and devices."""
    with (FOLDER / "published.csv").open(encoding="utf-8") as file:
        return {(row["system"], int(row["devices"])): float(row["days"]) for row in csv.DictReader(file)}


def tables() -> Iterator[str]:
    """The tables of the README, line by line."""
    yield "| devices | system | plan | predicted days | published days | error |"
    yield "|---|---|---|---|---|---|"
    for (system, devices), days in published_days().items():
        one = best(GPT, system, devices, LINE)
        if one is not None:
            error = f"{100 * (one.days / days - 1):+.1f} %"
            yield f"| {devices} | {system} | {_words(one)} | {one.days:.2f} | {days:.2f} | {error} |"
    for model, sizes in ((GPT, (16384,)), (VIT, (1024, 16384))):
        yield ""
        yield f"| {model}: devices | system | {LINE} | {CONTEXT} | {GRID} | best plan |"
        yield "|---|---|---|---|---|---|"
        for devices in sizes:
            for system in SYSTEMS:
                found = [best(model, system, devices, kind) for kind in (LINE, CONTEXT, GRID)]
                days = " | ".join("-" if one is None else f"{one.days:.2f}" for one in found)
                fastest = min((one for one in found if one is not None), key=lambda one: one.days)
                yield f"| {devices} | {system} | {days} | {_words(fastest)} |"


def _words(one: Best) -> str:
    return ", ".join(f"{name} {size}" for name, size in one.sizes.items())


if __name__ == "__main__":
    for line in tables():
        print(line)
