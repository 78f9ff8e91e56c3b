"""The question in the form the engine computes with: graph, machine, formats and workload."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.machine.machine import Machine
from perfmodel.parallel.collective_rules import GATHERED, CollectiveUse
from perfmodel.provenance import Traced, as_traced
from perfmodel.units import Numeric
from perfmodel.workload.operators import EXPERTS, OperatorGraph, Storage

if TYPE_CHECKING:
    from perfmodel.engine.parameters import ParameterClass


@dataclass(frozen=True)
class LinearFormats:
    """Linear layers of a low-bit recipe: bytes per element (or per parameter) of what is in the low format.

    The meaning of each is that of :class:`~perfmodel.specs.numerics.LinearSpec`.
    """

    inputs: Numeric
    weights: Numeric
    gradients: Numeric
    saved: Numeric
    gather: Numeric
    activation_inputs: Numeric
    stored: Numeric
    quantise: Numeric
    cast: Numeric
    saves_a_copy: bool = True  # the input is kept in the low format, beside the one that another operator keeps


@dataclass(frozen=True)
class Orthogonal:
    """An optimizer that makes updates of hidden matrices orthogonal; ``other_moments``: bytes of other parameters."""

    iterations: Numeric
    other_moments: Numeric


@dataclass(frozen=True)
class Formats:
    """Bytes per element by role, compute data types by role, and state bytes per parameter.

    Attributes
    ----------
    activations, weights, communication, gradient_reduction, logits
        Bytes per element of saved and moved tensors.
    dispatch
        On the wire to experts; None: as ``communication``.
    state_weights, state_gradients, state_master, state_moments
        Bytes per parameter kept by the precision recipe.
    compute
        Data type by role: ``matmul``, ``attention``, ``head``.
    linear
        What a low-bit recipe does to linear layers; None in the others.
    orthogonal
        What Muon and its kind do; None of the other optimizers. Then ``state_moments`` are those of hidden matrices.
    """

    activations: Numeric
    weights: Numeric
    communication: Numeric
    gradient_reduction: Numeric
    logits: Numeric
    state_weights: Numeric
    state_gradients: Numeric
    state_master: Numeric
    state_moments: Numeric
    compute: Mapping[str, str]
    full_precision: Numeric = 4.0
    mask: Numeric = 1.0
    dispatch: Numeric | None = None
    linear: LinearFormats | None = None
    orthogonal: Orthogonal | None = None

    def on_the_wire(self, storage: Storage) -> Numeric:
        """Bytes per element of a tensor that a collective moves."""
        if storage == Storage.DISPATCH and self.dispatch is not None:
            return self.dispatch
        return self.communication if storage in (Storage.ACTIVATION, Storage.DISPATCH) else self.of(storage)

    def of(self, storage: Storage) -> Numeric:
        """Bytes per element of a tensor's storage role."""
        widths = {
            Storage.ACTIVATION: self.activations,
            Storage.FLOAT32: self.full_precision,
            Storage.MASK: self.mask,
            Storage.WEIGHT: self.weights,
        }
        return widths[storage]


#: Where something is kept.
DEVICE, HOST, NVME = "device", "host", "nvme"


@dataclass(frozen=True)
class Offload:
    """What is kept outside of the devices, see :class:`~perfmodel.specs.strategy.OffloadSpec`."""

    optimizer: str = DEVICE
    parameters: str = DEVICE
    activations: Numeric = 0.0


@dataclass(frozen=True)
class Workload:
    """What one step processes; ``training`` False means forward only."""

    kind: str
    training: bool
    sequence_length: Numeric
    global_batch: int
    tokens: Numeric | None
    mean_attended: Numeric | None = None

    @property
    def passes(self) -> float:
        """Passes over the model in which activations or their gradients move on."""
        return 2.0 if self.training else 1.0


@dataclass(frozen=True)
class Routing:
    """How tokens find their experts: the scenario's balance, and the groups that the router of the model knows.

    Attributes
    ----------
    balance
        ``balanced``, ``random`` or ``skewed``.
    imbalance
        Rows of the busiest rank over the mean, or None (from ``balance``).
    capacity_factor
        Rows that experts work on over their mean share, padded or dropped; None = dropless.
    groups, groups_per_token
        Groups of experts, and from how many of them a token may take experts (1 and 1 = no limit).
    """

    balance: str = "balanced"
    imbalance: Numeric | None = None
    capacity_factor: Numeric | None = None
    groups: Numeric = 1.0
    groups_per_token: Numeric = 1.0


