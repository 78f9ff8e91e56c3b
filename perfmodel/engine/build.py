"""From a resolved scenario to the problem and its plan."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

from perfmodel.engine.description import describe
from perfmodel.engine.draft import FORWARD
from perfmodel.engine.parameters import classes_of
from perfmodel.engine.problem import (
    ContextParallel,
    Formats,
    LinearFormats,
    Offload,
    Orthogonal,
    Problem,
    Routing,
    Workload,
    call_each,
    call_stacked,
    keep,
    match_policies,
    name_step,
    trace_axes,
)
from perfmodel.errors import SpecError, UnsupportedOperator, nearest
from perfmodel.machine.machine import Machine
from perfmodel.machine.resolve import resolve
from perfmodel.parallel.collective_rules import CollectiveUse
from perfmodel.parallel.grid_rules import grid_collectives, grid_obstacles
from perfmodel.parallel.placement import infer_collectives, recurrences
from perfmodel.parallel.plan import Plan
from perfmodel.parallel.strategy import plan_from_strategy
from perfmodel.provenance import Sourced, Traced
from perfmodel.specs.resolve import ResolvedScenario
from perfmodel.units import Numeric
from perfmodel.workload import apply_transforms, build_graph
from perfmodel.workload.operators import CrossEntropy, OperatorGraph
from perfmodel.workload.transforms import add_adapters, keep_layers_wide

#: Workloads that one step of this engine can cost.
_TRAINING, _FINE_TUNING, _FORWARD = "training", "fine-tuning", "forward"


@dataclass(frozen=True)
class Question:
    """A scenario made ready: the problem, its plan and the specs that they came from."""

    resolved: ResolvedScenario
    problem: Problem
    plan: Plan

    def traced(self) -> Question:
        """The same question with traced leaves (one plan)."""
        return replace(self, problem=trace_problem(self.problem, self.resolved))

    @functools.cached_property
    def measured_at(self) -> Question | None:
        """The question of the configuration in which the measurement was made; None where it is this one."""
        return None if self.resolved.measured_at is None else build_question(self.resolved.measured_at)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the scenario and every spec behind it."""
        return self.resolved.sha256

    @functools.cached_property
    def inputs(self) -> tuple[Sourced, ...]:
        """Every number of the machine, each once."""
        return tuple({one.path: one for one in self.problem.machine.provenance.values()}.values())

    @functools.cached_property
    def describe(self) -> tuple[str, ...]:
        """The scenario in four lines."""
        return describe(self)


def build_question(resolved: ResolvedScenario) -> Question:
    """Build graph, machine and plan.

    Raises
    ------
    SpecError
        A needed number is missing, or a name (policy, transform) is unknown.
    UnsupportedOperator
        The model or the workload has parts without equations.
    """
    scenario = resolved.scenario
    graph = _graph(resolved)
    workload, pricing, site = _workload(resolved), scenario.pricing, scenario.site
    context = scenario.strategy.context_parallel
    if not workload.training:
        graph = without_loss(graph)
    machine = _machine(resolved)
    utilisation = 1.0 if pricing is None or pricing.utilisation is None else pricing.utilisation.value
    formats = _formats(resolved)
    problem = Problem(
        graph=graph,
        machine=machine,
        formats=formats,
        workload=workload,
        axes={name: float(size) for name, size in graph.axes.items()},
        collectives=_collectives(graph, workload, context.kind, regathers=resolved.software.saved_inputs == "sharded"),
        context=ContextParallel(context.kind, bool(context.balanced)),
        policies=match_policies(graph, resolved.software.recompute_policies),
        rebuilt=match_policies(graph, {"rebuilt": resolved.software.rebuilt_outputs})["rebuilt"],
        discarding=match_policies(graph, {"discarding": resolved.software.discarded_outputs})["discarding"],
        order=tuple(scenario.strategy.order),
        call=call_stacked,
        label=keep,
        utilisation=utilisation,
        devices=resolved.devices,
        bf16_peak=_bf16_peak(resolved),
        power_cap=None if site is None or site.power_cap is None else site.power_cap.value,
        routing=_routing(resolved),
        recurrences=recurrences(graph),
        grid_obstacles=grid_obstacles(graph),
        parameter_classes=classes_of(graph, formats),
        offload=_offload(resolved),
    )
    return Question(resolved, problem, _plan(resolved, workload, graph))


def replanned(question: Question, resolved: ResolvedScenario) -> Question:
    """The question of another strategy on the same graph and machine: its plan, and the order of its groups."""
    problem = replace(question.problem, order=tuple(resolved.scenario.strategy.order))
    return Question(resolved, problem, _plan(resolved, problem.workload, problem.graph))


def _machine(resolved: ResolvedScenario) -> Machine:
    scenario = resolved.scenario
    return resolve(
        resolved.cluster,
        resolved.accelerator,
        resolved.interconnects,
        resolved.efficiency_class,
        resolved.software,
        resolved.numerics,
        scenario.site,
        scenario.pricing,
        scenario.reliability,
        scenario.strategy.offload.tiers,
    )


