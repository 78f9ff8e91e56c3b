"""Experts of a rank: how uneven their work is, and what the exchange of tokens between ranks costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from perfmodel.engine.networks import ALL_TO_ALL, Group, collective_time, link_energy
from perfmodel.engine.problem import Problem, Routing
from perfmodel.engine.sizes import Sizes
from perfmodel.equations import experts
from perfmodel.machine.machine import NetworkTier
from perfmodel.units import Numeric
from perfmodel.workload.operators import VISITS, Combine, Dispatch, Extent

HIERARCHICAL, NODE_LIMITED = "hierarchical", "node-limited"
RANDOM, SKEWED = "random", "skewed"


def slowest_rows(routing: Routing, ep: Numeric) -> Numeric:
    """Rows of the slowest rank over the mean visits of the tokens of a rank."""
    if routing.capacity_factor is not None:
        return routing.capacity_factor
    if routing.imbalance is not None:
        return routing.imbalance
    return experts.skewed_imbalance(ep) if routing.balance == SKEWED else 1.0


def mean_rows(routing: Routing, ep: Numeric) -> Numeric:
    """Rows of the mean rank over those of the slowest; padding to a capacity is work of every rank."""
    return 1.0 if routing.capacity_factor is not None else 1.0 / slowest_rows(routing, ep)


def touched(routing: Routing, local_experts: Numeric, rows: Numeric) -> Numeric:
    """Experts of a rank that have work."""
    by_chance = routing.balance == RANDOM
    return (experts.touched_experts_random if by_chance else experts.touched_experts)(local_experts, rows)


def is_routed(features: Extent) -> bool:
    """Features of copies of tokens at the experts that they visit."""
    return any(VISITS in product for product in features)


def permuted_elements(problem: Problem, sizes: Sizes, operator: Dispatch | Combine) -> tuple[Numeric, Numeric]:
    """Elements that a dispatch or a combination reads and writes on one device, forward and backward.

    A flat exchange delivers by sender, so that rows are sorted by expert once more; a hierarchical dispatcher copies
    while it sends. Backward of a combination also reads what the experts made, for the gradient of what the router
    gave them.
    """
    received = sizes.elements(tuple((VISITS, *product) for product in operator.features), per_score=False)
    tokens = sizes.tokens * sizes.local(operator.features) / sizes.tp
    again = 0.0 if problem.machine.expert_dispatcher == HIERARCHICAL else 1.0
    sorted_again = np.where(sizes.ep > 1.0, again, 0.0)
    moved = {"sent": received / sizes.etp, "received": received, "sorted_again": sorted_again}
    out, back = experts.dispatch_elements(**moved), experts.combine_elements(**moved, tokens=tokens)
    return (out, back) if isinstance(operator, Dispatch) else (back, out + received)


def exchange_cost(problem: Problem, size: Numeric, group: Group) -> tuple[Numeric, Numeric]:
    """Time [s] and energy on the links of a rank [J] of one exchange of tokens between the ranks of the experts.

    Parameters
    ----------
    size
        Bytes of the copies of a rank's tokens, one per visit.
    group
        Ranks over which the experts are spread.

    Notes
    -----
    A flat dispatcher sends every copy to its expert. A hierarchical one sends a token once to each domain of the
    innermost tier, between ranks of the same position, and forwards it there. A ``node-limited`` one does so for
    routers that limit the domains of a token, and is flat for others.
    """
    tiers = problem.machine.tiers
    if not _sends_once(problem) or len(tiers) == 1:
        return _exchange(size, group, tiers)
    inner, outer, copies = _hops(problem, group)
    visits = problem.axes[VISITS]
    inside, joules_inside = _exchange(size, inner, tiers)
    across, joules_across = _exchange(size * copies / visits, outer, tiers)
    return experts.forwarded_exchange_time(across, inside), joules_inside + joules_across


def _sends_once(problem: Problem) -> bool:
    """The dispatcher sends a token once to each domain."""
    dispatcher = problem.machine.expert_dispatcher
    limited = problem.routing.groups_per_token is not None
    return dispatcher == HIERARCHICAL or (dispatcher == NODE_LIMITED and limited)


def _exchange(size: Numeric, group: Group, tiers: Sequence[NetworkTier]) -> tuple[Any, Any]:
    return collective_time(ALL_TO_ALL, size, group, tiers), link_energy(ALL_TO_ALL, size, group, tiers)


def _hops(problem: Problem, group: Group) -> tuple[Group, Group, Numeric]:
    """The ranks of one domain, those of the same position in all domains, and the domains that a token visits."""
    routing, together = problem.routing, group.members[0]
    domains = group.ranks / together
    limit = experts.reachable_domains(domains, routing.groups, routing.groups_per_token)
    copies = experts.distinct_domains(limit, problem.axes[VISITS])
    inner = Group(together, tuple(together for _ in group.members))
    outer = Group(domains, tuple(members / together for members in group.members))
    return inner, outer, copies
