"""The answer to one question: immutable, in SI, with the breakdowns and the source of every number.

The JSON form is the published interface (``perfmodel.result/1``). Names of keys carry their unit.
"""

from __future__ import annotations

import functools
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from perfmodel.provenance import Sourced

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "perfmodel.result/1"
#: Whole numbers that a plan is described by in ``plans``.
PLAN_COUNTS = (
    "devices",
    "tp",
    "cp",
    "pp",
    "dp",
    "dp_replicate",
    "dp_shard",
    "ep",
    "etp",
    "micro_batch",
    "num_microbatches",
    "virtual_stages",
    "zero",
)
#: Keys that are always there, null where they do not apply.
OPTIONAL_KEYS: Mapping[str, tuple[str, ...]] = {
    "money": ("per_step_usd", "per_million_tokens_usd"),
    "carbon": ("per_step_kg",),
    "run": ("tokens", "days", "device_hours", "goodput", "checkpoint_interval_s", "energy_kwh", "usd", "kg_co2e"),
}
_Row = TypeVar("_Row")


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """One operator and phase: one occurrence, one micro-batch, one executing device, before overlap."""

    name: str
    phase: str  # forward | backward | recompute | optimizer
    role: str
    count: int  # occurrences in the whole model
    flop: float
    traffic_bytes: float
    communication_bytes: float
    time_s: float
    energy_j: float
    bound: str  # compute | memory | launch | communication
    data_type: str
    compute_s: float
    memory_s: float
    floor_s: float

    def seconds_per_step(self, num_microbatches: float) -> float:
        """Time of all occurrences in a step [s], over the pipeline stages of one replica.

        An operator of a pass runs once per micro-batch, the optimizer once per step.
        """
        return self.count * self.time_s * (1.0 if self.phase == "optimizer" else num_microbatches)


@dataclass(frozen=True, slots=True)
class CommunicationRow:
    """One collective of one group: totals per step on the device of the critical stage."""

    group: str  # tensor | context | expert | pipeline | data
    operation: str  # all-reduce | all-gather | reduce-scatter | all-to-all | send
    name: str
    ranks: int
    tiers: tuple[str, ...]  # names of the network tiers that the group spans, innermost first
    binding_tier: str
    count: float  # operations per step
    bytes_per_operation: float  # full buffer
    time_s: float  # per step, before overlap
    exposed_s: float
    overlapped_s: float


@dataclass(frozen=True, slots=True)
class StageRow:
    """One class of pipeline stages (first, middle, last, or each given stage)."""

    name: str
    position: int
    layers: float
    has_embedding: bool
    has_head: bool
    forward_s: float  # one micro-batch, communication included
    backward_s: float  # recomputation and communication included
    in_flight: float  # micro-batches whose activations are kept
    memory: Mapping[str, float]  # the keys of memory.breakdown


@dataclass(frozen=True, slots=True)
class CauseRow:
    """One bar of the waterfall from the pure roofline to the step time; the bars sum to the step."""

    name: str
    seconds: float
    meaning: str  # compute | efficiency | communication | bubble | recompute | optimizer | overhead