def _collectives(
    graph: OperatorGraph, workload: Workload, context: str, *, regathers: bool
) -> tuple[CollectiveUse, ...]:
    """Those of the phases of the workload and of the kind of context parallelism; inputs that are kept travel once."""
    return tuple(
        use
        for use in (*infer_collectives(graph), *grid_collectives(graph))
        if (workload.training or use.phase == FORWARD)
        and use.context in ("", context)
        and (regathers or not use.regather)
    )


def _graph(resolved: ResolvedScenario) -> OperatorGraph:
    """The model as operators, changed as the scenario and its recipe say."""
    graph = apply_transforms(
        build_graph(resolved.model, attention_kernel=resolved.software.attention.kernel),
        [{"name": one.name, **one.options} for one in resolved.scenario.transforms],
    )
    lora, linear = resolved.scenario.workload.lora, resolved.numerics.linear
    if lora is not None:
        graph = add_adapters(graph, lora.rank, lora.targets, dropout=bool(lora.dropout))
    return graph if linear is None else keep_layers_wide(graph, linear.wide_layers)


def without_loss(graph: OperatorGraph) -> OperatorGraph:
    """The graph that ends at the logits: a forward pass on its own has nothing to differentiate."""
    kept = tuple(one for one in graph.epilogue.operators if not isinstance(one, CrossEntropy))
    return replace(graph, epilogue=replace(graph.epilogue, operators=kept))


def _bf16_peak(resolved: ResolvedScenario) -> float | None:
    rate = resolved.accelerator.compute.matrix.get("bf16")
    return None if rate is None else rate.peak.value


def _workload(resolved: ResolvedScenario) -> Workload:
    stated = resolved.scenario.workload
    if stated.kind not in (_TRAINING, _FINE_TUNING, _FORWARD):
        known = f"{_TRAINING}, {_FINE_TUNING}, {_FORWARD}"
        raise UnsupportedOperator(f"workload.kind: {stated.kind!r} has no equations yet; known: {known}")
    training = stated.kind != _FORWARD
    batch = stated.global_batch if training else stated.batch
    return Workload(
        kind=stated.kind,
        training=training,
        sequence_length=float(stated.sequence_length or 0),
        global_batch=int(batch or 0),
        tokens=None if stated.tokens is None else float(stated.tokens),
        mean_attended=stated.mean_attended_length,
    )


def _routing(resolved: ResolvedScenario) -> Routing:
    stated, moe = resolved.scenario.workload.routing, resolved.model.moe
    if moe is None:
        return Routing()
    limited = moe.groups is not None and moe.groups_per_token is not None
    return Routing(
        balance=stated.balance,
        imbalance=stated.imbalance,
        capacity_factor=stated.capacity_factor,
        groups=float(moe.groups or 1) if limited else 1.0,
        groups_per_token=float(moe.groups_per_token or 1) if limited else 1.0,
    )


def _formats(resolved: ResolvedScenario) -> Formats:
    numerics, known = resolved.numerics, resolved.formats
    width = known.bytes_per_value
    formats, state, compute = numerics.formats, numerics.state, numerics.compute
    return Formats(
        activations=width(formats.activations),
        weights=width(formats.weights),
        communication=width(formats.communication),
        gradient_reduction=width(formats.gradient_reduction),
        logits=width(formats.logits),
        dispatch=None if formats.dispatch is None else width(formats.dispatch),
        state_weights=state.weights.value,
        state_gradients=state.gradients.value,
        state_master=state.master_weights.value,
        state_moments=state.moments.value,
        compute={"matmul": compute.matmul, "attention": compute.attention, "head": compute.head},
        linear=_linear_formats(resolved),
        orthogonal=_orthogonal(resolved),
    )


def _offload(resolved: ResolvedScenario) -> Offload | None:
    stated = resolved.scenario.strategy.offload
    if not stated.tiers:
        return None
    share = 0.0 if stated.activations is None else stated.activations.value
    return Offload(stated.optimizer, stated.parameters, share)


def _orthogonal(resolved: ResolvedScenario) -> Orthogonal | None:
    known = resolved.formats
    stated = known.optimizers[resolved.numerics.optimizer].orthogonalise
    return None if stated is None else Orthogonal(float(stated.iterations), known.moment_bytes(stated.others))


def _linear_formats(resolved: ResolvedScenario) -> LinearFormats | None:
    linear, width = resolved.numerics.linear, resolved.formats.bytes_per_value
    if linear is None:
        return None
    activations = resolved.numerics.formats.activations
    return LinearFormats(
        inputs=width(linear.inputs),
        weights=width(linear.weights),
        gradients=width(linear.gradients),
        saved=width(linear.saved),
        gather=width(linear.gather),
        activation_inputs=width(linear.activation_inputs or activations),
        stored=linear.stored.value,
        quantise=linear.quantise.value,
        cast=linear.cast.value,
        saves_a_copy=linear.saved != activations,
    )


