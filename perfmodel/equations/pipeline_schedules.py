"""Schedules beside 1F1B: GPipe, zero-bubble ZB-H1 and ZB-V, DualPipe; their time, bubble and activations in flight.

``F``, ``B`` and ``W`` are the forward pass, the gradients of the inputs and the gradients of the weights.
"""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import only_where
from perfmodel.units import Count, Ratio, Seconds, equation

GPIPE = "Huang et al. 2019, arXiv 1811.06965, section 2.3"
ZERO_BUBBLE = "Qi et al. 2024, arXiv 2401.10241"
FOLDED = "Qi et al. 2024, arXiv 2405.15362"
DUALPIPE = "DeepSeek-AI 2024, arXiv 2412.19437, section 3.2.1"
REPLAY = "critical paths of the order, checked against its replay"


@equation(reference=f"{GPIPE}; flow shop with equal jobs")
def gpipe_time(
    num_microbatches: Count, all_stages_time: Seconds, slowest_forward: Seconds, slowest_backward: Seconds
) -> Seconds:
    r"""Time of all micro-batches of one step when all forward passes come before the backward passes.

    .. math:: t = \sum_j t_j + (m - 1) \left(\max_j F_j + \max_j G_j\right)

    Parameters
    ----------
    num_microbatches
        Micro-batches per step :math:`m` [1].
    all_stages_time
        Forward and backward time of one micro-batch, summed over the stages [s].
    slowest_forward, slowest_backward
        Longest forward time :math:`F_j` and longest backward time :math:`G_j` of a stage [s].

    Returns
    -------
    Seconds
        Time [s]; for equal stages :math:`(m + p - 1)\, t`.

    Notes
    -----
    Exact for stages of any times.

    Examples
    --------
    >>> float(gpipe_time(8.0, 12.0, 1.0, 2.0))
    33.0
    """
    return all_stages_time + (num_microbatches - 1.0) * (slowest_forward + slowest_backward)


@equation(reference=f"{ZERO_BUBBLE}, section 2.3 and table 1; other regimes: {REPLAY}")
def zb_h1_bubble_time(
    stages: Count, forward: Seconds, input_gradient: Seconds, weight_gradient: Seconds, synchronous: Ratio
) -> Seconds:
    r"""Bubble of equal stages under ZB-H1: weight gradients fill the end of the step.

    .. math:: t_b = (p - 1) \max(F + B - W,\; B,\; s F)

    Parameters
    ----------
    stages
        Pipeline stages :math:`p` [1].
    forward, input_gradient, weight_gradient
        Times of one micro-batch on a stage :math:`F, B, W` [s].
    synchronous
        1 where every stage waits for the last one before it updates its weights, else 0 :math:`s` [1].

    Returns
    -------
    Seconds
        Idle time [s]; a third of that of 1F1B when the three times are equal.

    Notes
    -----
    The paper has the first term, the longest when neither :math:`W > F` nor, synchronous, :math:`W > B`. At least
    as many micro-batches as stages.

    Examples
    --------
    >>> float(zb_h1_bubble_time(4.0, 1.0, 1.0, 1.0, 1.0)), float(zb_h1_bubble_time(4.0, 1.0, 1.0, 0.0, 1.0))
    (3.0, 6.0)
    """
    longest = np.maximum(forward + input_gradient - weight_gradient, input_gradient)
    return (stages - 1.0) * np.maximum(longest, synchronous * forward)


@equation(reference=f"{ZERO_BUBBLE}, section 6; {FOLDED}; {REPLAY}")
def zb_v_bubble_time(
    stages: Count, forward: Seconds, input_gradient: Seconds, weight_gradient: Seconds, synchronous: Ratio
) -> Seconds:
    r"""Bubble of equal stages under ZB-V: two chunks per stage, the second one on the way back.

    .. math::
        2 t_b = \max\bigl\{& 2n (B - W),\; 2n (F - W) - W,\; 2n (F - W) + B - F,\;
            n (2F - B) - d - W,\; \\ & n B - d,\; n (2F - B) + B - F - d,\;
            (n - 1) W + B - d,\; (n - 1) W + F - d,\; 0 \bigr\}, \\
        n =& p - 1, \qquad d = (1 - s)\, n F \text{ (in the fourth term } (1 - s)(n - 1) W\text{)},
            \qquad t_b = 0 \text{ for } p = 1

    Parameters
    ----------
    stages
        Pipeline stages :math:`p` [1].
    forward, input_gradient, weight_gradient
        Times of one micro-batch on a stage, both chunks :math:`F, B, W` [s].
    synchronous
        1 where every stage waits for the last one before it updates its weights, else 0 :math:`s` [1].

    Returns
    -------
    Seconds
        Idle time [s]. For equal times it is zero where stages do not wait for each other, and
        :math:`(p - 1) F / 2`, the time by which the last stage starts later, where they do.

    Notes
    -----
    For at least :math:`2p - 1` micro-batches. The authors count the longest stage from its first to its last
    pass (:math:`s = 0`), which takes an optimizer that does not wait (their section 4).

    Examples
    --------
    >>> float(zb_v_bubble_time(4.0, 1.0, 1.0, 1.0, 0.0)), float(zb_v_bubble_time(4.0, 1.0, 1.0, 1.0, 1.0))
    (0.0, 1.5)
    """
    others, apart = stages - 1.0, 1.0 - synchronous
    late = apart * others * forward
    weights, before_last = others * weight_gradient, (others - 1.0) * weight_gradient
    ahead, back = others * forward, others * input_gradient
    own = input_gradient - forward
    in_time = np.maximum(2.0 * (back - weights), 2.0 * (ahead - weights) + np.maximum(own, -weight_gradient))
    turned = 2.0 * ahead - back
    started = np.maximum(np.maximum(back, turned + own), before_last + np.maximum(input_gradient, forward)) - late
    folded = turned - weight_gradient - apart * before_last
    longest = np.maximum(np.maximum(np.maximum(in_time, started), folded), 0.0 * forward)
    return only_where(stages > 1.0, 0.5 * longest)


