"""Rows of tables of collectives: what was measured, where, and with which library.

Tables come in several shapes (benchmarks of whole nodes, kernels of serving engines, profiles of frameworks); each
fact is looked for under every name that they use. Words for devices, systems and libraries are those of the
``collective-tables`` vocabulary. Nothing that was measured, no id, source or note enters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from perfmodel.specs.vocabulary import SystemPhrase, VocabularySpec, first_match
from perfmodel.study.validation.lines import Row
from perfmodel.study.validation.tables import IncompleteRow, InfeasibleRow, UnsupportedRow, number, whole

VOCABULARY = "collective-tables"
TIME, BUS_BANDWIDTH = "time_us", "busbw_GBps"

#: Library of a table that states none and has the columns of a profiler.
PROFILE = "profiler"

_OPERATION = ("op", "op_name", "collective")
_RANKS = ("n_gpus", "num_gpus", "num_workers")
_SIZE = ("bytes", "size_bytes", "size")
_DEVICE = ("gpu", "device", "node")
_DATA_TYPE = ("dtype", "nccl_dtype", "allreduce_dtype")
_MICRO, _MILLI, _GIGA = 1e-6, 1e-3, 1e9
#: Column of a time -> (its unit in seconds, quantity that is predicted, unit of the prediction in seconds).
_TIMES = {
    TIME: (_MICRO, TIME, _MICRO), "time_oop_us": (_MICRO, TIME, _MICRO), "time_median_ms": (_MILLI, TIME, _MICRO),
    "latency_ms": (_MILLI, "latency_ms", _MILLI),
}  # fmt: skip
#: Bytes that the bus bandwidth of a benchmark counts, over the buffer: (numerator, n - 1 over n).
_BUS_FACTOR = {"all-reduce": 2.0, "all-gather": 1.0, "reduce-scatter": 1.0, "all-to-all": 1.0}


@dataclass(frozen=True)
class CollectiveRow:
    """One measured collective.

    Attributes
    ----------
    operation
        As in ``engine.networks``.
    size
        Bytes of the full buffer; of a message for ``send``.
    ranks, nodes
        Ranks of the group, and nodes that they are spread over evenly.
    reducible
        The data type is one that switches sum.
    system
        Entry of the vocabulary: the cluster.
    library
        Entry under the ``libraries`` of an interconnect; empty: its usual one.
    measured
        [s]; None when the row does not say.
    quantity, unit_seconds
        What is predicted (``time_us``, in kernel tables ``latency_ms``), and its unit in seconds.
    assumed
        Columns that were blank and took a default.
    """

    operation: str
    size: float
    ranks: int
    nodes: int
    reducible: bool
    system: SystemPhrase
    library: str
    measured: float | None
    quantity: str
    unit_seconds: float
    assumed: tuple[str, ...] = ()

    @property
    def members(self) -> int:
        """Ranks in one node."""
        return self.ranks // self.nodes

    @property
    def configuration(self) -> tuple[str, int, int]:
        """What a split into fitted and left-out rows must keep together: operation, ranks, nodes."""
        return self.operation, self.ranks, self.nodes


def read_row(row: Row, vocabulary: VocabularySpec) -> CollectiveRow:
    """What a row says.

    Raises
    ------
    IncompleteRow, InfeasibleRow, UnsupportedRow
        It cannot be predicted; the message says why.
    """
    operation = _operation(row, vocabulary)
    ranks, nodes = _ranks(row)
    size = _size(row)
    system = _system(row, nodes, ranks, vocabulary)
    library, assumed = _library(row, vocabulary)
    quantity, unit, measured = measured_time(row, operation, size, ranks)
    data_type = _text(row, _DATA_TYPE)
    if operation == "all-reduce" and not data_type:
        assumed = (*assumed, "dtype=floating point")
    return CollectiveRow(
        operation=operation, size=size, ranks=ranks, nodes=nodes, reducible="int" not in data_type.lower(),
        system=system, library=library, measured=measured, quantity=quantity, unit_seconds=unit, assumed=assumed,
    )  # fmt: skip


def measured_time(row: Row, operation: str, size: float, ranks: int) -> tuple[str, float, float | None]:
    """Predicted quantity, its unit [s], and the measured time [s]: stated, or from the bus bandwidth."""
    for column, (unit, quantity, shown) in _TIMES.items():
        value = number(row, column)
        if value is not None and value > 0.0:
            return quantity, shown, value * unit
    bandwidth = number(row, BUS_BANDWIDTH)
    if not bandwidth or not size:
        return TIME, _MICRO, None
    factor = _BUS_FACTOR[operation] * (ranks - 1) / ranks if operation in _BUS_FACTOR else 1.0
    return TIME, _MICRO, factor * size / (bandwidth * _GIGA)


def _text(row: Mapping[str, str], columns: Sequence[str]) -> str:
    """The first of the columns that is not blank."""
    return next((row[name] for name in columns if row.get(name)), "")


def _count(row: Row, columns: Sequence[str]) -> int:
    for name in columns:
        value = whole(row, name)
        if value is not None:
            return value
    raise IncompleteRow(f"{' or '.join(columns)} is blank and has no default")


def _operation(row: Row, vocabulary: VocabularySpec) -> str:
    text = _text(row, _OPERATION)
    if not text:
        raise IncompleteRow(f"{' or '.join(_OPERATION)} is blank and has no default")
    if text not in vocabulary.operations:
        known = ", ".join(vocabulary.operations)
        raise UnsupportedRow(f"the collective {text!r} is not modelled; known: {known}")
    return vocabulary.operations[text]


def _size(row: Row) -> float:
    size = next((value for name in _SIZE if (value := number(row, name)) is not None), None)
    if not size:
        raise IncompleteRow(f"{' or '.join(_SIZE)} is blank or zero and has no default")
    return size


def _ranks(row: Row) -> tuple[int, int]:
    ranks = _count(row, _RANKS)
    nodes = whole(row, "n_nodes")
    if nodes is None:
        per_node = whole(row, "devices_per_node")
        nodes = max(ranks // per_node, 1) if per_node else 1
    if ranks < 2:
        raise InfeasibleRow(f"a collective needs at least two ranks, got {ranks}")
    if ranks % nodes:
        raise InfeasibleRow(f"{ranks} ranks do not spread evenly over {nodes} nodes")
    return ranks, nodes


def _system(row: Row, nodes: int, ranks: int, vocabulary: VocabularySpec) -> SystemPhrase:
    device = _text(row, _DEVICE)
    if not device:
        raise IncompleteRow(f"{' or '.join(_DEVICE)} is blank: the device is unknown")
    plain = {**row, "n_nodes": str(nodes), "n_gpus": str(ranks)}
    found = first_match(vocabulary.systems, device, plain)
    if found is None:
        raise UnsupportedRow(f"the device {device!r} is not known to the vocabulary {vocabulary.name!r}")
    if found.unsupported:
        raise UnsupportedRow(found.unsupported)
    if found.incomplete:
        raise IncompleteRow(found.incomplete)
    return found


def _library(row: Row, vocabulary: VocabularySpec) -> tuple[str, tuple[str, ...]]:
    """Entry of the library, and what was assumed; its name from ``library``, or from how kernel tables spell it."""
    text = row.get("library", "")
    if not text:
        text = " ".join(row[name] for name in ("framework", "version", "backend", "kernel_source") if row.get(name))
    if not text and row.get("time_median_ms"):
        text = PROFILE
    if not text:
        return "", ("library=the usual one of the link",)
    found = first_match(vocabulary.libraries, text, row)
    if found is None:
        raise UnsupportedRow(f"the library {text!r} is not known to the vocabulary {vocabulary.name!r}")
    if found.unsupported:
        raise UnsupportedRow(found.unsupported)
    return found.library, ()
