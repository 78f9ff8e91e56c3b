"""Predictions of published training runs: step time and peak memory."""

from __future__ import annotations

from collections.abc import Sequence

from perfmodel.engine.build import Question, build_question
from perfmodel.engine.evaluate import answer
from perfmodel.engine.headline import plan_rules
from perfmodel.engine.result import Result
from perfmodel.errors import SpecError, UnsupportedOperator
from perfmodel.parallel import rules
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.resolve import load_scenario
from perfmodel.study.progress import Progress, tracked, unseen
from perfmodel.study.validation.lines import Line, Prediction, Row, Status
from perfmodel.study.validation.tables import IncompleteRow, InfeasibleRow, UnsupportedRow, number
from perfmodel.study.validation.training_scenario import RowReader, RowScenario
from perfmodel.units import parse_quantity

VOCABULARY = "training-runs"
TIME, MEMORY = "iter_time_s", "mem_peak_gib"
_GIB = parse_quantity("1 GiB", "B")


def predict_rows(rows: Sequence[tuple[int, Row]], catalogue: Catalogue, progress: Progress = unseen) -> list[Line]:
    """Predict step time and, where it was measured, peak memory of every run.

    Parameters
    ----------
    rows
        Positions and rows of a table of training runs.
    catalogue
        Where specs are looked up.
    progress
        Told about every row.

    Returns
    -------
    list
        One or two lines per row, in order.
    """
    reader = RowReader(catalogue, catalogue.load("vocabulary", VOCABULARY))
    told = tracked(rows, "rows predicted", progress)
    return [line for position, row in told for line in _lines(position, row, reader, catalogue)]


def _lines(position: int, row: Row, reader: RowReader, catalogue: Catalogue) -> list[Line]:
    measured = measured_quantities(row)
    predictions = _predict(row, reader, catalogue)
    return [
        Line(position, row.get("id", ""), quantity, unit, value, predictions[quantity], row)
        for quantity, unit in ((TIME, "s"), (MEMORY, "GiB"))
        if (value := measured.get(quantity)) is not None
    ]


def measured_quantities(row: Row) -> dict[str, float]:
    """The measured quantities of a row; step time also from tokens per second and device."""
    found = {name: value for name in (TIME, MEMORY) if (value := number(row, name)) is not None and value > 0.0}
    rate = number(row, "tokens_per_s_per_gpu")
    if TIME not in found and rate:
        counts = [number(row, name) for name in ("global_batch", "seq_len", "n_gpus")]
        if all(counts):
            sequences, length, devices = (float(count or 0.0) for count in counts)
            found[TIME] = sequences * length / (rate * devices)
    return found


def question_of(row: Row, reader: RowReader, catalogue: Catalogue) -> tuple[Question, RowScenario]:
    """The question that a row asks, and the scenario behind it.

    Raises
    ------
    RowProblem
        The row cannot be predicted; the kind of the error says why.
    """
    scenario = reader.read(row)
    try:
        question = build_question(load_scenario(scenario.mapping, catalogue))
    except (SpecError, UnsupportedOperator) as error:
        # The row describes something that the specs refuse (a precision that the device lacks ...).
        raise UnsupportedRow(str(error)) from error
    broken = rules.reasons(plan_rules(question.problem, question.plan, question.resolved.devices))
    if broken:
        raise InfeasibleRow("; ".join(broken))
    return question, scenario


def _predict(row: Row, reader: RowReader, catalogue: Catalogue) -> dict[str, Prediction]:
    try:
        question, scenario = question_of(row, reader, catalogue)
        return _predictions(answer(question), scenario)
    except IncompleteRow as error:
        return _refused(Status.INCOMPLETE, str(error))
    except InfeasibleRow as error:
        return _refused(Status.INFEASIBLE, str(error))
    except (UnsupportedRow, UnsupportedOperator, SpecError) as error:
        return _refused(Status.UNSUPPORTED, str(error))


def _refused(status: Status, reason: str) -> dict[str, Prediction]:
    return dict.fromkeys((TIME, MEMORY), Prediction.refused(status, reason))


def _predictions(result: Result, scenario: RowScenario) -> dict[str, Prediction]:
    intervals = result.uncertainty
    found: dict[str, Prediction] = {}
    for quantity, key, value, scale in (
        (TIME, "time.step_s", result.time["step_s"], 1.0),
        (MEMORY, "memory.peak_bytes", result.memory["peak_bytes"], _GIB),
    ):
        interval = intervals[key]
        found[quantity] = Prediction(
            value=value / scale,
            p10=interval["p10"] / scale,
            p90=interval["p90"] / scale,
            basis=interval["basis"],
            assumed=tuple(scenario.assumed),
            reason="; ".join(result.reasons),
        )
    return found