@equation(reference=f"{DUALPIPE}, and the published code; exact form: {REPLAY}")
def dualpipe_bubble_time(
    stages: Count, forward: Seconds, input_gradient: Seconds, weight_gradient: Seconds, pair: Seconds
) -> Seconds:
    r"""Bubble of equal stages under DualPipe: micro-batches enter at both ends and pass each other.

    .. math::
        t_b = (h - 1) \max(B, W) + \max\bigl(h F,\; (h - 1) B\bigr) + 2 h F + (h + 2) B + 3 W - (h + 2) X,
        \qquad h = p / 2

    Parameters
    ----------
    stages
        Pipeline stages :math:`p`, even [1].
    forward, input_gradient, weight_gradient
        Times of one micro-batch on a stage :math:`F, B, W` [s].
    pair
        Time of a forward pass beside a backward pass :math:`X` [s]: :math:`F + B + W` where neither gains.

    Returns
    -------
    Seconds
        Time of the step beyond :math:`m X` [s].

    Notes
    -----
    For :math:`F = B \ge W` and :math:`X = F + B + W` it is the published :math:`(p/2 - 1)(X + B - 2 W)`, written
    there as F&B + B - 3W with W inside of B. For an even number of at least :math:`2p` micro-batches.

    Examples
    --------
    >>> float(dualpipe_bubble_time(8.0, 1.0, 1.0, 1.0, 3.0))
    6.0
    """
    half = 0.5 * stages
    inner = (half - 1.0) * np.maximum(input_gradient, weight_gradient)
    last = np.maximum(half * forward, (half - 1.0) * input_gradient)
    alone = 2.0 * half * forward + (half + 2.0) * input_gradient + 3.0 * weight_gradient
    return inner + last + alone - (half + 2.0) * pair


@equation(reference=f"{ZERO_BUBBLE}, table 1; {FOLDED}; {DUALPIPE}, table 2")
def full_in_flight_microbatches(stages: Count, more: Count, num_microbatches: Count) -> Count:
    r"""Most micro-batches whose activations a stage keeps, in schedules in which all stages keep the same.

    .. math:: n = \min(p + k,\; m)

    Parameters
    ----------
    stages
        Pipeline stages :math:`p` [1].
    more
        Micro-batches beyond one per stage :math:`k` [1]: 0 for ZB-H1 and ZB-V, 1 for DualPipe.
    num_microbatches
        Micro-batches per step :math:`m` [1].

    Returns
    -------
    Count
        Micro-batches in flight [1].

    Notes
    -----
    Activations count in full until the weight gradients are done, although a part is free after the input
    gradients.

    Examples
    --------
    >>> float(full_in_flight_microbatches(8.0, 1.0, 32.0))
    9.0
    """
    return np.minimum(stages + more, num_microbatches)


@equation(reference="definition")
def idle_time(path: Seconds, busy: Seconds, stages: Count) -> Seconds:
    r"""Idle time of a stage: what a step takes beyond the work of the stage.

    .. math:: t_b = \max(t - t_w,\; 0) \; [p > 1]

    Parameters
    ----------
    path
        Time of all micro-batches through the pipeline :math:`t` [s].
    busy
        Time of all micro-batches on the stage :math:`t_w` [s].
    stages
        Pipeline stages :math:`p` [1].

    Returns
    -------
    Seconds
        Idle time [s].

    Notes
    -----
    Exactly zero for one stage, whatever the rounding of the path.

    Examples
    --------
    >>> float(idle_time(33.0, 24.0, 4.0)), float(idle_time(24.0, 24.0, 1.0))
    (9.0, 0.0)
    """
    return only_where(stages > 1.0, np.maximum(path - busy, 0.0 * busy))
