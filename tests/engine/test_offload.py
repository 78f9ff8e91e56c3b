"""Offloading: bytes move and do not vanish, transfers take what the link takes, hosts have room of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perfmodel.engine.result import Result
from perfmodel.engine.session import LoadedScenario
from perfmodel.errors import SpecError

Ask = Callable[..., LoadedScenario]
Run = Callable[..., Result]
PARAMETERS = 8_030_261_248
NAME = "llama-8b-offload"
DEVICES = 8


def offloaded(run: Run, offload: dict[str, Any], **changes: Any) -> Result:
    return run(NAME, strategy__offload=offload, **changes)


@pytest.mark.parametrize("tier", ["host", "nvme"])
def test_what_leaves_the_device_is_in_the_other_place(run: Run, tier: str) -> None:
    kept, moved = (offloaded(run, one) for one in ({}, {"optimizer": tier, "parameters": tier}))
    assert kept.memory["breakdown"]["optimizer_bytes"] == pytest.approx(12 * PARAMETERS / DEVICES, rel=1e-12)
    assert moved.memory["breakdown"]["optimizer_bytes"] == moved.memory["breakdown"]["weights_bytes"] == 0.0
    assert moved.memory[f"{tier}_bytes"] == pytest.approx(14 * PARAMETERS / DEVICES, rel=1e-12)
    gone = kept.memory["peak_bytes"] - moved.memory["peak_bytes"]
    assert gone == pytest.approx(moved.memory[f"{tier}_bytes"], rel=1e-12)


def test_activations_are_shared_out(run: Run) -> None:
    kept, half, all_out = (offloaded(run, {"optimizer": "host", "activations": share}) for share in (0.0, 0.5, 1.0))
    state = 12 * PARAMETERS / DEVICES
    out = [one.memory["host_bytes"] - state for one in (kept, half, all_out)]
    assert out[0] == 0.0
    assert out[2] == pytest.approx(2 * out[1], rel=1e-12)
    on_device = [one.memory["breakdown"]["activations_bytes"] for one in (kept, all_out)]
    assert on_device[0] - on_device[1] == pytest.approx(out[2], rel=1e-12)


def test_nothing_is_said_about_hosts_that_are_not_used(run: Run) -> None:
    result = offloaded(run, {})
    assert set(result.memory) == {"peak_bytes", "capacity_bytes", "breakdown", "peak_rank"}
    assert result.time["breakdown"]["offload_s"] == 0.0


def test_the_host_updates_at_the_bandwidth_of_its_memory(run: Run) -> None:
    # 30 bytes per parameter in one pass, 1.7 passes of this stack, 40 GB/s; 24 bytes in and out of storage at 5 GB/s.
    host, storage = (offloaded(run, {"optimizer": tier}).time["breakdown"]["optimizer_s"] for tier in ("host", "nvme"))
    owned = PARAMETERS / DEVICES
    assert host == pytest.approx(1.7 * 30 * owned / 40e9, rel=1e-9)
    assert storage == pytest.approx(max(12 * owned / 5e9, 1.7 * 30 * owned / 40e9), rel=1e-9)


def test_hidden_and_exposed_transfers_are_all_transfers(run: Run) -> None:
    result = offloaded(run, {"optimizer": "host"})
    owned = PARAMETERS / DEVICES
    once = (4 + 2) * owned / 40e9  # gradients out, weights back; the memory of the host is slower than the link
    found = result.time["breakdown"]["offload_s"] + result.time["overlapped"]["offload_s"]
    assert found == pytest.approx(once, rel=1e-9)


def test_a_slow_link_is_what_limits_the_step(run: Run) -> None:
    steps = []
    for rate in ("1 GB/s", "8 GB/s", "63 GB/s", "1000 GB/s"):
        changes = {"cluster__accelerator__host_link__bandwidth": rate, "cluster__host__memory__bandwidth": "1 TB/s"}
        steps.append(offloaded(run, {"parameters": "host", "activations": 1.0}, **changes))
    times = [one.time["step_s"] for one in steps]
    assert times == sorted(times, reverse=True)
    # At 1 GB/s the weights of two passes and the activations both ways are the time of a micro-batch.
    moved = steps[0].memory["host_bytes"]
    micro_batches = steps[0].plans[0]["num_microbatches"]
    weights = 2 * PARAMETERS / DEVICES
    activations = moved - weights
    slowest = max(weights, activations) + weights + activations
    assert times[0] == pytest.approx(micro_batches * slowest / 1e9, rel=0.25)
    needed = steps[0].memory["offload_required_bandwidth"]
    assert needed > 1e9
    assert times[3] < 1.1 * offloaded(run, {}).time["step_s"]


def test_more_than_the_host_has_is_not_feasible(run: Run) -> None:
    result = offloaded(run, {"optimizer": "host"}, cluster__host__memory__capacity="5 GB")
    assert not result.feasible
    assert result.reasons[0].startswith("host memory: a device keeps")
    assert offloaded(run, {"optimizer": "nvme"}, cluster__host__memory__capacity="5 GB").feasible


def test_offloading_makes_a_model_fit(run: Run) -> None:
    shape = {"model": "llama-3.1-70b", "strategy__tp": 8, "strategy__sequence_parallel": True}
    shape |= {"strategy__recompute": "full"}
    assert not offloaded(run, {}, **shape).feasible
    assert offloaded(run, {"optimizer": "nvme"}, **shape).feasible


def test_parameters_elsewhere_need_zero_3(run: Run) -> None:
    result = run(NAME, strategy__zero=1)
    assert not result.feasible
    assert result.reasons[0].startswith("offload.parameters = nvme needs zero = 3")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cluster__host__nvme": {}}, r"does not state host\.nvme\.capacity.*write `host: \{nvme: "),
        ({"strategy__offload": {"optimizer": "disk"}}, "optimizer"),
        ({"strategy__offload": {"activations": 1.5}}, "activations"),
    ],
)
def test_mistakes(run: Run, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        run(NAME, **changes)