def _plan(resolved: ResolvedScenario, workload: Workload, graph: OperatorGraph) -> Plan:
    strategy, policies = resolved.scenario.strategy, resolved.software.recompute_policies
    recompute = strategy.recompute
    if recompute.policy not in policies:
        raise SpecError(
            f"strategy.recompute: {resolved.software.name} has no recompute policy {recompute.policy!r}; "
            f"policies: {', '.join(policies)}{nearest(recompute.policy, policies)}"
        )
    return plan_from_strategy(
        strategy,
        layers=graph.layers,
        global_batch=workload.global_batch,
        devices=resolved.devices,
        recompute_policies=(recompute.policy,),
    )


# -- traced ------------------------------------------------------------------------------------------
def trace_problem(problem: Problem, resolved: ResolvedScenario) -> Problem:
    """The problem with every number a traced leaf."""
    workload = problem.workload
    sequence = _scenario_leaf(workload.sequence_length, "workload.sequence_length", "1")
    attended = workload.mean_attended
    return replace(
        problem,
        machine=problem.machine.traced(),
        axes=trace_axes(problem.graph),
        formats=_trace_formats(problem.formats, resolved),
        offload=_trace_offload(problem.offload),
        workload=replace(
            workload,
            sequence_length=sequence,
            tokens=None if workload.tokens is None else _scenario_leaf(workload.tokens, "workload.tokens", "token"),
            mean_attended=None if attended is None else _scenario_leaf(attended, "workload.mean_attended_length", "1"),
        ),
        bf16_peak=_traced_peak(resolved),
        routing=_trace_routing(problem.routing, problem.graph.name),
        call=call_each,
        label=name_step,
    )


def _trace_routing(routing: Routing, model: str) -> Routing:
    stated = {
        name: None if value is None else _scenario_leaf(value, f"workload.routing.{name}", "1")
        for name, value in (("imbalance", routing.imbalance), ("capacity_factor", routing.capacity_factor))
    }
    known = {
        name: Traced.leaf(getattr(routing, name), f"model.moe.{name}", "1", model, "paper")
        for name in ("groups", "groups_per_token")
    }
    return replace(routing, **stated, **known)


def _traced_peak(resolved: ResolvedScenario) -> Any:
    rate = resolved.accelerator.compute.matrix.get("bf16")
    return None if rate is None else Traced.from_sourced(rate.peak)


def _scenario_leaf(value: Numeric, path: str, unit: str) -> Traced:
    return Traced.leaf(value, path, unit, "scenario", "user")


def _trace_formats(formats: Formats, resolved: ResolvedScenario) -> Formats:
    stored, known, state = resolved.numerics.formats, resolved.formats, resolved.numerics.state
    kept = {
        "state_weights": state.weights,
        "state_gradients": state.gradients,
        "state_master": state.master_weights,
        "state_moments": state.moments,
    }
    changes: dict[str, Any] = {name: Traced.from_sourced(one) for name, one in kept.items()}
    for role in ("activations", "weights", "communication", "gradient_reduction", "logits", "dispatch"):
        if getattr(stored, role) is None:
            continue
        bits = known.format(getattr(stored, role)).bits
        label = f"numerics.formats.{role} ({getattr(stored, role)})"
        changes[role] = Traced.leaf(getattr(formats, role), label, "B", bits.source, str(bits.basis))
    orthogonal = _trace_orthogonal(formats.orthogonal, resolved)
    return replace(formats, linear=_trace_linear(formats.linear, resolved), orthogonal=orthogonal, **changes)


def _trace_offload(offload: Offload | None) -> Offload | None:
    if offload is None:
        return None
    return replace(offload, activations=_scenario_leaf(offload.activations, "strategy.offload.activations", "1"))


def _trace_orthogonal(numbers: Orthogonal | None, resolved: ResolvedScenario) -> Orthogonal | None:
    if numbers is None:
        return None
    name = f"optimizers.{resolved.numerics.optimizer}.orthogonalise"
    changes: dict[str, Any] = {
        "iterations": Traced.leaf(numbers.iterations, f"{name}.iterations", "1", "muon-is-scalable", "paper"),
        "other_moments": Traced.leaf(numbers.other_moments, f"{name}.others", "B", "muon-is-scalable", "paper"),
    }
    return replace(numbers, **changes)


def _trace_linear(linear: LinearFormats | None, resolved: ResolvedScenario) -> LinearFormats | None:
    stated = resolved.numerics.linear
    if linear is None or stated is None:
        return None
    changes: dict[str, Any] = {
        name: Traced.from_sourced(getattr(stated, name)) for name in ("stored", "quantise", "cast")
    }
    names = {"activation_inputs": resolved.numerics.formats.activations} | stated.format_names()
    for role, name in names.items():
        bits = resolved.formats.format(name).bits
        label = f"numerics.linear.{role} ({name})"
        changes[role] = Traced.leaf(getattr(linear, role), label, "B", bits.source, str(bits.basis))
    return replace(linear, **changes)
