"""Groups on the network, against an explicit enumeration of every rank of the mesh."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from perfmodel.errors import UsageError
from perfmodel.parallel.mesh import (
    DEFAULT_ORDER,
    LLAMA3_ORDER,
    expert_members,
    expert_sizes,
    flattened_members,
    group_strides,
    mesh_sizes,
    spanning_tier,
    tier_domains,
    tier_members,
)
from perfmodel.parallel.plan import Plan
from perfmodel.provenance import Traced

AXES = DEFAULT_ORDER
power_of_two = st.sampled_from([1, 2, 4, 8])
any_size = st.integers(1, 7)
orders = st.permutations(AXES)


def enumerate_groups(sizes: dict[str, int], order: tuple[str, ...], axes: tuple[str, ...]) -> np.ndarray:
    """Ranks of every group of the given mesh axes, one group per row; the first axis varies fastest."""
    shape = [sizes[axis] for axis in reversed(order)]
    coordinates = np.stack(np.unravel_index(np.arange(np.prod(shape)), shape), axis=1)[:, ::-1]
    inside = [order.index(axis) for axis in axes]
    outside = [position for position in range(len(order)) if position not in inside]
    groups: dict[tuple[int, ...], list[int]] = {}
    for rank, at in enumerate(coordinates):
        groups.setdefault(tuple(at[outside]), []).append(rank)
    return np.array(list(groups.values()))


def columns(sizes: dict[str, int]) -> dict[str, np.ndarray]:
    return {axis: np.array([size]) for axis, size in sizes.items()}


def mesh(draw_size: st.SearchStrategy[int]) -> st.SearchStrategy[dict[str, int]]:
    return st.fixed_dictionaries(dict.fromkeys(AXES, draw_size))


@given(mesh(power_of_two), orders, st.sampled_from([2, 4, 8]), st.sampled_from([1, 2, 8]))
def test_members_are_those_of_the_enumeration_when_sizes_divide(sizes, order, node, nodes_per_pod):
    order = tuple(order)
    total = int(np.prod(list(sizes.values())))
    tiers = [node, node * nodes_per_pod, max(total, node * nodes_per_pod)]
    strides = group_strides(columns(sizes), order)
    for axis in AXES:
        members = tier_members(columns(sizes)[axis], strides[axis], tiers)
        groups = enumerate_groups(sizes, order, (axis,))
        for domain, inside in zip(tiers, members, strict=True):
            counts = [np.unique(row // domain, return_counts=True)[1] for row in groups]
            assert {int(count) for row in counts for count in row} == {int(inside[0])}


@given(mesh(any_size), orders, st.integers(2, 12))
@settings(max_examples=300)
def test_domains_are_never_fewer_than_any_group_touches(sizes, order, node):
    order = tuple(order)
    total = int(np.prod(list(sizes.values())))
    strides = group_strides(columns(sizes), order)
    for axis in AXES:
        members = tier_members(sizes[axis], strides[axis], [node, 10 * total * node], total)
        touched = max(len(np.unique(row // node)) for row in enumerate_groups(sizes, order, (axis,)))
        # Never more optimistic than the worst group that exists, spread evenly.
        assert members[0][0] <= -(-sizes[axis] // touched)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(2, 12))
def test_worst_group_is_exact_when_the_mesh_repeats_often_enough(size, stride, node):
    replicas = node  # groups then start at every multiple of gcd(size * stride, node)
    sizes = {"tp": stride, "cp": size, "dp": replicas, "pp": 1}
    members = tier_members(size, stride, [node, 10**6])
    touched = max(len(np.unique(row // node)) for row in enumerate_groups(sizes, AXES, ("cp",)))
    assert members[0][0] == -(-size // touched)


@given(mesh(power_of_two), orders, st.sampled_from([2, 4, 8]))
def test_flattened_groups_are_those_of_the_enumeration(sizes, order, node):
    order = tuple(order)
    total = int(np.prod(list(sizes.values())))
    tiers = [node, max(4 * node, total)]
    members = flattened_members(("cp", "dp"), columns(sizes), tiers, order)
    groups = enumerate_groups(sizes, order, ("cp", "dp"))
    for domain, inside in zip(tiers, members, strict=True):
        counts = [np.unique(row // domain, return_counts=True)[1] for row in groups]
        assert {int(count) for row in counts for count in row} == {int(inside[0])}
    assert members[-1][0] == sizes["cp"] * sizes["dp"]


def test_neighbouring_axes_are_one_group_also_where_they_do_not_divide_the_node():
    sizes = {"tp": 1, "cp": 3, "dp": 4, "pp": 6}
    touched = max(len(np.unique(row // 8)) for row in enumerate_groups(sizes, AXES, ("cp", "dp")))
    assert flattened_members(("dp", "cp"), columns(sizes), [8, 72])[0][0] == 12 / touched == 6


def test_a_tensor_group_of_sixteen_straddles_two_nodes_of_eight():
    members = tier_members(16, 1, [8, 3072, 24576])
    assert [int(one[0]) for one in members] == [8, 16, 16]
    assert [int(one[0]) for one in tier_domains(members)] == [8, 2, 1]
    assert spanning_tier(members)[0] == 1


def test_a_misaligned_group_is_hierarchical_but_not_on_a_mesh_that_fits_the_node():
    assert tier_members(6, 1, [8, 64])[0][0] == 3  # ranks 6 ... 11 lie in two nodes
    assert tier_members(6, 1, [8, 64], devices=6)[0][0] == 6
    assert tier_members(12, 1, [8, 96])[0][0] == 6  # 8 + 4, 4 + 8: two nodes


def test_llama3_order_puts_data_parallel_neighbours_farthest():
    sizes = columns({"tp": 8, "cp": 1, "dp": 128, "pp": 16})
    assert group_strides(sizes, LLAMA3_ORDER)["dp"][0] == 8 * 16
    assert group_strides(sizes)["dp"][0] == 8
    assert group_strides(sizes)["pp"][0] == 8 * 128


def test_columns_give_the_numbers_of_single_plans():
    rng = np.random.default_rng(0)
    sizes = {axis: rng.choice([1, 2, 3, 4, 6, 8], 200) for axis in AXES}
    tiers = [8, 64, 10**6]
    together = flattened_members(("cp", "dp"), sizes, tiers, LLAMA3_ORDER)
    for row in range(200):
        alone = flattened_members(("cp", "dp"), {a: s[row : row + 1] for a, s in sizes.items()}, tiers, LLAMA3_ORDER)
        assert [int(one[row]) for one in together] == [int(one[0]) for one in alone]


def test_domains_swept_as_a_column_and_traced_leaves_are_whole_numbers():
    swept = tier_members(16, 1, [np.array([4.0, 8.0, 16.0]), 1024])
    assert swept[0].tolist() == [4, 8, 16]
    assert tier_members(16, 1, [Traced.leaf(8.0, "cluster.tiers.node.devices"), 1024])[0].tolist() == [8]


def test_sizes_of_the_dense_mesh_multiply_to_the_devices():
    plan = Plan.from_columns({"tp": [8, 4], "cp": 2, "pp": [4, 1], "dp_shard": 16, "dp_replicate": [1, 3]})
    product = np.prod(list(mesh_sizes(plan).values()), axis=0)
    assert product.tolist() == plan.devices.tolist() == [1024, 384]


@pytest.mark.parametrize("order", [("tp", "cp", "dp"), ("tp", "cp", "dp", "dp"), ("tp", "cp", "dp", "pp", "ep")])
def test_an_order_that_is_no_permutation_is_refused(order):
    with pytest.raises(UsageError, match="once"):
        group_strides(columns(dict.fromkeys(AXES, 2)), order)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 16), st.integers(1, 16))
def test_larger_domains_never_spread_a_group_more(size, stride, node, factor):
    assume(factor > 1)
    small = tier_members(size, stride, [node, 10**6])
    members = tier_members(size, stride, [node, node * factor, 10**6])
    assert members[0][0] == small[0][0]
    assert 1 <= members[0][0] <= members[1][0] <= members[2][0] == size
    product = np.prod([one[0] for one in tier_domains(members)])
    assert product >= size


def stage_groups(sizes: dict[str, int], order: tuple[str, ...], size: int, distance: int) -> list[list[int]]:
    """Groups of ``size`` ranks, ``distance`` apart among the ranks of each pipeline stage."""
    groups: list[list[int]] = []
    for ranks in enumerate_groups(sizes, order, tuple(axis for axis in order if axis != "pp")):
        stage = np.sort(ranks)
        starts = [at for at in range(len(stage)) if (at // distance) % size == 0]
        groups += [[int(stage[start + member * distance]) for member in range(size)] for start in starts]
    return groups


@settings(max_examples=150)
@given(
    st.fixed_dictionaries(dict.fromkeys(AXES, power_of_two)), orders, st.sampled_from([1, 2, 4]),
    st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from(["etp", "ep", "edp"]), st.sampled_from([4, 8]),
)  # fmt: skip
def test_groups_of_experts_are_those_of_the_enumeration(sizes, order, etp, ep, axis, node):
    ranks = sizes["tp"] * sizes["cp"] * sizes["dp"]
    assume(ranks % (etp * ep) == 0)
    plan = Plan.from_columns({"tp": sizes["tp"], "cp": sizes["cp"], "dp_shard": sizes["dp"], "pp": sizes["pp"],
                              "ep": ep, "etp": etp})  # fmt: skip
    size = int(expert_sizes(plan)[axis][0])
    distance = {"etp": 1, "ep": etp, "edp": etp * ep}[axis]
    found = stage_groups(sizes, tuple(order), size, distance)
    assert all(len(set(group)) == size for group in found)
    worst = max(len({rank // node for rank in group}) for group in found)
    members = expert_members(
        np.array([size]), np.array([distance]), columns(sizes), [node, 10**9], order, ranks * sizes["pp"]
    )
    assert members[0][0] == -(-size // worst)
    assert members[-1][0] == size


def test_the_mesh_of_the_experts_has_the_ranks_of_the_dense_one():
    plan = Plan.from_columns({"tp": 2, "cp": 2, "dp_shard": 8, "pp": 4, "ep": [1, 4, 16], "etp": [1, 2, 2]})
    sizes = expert_sizes(plan)
    assert (sizes["etp"] * sizes["ep"] * sizes["edp"]).tolist() == [32, 32, 32]
