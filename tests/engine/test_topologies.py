"""Networks that are not one switch: limits in which they become one, bounds by counting links, monotone times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from perfmodel.engine.networks import Group, collective_time, send_time
from perfmodel.equations import collective_topologies, collectives
from perfmodel.machine.link_graph import ring_counts
from perfmodel.machine.machine import DirectParameters, NetworkTier

GIB = 2.0**30
OPERATIONS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all")
#: Hybrid cube mesh of a DGX-1V: links per pair of devices.
CUBE_MESH = ((0, 1, 1), (0, 2, 1), (0, 3, 2), (0, 4, 2), (1, 2, 2), (1, 3, 1), (1, 5, 2), (2, 3, 2), (2, 6, 1),
             (3, 7, 1), (4, 5, 1), (4, 6, 1), (4, 7, 2), (5, 6, 2), (5, 7, 1), (6, 7, 2))  # fmt: skip


def node(**changes: Any) -> NetworkTier:
    """Eight devices on a switch."""
    tier = NetworkTier(
        name="node", kind="scale-up", devices=8.0, bandwidth=300e9, base_latency=8e-6, step_latency=1e-6,
        link_fraction=0.8, copy_fraction=2.5, fill_time=5e-6, hop_latency=None, hop_growth=None, hop_half_size=None,
        tree_fraction=None, tree_hop_latency=None, in_network_reduction=0.0, reduction_latency=None,
        reduction_fraction=None, reduction_minimum_ranks=None, peer_fraction=None, message_latency=None,
        energy_per_byte=1e-11,
    )  # fmt: skip
    return replace(tier, **changes)


def fabric(**changes: Any) -> NetworkTier:
    """One port of 25 GB/s per device between nodes."""
    tier = NetworkTier(
        name="fabric", kind="scale-out", devices=4096.0, bandwidth=25e9, base_latency=14e-6, step_latency=0.8e-6,
        link_fraction=0.9, copy_fraction=None, fill_time=None, hop_latency=5e-6, hop_growth=50e-6, hop_half_size=1e5,
        tree_fraction=0.6, tree_hop_latency=22e-6, in_network_reduction=0.0, reduction_latency=None,
        reduction_fraction=None, reduction_minimum_ranks=None, peer_fraction=None, message_latency=None,
        energy_per_byte=6e-11,
    )  # fmt: skip
    return replace(tier, **changes)


def inside(operation: str, size: float, ranks: float, tier: NetworkTier) -> float:
    return float(collective_time(operation, size, Group(ranks, (ranks,)), (tier,)))


def across(operation: str, size: float, ranks: float, members: tuple[float, ...], *tiers: NetworkTier) -> float:
    return float(collective_time(operation, size, Group(ranks, members), tiers))


# -- torus -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS[:3])
@pytest.mark.parametrize("size", [1e3, 1e6, 1e9])
def test_a_torus_of_one_dimension_is_a_ring(operation: str, size: float) -> None:
    ring = node(devices=16.0, topology="torus", dimensions=(16,))
    assert inside(operation, size, 16.0, ring) == inside(operation, size, 16.0, node(devices=16.0))


def test_a_group_along_one_dimension_uses_two_of_the_six_links() -> None:
    # Scaling book, chapter Sharded Matrices: an all-gather takes the bytes over the links of the axes it runs along.
    cube = node(devices=512.0, topology="torus", dimensions=(8, 8, 8), fill_time=0.0, copy_fraction=np.inf,
                base_latency=0.0, step_latency=0.0, link_fraction=1.0, bandwidth=600e9)  # fmt: skip
    for ranks, links in ((8.0, 2.0), (64.0, 4.0), (512.0, 6.0)):
        expected = (ranks - 1.0) / ranks * GIB / (links * 100e9)
        assert inside("all-gather", GIB, ranks, cube) == pytest.approx(expected, rel=1e-12)


def test_latency_of_a_torus_grows_with_its_edge_and_not_with_its_devices() -> None:
    cube = node(devices=4096.0, topology="torus", dimensions=(16, 16, 16))
    small = inside("all-gather", 1.0, 4096.0, cube)
    assert small < 8e-6 + 3 * 15 * 1e-6 + 1e-6
    assert inside("all-gather", 1.0, 4096.0, node(devices=4096.0)) > 4e-3


def test_an_all_to_all_of_a_torus_is_bound_by_its_bisection() -> None:
    # Half of the data of one half crosses to the other: N / 2 ranks send S / 2 each over 2 N / e links each way.
    cube = node(devices=4096.0, topology="torus", dimensions=(16, 16, 16), fill_time=0.0, copy_fraction=np.inf,
                base_latency=0.0, step_latency=0.0, link_fraction=1.0, bandwidth=600e9)  # fmt: skip
    crossing, links = 4096 / 2 * GIB / 2, 2 * 4096 / 16
    assert inside("all-to-all", GIB, 4096.0, cube) == pytest.approx(crossing / (links * 100e9), rel=1e-12)


def test_a_message_on_a_torus_takes_one_link() -> None:
    cube = node(devices=512.0, topology="torus", dimensions=(8, 8, 8), base_latency=0.0, link_fraction=1.0,
                bandwidth=600e9)  # fmt: skip
    assert float(send_time(GIB, Group(8.0, (8.0,)), (cube,))) == pytest.approx(GIB / 100e9)


# -- pairs, graphs of links, hosts ---------------------------------------------------------------------------


def test_pair_links_limit_small_groups_and_not_large_ones() -> None:
    mesh, switch = node(bandwidth=448e9, pair_bandwidth=64e9), node(bandwidth=448e9)
    assert inside("all-gather", GIB, 8.0, mesh) == inside("all-gather", GIB, 8.0, switch)
    assert inside("all-gather", GIB, 2.0, mesh) > 6.5 * inside("all-gather", GIB, 2.0, switch)


def test_rings_of_the_hybrid_cube_mesh() -> None:
    # Published all-reduces of 2 to 8 V100 follow 1, 2, 4, 2, 2, 4 and 6 rings (vTrain measurements on a DGX-1V).
    assert ring_counts(CUBE_MESH, 8)[2:] == (1.0, 2.0, 4.0, 2.0, 2.0, 4.0, 6.0)


@pytest.mark.parametrize("count", [2, 3, 4, 8])
def test_a_full_mesh_of_single_links_holds_as_many_rings_as_its_degree_allows(count: int) -> None:
    edges = [(first, second, 1) for first in range(count) for second in range(first)]
    expected = 1 if count == 2 else 2 * ((count - 1) // 2)  # Walecki: the complete graph decomposes into cycles
    assert ring_counts(edges, count)[count] == expected


def test_a_graph_of_links_decides_the_bandwidth() -> None:
    cube = node(link_bandwidth=25e9, rings=ring_counts(CUBE_MESH, 8))
    switch = node(bandwidth=150e9)
    assert inside("all-reduce", GIB, 8.0, cube) == inside("all-reduce", GIB, 8.0, switch)
    assert inside("all-reduce", GIB, 5.0, cube) > 2.5 * inside("all-reduce", GIB, 5.0, switch)


def test_devices_share_what_their_host_carries() -> None:
    host = node(bandwidth=30e9, shared_bandwidth=24e9, switch_devices=2.0, fill_time=0.0, copy_fraction=np.inf,
                base_latency=0.0, step_latency=0.0, link_fraction=1.0)  # fmt: skip
    assert inside("all-gather", GIB, 2.0, host) == pytest.approx(0.5 * GIB / 30e9)
    assert inside("all-gather", GIB, 4.0, host) == pytest.approx(0.75 * GIB / (24e9 / 8))


def test_messages_to_one_peer_may_not_fill_the_links() -> None:
    tier = node(peer_fraction=0.4, message_latency=2e-6)
    plain = node()
    assert inside("all-to-all", GIB, 2.0, tier) > 1.5 * inside("all-to-all", GIB, 2.0, plain)
    assert inside("all-to-all", GIB, 8.0, tier) == pytest.approx(inside("all-to-all", GIB, 8.0, plain) + 2e-6, rel=1e-9)
    assert inside("all-reduce", GIB, 2.0, tier) == inside("all-reduce", GIB, 2.0, plain)


# -- fat tree, dragonfly, several nodes --------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fat_tree_without_taper_is_one_switch(operation: str) -> None:
    # 256 devices in pods of 64: with full bandwidth between pods the pods do not show.
    tiers = node(), fabric(devices=64.0), fabric(name="spine")
    split = across(operation, GIB, 256.0, (8.0, 64.0, 256.0), *tiers)
    assert split == across(operation, GIB, 256.0, (8.0, 256.0), node(), fabric())
    tapered = across(operation, GIB, 256.0, (8.0, 64.0, 256.0), *tiers[:2], fabric(name="spine", bandwidth=25e9 / 80))
    assert tapered > 1.1 * split


def test_an_all_to_all_pays_for_a_taper_that_a_ring_does_not_feel() -> None:
    # A ring leaves a pod once per node's member, an exchange with every byte for other pods.
    def slowdown(operation: str) -> float:
        times = [
            across(operation, GIB, 256.0, (8.0, 64.0, 256.0), node(), fabric(devices=64.0), fabric(bandwidth=spine))
            for spine in (25e9, 25e9 / 4)
        ]
        return times[1] / times[0]

    assert slowdown("all-gather") == pytest.approx(1.0)
    assert slowdown("all-to-all") > 2.5


def test_the_taper_of_frontier() -> None:
    # 74 groups of 128 nodes, four links of 25 GB/s between any two groups, 12.5 GB/s per device.
    share = collective_topologies.dragonfly_global_bandwidth(25e9, 74.0, 4.0, 1024.0)
    assert float(12.5e9 / share) == pytest.approx(1.753, abs=5e-4)


def test_a_dragonfly_detours_rings_and_not_exchanges() -> None:
    plain = node(), fabric(devices=64.0), fabric(name="groups", bandwidth=1e9)
    dragonfly = *plain[:2], replace(plain[2], topology="dragonfly")
    members = (8.0, 64.0, 512.0)
    ring, detoured = (across("all-gather", GIB, 512.0, members, *tiers) for tiers in (plain, dragonfly))
    assert 1.8 < detoured / ring <= 2.0
    exchange = [across("all-to-all", GIB, 512.0, members, *tiers) for tiers in (plain, dragonfly)]
    assert exchange[0] == exchange[1]
    # Two groups have direct links only: nothing to detour over.
    pair = [across("all-gather", GIB, 128.0, (8.0, 64.0, 128.0), *tiers) for tiers in (plain, dragonfly)]
    assert pair[0] == pair[1]


def test_a_flat_ring_of_two_nodes_sends_nearly_the_whole_buffer_over_the_ports() -> None:
    # 16 ranks: 15 / 16 of the buffer pass every boundary of a ring, over the eight ports of a node.
    time = across("all-gather", 8 * GIB, 16.0, (8.0, 16.0), node(), fabric())
    wire = 15 / 16 * 8 * GIB / (8 * 25e9 * 0.9)
    assert wire < time < 1.05 * wire


def test_two_trees_carry_the_buffer_once_between_two_nodes_and_twice_between_many() -> None:
    sent = [float(collectives.tree_wire_time(8e9, count, 1.0, 1.0, 1.0)) for count in (1.0, 2.0, 1e9)]
    assert sent == pytest.approx([0.0, 8e9, 16e9])


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("field", ["bandwidth", "link_fraction"])
@pytest.mark.parametrize(
    "shape",
    [
        {}, {"pair_bandwidth": 40e9}, {"topology": "torus", "dimensions": (4, 2)},
        {"shared_bandwidth": 90e9, "switch_devices": 2.0}, {"peer_fraction": 0.5, "message_latency": 1e-6},
    ],
)  # fmt: skip
def test_faster_links_never_slow_a_collective_down(operation: str, field: str, shape: dict[str, Any]) -> None:
    slow = node(**shape)
    fast = replace(slow, **{field: 1.2 * getattr(slow, field)})
    for ranks in (2.0, 4.0, 8.0):
        times = [inside(operation, size, ranks, slow) for size in (1e3, 1e5, 1e7, 1e9)]
        assert times == sorted(times), "more bytes take longer"
        assert all(inside(operation, size, ranks, fast) <= inside(operation, size, ranks, slow) for size in (1e3, 1e9))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_columns_equal_rows_on_every_shape(operation: str) -> None:
    ranks = np.array([2.0, 3.0, 5.0, 8.0])
    for shape in (
        {},
        {"topology": "torus", "dimensions": (4, 2)},
        {"rings": ring_counts(CUBE_MESH, 8), "link_bandwidth": 25e9},
    ):
        tier = node(**shape)
        column = collective_time(operation, 1e7, Group(ranks, (ranks,)), (tier,))
        np.testing.assert_allclose(column, [inside(operation, 1e7, float(one), tier) for one in ranks], rtol=1e-12)


# -- libraries ---------------------------------------------------------------------------------------------

KERNELS = DirectParameters(
    latency=4e-6, step_latency=0.1e-6, one_shot_fraction=0.6, two_shot_latency=8e-6, two_shot_fraction=0.7, limit=8e6
)


def test_an_engine_runs_its_own_kernels_for_small_all_reduces_only() -> None:
    engine, library = node(direct=KERNELS), node()
    assert inside("all-reduce", 1e4, 8.0, engine) < 0.5 * inside("all-reduce", 1e4, 8.0, library)
    assert inside("all-reduce", 1e9, 8.0, engine) == inside("all-reduce", 1e9, 8.0, library)
    assert inside("all-gather", 1e4, 8.0, engine) == inside("all-gather", 1e4, 8.0, library)


def test_calls_outside_of_a_graph_are_never_faster() -> None:
    eager = replace(KERNELS, call_floor=20e-6, staging_fraction=0.9, memory_bandwidth=2e12)
    graph, called = node(direct=KERNELS), node(direct=eager)
    for size in (1e3, 1e6, 1e8):
        assert inside("all-reduce", size, 8.0, called) >= inside("all-reduce", size, 8.0, graph)
    assert inside("all-reduce", 1e3, 8.0, called) == 20e-6
    assert inside("all-reduce", 1.0, 1.0, called) == 0.0


def test_switches_do_not_sum_integers() -> None:
    tier = node(in_network_reduction=1.0, reduction_latency=90e-6, reduction_fraction=0.67, reduction_minimum_ranks=8.0)
    group = Group(8.0, (8.0,))
    floats, integers = (float(collective_time("all-reduce", GIB, group, (tier,), one)) for one in (1.0, 0.0))
    assert integers == inside("all-reduce", GIB, 8.0, node())
    assert floats < 0.85 * integers


def test_switches_sum_from_so_many_ranks_on() -> None:
    tier = node(in_network_reduction=1.0, reduction_latency=1e-6, reduction_fraction=1.0, reduction_minimum_ranks=8.0)
    for ranks, minimum in ((4.0, 8.0), (4.0, 4.0), (8.0, 8.0)):
        one = inside("all-reduce", GIB, ranks, replace(tier, reduction_minimum_ranks=minimum))
        ring = inside("all-reduce", GIB, ranks, node())
        assert (one < ring) == (ranks >= minimum)


def test_steps_of_a_message_are_not_shared(ask: Callable[..., Any]) -> None:
    tiers = ask("llama-8b").question.problem.machine.tiers
    near, far = Group(2.0, (2.0, 2.0)), Group(2.0, (1.0, 2.0))
    assert float(send_time(1e6, near, tiers)) < float(send_time(1e6, far, tiers))
