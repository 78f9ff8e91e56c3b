"""Groups on the network: straddling nodes, hierarchies, oversubscribed fabrics; bounds by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from perfmodel.engine.result import CommunicationRow, Result

Run = Callable[..., Result]

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
    wide = {"strategy__tp": 8, "strategy__pp": 128, "strategy__pipeline": {"virtual_stages": 1, "embedding_and_head_as_layers": True}}
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


@pytest.mark.parametrize(("sequence_parallel", "counts"), [(False, {"all-reduce": 4}), (True, {"all-gather": 6, "reduce-scatter": 4})])
def test_tensor_parallel_collectives_of_a_layer(run: Run, sequence_parallel: bool, counts: dict[str, int]) -> None:
    # Korthikanti et al. 2022, section 4.2.2: four all-reduces, or four all-gathers and four reduce-scatters, and the two
    # gathers of saved inputs that their implementation repeats. One more layer, one micro-batch.
    def operations(layers: int) -> dict[str, float]:
        result = run(
            "llama-8b", strategy__tp=8, strategy__sequence_parallel=sequence_parallel, model__layers=layers, workload__global_batch=8
        )
        size = 8192 * 4096 * 2.0
        return {
            one.operation: one.count for one in result.communication if one.group == "tensor" and one.bytes_per_operation == size
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
