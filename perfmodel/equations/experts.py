"""Mixtures of experts: which experts have work, how uneven it is, what is permuted, and where copies travel."""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import inverse_count, larger_and_ratio, only_where, safe_ratio
from perfmodel.equations.collective_volumes import STUDY
from perfmodel.equations.roofline import KERNEL_STUDY
from perfmodel.units import Count, Ratio, Seconds, equation

OCCUPANCY = "Feller 1968, An Introduction to Probability Theory, section IV.2 (occupancy)"
NODE_LIMITED = "DeepSeek-V3, arXiv 2412.19437, sections 2.1.2 and 3.2.2"
MEGATRON_MOE = "Megatron-Core token dispatcher, github.com/NVIDIA/Megatron-LM (permute, exchange, sort by expert)"

#: Growth of the load of the busiest rank with the logarithm of the ranks, for the skewed routing of the measurements.
SKEW_GROWTH = 0.22


@equation(reference=f"counting; {KERNEL_STUDY}")
def touched_experts(experts: Count, rows: Count) -> Count:
    r"""Experts that have work when rows are spread evenly.

    .. math:: a = \min(E, A)

    Parameters
    ----------
    experts
        Experts of a rank :math:`E` [1].
    rows
        Rows that were sent to the rank :math:`A` [1].

    Returns
    -------
    Count
        Experts with at least one row [1].

    Notes
    -----
    A grouped kernel reads the weights of these experts only.

    Examples
    --------
    >>> float(touched_experts(8.0, 1e4)), float(touched_experts(8.0, 3.0))
    (8.0, 3.0)
    """
    return np.minimum(experts, rows)


@equation(reference=OCCUPANCY)
def touched_experts_random(experts: Count, rows: Count) -> Count:
    r"""Expected experts that have work when every row picks its expert at random.

    .. math:: a = E \left(1 - \left(1 - \tfrac{1}{E}\right)^{A}\right)

    Parameters
    ----------
    experts
        Experts of a rank :math:`E` [1].
    rows
        Rows that were sent to the rank :math:`A` [1].

    Returns
    -------
    Count
        Expected experts with at least one row [1].

    Notes
    -----
    Rows are independent and experts equally likely. Never more than :func:`touched_experts`.

    Examples
    --------
    >>> float(touched_experts_random(2.0, 2.0))
    1.5
    """
    return experts * (1.0 - (1.0 - inverse_count(experts)) ** rows)


@equation(reference=KERNEL_STUDY)
def skewed_imbalance(ranks: Count) -> Ratio:
    r"""Rows of the busiest rank over the mean, when a few experts are popular.

    .. math:: \lambda = 1 + 0.22\, \ln^2(1 + e) \; \text{for } e > 1, \quad 1 \text{ else}

    Parameters
    ----------
    ranks
        Ranks over which the experts are spread :math:`e` [1].

    Returns
    -------
    Ratio
        Factor on the rows of the slowest rank [1].

    Notes
    -----
    Fitted to expert kernels that were timed with expert loads drawn from a power law: the exponents 1.01 and 1.2
    need no different factor. A trained router with a balancing loss is nearer to 1.

    Examples
    --------
    >>> float(skewed_imbalance(1.0)), round(float(skewed_imbalance(8.0)), 3)
    (1.0, 2.062)
    """
    logarithm = np.log(1.0 + ranks)
    return +np.where(ranks > 1.0, 1.0 + SKEW_GROWTH * logarithm * logarithm, 1.0)


@equation(reference=f"counting; {MEGATRON_MOE}")
def dispatch_elements(sent: Count, received: Count, sorted_again: Ratio) -> Count:
    r"""Elements that a rank reads and writes to copy its tokens to the experts, or to undo a combination.

    .. math:: n = 2\, (V_s + \sigma V_r)

    Parameters
    ----------
    sent
        Elements of the copies of the rank's own tokens :math:`V_s` [1].
    received
        Elements of the copies that reach its experts :math:`V_r` [1].
    sorted_again
        1 when what arrives is in the order of the senders and must be sorted by expert, else 0 :math:`\sigma` [1].

    Returns
    -------
    Count
        Elements read and written [1].

    Notes
    -----
    Each copy is read and written once per permutation. The minimum; unfused kernels move more.

    Examples
    --------
    >>> float(dispatch_elements(8.0, 8.0, 0.0)), float(dispatch_elements(8.0, 8.0, 1.0))
    (16.0, 32.0)
    """
    return 2.0 * (sent + sorted_again * received)


