"""Numeric result keys of composed plans, by their dotted names in the interface: one place, all widths.

``headline_columns`` serves a million plans, the result of one plan, and (with traced operands) ``explain``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from perfmodel.engine.composition import Evaluation
from perfmodel.engine.economics import TOKENS_PER_MILLION, Economics
from perfmodel.engine.model_flop import model_flop_per_token, parameter_count
from perfmodel.engine.problem import DEVICE, HOST, NVME, Problem, total
from perfmodel.engine.stages import PlanNumbers, layer_sum, stage_sum
from perfmodel.equations import memory, metrics
from perfmodel.parallel.plan import Plan
from perfmodel.parallel.rules import RuleOutcome, integer_rules, violated
from perfmodel.units import Numeric


def usable_memory(problem: Problem) -> Numeric:
    """Bytes of a device that the stack can use."""
    return problem.machine.memory_capacity - problem.machine.step.reserved_memory


def result_numbers(problem: Problem, evaluation: Evaluation, keys: Collection[str] | None = None) -> dict[str, Numeric]:
    """Numeric keys of the result that depend on the plan; absent where they do not apply.

    ``keys``: what is wanted (more may come); None for all of them.
    """
    tokens = _tokens(problem, evaluation.numbers)
    parts: tuple[tuple[tuple[str, ...], Callable[[], dict[str, Numeric]]], ...] = (
        (("time.step_s", "step."), lambda: _step(evaluation, tokens)),
        (("time.breakdown.", "time.overlapped."), lambda: _time(evaluation)),
        (("memory.peak_bytes", "memory.capacity_bytes"), lambda: _peak(problem, evaluation)),
        (("memory.",), lambda: _memory(problem, evaluation)),
        (("energy.",), lambda: _energy(evaluation, tokens)),
        (("metrics.",), lambda: _metrics(problem, evaluation, tokens)),
        (PRICED, lambda: _priced(problem, evaluation, keys)),
    )
    found: dict[str, Numeric] = {}
    for prefixes, compute in parts:
        if keys is None or any(key.startswith(prefixes) and key not in found for key in keys):
            found |= compute()
    return found


def _priced(problem: Problem, evaluation: Evaluation, keys: Collection[str] | None) -> dict[str, Numeric]:
    return priced_numbers(problem, evaluation.numbers, evaluation.step.step, lambda: evaluation.energy.total, keys)


def priced_numbers(
    problem: Problem,
    plan: PlanNumbers,
    step: Numeric,
    energy: Callable[[], Numeric],
    keys: Collection[str] | None = None,
) -> dict[str, Numeric]:
    """Keys of money, carbon and the run: they follow from time [s] and energy [J] of a step, by prices and failures."""
    tokens = _tokens(problem, plan)
    totals = _economics(problem, plan, step, energy, tokens)
    found: dict[str, Numeric] = {}
    for key, compute in _MONEY.items():
        value = compute(totals) if keys is None or key in keys else None
        if value is not None:
            found[key] = value
    return found


def _tokens(problem: Problem, plan: PlanNumbers) -> Numeric:
    """Tokens of a step."""
    return plan.dp * plan.micro_batch * plan.num_microbatches * problem.workload.sequence_length


def memory_fits(problem: Problem, evaluation: Evaluation) -> Any:
    """Plans whose device, host and storage hold what they keep."""
    fits = evaluation.peak_bytes <= usable_memory(problem)
    outside = _outside(problem, evaluation)
    for name in (HOST, NVME):
        if f"memory.{name}_bytes" in outside:
            fits = fits & (outside[f"memory.{name}_bytes"] <= outside[f"memory.{name}_capacity_bytes"])
    return fits


def _step(evaluation: Evaluation, tokens: Numeric) -> dict[str, Numeric]:
    step = evaluation.step.step
    return {"time.step_s": step, "step.tokens": tokens, "step.time": step}


#: Keys of ``time.breakdown`` and ``time.overlapped`` that are those of a micro-batch on the critical stage.
_PASSES = {"forward_s": "forward", "backward_s": "backward", "recompute_s": "recompute"}
_COMMUNICATION = {f"{kind}_communication_s": kind for kind in ("tensor", "context", "expert", "pipeline")}


def _time(evaluation: Evaluation) -> dict[str, Numeric]:
    step = evaluation.step
    parts = {key: step.of_all_microbatches(name) for key, name in (_PASSES | _COMMUNICATION).items()}
    parts |= {
        "data_communication_s": step.data,
        "pipeline_bubble_s": step.bubble,
        "optimizer_s": step.optimizer,
        "offload_s": step.offload,
        "overhead_s": step.overhead,
    }
    hidden = {key: step.of_all_microbatches(f"{name}_overlapped") for key, name in _COMMUNICATION.items()}
    hidden |= {"data_communication_s": step.data_overlapped, "offload_s": step.offload_overlapped}
    named = {f"time.breakdown.{name}": value for name, value in parts.items()}
    return named | {f"time.overlapped.{name}": value for name, value in hidden.items()}


#: Keys of ``memory.breakdown`` and the field of a footprint behind each.
MEMORY_PARTS = {
    "weights_bytes": "weights",
    "gradients_bytes": "gradients",
    "optimizer_bytes": "optimizer",
    "activations_bytes": "activations",
    "logits_bytes": "logits",
    "communication_buffers_bytes": "communication_buffers",
    "workspace_bytes": "workspace",
}


def _peak(problem: Problem, evaluation: Evaluation) -> dict[str, Numeric]:
    return {"memory.peak_bytes": evaluation.peak_bytes, "memory.capacity_bytes": usable_memory(problem)}


def _memory(problem: Problem, evaluation: Evaluation) -> dict[str, Numeric]:
    parts = {f"memory.breakdown.{key}": getattr(evaluation.peak, name) for key, name in MEMORY_PARTS.items()}
    return {"memory.breakdown.kv_cache_bytes": 0.0} | parts | _outside(problem, evaluation)


def _outside(problem: Problem, evaluation: Evaluation) -> dict[str, Numeric]:
    """What a device keeps in its host and in storage, of how much; nothing in a plan that keeps nothing there."""
    host = problem.machine.host
    if problem.offload is None or host is None:
        return {}
    stores = {HOST: host.memory} | ({} if host.nvme is None else {NVME: host.nvme})
    found: dict[str, Numeric] = {"memory.offload_required_bandwidth": evaluation.step.critical.offload_bandwidth}
    for name, store in stores.items():
        found[f"memory.{name}_bytes"] = functools.reduce(
            np.maximum, (getattr(one, name) for one in evaluation.footprints)
        )
        found[f"memory.{name}_capacity_bytes"] = store.capacity
    return found


#: Keys of ``energy.breakdown`` and the field of a step energy behind each.
ENERGY_PARTS = {
    "compute_j": "compute",
    "vector_j": "vector",
    "memory_j": "memory",
    "links_j": "links",
    "idle_j": "idle",
    "host_j": "host",
    "network_j": "network",
    "cooling_j": "cooling",
}


def _energy(evaluation: Evaluation, tokens: Numeric) -> dict[str, Numeric]:
    energy = evaluation.energy
    return {
        "energy.per_step_j": energy.total,
        "energy.per_token_j": metrics.energy_per_token(energy.total, tokens),
        "energy.average_power_w": energy.average_power,
        "energy.peak_power_w": energy.peak_power,
        "energy.device_average_power_w": energy.device_average_power,
    } | {f"energy.breakdown.{key}": getattr(energy, name) for key, name in ENERGY_PARTS.items()}


def _metrics(problem: Problem, evaluation: Evaluation, tokens: Numeric) -> dict[str, Numeric]:
    numbers, step = evaluation.numbers, evaluation.step.step
    flop = model_flop_per_token(problem)
    peak = problem.machine.matmul[problem.formats.compute["matmul"]].peak
    rate = metrics.tokens_per_second(tokens, step)

    def utilisation(per_token: Numeric) -> Numeric:
        return metrics.model_flop_utilisation(per_token * tokens, step, numbers.devices, peak)

    variants = {"full_attention": utilisation(flop.full_attention)}
    known = problem.machine.matmul.get("bf16")
    bf16_peak = problem.bf16_peak if known is None else known.peak
    if bf16_peak is not None:
        variants["bf16_peak"] = metrics.model_flop_utilisation(flop.causal * tokens, step, numbers.devices, bf16_peak)
    return {
        "metrics.tokens_per_s": rate,
        "metrics.tokens_per_s_per_device": rate / numbers.devices,
        "metrics.mfu": utilisation(flop.causal),
        "metrics.hfu": metrics.hardware_flop_utilisation(_executed_flop(evaluation), step, numbers.devices, peak),
        "metrics.model_flop_per_token": flop.causal,
    } | {f"metrics.mfu_variants.{name}": value for name, value in variants.items()}


def _executed_flop(evaluation: Evaluation) -> Numeric:
    """FLOP that the matrix units of all devices execute in a step: recomputation and masked halves included."""
    numbers, sections = evaluation.numbers, evaluation.sections
    once = total(one.multiplicity * stage_sum(one, sections, "matrix_flop") for one in evaluation.classes)
    repeated = total(one.multiplicity * layer_sum(one, sections, "recompute_flop") for one in evaluation.classes)
    again = numbers.recompute_fraction * repeated
    return (once + again) * numbers.num_microbatches * numbers.tp * numbers.cp * numbers.dp


def _economics(
    problem: Problem, plan: PlanNumbers, step: Numeric, energy: Callable[[], Numeric], tokens: Numeric
) -> Economics:
    formats = problem.formats
    stored = formats.state_weights + formats.state_master + formats.state_moments
    # A checkpoint of a fine-tuning holds what is trained.
    checkpoint = memory.state_bytes(parameter_count(problem, trained_only=problem.has_frozen), stored, 1.0)
    return Economics(problem, plan.devices, step, energy, tokens, checkpoint)


def _per_million(totals: Economics) -> Numeric | None:
    if totals.step_usd is None:
        return None
    return metrics.cost_per_token(totals.step_usd, totals.tokens_per_step) * TOKENS_PER_MILLION


#: Keys of money, carbon and the run, and what is behind each.
_MONEY: Mapping[str, Callable[[Economics], Numeric | None]] = {
    "money.per_step_usd": lambda totals: totals.step_usd,
    "money.per_million_tokens_usd": _per_million,
    "carbon.per_step_kg": lambda totals: totals.step_kg,
    "run.tokens": lambda totals: totals.problem.workload.tokens,
    "run.days": lambda totals: totals.days,
    "run.device_hours": lambda totals: totals.device_hours,
    "run.goodput": lambda totals: totals.goodput,
    "run.checkpoint_interval_s": lambda totals: totals.checkpoint_interval,
    "run.energy_kwh": lambda totals: totals.energy_kwh,
    "run.usd": lambda totals: totals.run_usd,
    "run.kg_co2e": lambda totals: totals.run_kg,
}
#: Beginnings of these keys: they follow from time and energy of a step, by prices and failures.
PRICED = ("money.", "carbon.", "run.")


def plan_rules(problem: Problem, plan: Plan, requested_devices: Any) -> tuple[RuleOutcome, ...]:
    """The integer rules of the plans."""
    axes = problem.graph.axes
    return integer_rules(
        plan,
        layers=problem.layers,
        heads=axes.get("heads", 0),
        kv_heads=axes.get("kv_heads", 0),
        ffn=axes.get("ffn", 0),
        vocabulary=axes.get("vocabulary", 0),
        hidden=axes.get("hidden", 0),
        sequence_length=int(np.max(_plain(problem.workload.sequence_length))),
        global_batch=problem.workload.global_batch,
        cluster_devices=problem.machine.devices,
        requested_devices=requested_devices,
        experts=axes.get("experts", 0),
        expert_ffn=axes.get("expert_ffn", 0),
        shared_ffn=axes.get("shared_ffn", 0),
        context=problem.context.kind,
        balanced=problem.context.balanced,
        recurrences=problem.recurrences,
        mixer_heads=axes.get("mixer_heads", axes.get("inner", 0)),
        mixer_groups=axes.get("mixer_groups", 0),
        full_kv_heads=axes.get("full_kv_heads", 0),
        grid_obstacles=problem.grid_obstacles,
        parameters_at=DEVICE if problem.offload is None else problem.offload.parameters,
    )


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def headline_columns(problem: Problem, plan: Plan, evaluation: Evaluation, devices: Any) -> dict[str, np.ndarray]:
    """Numeric keys as columns of the length of the plan, and ``feasible`` (rules kept and memory fits)."""
    numbers: Mapping[str, Numeric] = result_numbers(problem, evaluation)
    columns = {
        key: np.broadcast_to(np.asarray(value, dtype=np.float64), (len(plan),)) for key, value in numbers.items()
    }
    fits = np.broadcast_to(memory_fits(problem, evaluation), (len(plan),))
    return columns | {"feasible": ~violated(plan_rules(problem, plan, devices)) & fits}
