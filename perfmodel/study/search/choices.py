"""Values of the axes of a strategy: as listed, or those that make sense for the model and the machine (``auto``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from perfmodel.engine.build import Question
from perfmodel.errors import SpecError, UsageError
from perfmodel.parallel.orders import INTERLEAVED, ONE_F_ONE_B, SCHEDULES
from perfmodel.parallel.space import PlanSpace, Switch
from perfmodel.parallel.strategy import policy_index
from perfmodel.specs.axes import Axis
from perfmodel.specs.plain import is_mapping
from perfmodel.study.estimate_grid import uneven_splits

#: Scenario path -> row axis of a plan space.
ROW_PATHS = {
    "cluster.devices": "devices", "strategy.tp": "tp", "strategy.cp": "cp", "strategy.pp": "pp", "strategy.ep": "ep",
    "strategy.etp": "etp", "strategy.dp_replicate": "dp_replicate", "strategy.micro_batch": "micro_batch",
    "strategy.pipeline.virtual_stages": "virtual_stages",
}  # fmt: skip
#: Scenario path -> switch column.
SWITCH_PATHS = {
    "strategy.zero": "zero", "strategy.sequence_parallel": "sequence_parallel",
    "strategy.overlap.tensor": "tensor_overlap", "strategy.overlap.expert": "expert_overlap",
    "strategy.overlap.pipeline": "pipeline_overlap", "strategy.overlap.data": "data_overlap",
}  # fmt: skip
RECOMPUTE = "strategy.recompute"
_POLICY, _FRACTION = "strategy.recompute.policy", "strategy.recompute.fraction"
LAYERS, _SCHEDULE = "strategy.pipeline.layers_per_stage", "strategy.pipeline.schedule"
#: Columns of a strategy that follow from others, and what from.
FOLLOWS = {
    "dp": "devices / (tp*cp*pp)", "dp_shard": "dp / dp_replicate",
    "num_microbatches": "the global batch / (dp*micro_batch)",
}  # fmt: skip
#: Largest values that ``auto`` tries: beyond them no published run goes.
_LARGEST = {"tp": 64, "cp": 64, "pp": 128, "virtual_stages": 32, "ep": 512, "etp": 8, "micro_batch": 64}
#: Orders that ``auto`` tries: Megatron's, and data parallelism outermost.
_ORDERS = (["tp", "cp", "dp", "pp"], ["tp", "cp", "pp", "dp"])


@dataclass(frozen=True)
class LayerSplit:
    """One uneven split of the layers, with the stages that it is for."""

    pp: int
    virtual_stages: int
    layers: tuple[int, ...]

    def changes(self) -> dict[str, Any]:
        """What a scenario sets."""
        return {LAYERS: list(self.layers)}


def is_column(path: str) -> bool:
    """The axis is a column of plans."""
    return path in ROW_PATHS or path in SWITCH_PATHS or path in (RECOMPUTE, _POLICY, _FRACTION)


def structural_values(axis: Axis, question: Question, columns: Mapping[str, Axis]) -> tuple[Any, ...]:
    """Values of an axis that is no column.

    Raises
    ------
    SpecError
        The axis has no values of its own (``auto`` where nothing follows from the question).
    """
    if axis.path == LAYERS:
        return (None, *_splits(question, columns)) if axis.values is None else tuple(
            _given_split(axis, value, columns) for value in axis.values
        )  # fmt: skip
    if axis.values is not None:
        # Virtual stages make 1F1B the interleaved one: listed both, they are the same plans.
        twice = axis.path == _SCHEDULE and {ONE_F_ONE_B, INTERLEAVED} <= set(axis.values)
        return tuple(value for value in axis.values if not (twice and value == INTERLEAVED))
    found: Mapping[str, tuple[Any, ...]] = {
        "strategy.order": _ORDERS,
        _SCHEDULE: tuple(name for name in SCHEDULES if name != INTERLEAVED),
        "strategy.context_parallel": ("all-gather", "ring", "all-to-all"),
    }
    if axis.path not in found:
        raise SpecError(f"{axis.place}: {axis.path}: `auto` does not say which values to try; list them")
    return found[axis.path]


def _splits(question: Question, columns: Mapping[str, Axis]) -> Iterator[LayerSplit]:
    """Uneven splits for stages that the search tries and that do not divide the layers."""
    pp, chunks = (_tried(name, columns, question) for name in ("pp", "virtual_stages"))
    every = [split for n in _devices(columns, question) for split in uneven_splits(question.problem.layers, n)]
    for stages, virtual, layers in dict.fromkeys(every):
        if (pp is None or stages in pp) and (chunks is None or virtual in chunks):
            yield LayerSplit(stages, virtual, layers)


def _tried(name: str, columns: Mapping[str, Axis], question: Question) -> set[int] | None:
    """Values that an axis tries; None where it tries what makes sense."""
    axis = columns.get(next(path for path, row in ROW_PATHS.items() if row == name))
    if axis is not None and axis.values is None:
        return None
    return set(_row_values(name, columns, question).tolist())


def _named(columns: Mapping[str, Axis]) -> set[str]:
    return {ROW_PATHS[path] for path in columns if path in ROW_PATHS}


def _given_split(axis: Axis, value: Any, columns: Mapping[str, Axis]) -> LayerSplit:
    named = _named(columns)
    if "pp" in named or "virtual_stages" in named:
        raise SpecError(
            f"{axis.place}: {axis.path}: a given split has one number of stages; leave pp and virtual_stages single, "
            "or write `layers_per_stage: auto`"
        )
    return LayerSplit(0, 0, tuple(value))


def chosen_values(columns: Mapping[str, Axis], question: Question, split: LayerSplit | None) -> dict[str, Any] | None:
    """Values of every column; None where a split of the layers is for other stages than the search tries."""
    rows = {name: _row_values(name, columns, question) for name in ROW_PATHS.values()}
    if split is not None and split.pp:
        rows |= {"pp": np.array([split.pp]), "virtual_stages": np.array([split.virtual_stages])}
    switches: list[Switch] = [_recompute(columns, question)]
    for path, name in SWITCH_PATHS.items():
        axis = columns.get(path)
        own = getattr(question.plan, name)[0]
        values = [own] if axis is None else _switch_values(axis, name)
        switches.append(Switch({name: np.array(values, dtype=np.int64)}))
    return {"rows": rows, "switches": tuple(switches)}


def plan_space(values: Mapping[str, Any], question: Question, layers: Sequence[int] | None) -> PlanSpace:
    """The plan space of a region."""
    own = question.plan
    structure = {
        "recompute_policies": policies_of(question),
        "layers_per_stage": own.layers_per_stage if layers is None else tuple(layers),
        "embedding_and_head_as_layers": own.embedding_and_head_as_layers,
        "schedule": own.schedule,
        "synchronous_update": own.synchronous_update,
    }
    rows = dict(values["rows"])
    if own.tp_blocks[0] > 0:
        rows |= {name: getattr(own, name)[:1] for name in ("tp_rows", "tp_blocks", "tp_column_first")}
    return PlanSpace(rows, values["switches"], question.problem.workload.global_batch, structure)


def _devices(columns: Mapping[str, Axis], question: Question) -> list[int]:
    axis = columns.get("cluster.devices")
    if axis is None:
        return [question.problem.devices]
    if axis.values is None:
        raise SpecError(f"{axis.place}: {axis.path}: list the numbers of devices to try")
    return [_whole(axis, value) for value in axis.values]


def _row_values(name: str, columns: Mapping[str, Axis], question: Question) -> np.ndarray:
    path = next(path for path, row in ROW_PATHS.items() if row == name)
    axis = columns.get(path)
    if name == "devices":
        return np.array(_devices(columns, question), dtype=np.int64)
    if axis is None:
        # The plan of the base has one replica where it shards nothing: what the scenario says counts.
        stated = question.resolved.scenario.strategy.dp_replicate if name == "dp_replicate" else None
        return getattr(question.plan, name)[:1] if name != "dp_replicate" else np.array([stated or 1], dtype=np.int64)
    if axis.values is None:
        return np.array(_auto(name, columns, question), dtype=np.int64)
    return np.array([_whole(axis, value) for value in axis.values], dtype=np.int64)


def _whole(axis: Axis, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SpecError(f"{axis.place}: {axis.path}: expected whole numbers of at least 1, got {value!r}")
    return value


def _auto(name: str, columns: Mapping[str, Axis], question: Question) -> list[int]:
    """Divisors of what the axis divides."""
    problem = question.problem
    axes = problem.graph.axes
    devices, batch = _devices(columns, question), problem.workload.global_batch
    divided: Mapping[str, Sequence[int]] = {
        "tp": devices, "cp": devices, "etp": [axes.get("expert_ffn", 1)],
        "pp": [problem.layers + _extra(question)],
        "virtual_stages": [problem.layers + _extra(question)],
        "ep": [axes.get("experts", 1)], "micro_batch": [batch], "dp_replicate": devices,
    }  # fmt: skip
    largest = _LARGEST.get(name, max(devices))
    return sorted({one for number in divided[name] for one in _divisors(number, largest)})


def _extra(question: Question) -> int:
    """Layers that the embedding and the head count as."""
    return 2 if question.plan.embedding_and_head_as_layers else 0


def _divisors(number: int, largest: int) -> list[int]:
    return [one for one in range(1, min(number, largest) + 1) if number % one == 0]


def _switch_values(axis: Axis, name: str) -> list[int]:
    if axis.values is None:
        return [0, 1, 2, 3] if name == "zero" else [1, 0]
    allowed = (0, 1, 2, 3) if name == "zero" else (True, False)
    for value in axis.values:
        if value not in allowed or isinstance(value, bool) != (name != "zero"):
            words = ", ".join(str(one).lower() for one in allowed)
            raise SpecError(f"{axis.place}: {axis.path}: expected {words}, got {value!r}")
    return [int(value) for value in axis.values]


def _recompute(columns: Mapping[str, Axis], question: Question) -> Switch:
    """Policies and the fractions of the layers that use them, as one axis without doubles."""
    own, policies = question.plan, policies_of(question)
    pairs = [(policies.index(own.recompute_policies[int(own.recompute[0])]), float(own.recompute_fraction[0]))]
    if RECOMPUTE in columns:
        pairs = [pair for value in _recompute_values(columns[RECOMPUTE], question) for pair in _pairs(value, policies)]
    if _POLICY in columns:
        values = _recompute_values(columns[_POLICY], question)
        pairs = [(policy_index(name, policies), fraction) for name in values for _, fraction in pairs[:1]]
    if _FRACTION in columns:
        axis = columns[_FRACTION]
        if axis.values is None:
            raise SpecError(f"{axis.place}: {axis.path}: list the fractions to try")
        fractions = [_fraction(axis, value) for value in axis.values]
        pairs = [(policy, fraction) for policy, _ in pairs for fraction in fractions]
    none = policies.index("none") if "none" in policies else -1
    unique = list(dict.fromkeys((policy, 1.0 if policy == none else fraction) for policy, fraction in pairs))
    return Switch({
        "recompute": np.array([policy for policy, _ in unique], dtype=np.int64),
        "recompute_fraction": np.array([fraction for _, fraction in unique], dtype=np.float64),
    })  # fmt: skip


def policies_of(question: Question) -> tuple[str, ...]:
    """Recompute policies of the software stack, in its order."""
    return tuple(question.problem.policies)


def _fraction(axis: Axis, value: Any) -> float:
    try:
        number = float(value) if isinstance(value, (int, float)) else float(str(value).rstrip(" %")) / 100.0
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise SpecError(f"{axis.place}: {axis.path}: expected fractions from 0 to 1, got {value!r}")
    return number


def _recompute_values(axis: Axis, question: Question) -> tuple[Any, ...]:
    """Policies as listed; ``auto``: those that differ in what they recompute of this model."""
    if axis.values is not None:
        return axis.values
    kept: dict[frozenset[str], str] = {}
    for name in policies_of(question):
        kept.setdefault(question.problem.policies[name], name)
    return tuple(kept.values())


def _pairs(value: Any, policies: Sequence[str]) -> Iterator[tuple[int, float]]:
    """Policy and fraction of one choice: a name, or ``{policy, fraction}``."""
    if not is_mapping(value):
        yield policy_index(str(value), policies), 1.0
        return
    unknown = set(value) - {"policy", "fraction"}
    if unknown:
        raise UsageError(f"strategy.recompute: in a search, write {{policy, fraction}}, not {min(unknown)!r}")
    yield policy_index(str(value.get("policy", "none")), policies), float(value.get("fraction", 1.0))
