"""Groups on the network: straddling nodes, hierarchies, oversubscribed fabrics; bounds by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perfmodel.engine.networks import Group, collective_time
from perfmodel.engine.result import CommunicationRow, Result
from perfmodel.engine.session import LoadedScenario

Run = Callable[..., Result]
Ask = Callable[..., LoadedScenario]

#: Specs of the clusters: NVLink 4 and 400 Gb/s per device, per direction.
NVLINK, NIC = 450e9, 50e9


def row(result: Result, group: str, operation: str) -> CommunicationRow:
    """The largest collective of a group."""
    found = [one for one in result.communication if one.group == group and one.operation == operation]
    return max(found, key=lambda one: one.bytes_per_operation)


def seconds_per_byte(one: CommunicationRow) -> float:
    return one.time_s / one.count / one.bytes_per_operation


def test_a_group_in_one_node_stays_there(run: Run) -> None:
    inside = row(run("llama-8b", strategy__tp=8, strategy__sequence_parallel=True), "tensor", "all-gather")
    assert inside.tiers == ("node",)
    assert inside.binding_tier == "node"
    # 7 / 8 of the buffer over the links of a device; at most half as fast as the data sheet.
    ideal = 7 / 8 / NVLINK
    assert ideal < seconds_per_byte(inside) < 2 * ideal


@pytest.mark.parametrize("operation", ["all-gather", "reduce-scatter"])
def test_a_straddling_group_uses_the_ports_of_all_its_members(run: Run, operation: str) -> None:
    # 16 ranks on two nodes of 8: half of the buffer crosses, over eight ports; inside, 7 / 8 over the links.
    straddling = row(run("llama-8b", strategy__tp=16, strategy__sequence_parallel=True), "tensor", operation)
    together = row(run("llama-8b", strategy__tp=8, strategy__sequence_parallel=True), "tensor", operation)
    assert straddling.tiers == ("node", "fabric")
    hierarchy = max(7 / 8 / NVLINK, 1 / 2 / (8 * NIC))
    one_port = 1 / 2 / NIC
    assert seconds_per_byte(straddling) > seconds_per_byte(together)
    assert hierarchy < seconds_per_byte(straddling) < 3 * hierarchy
    assert seconds_per_byte(straddling) < one_port / 2


def test_a_group_of_one_device_per_node_has_one_port(run: Run) -> None:
    # Data parallelism outside of tp = 8: ranks 8 apart, one per node.
    data = row(run("llama-8b", strategy__tp=8, strategy__zero=1), "data", "reduce-scatter")
    assert data.ranks == 8
    assert data.tiers == ("fabric",)
    ideal = 7 / 8 / NIC
    assert ideal < seconds_per_byte(data) < 1.5 * ideal


def test_a_group_of_whole_nodes_has_all_ports(run: Run) -> None:
    # dp = 64 on 8 nodes: 7 / 8 crosses between nodes over eight ports per node.
    data = row(run("llama-8b", strategy__zero=1), "data", "reduce-scatter")
    assert data.tiers == ("node", "fabric")
    hierarchy = max(7 / 8 / NVLINK, 7 / 8 / (8 * NIC))
    assert hierarchy < seconds_per_byte(data) < 1.5 * hierarchy


def test_data_parallelism_across_an_oversubscribed_fabric(run: Run) -> None:
    # tp 8, pp 16: a replica has 128 devices, a pod 24 replicas; 64 replicas lie in three pods. In a pod every rank has
    # one port; between pods it has a seventh of one, which 22 or more ranks of a pod share.
    data = row(run("llama-405b"), "data", "reduce-scatter")
    assert data.tiers == ("pod", "fabric")
    pod, fabric = 21 / 22 / NIC, 2 / 3 / (22 * NIC / 7)
    assert pod > fabric
    assert data.binding_tier == "pod"
    assert pod < seconds_per_byte(data) < 1.5 * pod


def test_few_replicas_per_pod_feel_the_oversubscription(run: Run) -> None:
    # dp innermost but for tp would keep replicas together; here 1024 devices per replica leave three in a pod.
    wide = {
        "strategy__tp": 8,
        "strategy__pp": 128,
        "strategy__pipeline": {"virtual_stages": 1, "embedding_and_head_as_layers": True},
    }
    data = row(run("llama-405b", workload__global_batch=2048, **wide), "data", "reduce-scatter")
    assert data.ranks == 8
    assert data.binding_tier == "fabric"
    fabric = 2 / 3 / (3 * NIC / 7)
    assert fabric < seconds_per_byte(data) < 2.5 * fabric
    level = row(run("llama-405b", cluster__tiers__2__oversubscription=1, **wide), "data", "reduce-scatter")
    assert seconds_per_byte(level) < 0.7 * seconds_per_byte(data)


def test_the_order_of_the_groups_decides_where_they_lie(run: Run) -> None:
    near = row(run("llama-405b", strategy__order=["tp", "cp", "dp", "pp"]), "data", "reduce-scatter")
    far = row(run("llama-405b"), "data", "reduce-scatter")
    assert "fabric" not in near.tiers
    assert "fabric" in far.tiers


def test_bytes_of_the_gradient_reduction(run: Run) -> None:
    # 32-bit gradients of all parameters, 16-bit weights; hand-counted parameters of Llama 3.1 8B.
    result = run("llama-8b", strategy__zero=1)
    assert row(result, "data", "reduce-scatter").bytes_per_operation == pytest.approx(4 * 8_030_261_248, rel=1e-12)
    assert row(result, "data", "all-gather").bytes_per_operation == pytest.approx(2 * 8_030_261_248, rel=1e-12)


@pytest.mark.parametrize(
    ("sequence_parallel", "counts"), [(False, {"all-reduce": 4}), (True, {"all-gather": 6, "reduce-scatter": 4})]
)
def test_tensor_parallel_collectives_of_a_layer(run: Run, sequence_parallel: bool, counts: dict[str, int]) -> None:
    # Korthikanti et al. 2022, section 4.2.2: four all-reduces; or four all-gathers and reduce-scatters, and the two
    # gathers of saved inputs that their implementation repeats. One more layer, one micro-batch.
    def operations(layers: int) -> dict[str, float]:
        result = run(
            "llama-8b",
            strategy__tp=8,
            strategy__sequence_parallel=sequence_parallel,
            model__layers=layers,
            workload__global_batch=8,
        )
        size = 8192 * 4096 * 2.0
        return {
            one.operation: one.count
            for one in result.communication
            if one.group == "tensor" and one.bytes_per_operation == size
        }

    less, more = operations(8), operations(9)
    assert {name: more[name] - less[name] for name in more} == counts


def test_hybrid_sharding_reduces_gradients_between_replicas(run: Run) -> None:
    # Between the dp_replicate groups the gradients of a device must be all-reduced: 2 * 3 / 4 of an eighth of 32-bit
    # gradients over one port at least.
    result = run("llama-8b", strategy__zero=3, strategy__dp_shard=16, strategy__dp_replicate=4)
    data = sum(one.time_s for one in result.communication if one.group == "data")
    sharded_only = run("llama-8b", cluster__devices=16, workload__global_batch=32, strategy__zero=3)
    alone = sum(one.time_s for one in sharded_only.communication if one.group == "data")
    between = 2 * 3 / 4 * 4 * 8_030_261_248 / 16 / NIC
    assert data >= alone + between


def test_stages_exchange_one_activation_and_one_gradient_per_chunk(run: Run) -> None:
    # Every rank of the tensor-parallel group sends its part: b s h / t elements of two bytes, 2 v m times per step.
    send = row(run("llama-405b"), "pipeline", "send")
    assert send.count == 2 * 8 * 32
    assert send.bytes_per_operation == pytest.approx(8192 * 16384 * 2 / 8, rel=1e-12)
    assert send.tiers == ("pod",)
    wire = send.bytes_per_operation / NIC
    assert wire < send.time_s / send.count < 1.5 * wire


def test_context_parallelism_gathers_keys_and_values(run: Run) -> None:
    # Llama 3, section 3.3.2: keys and values of all tokens, forward and backward, and their gradients scattered.
    result = run("llama-8b", strategy__cp=4, strategy__tp=2, workload__global_batch=8)
    gather, scatter = (row(result, "context", operation) for operation in ("all-gather", "reduce-scatter"))
    assert gather.bytes_per_operation == scatter.bytes_per_operation == 8192 * 2 * 8 * 128 * 2 / 2
    assert (gather.count, scatter.count) == (2 * 32, 32)
    assert gather.ranks == 4


def test_hidden_communication_is_not_on_the_critical_path(run: Run) -> None:
    shown, hidden = (run("llama-405b", software__behaviour__tensor_exposed=part) for part in (1.0, 0.25))
    communication = "tensor_communication_s"
    total = [one.time["breakdown"][communication] + one.time["overlapped"][communication] for one in (shown, hidden)]
    assert total[0] == pytest.approx(total[1], rel=1e-12)
    assert hidden.time["overlapped"][communication] > shown.time["overlapped"][communication]
    assert hidden.time["step_s"] < shown.time["step_s"]


def test_communication_that_computation_cannot_hide_is_exposed(run: Run) -> None:
    # One micro-batch of one short sequence cannot hide the gradients of the model: the rest is waited for.
    short = {"workload__sequence_length": 512, "workload__global_batch": 64}
    slow = run("llama-8b", cluster__tiers__1__bandwidth="1 GB/s", **short)
    data, backward = slow.time["breakdown"]["data_communication_s"], slow.time["breakdown"]["backward_s"]
    all_data = data + slow.time["overlapped"]["data_communication_s"]
    assert all_data > 10 * backward
    assert data > 0.9 * all_data


def test_a_sharded_loss_reduces_three_numbers_per_token(run: Run) -> None:
    # Shoeybi et al. 2019 (arXiv 1909.08053), section 3: maximum, target logit and sum of exponentials in 32 bits.
    result = run("llama-8b", strategy__tp=8, strategy__sequence_parallel=True)
    (statistics,) = [one for one in result.communication if one.group == "tensor" and one.operation == "all-reduce"]
    assert statistics.bytes_per_operation == 4 * 8192
    assert statistics.count == 3 * result.plans[0]["num_microbatches"]


@pytest.mark.parametrize("operation", ["all-gather", "reduce-scatter"])
@pytest.mark.parametrize("size", [1e5, 1e8, 32e9])
def test_more_ranks_never_make_a_collective_faster(ask: Ask, operation: str, size: float) -> None:
    # A node of 8 and the fabric beyond: the part inside a node is not faster because there are more nodes.
    tiers = ask("llama-8b").question.problem.machine.tiers
    assert len(tiers) == 2
    times = [
        float(collective_time(operation, size, Group(ranks, (min(ranks, 8.0), ranks)), tiers))
        for ranks in (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    ]
    assert times == sorted(times)
    assert times[0] > 0.0