@dataclass(frozen=True)
class ContextParallel:
    """How context-parallel ranks see each other's keys; ``balanced``: each has an early and a late slice."""

    kind: str = GATHERED
    balanced: bool = True


#: Names a step of a derivation: (value, name, unit) -> value.
Labeller = Callable[[Any, str, str], Any]
#: Calls one equation for many rows: stacked into columns, or one by one on traced operands.
Caller = Callable[[Callable[..., Any], Sequence[Mapping[str, Any]]], list[Any]]


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that does not depend on the plan; compared by identity."""

    graph: OperatorGraph
    machine: Machine
    formats: Formats
    workload: Workload
    axes: Mapping[str, Numeric]
    collectives: tuple[CollectiveUse, ...]
    policies: Mapping[str, frozenset[str]]
    rebuilt: frozenset[str]
    discarding: frozenset[str]
    order: tuple[str, ...]
    call: Caller
    label: Labeller
    utilisation: Numeric = 1.0  # fraction of the paid time that runs the job
    power_cap: float | None = None  # W, of the site
    offload: Offload | None = None
    parameter_classes: tuple[ParameterClass, ...] = ()  # that the model has, see perfmodel.engine.parameters
    devices: int = 0  # that the question uses
    bf16_peak: Numeric | None = None  # FLOP/s, for the variant of MFU that papers quote
    routing: Routing = Routing()
    context: ContextParallel = ContextParallel()
    grid_obstacles: tuple[str, ...] = ()  # operators of the layers that have no rule on a grid of the tensor group
    recurrences: tuple[str, ...] = ()  # operators along the sequence that context parallelism cannot cut

    @property
    def has_frozen(self) -> bool:
        """Some parameters are not trained."""
        return any(one.frozen for one in self.parameter_classes)

    @property
    def layers(self) -> int:
        return self.graph.layers

    @property
    def has_experts(self) -> bool:
        """The model is a mixture of experts."""
        return EXPERTS in self.axes


def differ_in_order_only(one: Problem, other: Problem) -> bool:
    """Both are made of the same parts, but for the order of the groups."""
    names = (item.name for item in fields(Problem) if item.name != "order")
    return all(getattr(one, name) is getattr(other, name) for name in names)


def total(values: Iterable[Numeric]) -> Numeric:
    """Sum in the given order: the same for numbers, columns and traced operands."""
    result: Numeric = 0.0
    for value in values:
        result = result + value
    return result


def match_policies(graph: OperatorGraph, policies: Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    """Names of the operators of the repeating blocks that each policy recomputes.

    A pattern matches as in a shell (``attention.core*``).
    """
    names = {operator.name for block in graph.blocks for operator in block.operators}
    return {
        policy: frozenset(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))
        for policy, patterns in policies.items()
    }


def call_stacked(function: Callable[..., Any], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Call an equation once for many rows of arguments; every row is a number or a column of one length.

    Arguments that are the same object in all rows are passed on as they are.
    """
    if not rows:
        return []
    arguments: dict[str, Any] = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        arguments[name] = first if all(value is first for value in values) else _stack(values)
    result = function(**arguments)
    width = max(np.size(result) // len(rows) if np.ndim(result) == 2 else np.size(result), 1)
    return list(np.broadcast_to(result, (len(rows), width)))


def _stack(values: Sequence[Any]) -> np.ndarray:
    sizes = {1 if type(value) is float else getattr(value, "size", 1) for value in values}
    stacked = np.empty((len(values), max(sizes)))
    for position, value in enumerate(values):
        stacked[position] = value
    return stacked


def keep(value: Any, _: str, __: str) -> Any:
    """The labeller of an ordinary evaluation."""
    return value


def name_step(value: Any, name: str, unit: str) -> Any:
    """The labeller of a derivation."""
    return as_traced(value).named(name, unit)


def model_number(problem: Problem, value: float, name: str) -> Any:
    """A number that the graph states beside its axes (a window, a count): a leaf of the model in a derivation."""
    if problem.label is keep:
        return value
    return Traced.leaf(value, f"model.{name}", "", problem.graph.name, "paper")


def call_each(function: Callable[..., Any], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Call an equation row by row: the derivation of one plan, with traced operands."""
    return [function(**row) for row in rows]


def trace_axes(graph: OperatorGraph) -> dict[str, Any]:
    """The sizes of the model's axes as traced leaves."""
    return {
        name: Traced.leaf(float(size), f"model.{name}", "", graph.name, "paper") for name, size in graph.axes.items()
    }
