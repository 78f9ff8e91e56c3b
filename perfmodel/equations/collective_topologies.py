"""Collectives on networks that are not one switch: torus, dragonfly, shared host bus, graph of links; all-to-all.

Each function turns the shape of a network into a bandwidth or a number of bytes that the forms of
:mod:`perfmodel.equations.collectives` take, so that a simple shape gives exactly the simple form: a torus of one
dimension is a ring, a dragonfly without taper is a switch.
"""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import inverse_count, only_where
from perfmodel.units import Bandwidth, Bytes, Count, Ratio, Seconds, equation

_SCALING_BOOK = (
    "Austin et al. 2025, How to Scale Your Model, chapter Sharded Matrices (rings along the axes of a torus)"
)
_BISECTION = "Dally and Towles 2004, Principles and Practices of Interconnection Networks, section 3.3 (bisection)"
_DRAGONFLY = "Kim, Dally, Scott and Abts 2008, doi:10.1109/ISCA.2008.19"
_MPICH = "Thakur, Rabenseifner and Gropp 2005, doi:10.1177/1094342005051521"
_PACKING = "Edmonds 1973 (packing of spanning trees); Wang et al. 2020, arXiv 1910.04940 (Blink, DGX-1V)"
_STUDY = "perfmodel collective study (closed forms for measured collectives)"


@equation(reference=_SCALING_BOOK)
def torus_bandwidth(link_bandwidth: Bandwidth, dimensions: Count) -> Bandwidth:
    r"""Bandwidth of a rank whose group covers some dimensions of a torus.

    .. math:: B = 2\, D\, b

    Parameters
    ----------
    link_bandwidth
        One link in one direction :math:`b` [B/s].
    dimensions
        Dimensions that the group extends along :math:`D` [1].

    Returns
    -------
    Bandwidth
        All links of a rank that the group can use, one direction [B/s].

    Notes
    -----
    A ring runs both ways along each of these dimensions, and the buffer is split over them. A group that does not fill
    its last dimension is taken to close a ring all the same, as slices with switched wrap-around links do.

    Examples
    --------
    >>> float(torus_bandwidth(45.0, 3.0))
    270.0
    """
    return 2.0 * dimensions * link_bandwidth


@equation(reference=_BISECTION)
def torus_all_to_all_wire(size: Bytes, extent: Count, dimensions: Count) -> Bytes:
    r"""Bytes per rank of an all-to-all on a torus, counted once for every link that they cross.

    .. math:: w = \frac{D\, e}{4} S \; [e > 1]

    Parameters
    ----------
    size
        Buffer of one rank :math:`S` [B].
    extent
        Longest dimension of the group :math:`e` [1].
    dimensions
        Dimensions that the group extends along :math:`D` [1].

    Returns
    -------
    Bytes
        Bytes that, over :func:`torus_bandwidth`, take the time of the bisection [B].

    Notes
    -----
    Along a ring of :math:`e` ranks a message travels :math:`e / 4` links on average, over two links per rank:
    :math:`S e / (8 b)`, which is also half of the data over the bisection. The longest dimension binds.

    Examples
    --------
    A ring of two ranks sends half of the buffer, like a switch:

    >>> float(torus_all_to_all_wire(8.0, 2.0, 1.0))
    4.0
    """
    return only_where(extent > 1.0, 0.25 * dimensions * extent * size)


@equation(reference=_DRAGONFLY)
def dragonfly_global_bandwidth(
    link_bandwidth: Bandwidth, groups: Count, links_per_pair: Ratio, devices_per_group: Count
) -> Bandwidth:
    r"""Bandwidth between the groups of a dragonfly that one device can count on.

    .. math:: B_g = \frac{(G - 1)\, l\, b}{p}

    Parameters
    ----------
    link_bandwidth
        One link between groups in one direction :math:`b` [B/s].
    groups
        Groups of the system :math:`G` [1].
    links_per_pair
        Links between two groups :math:`l` [1].
    devices_per_group
        Devices of a group :math:`p` [1].

    Returns
    -------
    Bandwidth
        Share of a device [B/s]; zero for a single group.

    Notes
    -----
    All devices of a group send beyond it at the same time, evenly to all other groups. The bandwidth of a device inside
    its group over this one is the taper: the ``oversubscription`` of the tier that joins the groups.

    Examples
    --------
    Frontier: 74 groups of 1024 devices (12.5 GB/s each), 4 links of 25 GB/s per pair of groups:

    >>> round(12.5e9 / float(dragonfly_global_bandwidth(25e9, 74.0, 4.0, 1024.0)), 3)
    1.753
    """
    return np.maximum(groups - 1.0, 0.0) * links_per_pair * link_bandwidth * inverse_count(devices_per_group)


