"""What is kept outside of the devices: bytes there, and the transfers of a micro-batch and of an optimizer step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perfmodel.engine.parameters import Held, gathered_width, shards, trained
from perfmodel.engine.problem import DEVICE, HOST, NVME, Offload, Problem, total
from perfmodel.engine.section_costs import Sections
from perfmodel.engine.stages import PlanNumbers, StageClass, layer_sum
from perfmodel.equations import memory, overlap
from perfmodel.machine.machine import HostParameters, StoreParameters
from perfmodel.units import Numeric


@dataclass(frozen=True)
class StageOffload:
    """Transfers of one micro-batch of a stage: exposed time by pass, hidden time, and what would hide all of them."""

    forward: Numeric = 0.0
    backward: Numeric = 0.0
    overlapped: Numeric = 0.0
    bandwidth: Numeric = 0.0  # B/s


def kept_activations(sections: Sections, stage: StageClass, plan: PlanNumbers) -> Numeric:
    """Activations of the layers of a stage for one micro-batch [B]."""
    without, saved = (layer_sum(stage, sections, field) for field in ("saved_without_recompute", "saved"))
    return memory.recomputed_activation_bytes(without, saved, plan.recompute_fraction)


def stage_offload(
    problem: Problem, plan: PlanNumbers, held: Held, activations: Numeric, forward: Numeric, backward: Numeric
) -> StageOffload:
    """Transfers of one micro-batch, which go on while the passes compute (``forward``, ``backward`` [s]).

    Activations leave in the forward pass and come back in the other; weights come in both. The directions of the link
    do not disturb each other.
    """
    offload, host = problem.offload, problem.machine.host
    if offload is None or host is None or not problem.workload.training:
        return StageOffload()
    kept = memory.offloaded_bytes(activations, offload.activations)
    weights: Numeric = 0.0
    if offload.parameters != DEVICE:
        weights = total(
            memory.state_bytes(amount, gathered_width(problem.formats, one), shards(plan, one, 3.0))
            for one, amount in held
        )
    out = memory.transfer_time(kept, host.link, host.memory.bandwidth)
    load = memory.transfer_time(weights, host.link, store(host, offload.parameters).bandwidth)
    share = problem.machine.step.offload_exposed
    there, back = np.maximum(out, load), out + load
    first = overlap.gathered_layer_time(forward, there, share) - forward
    second = overlap.gathered_layer_time(backward, back, share) - backward
    tiny = np.finfo(float).tiny  # stages that a plan does not have compute nothing
    needed = np.maximum(
        memory.required_bandwidth(np.maximum(kept, weights), np.maximum(forward, tiny)),
        memory.required_bandwidth(kept + weights, np.maximum(backward, tiny)),
    )
    return StageOffload(first, second, np.maximum(there + back - first - second, 0.0), needed)


def store(host: HostParameters, tier: str) -> StoreParameters:
    """Where a tier keeps things; what stays on the device is never asked for and costs nothing."""
    return host.nvme if tier == NVME and host.nvme is not None else host.memory


def gradients_out(problem: Problem, plan: PlanNumbers, held: Held) -> Numeric:
    """Time to bring the gradients that a device owns to its host [s]."""
    width = problem.formats.state_gradients
    return _to_host(problem, total(memory.state_bytes(n, width, shards(plan, one, 1.0)) for one, n in trained(held)))


def weights_back(problem: Problem, plan: PlanNumbers, held: Held) -> Numeric:
    """Time to bring the weights that the host has updated back [s]."""
    moved = total(
        memory.state_bytes(n, gathered_width(problem.formats, one), shards(plan, one, 1.0)) for one, n in trained(held)
    )
    return _to_host(problem, moved)


def _to_host(problem: Problem, moved: Numeric) -> Numeric:
    host = problem.machine.host
    return 0.0 if host is None else memory.transfer_time(moved, host.link, host.memory.bandwidth)


def host_bytes(
    offload: Offload | None, tier: str, optimizer: Numeric, weights: Numeric, activations: Numeric
) -> Numeric:
    """Bytes of a device in a tier, from those of each kind that would be on it."""
    if offload is None:
        return 0.0
    kept: Numeric = memory.offloaded_bytes(activations, offload.activations) if tier == HOST else 0.0
    if offload.optimizer == tier:
        kept = kept + optimizer
    return kept + weights if offload.parameters == tier else kept