@dataclass(frozen=True, slots=True)
class ResultWarning:
    """A warning of a result (interface page: ``code``, ``severity``, ``path``, ``message``, ``effect``)."""

    code: str
    severity: str  # info | warning
    path: str
    message: str
    effect: float | None = None  # relative change of step time when the number is off by 20 %


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A published or measured figure beside the prediction."""

    key: str  # dotted result key
    value: float
    predicted: float
    source: str
    note: str = ""
    at: str = ""  # the configuration, where it is not that of the scenario; the prediction is of it too


@dataclass(frozen=True, slots=True)
class MeasuredTerm:
    """One term of a step that was measured."""

    term: str  # key of time.breakdown without its unit, or `rest`: all that a profile leaves out
    measured_s: float | None
    predicted_s: float
    difference_s: float | None  # measured - predicted
    factor: float | None  # by which this term alone would have to change to explain the difference of the step


class Deferred(Mapping[str, Any]):
    """A mapping that is computed when it is first read: part of a result that costs more than the result."""

    def __init__(self, compute: Callable[[], Mapping[str, Any]]) -> None:
        self._compute = compute

    @functools.cached_property
    def _content(self) -> Mapping[str, Any]:
        return self._compute()

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


class DeferredRows(Sequence[_Row]):
    """Rows that are made when they are first looked at."""

    def __init__(self, compute: Callable[[], Sequence[_Row]]) -> None:
        self._compute = compute

    @functools.cached_property
    def _rows(self) -> tuple[_Row, ...]:
        return tuple(self._compute())

    @overload
    def __getitem__(self, index: int) -> _Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_Row]: ...
    def __getitem__(self, index: int | slice) -> _Row | Sequence[_Row]:
        return self._rows[index]

    def __len__(self) -> int:
        return len(self._rows)


@dataclass(frozen=True)
class Result:
    """See the interface page, section 3, for the meaning of every key."""

    scenario: Mapping[str, str]  # name, sha256
    question: str
    workload: str
    feasible: bool
    reasons: tuple[str, ...]
    plans: tuple[Mapping[str, Any], ...]
    time: Mapping[str, Any]  # step_s, breakdown{...}, overlapped{...}
    memory: Mapping[str, Any]
    energy: Mapping[str, Any]
    money: Mapping[str, Any]
    carbon: Mapping[str, Any]
    run: Mapping[str, Any]
    metrics: Mapping[str, Any]
    uncertainty: Mapping[str, Mapping[str, Any]]
    operators: Sequence[OperatorRow]
    communication: Sequence[CommunicationRow]
    stages: Sequence[StageRow]
    waterfall: Sequence[CauseRow]
    published: tuple[PublishedRow, ...]
    inputs: tuple[Sourced, ...]  # every input number that was used
    roofs: Mapping[str, Any]  # {"peaks": {dtype: FLOP/s}, "bandwidths": {level: B/s}} for the roofline figure
    schedule: Mapping[
        str, Any
    ]  # pp, virtual_stages, num_microbatches, forward_s[], backward_s[] per stage, for timeline and trace
    describe: tuple[str, ...]  # the scenario in four lines
    measured: Mapping[str, Any] | None = None  # step, ratio, terms and the scaled prediction; None: no measured step
    version: str = ""
    sources_titles: Mapping[str, str] = field(default_factory=dict)
    explainer: Callable[[str | None], Any] | None = field(default=None, repr=False, compare=False)
    warner: Callable[[], tuple[ResultWarning, ...]] | None = field(default=None, repr=False, compare=False)
    origin: Any = field(default=None, repr=False, compare=False)  # the question behind it; None: read from a file
    sensitivities: Mapping[str, Any] | None = None  # only where they were asked for

    @functools.cached_property
    def warnings(self) -> tuple[ResultWarning, ...]:
        """What a reader must know; the effect of each assumed number is computed when first asked for."""
        return self.warner() if self.warner is not None else ()

    @property
    def headline(self) -> Mapping[str, float]:
        """Step time, MFU, peak memory, average power: the numbers of the answer sentence."""
        return {
            "time.step_s": self.time["step_s"],
            "metrics.mfu": self.metrics["mfu"],
            "memory.peak_bytes": self.memory["peak_bytes"],
            "energy.average_power_w": self.energy["average_power_w"],
        }

    def sources(self) -> list[dict[str, Any]]:
        """One entry per (source, basis) with the paths of the numbers that rest on it."""
        used: dict[tuple[str, str], list[str]] = {}
        for number in self.inputs:
            used.setdefault((number.source, str(number.basis)), []).append(number.path)
        return [
            {"key": key, "basis": basis, "used_for": sorted(set(paths))} for (key, basis), paths in sorted(used.items())
        ]

    def to_dict(self) -> dict[str, Any]:
        """The published JSON object as plain Python."""
        return {
            "schema": SCHEMA,
            "version": self.version,
            "scenario": dict(self.scenario),
            "question": self.question,
            "workload": self.workload,
            "feasible": self.feasible,
            "reasons": list(self.reasons),
            "plans": [dict(plan) for plan in self.plans],
            "time": _plain(self.time),
            "memory": _plain(self.memory),
            "energy": _plain(self.energy),
            "money": _plain(self.money),
            "carbon": _plain(self.carbon),
            "run": _plain(self.run),
            "metrics": _plain(self.metrics),
            "uncertainty": _plain(self.uncertainty),
            "operators": [asdict(row) for row in self.operators],
            "communication": [_plain(asdict(row)) for row in self.communication],
            "stages": [_plain(asdict(row)) for row in self.stages],
            "waterfall": [asdict(row) for row in self.waterfall],
            "published": [asdict(row) for row in self.published],
            "measured": _plain(self.measured),
            "warnings": [asdict(row) for row in self.warnings],
            "sources": self.sources(),
        } | ({} if self.sensitivities is None else {"sensitivities": _plain(self.sensitivities)})

    def to_json(self, *, indent: int | None = 2) -> str:
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def to_frame(self) -> pd.DataFrame:
        """Tidy columns, one row per operator and phase."""
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.operators])

    def value(self, key: str) -> Any:
        """The value of a dotted result key, for example ``time.breakdown.forward_s``."""
        current: Any = self.to_dict()
        for part in key.split("."):
            current = current[int(part)] if isinstance(current, list) else current[part]
        return current

    def explain(self, target: str | None = None) -> Any:
        """The derivation of an operator's time or of a numeric result key (default: ``time.step_s``)."""
        if self.explainer is None:
            raise ValueError("this result was read from a file; explain needs the scenario")
        return self.explainer(target)

    # The report room is above the engine; it is looked up when a person asks for a picture.
    def figures(self) -> Mapping[str, Any]:
        """The plotly figures of the report, by page name."""
        return importlib.import_module("perfmodel.report").figures(self)

    def report(self, path: str | Path) -> None:
        """Write the one-file HTML report."""
        importlib.import_module("perfmodel.report").write_report(self, Path(path))

    def _repr_html_(self) -> str:
        return importlib.import_module("perfmodel.report").to_html_fragment(self)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return value
