"""Kernels of experts on one rank: how many rows it gets, how they are spread, and what the permutation moves.

The products themselves are grouped: ``matmul.tile_loop_time`` with the touched experts as ``batch`` and the rows per
expert as ``rows``, without a split of the loop. What a router does is in ``experts``.
"""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import safe_ratio
from perfmodel.equations.roofline import KERNEL_STUDY
from perfmodel.units import Bytes, BytesPerElement, Count, Ratio, equation

SPARSE_GATE = "Shazeer et al. 2017, arXiv 1701.06538"

#: Experts that an even draw touches over those that a draw from a power law touches.
SKEW_CONCENTRATION = 1.12


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
