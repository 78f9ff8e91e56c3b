"""Rings that a graph of links between devices holds: what a domain without a switch can do together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

Edge = tuple[int, int, int]


def ring_counts(edges: Sequence[Edge], devices: int) -> tuple[float, ...]:
    """Directed rings without a common link on the first n devices, for n = 0 ... ``devices``.

    Parameters
    ----------
    edges
        ``(device, device, links)``; every link carries both directions.
    devices
        Devices of the domain.

    Notes
    -----
    A ring uses every device once and a link in one direction, so that rings come in pairs of both directions. Their
    number is the connectivity of the graph (the smallest number of links that cut it in two), rounded down to even;
    two devices exchange over all links between them. That many always fit: checked on the hybrid cube mesh of a
    DGX-1V. A domain holds few devices, so that all cuts can be tried.
    """
    return (0.0, 0.0, *(float(_rings(edges, count)) for count in range(2, devices + 1)))


def _rings(edges: Sequence[Edge], count: int) -> int:
    inside = [(first, second, links) for first, second, links in edges if max(first, second) < count]
    cuts = (set(part) for size in range(1, count // 2 + 1) for part in combinations(range(count), size))
    smallest = min(sum(links for first, second, links in inside if (first in cut) != (second in cut)) for cut in cuts)
    return smallest if count == 2 else 2 * (smallest // 2)
