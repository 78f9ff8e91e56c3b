"""Predictions for tables of kernel measurements: kernels on one device, and collectives between a few."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from perfmodel.errors import PerfmodelError, UsageError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.efficiency import KernelError
from perfmodel.study.kernel_numbers import Numbered, cost, grouped, levels_of, numbered, power_of, watts
from perfmodel.study.kernel_tables import Case, is_collective, layer_cases, reader_of
from perfmodel.study.progress import Progress, unseen
from perfmodel.study.validation import collectives
from perfmodel.study.validation.lines import Line, Prediction, Row, Status
from perfmodel.study.validation.tables import IncompleteRow, InfeasibleRow, UnsupportedRow, number

LATENCY, POWER = "latency_ms", "power_w"
#: Seconds per unit of a quantity that is a time.
UNITS = {"ms": 1e-3, "us": 1e-6}
#: Columns of which a table of kernels has at least one.
KNOWN_COLUMNS = ("op_name", LATENCY, "collective", "num_tensor_parallel_workers")
#: Times of the exchange of tokens between experts.
EXCHANGES = (
    "dispatch_avg_t_us", "combine_avg_t_us", "dispatch_transmit_us", "combine_transmit_us",
)  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One measured quantity of one row: the kernel behind it, or why there is none."""

    position: int
    row: Row
    quantity: str
    unit: str
    case: Case | None = None
    refused: Prediction | None = None


def predict_rows(rows: Sequence[tuple[int, Row]], catalogue: Catalogue, progress: Progress = unseen) -> list[Line]:
    """Lines of a table of kernels, in the order of its rows.

    ``latency_ms`` of single kernels, and ``power_w`` where the table has it; every ``*_median_ms`` of a table with one
    column per operator of a layer; the times of collectives and of exchanges between experts.

    Raises
    ------
    UsageError
        No column says what was timed (a file without a header).
    """
    _check_header(rows)
    between = [pair for pair in rows if is_collective(pair[1])]
    lines = collectives.predict_rows(between, catalogue, progress) if between else []
    tasks = [task for position, row in rows if not is_collective(row) for task in _tasks(position, row)]
    predictions: dict[int, Prediction] = {place: task.refused for place, task in enumerate(tasks) if task.refused}
    cases = ((place, task.case) for place, task in enumerate(tasks) if task.case is not None)
    for key, group in grouped(cases).items():
        predictions |= _predict_group(catalogue, key, group, [tasks[place] for place, _ in group])
        progress("kernels predicted", len(predictions), len(tasks))
    lines += [_line(task, predictions[place]) for place, task in enumerate(tasks)]
    return sorted(lines, key=lambda line: line.row)


def _check_header(rows: Sequence[tuple[int, Row]]) -> None:
    columns = list(rows[0][1])
    if not {*KNOWN_COLUMNS, *EXCHANGES} & set(columns):
        raise UsageError(
            "the table has no header that names kernels: it needs a first line with the columns op_name, device, "
            f"latency_ms and the sizes of the kernel; its first line is {', '.join(columns[:6])}"
        )


def _tasks(position: int, row: Row) -> Iterator[Task]:
    """The quantities of a row, each with its kernel."""
    if "num_tensor_parallel_workers" in row:
        for column, read in layer_cases(row).items():
            yield _task(position, row, column, "ms", read)
        return
    exchanges = [column for column in EXCHANGES if row.get(column)]
    for column in exchanges:
        reason = "kernels of the exchange between experts are predicted as collectives of a cluster, not here"
        yield Task(position, row, column, "us", refused=Prediction.refused(Status.UNSUPPORTED, reason))
    if exchanges:
        return
    reader = reader_of(row)
    yield _task(position, row, LATENCY, "ms", reader)
    if row.get(POWER):
        yield _task(position, row, POWER, "W", reader)


def _task(position: int, row: Row, quantity: str, unit: str, reader: Callable[[Row], Case] | None) -> Task:
    task = Task(position, row, quantity, unit)
    if reader is None:
        reason = f"op_name {row.get('op_name', '')!r} is no kernel that is modelled"
        return replace(task, refused=Prediction.refused(Status.UNSUPPORTED, reason))
    try:
        return replace(task, case=reader(row))
    except IncompleteRow as error:
        status, reason = Status.INCOMPLETE, str(error)
    except InfeasibleRow as error:
        status, reason = Status.INFEASIBLE, str(error)
    except UnsupportedRow as error:
        status, reason = Status.UNSUPPORTED, str(error)
    return replace(task, refused=Prediction.refused(status, reason))


def _predict_group(
    catalogue: Catalogue, key: tuple[str, ...], group: Sequence[tuple[int, Case]], tasks: Sequence[Task]
) -> dict[int, Prediction]:
    """Predictions of the cases that share an entry of numbers: one call of each equation."""
    accelerator, software, family, name, peak = key
    try:
        levels = levels_of(catalogue, accelerator, software)
        entry = numbered(levels, family, name, peak)
        cases = [case for _, case in group]
        one = cost(family, cases, entry)
        power = np.zeros(len(group))
        if any(task.quantity == POWER for task in tasks):
            power = watts(one, entry, power_of(levels, peak))
    except PerfmodelError as error:
        return {place: Prediction.refused(Status.UNSUPPORTED, str(error)) for place, _ in group}
    return {
        place: _prediction(task, float(time), float(drawn), entry)
        for (place, _), task, time, drawn in zip(group, tasks, one.seconds, power, strict=True)
    }


def _prediction(task: Task, seconds: float, drawn: float, entry: Numbered) -> Prediction:
    assert task.case is not None  # noqa: S101 (only tasks with a case are predicted)
    error = entry.power if task.quantity == POWER else entry.error
    value = drawn if task.quantity == POWER else seconds / UNITS[task.unit]
    return Prediction(
        value=value,
        p10=None if error is None else value * error.low,
        p90=None if error is None else value * error.high,
        basis=entry.basis,
        assumed=task.case.assumed,
        reason=_outside(task.case, entry.error),
    )


def _outside(case: Case, error: KernelError | None) -> str:
    """A remark on a row whose sizes lie outside the range that the numbers were fitted to."""
    if error is None:
        return ""
    beyond = [
        f"{name} = {case.sizes[name]:g} (fitted {low:g} .. {high:g})"
        for name, (low, high) in error.valid.items()
        if not low <= case.sizes[name] <= high
    ]
    return f"outside the fitted range: {', '.join(beyond)}" if beyond else ""


def _line(task: Task, prediction: Prediction) -> Line:
    """The line of a task; a row that measured nothing has nothing to be compared with."""
    measured = float("nan")
    try:
        measured = number(task.row, task.quantity) or 0.0
        reason = f"{task.quantity} is blank or not positive: nothing was measured"
    except IncompleteRow as error:
        reason = str(error)
    if not measured > 0.0:
        prediction = Prediction.refused(Status.INCOMPLETE, reason)
    return Line(
        row=task.position, id=task.row.get("id", ""), quantity=task.quantity, unit=task.unit, measured=measured,
        prediction=prediction, columns=task.row,
    )  # fmt: skip
