"""Predictions of measured collectives."""

from __future__ import annotations

from collections.abc import Sequence

from perfmodel.errors import SpecError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.efficiency import ResidualSpec
from perfmodel.specs.vocabulary import VocabularySpec
from perfmodel.study.collective_model import LARGE, Network, Networks, predicted_times
from perfmodel.study.collective_rows import BUS_BANDWIDTH, TIME, VOCABULARY, CollectiveRow, measured_time, read_row
from perfmodel.study.progress import Progress, tracked, unseen
from perfmodel.study.validation.lines import Line, Prediction, Row, Status
from perfmodel.study.validation.tables import IncompleteRow, InfeasibleRow, UnsupportedRow, number

_UNITS = {1e-6: "us", 1e-3: "ms"}


def predict_rows(rows: Sequence[tuple[int, Row]], catalogue: Catalogue, progress: Progress = unseen) -> list[Line]:
    """Predict the time of every collective of a table.

    Parameters
    ----------
    rows
        Positions and rows. Besides the columns of a table of collectives, those of kernel tables are read
        (``op_name``, ``num_gpus``, ``latency_ms`` ...).
    catalogue
        Where specs are looked up.
    progress
        Told about every row.

    Returns
    -------
    list
        One line per row that says what was measured, in order: ``time_us``, or the column that holds the time.
    """
    vocabulary: VocabularySpec = catalogue.load("vocabulary", VOCABULARY)
    networks = Networks(catalogue)
    read: dict[int, CollectiveRow] = {}
    refused: dict[int, Prediction] = {}
    for place, (_, row) in enumerate(tracked(rows, "collectives read", progress)):
        try:
            one = read_row(row, vocabulary)
            networks.of(one.system.cluster, one.library).outermost(one)
            read[place] = one
        except IncompleteRow as error:
            refused[place] = Prediction.refused(Status.INCOMPLETE, str(error))
        except InfeasibleRow as error:
            refused[place] = Prediction.refused(Status.INFEASIBLE, str(error))
        except (UnsupportedRow, SpecError) as error:
            refused[place] = Prediction.refused(Status.UNSUPPORTED, str(error))
    predictions = refused | _predict(read, networks)
    lines = (_line(position, row, read.get(place), predictions[place]) for place, (position, row) in enumerate(rows))
    return [line for line in lines if line is not None]


def _predict(rows: dict[int, CollectiveRow], networks: Networks) -> dict[int, Prediction]:
    """Predictions by place, all rows of one network in one call."""
    by_network: dict[tuple[str, str], list[int]] = {}
    for place, row in rows.items():
        by_network.setdefault((row.system.cluster, row.library), []).append(place)
    found: dict[int, Prediction] = {}
    for (cluster, library), places in by_network.items():
        network = networks.of(cluster, library)
        chosen = [rows[place] for place in places]
        times = predicted_times(chosen, network.tiers)
        found |= {
            place: _prediction(row, float(time), network)
            for place, row, time in zip(places, chosen, times, strict=True)
        }
    return found


def _prediction(row: CollectiveRow, time: float, network: Network) -> Prediction:
    reach = network.outermost(row)
    value = time / row.unit_seconds
    low, high = _interval(network.residuals[reach], row.size)
    return Prediction(
        value=value,
        p10=None if low is None else value * low,
        p90=None if high is None else value * high,
        basis=network.basis[reach],
        assumed=row.assumed,
        reason=row.system.note,
    )


def _interval(residuals: ResidualSpec | None, size: float) -> tuple[float | None, float | None]:
    """Ends of the 80 % interval over the prediction."""
    if residuals is None:
        return None, None
    if size >= LARGE:
        return residuals.large_p10.value, residuals.large_p90.value
    return residuals.small_p10.value, residuals.small_p90.value


def _line(position: int, row: Row, read: CollectiveRow | None, prediction: Prediction) -> Line | None:
    """The line of a row; None for a row that measured nothing."""
    if read is not None:
        quantity, unit, measured = read.quantity, read.unit_seconds, read.measured
    else:
        quantity, unit, measured = _measured_of_refused(row)
    if measured is None:
        return None
    return Line(position, row.get("id", ""), quantity, _UNITS.get(unit, "GB/s"), measured / unit, prediction, row)


def _measured_of_refused(row: Row) -> tuple[str, float, float | None]:
    """What a row that cannot be predicted measured: a time, or only a bus bandwidth."""
    try:
        quantity, unit, measured = measured_time(row, "", 0.0, 0)
        return (quantity, unit, measured) if measured is not None else (BUS_BANDWIDTH, 1.0, number(row, BUS_BANDWIDTH))
    except IncompleteRow:
        return TIME, 1.0, None
