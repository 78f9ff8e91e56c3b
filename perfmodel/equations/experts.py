"""Mixtures of experts: which experts have work, how uneven it is, what is permuted, and where copies travel."""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import inverse_count, larger_and_ratio, only_where, safe_ratio
from perfmodel.equations.collective_volumes import STUDY
from perfmodel.equations.roofline import KERNEL_STUDY
from perfmodel.units import Bytes, BytesPerElement, Count, Ratio, Seconds, equation

SPARSE_GATE = "Shazeer et al. 2017, arXiv 1701.06538"
OCCUPANCY = "Feller 1968, An Introduction to Probability Theory, section IV.2 (occupancy)"
NODE_LIMITED = "DeepSeek-V3, arXiv 2412.19437, sections 2.1.2 and 3.2.2"
MEGATRON_MOE = "Megatron-Core token dispatcher, github.com/NVIDIA/Megatron-LM (permute, exchange, sort by expert)"

#: Experts that an even draw touches over those that a draw from a power law touches.
SKEW_CONCENTRATION = 1.12
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


@equation(reference=f"counting; {SPARSE_GATE}")
def routed_rows(tokens: Count, top_k: Count, ranks: Count) -> Count:
    r"""Rows that a rank gets when its experts are as popular as those of the other ranks.

    .. math:: A = T k / r

    Parameters
    ----------
    tokens
        Tokens of all ranks that share the experts :math:`T` [1].
    top_k
        Experts per token :math:`k` [1].
    ranks
        Ranks that share the experts :math:`r` [1].

    Returns
    -------
    Count
        Rows [1], may be a fraction.

    Notes
    -----
    Each token is one row for every expert that it is sent to.

    Examples
    --------
    >>> float(routed_rows(100.0, 8.0, 4.0))
    200.0
    """
    return tokens * top_k / ranks


@equation(reference=f"{KERNEL_STUDY}; bound: counting")
def busiest_rows(rows: Count, imbalance: Ratio, tokens: Count, top_k: Count, experts: Count) -> Count:
    r"""Rows of the busiest rank, which cannot get more than all tokens at each of its experts.

    .. math:: A' = \min\bigl(\lambda A,\; \max(A,\; T \min(k, E))\bigr)

    Parameters
    ----------
    rows
        Rows of a rank with its fair share :math:`A` [1].
    imbalance
        Rows of the busiest rank over the mean :math:`\lambda` [1].
    tokens, top_k
        Tokens of all ranks that share the experts :math:`T`, and experts per token :math:`k` [1].
    experts
        Experts of a rank :math:`E` [1].

    Returns
    -------
    Count
        Rows [1].

    Notes
    -----
    A token visits an expert once.

    Examples
    --------
    >>> float(busiest_rows(100.0, 2.0, 100.0, 8.0, 8.0)), float(busiest_rows(100.0, 2.0, 100.0, 8.0, 1.0))
    (200.0, 100.0)
    """
    return np.minimum(rows * imbalance, np.maximum(rows, tokens * np.minimum(top_k, experts)))


@equation(reference=KERNEL_STUDY)
def touched_experts_skewed(drawn: Count) -> Count:
    r"""Experts that have work when a few are popular, from the number that an even draw would touch.

    .. math:: a' = a / 1.12

    Parameters
    ----------
    drawn
        Experts that an even draw touches :math:`a` [1].

    Returns
    -------
    Count
        Experts with at least one row [1].

    Notes
    -----
    One factor for expert loads drawn from power laws with the exponents 1.01 and 1.2.

    Examples
    --------
    >>> round(float(touched_experts_skewed(112.0)), 6)
    100.0
    """
    return drawn / SKEW_CONCENTRATION


@equation(reference="counting")
def rows_per_expert(rows: Count, touched: Count) -> Count:
    r"""Mean rows of an expert that got any: the height of the products of a group.

    .. math:: \bar m = A / E_t

    Parameters
    ----------
    rows
        Rows of the rank :math:`A` [1].
    touched
        Touched experts :math:`E_t` [1].

    Returns
    -------
    Count
        Rows per touched expert [1]; zero where nothing is touched.

    Notes
    -----
    Experts of unequal height are costed at their mean: the tile loop is linear in the height except below one tile.

    Examples
    --------
    >>> float(rows_per_expert(200.0, 8.0))
    25.0
    """
    return safe_ratio(rows, touched)


@equation(reference=KERNEL_STUDY)
def permutation_traffic(
    tokens: Count, routed: Count, hidden: Count, bytes_per_element: BytesPerElement, routed_passes: Ratio = 2.0
) -> Bytes:
    r"""Memory traffic around the expert products: gather rows by expert, scatter and reduce them back, quantise.

    .. math:: Q = c\, H\, (T + \phi\, A)

    Parameters
    ----------
    tokens
        Tokens :math:`T` [1].
    routed
        Rows that the kernel moves :math:`A` [1]: those of its experts, or of all experts for kernels that also write
        rows of other ranks.
    hidden
        Features of a row :math:`H` [1].
    bytes_per_element
        Bytes moved per element and pass :math:`c` [B].
    routed_passes
        Passes over the routed rows :math:`\phi` [1].

    Returns
    -------
    Bytes
        Traffic [B].

    Notes
    -----
    One pass over the tokens, one in and one out over the routed rows.

    Examples
    --------
    >>> float(permutation_traffic(10.0, 20.0, 4.0, 2.0))
    400.0
    """
    return bytes_per_element * hidden * (tokens + routed_passes * routed)


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