@equation(reference=_DRAGONFLY)
def dragonfly_ring_bandwidth(global_bandwidth: Bandwidth, groups: Count, detour: Ratio) -> Bandwidth:
    r"""Bandwidth between groups of a dragonfly for a ring, whose groups send to one other group only.

    .. math:: B = B_g \max\left(\frac{1}{\max(G - 1, 1)},\; \frac{1}{1 + d}\right)

    Parameters
    ----------
    global_bandwidth
        Share of a device in all links between groups :math:`B_g` [B/s].
    groups
        Groups that the ring visits :math:`G` [1].
    detour
        Extra global hops of a packet that avoids the direct link :math:`d` [1]: 1 for routing over a third group.

    Returns
    -------
    Bandwidth
        Share of a device [B/s].

    Notes
    -----
    The direct links to the next group are one part in :math:`G - 1` of all; routing over a random third group
    (Valiant) uses all of them and crosses two. Adaptive routing takes the better. Uniform traffic, an all-to-all, needs
    no detour and has :math:`B_g`.

    Examples
    --------
    >>> float(dragonfly_ring_bandwidth(8.0, 2.0, 1.0)), float(dragonfly_ring_bandwidth(8.0, 40.0, 1.0))
    (8.0, 4.0)
    """
    direct = inverse_count(groups - 1.0)
    return global_bandwidth * np.maximum(direct, 1.0 / (1.0 + detour))


@equation(reference=_STUDY)
def shared_bandwidth(
    bandwidth: Bandwidth, pool: Bandwidth, devices: Count, ranks: Count, switch_devices: Count
) -> Bandwidth:
    r"""Bandwidth of a device whose links end in one host that all devices share.

    .. math:: B = \min\left(B_1,\; \frac{P}{m}\right) \; \text{for } n > s, \quad B_1 \text{ else}

    Parameters
    ----------
    bandwidth
        Link of the device :math:`B_1` [B/s].
    pool
        What the host carries in all, per direction :math:`P` [B/s].
    devices
        Devices of the host that send at the same time :math:`m` [1].
    ranks
        Ranks of the group :math:`n` [1].
    switch_devices
        Devices below one switch, which reach each other without the host :math:`s` [1].

    Returns
    -------
    Bandwidth
        Bandwidth per device [B/s].

    Notes
    -----
    Devices without peer-to-peer access write to the memory of the host and read from it. Groups are taken to lie below
    one switch where they fit.

    Examples
    --------
    >>> float(shared_bandwidth(30.0, 12.0, 4.0, 4.0, 2.0)), float(shared_bandwidth(30.0, 12.0, 4.0, 2.0, 2.0))
    (3.0, 30.0)
    """
    return +np.where(ranks > switch_devices, np.minimum(bandwidth, pool * inverse_count(devices)), bandwidth)


@equation(reference=_PACKING)
def link_graph_bandwidth(link_bandwidth: Bandwidth, rings: Count) -> Bandwidth:
    r"""Bandwidth of a rank when a graph of links carries several rings.

    .. math:: B = R\, b

    Parameters
    ----------
    link_bandwidth
        One link in one direction :math:`b` [B/s].
    rings
        Directed rings without a common link :math:`R` [1] that the graph of the group holds.

    Returns
    -------
    Bandwidth
        Bandwidth per direction [B/s].

    Notes
    -----
    Every ring passes every rank once. Their number is bounded by the connectivity of the graph of links.

    Examples
    --------
    Eight devices of a DGX-1V, six rings of 25 GB/s:

    >>> float(link_graph_bandwidth(25e9, 6.0)) / 1e9
    150.0
    """
    return rings * link_bandwidth


@equation(reference=_MPICH)
def tier_all_to_all_time(
    size: Bytes, ranks: Count, members: Count, bandwidth: Bandwidth, link_fraction: Ratio
) -> Seconds:
    r"""Time on the wires of one network tier of an all-to-all that crosses it.

    .. math:: X = \left(1 - \frac{g}{n}\right) \frac{S}{\eta B}

    Parameters
    ----------
    size
        Buffer of one rank, own block included :math:`S` [B].
    ranks
        Ranks of the group :math:`n` [1].
    members
        Ranks of the group inside one domain of the tier below :math:`g` [1].
    bandwidth
        Bandwidth per rank and direction at this tier :math:`B` [B/s].
    link_fraction
        Sustained fraction of it :math:`\eta` [1].

    Returns
    -------
    Seconds
        Time [s]; zero when the group lies in one domain.

    Notes
    -----
    Equal blocks. Every rank sends what leaves its domain over its own share of the links.

    Examples
    --------
    >>> float(tier_all_to_all_time(8.0, 16.0, 8.0, 1.0, 0.5))
    8.0
    """
    return np.maximum(1.0 - members * inverse_count(ranks), 0.0) * size / (bandwidth * link_fraction)
