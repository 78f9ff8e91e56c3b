"""Products of matrices that are cut along both sides, on a grid of ranks (SUMMA)."""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import only_where, safe_ratio
from perfmodel.units import Bytes, Count, Seconds, equation

SUMMA = "van de Geijn and Watts 1997, doi:10.1002/(SICI)1096-9128(199704)9:4<255::AID-CPE250>3.0.CO;2-2"
STUDY = "Subramanian et al. 2024, arXiv 2410.00273"


@equation(reference=f"{SUMMA} (pipelined broadcast)")
def broadcast_buffer(size: Bytes, ranks: Count) -> Bytes:
    r"""Buffer of the all-gather that takes as long as a pipelined broadcast, or a sum to one rank.

    .. math:: S' = \frac{n}{n - 1}\, S

    Parameters
    ----------
    size
        Buffer that is broadcast :math:`S` [B].
    ranks
        Ranks of the group :math:`n` [1].

    Returns
    -------
    Bytes
        Buffer [B]; zero for one rank.

    Notes
    -----
    A ring passes the whole buffer on, piece by piece, over n - 1 hops: every rank sends all of it, where an all-gather
    sends all but its own part. Assumes that the pieces are small.

    Examples
    --------
    >>> float(broadcast_buffer(6.0, 4.0)), float(broadcast_buffer(6.0, 1.0))
    (8.0, 0.0)
    """
    return only_where(ranks > 1.0, size * safe_ratio(ranks, ranks - 1.0))


@equation(reference=f"{STUDY}, section 3; {SUMMA}")
def panels_exposed_time(panel: Seconds, panels: Count, compute: Seconds) -> Seconds:
    r"""Communication of a product by panels that its own arithmetic does not hide.

    .. math:: t_e = t_1 + \max(k\, t_1 - c,\; 0)

    Parameters
    ----------
    panel
        Time of the collectives of one panel :math:`t_1` [s].
    panels
        Panels of the product :math:`k` [1].
    compute
        Time of the arithmetic of all panels :math:`c` [s].

    Returns
    -------
    Seconds
        Exposed time [s], from that of one panel up.

    Notes
    -----
    While one panel is multiplied the next one travels; nothing hides the first. The exposed time is up to one panel
    longer than all of the communication when there is nothing to hide behind: the form of the study.

    Examples
    --------
    >>> float(panels_exposed_time(1.0, 4.0, 10.0)), float(panels_exposed_time(1.0, 4.0, 3.0))
    (1.0, 2.0)
    """
    return panel + np.maximum(panels * panel - compute, 0.0)