@equation(reference=f"counting; {MEGATRON_MOE}")
def combine_elements(sent: Count, received: Count, tokens: Count, sorted_again: Ratio) -> Count:
    r"""Elements that a rank reads and writes to add up the copies of its tokens.

    .. math:: n = V_s + U + 2\, \sigma V_r

    Parameters
    ----------
    sent
        Elements of the copies of the rank's own tokens :math:`V_s` [1].
    received
        Elements of the copies that its experts worked on :math:`V_r` [1].
    tokens
        Elements of the rank's own tokens :math:`U` [1].
    sorted_again
        1 when the copies are brought back into the order of the senders first, else 0 :math:`\sigma` [1].

    Returns
    -------
    Count
        Elements read and written [1].

    Notes
    -----
    The last permutation reads all copies of a token and writes their sum.

    Examples
    --------
    >>> float(combine_elements(8.0, 8.0, 4.0, 0.0)), float(combine_elements(8.0, 8.0, 4.0, 1.0))
    (12.0, 28.0)
    """
    return sent + tokens + 2.0 * sorted_again * received


@equation(reference=NODE_LIMITED)
def reachable_domains(domains: Count, expert_groups: Count, groups_per_token: Count) -> Count:
    r"""Network domains in which the experts of one token may lie.

    .. math:: N_l = \min\left(N,\; M \max\left(\tfrac{N}{G},\, 1\right)\right)

    Parameters
    ----------
    domains
        Domains over which the experts are spread :math:`N` [1].
    expert_groups
        Groups into which the router sorts the experts :math:`G` [1].
    groups_per_token
        Groups from which a token may take experts :math:`M` [1]; as many as there are groups without a limit.

    Returns
    -------
    Count
        Domains [1].

    Notes
    -----
    Groups are consecutive experts, as the domains are. With fewer domains than groups a token may need one
    domain per group.

    Examples
    --------
    DeepSeek-V3 takes experts from four of eight groups:

    >>> [float(reachable_domains(n, 8.0, 4.0)) for n in (2.0, 8.0, 16.0)]
    [2.0, 4.0, 8.0]
    """
    return np.minimum(domains, groups_per_token * np.maximum(safe_ratio(domains, expert_groups), 1.0))


@equation(reference=f"{NODE_LIMITED}; {OCCUPANCY}")
def distinct_domains(domains: Count, visits: Count) -> Count:
    r"""Expected distinct domains that the experts of one token lie in.

    .. math:: c = N_l \left(1 - \left(1 - \tfrac{1}{N_l}\right)^{k}\right)

    Parameters
    ----------
    domains
        Domains in which they may lie :math:`N_l` [1].
    visits
        Experts that one token visits :math:`k` [1].

    Returns
    -------
    Count
        Expected domains [1]: the copies of a token that a dispatcher sends when it sends one per domain.

    Notes
    -----
    Each visit picks its domain independently; two visits of one token to the same expert are not excluded.

    Examples
    --------
    Eight experts in four reachable nodes:

    >>> round(float(distinct_domains(4.0, 8.0)), 2)
    3.6
    """
    return domains * (1.0 - (1.0 - inverse_count(domains)) ** visits)


@equation(reference=f"{STUDY}; {NODE_LIMITED}")
def forwarded_exchange_time(across: Seconds, inside: Seconds) -> Seconds:
    r"""Time of an exchange that crosses the network once per domain and is forwarded inside it.

    .. math:: T = \left(T_n^4 + T_v^4\right)^{1/4}

    Parameters
    ----------
    across
        Exchange between domains :math:`T_n` [s].
    inside
        Forwarding inside a domain :math:`T_v` [s].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    The two run as a pipeline of chunks, so that the longer one decides.

    Examples
    --------
    >>> float(forwarded_exchange_time(2.0, 0.0)), round(float(forwarded_exchange_time(1.0, 1.0)), 3)
    (2.0, 1.189)
    """
    larger, ratio = larger_and_ratio(across, inside)
    square = ratio * ratio
    return only_where(larger > 0.0, larger * np.sqrt(np.sqrt(1.0 + square * square)))
