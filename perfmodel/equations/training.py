"""Counts of a training step that join the other subjects: reductions, optimizer traffic, vector work, uneven slices."""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import inverse_count
from perfmodel.units import BytesPerElement, Count, Flop, Ratio, equation

ZERO = "Rajbhandari et al. 2020, arXiv 1910.02054 (ZeRO)"
MEGATRON = "Narayanan et al. 2021, arXiv 2104.04473, section 2.2"
ADAM = "Kingma and Ba 2015, arXiv 1412.6980"
MIXED = "Micikevicius et al. 2018, arXiv 1710.03740"


@equation(reference=f"{ZERO}; schedule of {MEGATRON}")
def gradient_reductions(num_microbatches: Count, stages: Count, virtual_stages: Count) -> Count:
    r"""Reductions of the gradients of a parameter per step when gradients are kept sharded (ZeRO-2).

    .. math:: r = \max(m / g,\; 1), \qquad g = p \text{ if } p > 1 \text{ and } v > 1, \text{ else } 1

    Parameters
    ----------
    num_microbatches
        Micro-batches per step and replica :math:`m` [1].
    stages, virtual_stages
        Pipeline size :math:`p`, and model chunks per stage :math:`v` [1].

    Returns
    -------
    Count
        Reductions per step [1], at least one.

    Notes
    -----
    With an interleaved schedule a chunk works on groups of ``p`` consecutive micro-batches, so that its
    gradients are scattered once per group. Otherwise every micro-batch is scattered on its own.

    Examples
    --------
    >>> float(gradient_reductions(32.0, 16.0, 8.0))
    2.0
    """
    group = np.where((virtual_stages > 1.0) & (stages > 1.0), stages, 1.0)
    return np.maximum(num_microbatches / group, 1.0)


@equation(reference=f"{ADAM}; {MIXED}")
def state_traffic_per_parameter(
    gradients: BytesPerElement, master_weights: BytesPerElement, moments: BytesPerElement, weights: BytesPerElement
) -> BytesPerElement:
    r"""Bytes that one optimizer step moves per owned parameter.

    .. math:: q = b_g + 2 b_m + 2 b_s + b_w

    Parameters
    ----------
    gradients, master_weights, moments, weights
        State per parameter :math:`b_g, b_m, b_s, b_w` [B].

    Returns
    -------
    BytesPerElement
        Traffic per parameter [B]; 30 for 32-bit Adam with 16-bit weights.

    Notes
    -----
    The gradient is read, master weight and moments are read and written, the working weight is written.

    Examples
    --------
    >>> float(state_traffic_per_parameter(4.0, 4.0, 8.0, 2.0))
    30.0
    """
    return gradients + 2.0 * master_weights + 2.0 * moments + weights


@equation(reference="counting")
def vector_flop(elements: Count, flop_per_element: Flop) -> Flop:
    r"""Work of a memory-bound operator on the vector units.

    .. math:: W = n\, w

    Parameters
    ----------
    elements
        Elements :math:`n` [1].
    flop_per_element
        Work per element :math:`w` [FLOP].

    Returns
    -------
    Flop
        Work [FLOP].

    Notes
    -----
    A special function counts as the operations of its usual polynomial.

    Examples
    --------
    >>> float(vector_flop(10.0, 4.0))
    40.0
    """
    return elements * flop_per_element


@equation(reference="counting; Brandon et al. 2023, arXiv 2311.09431 (striped attention)")
def last_slice_factor(ranks: Count) -> Ratio:
    r"""Causal pairs of the rank with the last slice of a sequence over the mean of all ranks.

    .. math:: f = 2 - 1 / n

    Parameters
    ----------
    ranks
        Ranks that hold one slice each, in order :math:`n` [1].

    Returns
    -------
    Ratio
        Factor on the pairs of the slowest rank [1].

    Notes
    -----
    Queries of the last slice see all earlier keys and half of their own slice; the mean query sees half of all.

    Examples
    --------
    >>> float(last_slice_factor(1.0)), float(last_slice_factor(4.0))
    (1.0, 1.75)
    """
    return 2.0 - inverse_count(ranks)
