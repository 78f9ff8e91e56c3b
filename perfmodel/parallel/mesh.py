"""The device mesh on the network: which ranks of a parallel group share a domain of each network tier.

Ranks are numbered so that the first axis of the order varies fastest (Megatron's ``tp-cp-ep-dp-pp``).
Neighbours of a group are then a constant number of ranks apart, its *stride*, and a network domain is a
range of consecutive ranks. A group may straddle domains (tp = 16 on nodes of eight): the collective
equations then see it as a hierarchy of members inside a domain and domains joined by the next tier.

Everything here decides structure on integers; see ``perfmodel.equations.collectives`` for the times.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from perfmodel.errors import UsageError
from perfmodel.provenance import Traced

if TYPE_CHECKING:
    from perfmodel.parallel.plan import Counts, Plan

    WholeNumbers: TypeAlias = Counts | Sequence[int] | int | float

#: Megatron's default, innermost first: tensor parallelism on neighbouring devices, stages far apart.
DEFAULT_ORDER: tuple[str, ...] = ("tp", "cp", "dp", "pp")
#: Order of the Llama 3 runs (arXiv 2407.21783, section 3.3.2): data parallelism is outermost.
LLAMA3_ORDER: tuple[str, ...] = ("tp", "cp", "pp", "dp")
MESH_AXES = frozenset(DEFAULT_ORDER)


def mesh_sizes(plan: Plan) -> Mapping[str, Counts]:
    """Sizes of the dense mesh of a plan: ``tp``, ``cp``, ``dp`` and ``pp`` (``dp`` excludes ``cp``)."""
    return {"tp": plan.tp, "cp": plan.cp, "dp": plan.dp, "pp": plan.pp}


def group_strides(sizes: Mapping[str, Counts], order: Sequence[str] = DEFAULT_ORDER) -> Mapping[str, Counts]:
    """Rank distance between neighbours of each group.

    Parameters
    ----------
    sizes
        Size of every mesh axis [1], columns.
    order
        Mesh axes, innermost (neighbouring devices) first; a permutation of the keys of ``sizes``.

    Returns
    -------
    Mapping
        Stride of each axis [ranks]: the product of the sizes of the axes inside it.

    Raises
    ------
    UsageError
        ``order`` is not a permutation of the mesh axes.
    """
    if len(set(order)) != len(order) or set(order) != set(sizes):
        raise UsageError(f"mesh order {tuple(order)} must name each of {', '.join(sizes)} once")
    strides: dict[str, Counts] = {}
    distance = np.ones(1, dtype=np.int64)
    for axis in order:
        strides[axis] = distance
        distance = distance * whole(sizes[axis])
    return strides


def tier_members(
    size: WholeNumbers,
    stride: WholeNumbers,
    tier_devices: Sequence[WholeNumbers],
    devices: WholeNumbers | None = None,
) -> tuple[Counts, ...]:
    """Ranks of one group inside one domain of each tier, for the group that is spread most.

    Parameters
    ----------
    size, stride
        Ranks of the group and rank distance between its neighbours [1].
    tier_devices
        Devices in one domain of each tier, innermost first [1]. The last tier joins everything.
    devices
        Devices of the whole mesh [1]. Without it the mesh is taken to be larger than every inner domain.

    Returns
    -------
    tuple
        One column per tier, not decreasing, the last one equal to ``size``.

    Notes
    -----
    Domains hold consecutive ranks. When strides and sizes divide the domain this is
    ``clip(domain // stride, 1, size)``, the same for every group. When they do not, groups lie differently:
    of 6 ranks on nodes of 8, some sit in one node and some in two. The step waits for the worst, so the
    largest number of domains that any group of the mesh touches is taken, and the ranks are spread evenly
    over them (rounded up). Starting ranks are the multiples of ``size * stride`` plus ``0 ... stride - 1``,
    which modulo the domain are the multiples of their greatest common divisor.
    """
    ranks, distance = whole(size), whole(stride)
    members: list[Counts] = []
    for domain in map(whole, tier_devices[:-1]):
        inside = -(-ranks // _domains_touched(ranks, distance, domain))
        if devices is not None:
            inside = np.where(whole(devices) <= domain, ranks, inside)
        members.append(np.maximum(inside, members[-1]) if members else inside)
    return (*members, ranks + np.zeros_like(members[-1]) if members else ranks)


def _domains_touched(ranks: Counts, stride: Counts, domain: Counts) -> Counts:
    """Largest number of domains that one group touches (columns)."""
    common = np.gcd(ranks * stride, domain)
    last_offset = domain - np.maximum(common, stride) + ranks * stride - 1
    # A stride beyond the domain leaves one rank per domain and skips domains.
    return np.where(stride >= domain, ranks, np.minimum(last_offset // domain + 1, ranks))


def tier_domains(members: Sequence[Counts]) -> tuple[Counts, ...]:
    """Domains (or devices, in the innermost tier) of a group that each tier joins.

    Parameters
    ----------
    members
        Result of :func:`tier_members` or :func:`flattened_members`.

    Returns
    -------
    tuple
        One column per tier: ``ceil(members[j] / members[j - 1])``, with one device below the first tier.
        1 means that the tier is not used.
    """
    below = (np.ones_like(members[0]), *members[:-1])
    return tuple(-(-here // inner) for here, inner in zip(members, below, strict=True))


def spanning_tier(members: Sequence[Counts]) -> Counts:
    """Index of the innermost tier that holds the whole group (columns; 0 = one innermost domain)."""
    return functools.reduce(np.add, ((inside < members[-1]).astype(np.int64) for inside in members))


def flattened_members(
    axes: Sequence[str],
    sizes: Mapping[str, Counts],
    tier_devices: Sequence[WholeNumbers],
    order: Sequence[str] = DEFAULT_ORDER,
    devices: WholeNumbers | None = None,
    strides: Mapping[str, Counts] | None = None,
) -> tuple[Counts, ...]:
    """Ranks inside one domain of each tier for a group that flattens mesh axes (gradients: ``("cp", "dp")``).

    Parameters
    ----------
    axes
        Mesh axes of the combined group.
    sizes, order
        As in :func:`group_strides`.
    tier_devices, devices
        As in :func:`tier_members`.
    strides
        Strides of the axes, when ``sizes`` are those of subgroups (a shard of ``dp``); default: from ``sizes``.

    Notes
    -----
    Axes that are neighbours in the order (axes of size one between them do not count) form one group with
    the stride of the inner one: exact like any group. Between axes that are not neighbours the members
    multiply: exact when sizes and strides divide the domains, otherwise an approximation, because the group
    has two strides.
    """
    strides = group_strides(sizes, order) if strides is None else strides
    parts = [(whole(sizes[axis]), strides[axis]) for axis in sorted(axes, key=list(order).index)]
    return _joined_members(parts, tier_devices, devices)


def _joined_members(
    parts: Sequence[tuple[Counts, Counts]], tier_devices: Sequence[WholeNumbers], devices: WholeNumbers | None
) -> tuple[Counts, ...]:
    """Members of a group that is made of parts (size, stride), the innermost first."""
    (size, stride), *outer = parts
    members = tier_members(size, stride, tier_devices, devices)
    for count, distance in outer:
        adjacent = distance == stride * size
        merged = tier_members(size * count, stride, tier_devices, devices)
        apart = tier_members(count, distance, tier_devices, devices)
        members = tuple(
            np.where(adjacent, one, before * other) for one, before, other in zip(merged, members, apart, strict=True)
        )
        size = size * count
    return members


def grid_strides(plan: Plan, stride: Counts) -> Mapping[str, Counts]:
    """Rank distance between neighbours of one row of the grid (its ``columns``) and of one column (its ``rows``).

    Parameters
    ----------
    plan
        Plans.
    stride
        Rank distance between neighbours of the tensor group.
    """
    first = plan.tp_column_first > 0
    return {
        "columns": stride * np.where(first, plan.tp_rows, 1),
        "rows": stride * np.where(first, 1, plan.tp_columns),
    }


def expert_sizes(plan: Plan) -> Mapping[str, Counts]:
    """Sizes of the mesh of the experts of a stage: ``etp``, ``ep`` and ``edp`` (replicas of an expert's shard).

    Where ``ep * etp`` does not divide the ranks of the stage there is no such mesh (a rule says so); ``edp`` is
    rounded down then.
    """
    ranks = plan.tp * plan.cp * plan.dp
    return {"etp": plan.etp, "ep": plan.ep, "edp": np.maximum(ranks // np.maximum(plan.ep * plan.etp, 1), 1)}


def expert_members(
    size: Counts,
    distance: Counts,
    sizes: Mapping[str, Counts],
    tier_devices: Sequence[WholeNumbers],
    order: Sequence[str] = DEFAULT_ORDER,
    devices: WholeNumbers | None = None,
) -> tuple[Counts, ...]:
    """Ranks inside one domain of each tier for a group of the mesh of the experts.

    Parameters
    ----------
    size
        Ranks of the group [1], columns.
    distance
        Distance of its neighbours among the ranks of a pipeline stage [ranks].
    sizes, order
        The dense mesh, as in :func:`group_strides`.
    tier_devices, devices
        As in :func:`tier_members`.

    Notes
    -----
    The ranks of a stage, in the order of the dense mesh, are ``etp`` (innermost) times ``ep`` times ``edp``, as in
    Megatron. With stages in the middle of the order a stage is not one range of ranks: the part of the group
    that lies beyond the axes inside ``pp`` is ``pp`` times as far apart.
    """
    inner = np.ones(1, dtype=np.int64)
    for axis in order[: list(order).index("pp")]:
        inner = inner * whole(sizes[axis])
    inside = np.clip(inner // distance, 1, size)
    outside = -(-size // inside)
    return _joined_members(
        [
            (np.where(distance < inner, inside, 1), distance),
            (np.where(distance < inner, outside, size), whole(sizes["pp"]) * np.maximum(inner, distance)),
        ],
        tier_devices,
        devices,
    )


def whole(value: Any) -> Counts:
    """A count as an int64 column; the trace of a traced one ends here (structure has no derivation)."""
    plain = value.value if isinstance(value, Traced) else value
    return np.atleast_1d(np.asarray(plain)).astype(np.int64)
