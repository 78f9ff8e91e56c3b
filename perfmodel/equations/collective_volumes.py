"""Volumes of collectives: bytes on the wire, bytes copied, latency steps.

``size`` is always the full buffer: the tensor that every rank holds after an all-gather or all-reduce, and
before a reduce-scatter. The functions are also names of :mod:`perfmodel.equations.collectives`.
"""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import inverse_count, only_where
from perfmodel.units import Bytes, Count, equation

RING = "Patarasu and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002"
MPICH = "Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521"
STUDY = "perfmodel collective study (closed forms for measured collectives)"

#: Growth of the all-to-all latency per rank beyond two, in steps: peers are served nearly at the same time.
ALL_TO_ALL_STEP_GROWTH = 0.15
#: Part of its block that a rank of a ring all-reduce copies besides the wire traffic.
ALL_REDUCE_COPY_FRACTION = 0.5


@equation(reference=RING)
def all_reduce_wire(size: Bytes, ranks: Count) -> Bytes:
    r"""Bytes that one rank sends in a bandwidth-optimal all-reduce.

    .. math:: w = 2 \frac{n - 1}{n} S

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    ranks
        Ranks of the group :math:`n` [1].

    Returns
    -------
    Bytes
        Bytes sent per rank [B].

    Notes
    -----
    A reduce-scatter followed by an all-gather; no rank can send less without in-network reduction.

    Examples
    --------
    >>> float(all_reduce_wire(8.0, 4.0))
    12.0
    """
    return 2.0 * (1.0 - inverse_count(ranks)) * size


@equation(reference=RING)
def all_gather_wire(size: Bytes, ranks: Count) -> Bytes:
    r"""Bytes that one rank sends in a ring all-gather or reduce-scatter.

    .. math:: w = \frac{n - 1}{n} S

    Parameters
    ----------
    size
        Full (gathered) buffer :math:`S` [B].
    ranks
        Ranks of the group :math:`n` [1].

    Returns
    -------
    Bytes
        Bytes sent per rank [B].

    Notes
    -----
    Equal blocks of ``size / ranks``.

    Examples
    --------
    >>> float(all_gather_wire(8.0, 4.0))
    6.0
    """
    return (1.0 - inverse_count(ranks)) * size


@equation(reference=MPICH)
def all_to_all_wire(size: Bytes, ranks: Count) -> Bytes:
    r"""Bytes that one rank sends in an all-to-all exchange.

    .. math:: w = \frac{n - 1}{n} S

    Parameters
    ----------
    size
        Buffer of one rank, own block included :math:`S` [B].
    ranks
        Ranks of the group :math:`n` [1].

    Returns
    -------
    Bytes
        Bytes sent per rank [B].

    Notes
    -----
    Equal blocks; the own block does not travel.

    Examples
    --------
    >>> float(all_to_all_wire(8.0, 4.0))
    6.0
    """
    return (1.0 - inverse_count(ranks)) * size


@equation(reference=STUDY)
def all_reduce_copy(size: Bytes, ranks: Count) -> Bytes:
    r"""Bytes that a rank copies locally in an all-reduce, through the same channels as the wire traffic.

    .. math:: q = \frac{S}{2 n} \; [n > 1]

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    ranks
        Ranks of the group :math:`n` [1].

    Returns
    -------
    Bytes
        Bytes copied per rank [B].

    Notes
    -----
    Why two and four ranks reach a lower bus bandwidth than eight on the same links.

    Examples
    --------
    >>> float(all_reduce_copy(8.0, 4.0))
    1.0
    """
    return only_where(ranks > 1.0, ALL_REDUCE_COPY_FRACTION * size * inverse_count(ranks))


@equation(reference=STUDY)
def all_gather_copy(size: Bytes, ranks: Count) -> Bytes:
    r"""Bytes that a rank copies locally in an all-gather, reduce-scatter or all-to-all: its own block.

    .. math:: q = \frac{S}{n} \; [n > 1]

    Parameters
    ----------
    size
        Full buffer :math:`S` [B].
    ranks
        Ranks of the group :math:`n` [1].

    Returns
    -------
    Bytes
        Bytes copied per rank [B].

    Notes
    -----
    Assumes out-of-place operation.

    Examples
    --------
    >>> float(all_gather_copy(8.0, 4.0))
    2.0
    """
    return only_where(ranks > 1.0, size * inverse_count(ranks))


@equation(reference=RING)
def all_reduce_steps(ranks: Count) -> Count:
    r"""Latency steps of a ring all-reduce.

    .. math:: k = 2 (n - 1)

    Parameters
    ----------
    ranks
        Ranks of the group :math:`n` [1].

    Returns
    -------
    Count
        Steps [1].

    Notes
    -----
    A reduce-scatter lap and an all-gather lap.

    Examples
    --------
    >>> float(all_reduce_steps(8.0))
    14.0
    """
    return 2.0 * np.maximum(ranks - 1.0, 0.0)


@equation(reference=RING)
def all_gather_steps(ranks: Count) -> Count:
    r"""Latency steps of a ring all-gather or reduce-scatter.

    .. math:: k = n - 1

    Parameters
    ----------
    ranks
        Ranks of the group :math:`n` [1].

    Returns
    -------
    Count
        Steps [1].

    Notes
    -----
    One lap of the ring.

    Examples
    --------
    >>> float(all_gather_steps(8.0))
    7.0
    """
    return np.maximum(ranks - 1.0, 0.0)


@equation(reference=STUDY)
def all_to_all_steps(ranks: Count) -> Count:
    r"""Latency steps of an all-to-all on a switched network, nearly flat in the ranks.

    .. math:: k = 1 + 0.15\,(n - 2) \; \text{for } n > 1, \quad 0 \text{ else}

    Parameters
    ----------
    ranks
        Ranks of the group :math:`n` [1].

    Returns
    -------
    Count
        Steps [1].

    Notes
    -----
    Peers are served at the same time; a little serialisation per peer remains.

    Examples
    --------
    >>> round(float(all_to_all_steps(8.0)), 6)
    1.9
    """
    return only_where(ranks > 1.0, 1.0 + ALL_TO_ALL_STEP_GROWTH * (ranks - 2.0))
