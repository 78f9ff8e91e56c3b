"""Longest paths of DualPipe through uneven stages: micro-batches enter at both ends and pass each other.

A stage holds what the stage opposite holds, so that both halves of the pipeline keep the same time and one half
tells all. Its stages are counted from the outside, from 0 to ``p / 2 - 1``; what leaves the middle one inwards comes
in there from the other half. Waves are those of ``pipeline_waves``; a pair is a forward beside a backward pass.
"""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import only_where
from perfmodel.units import Count, Ratio, Seconds, equation

ORDER = "DeepSeek-AI 2024, arXiv 2412.19437, section 3.2.1; longest path of the published order, checked by replay"


@equation(reference=ORDER)
def dualpipe_first_gradient_ready_time(ready: Seconds, forward: Seconds, stages: Count, position: Count) -> Seconds:
    r"""DualPipe: time at which a stage is ready for its first backward pass.

    .. math:: r_i' = r_i + F\, [n = 0], \qquad n = p / 2 - 1 - i

    Parameters
    ----------
    ready
        Time of the forward passes that every stage makes before :math:`r_i` [s].
    forward
        Forward pass of the stage :math:`F` [s].
    stages, position
        Pipeline stages :math:`p`, position of the stage :math:`i` from the outside [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s].

    Notes
    -----
    The middle stages make one forward pass more, which has no backward pass beside it.

    Examples
    --------
    >>> float(dualpipe_first_gradient_ready_time(9.0, 1.0, 8.0, 3.0))
    10.0
    >>> float(dualpipe_first_gradient_ready_time(9.0, 1.0, 8.0, 0.0))
    9.0
    """
    return ready + only_where(0.5 * stages - 1.0 - position <= 0.0, forward)


@equation(reference=ORDER)
def dualpipe_first_pair_time(
    first_gradient: Seconds,
    before: Seconds,
    before_held: Seconds,
    input_gradient_held: Seconds,
    total_held: Seconds,
    total: Seconds,
    forward: Seconds,
    stages: Count,
    position: Count,
) -> Seconds:
    r"""DualPipe: end of the first pair of a stage whose forward pass runs inwards.

    .. math::
        c_{i,k} = a_k + n_i\, t_k + \sum_{k < j < i} B_j + t_i - F_i\, [n_i = 0], \qquad n_i = p / 2 - 1 - i

    Parameters
    ----------
    first_gradient
        End of the first input gradient of stage :math:`k \le i` [s].
    before, before_held
        Input gradients of the stages before :math:`i`, and before :math:`k` [s].
    input_gradient_held, total_held
        Input gradient :math:`B_k` and all passes of a micro-batch :math:`t_k` on stage :math:`k` [s].
    total, forward
        All passes of a micro-batch :math:`t_i`, and the forward pass :math:`F_i` [s].
    stages, position
        Pipeline stages :math:`p`, position of the stage :math:`i` from the outside [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s]; the longest over :math:`k` counts.

    Notes
    -----
    It is pass :math:`n_i` of the direction that turns at the outer stage. For the middle stage it is the backward
    pass alone. With :math:`k = i` the sum is :math:`-B_i`.

    Examples
    --------
    >>> float(dualpipe_first_pair_time(9.0, 1.0, 1.0, 1.0, 3.0, 3.0, 1.0, 8.0, 1.0))
    17.0
    """
    inner = 0.5 * stages - 1.0 - position
    between = before - before_held - input_gradient_held
    return first_gradient + inner * total_held + between + total - only_where(inner <= 0.0, forward)


@equation(reference=ORDER)
def dualpipe_last_forward_ready_time(
    first_pair: Seconds,
    first_return: Seconds,
    total: Seconds,
    stages: Count,
    position: Count,
    num_microbatches: Count,
) -> Seconds:
    r"""DualPipe: time at which a stage is ready for its last forward pass inwards.

    .. math::
        r_i = \begin{cases} d_i + 2 (S_i - 2)\, t & S_i > 1 \\ c_i - t & S_i = 1 \end{cases},
        \qquad S_i = m / 2 - p + i + 1

    Parameters
    ----------
    first_pair
        End of its first pair whose forward pass runs inwards :math:`c_i` [s].
    first_return
        End of its first pair whose forward pass runs outwards :math:`d_i` [s].
    total
        All passes of a micro-batch on the stage :math:`t`, which is also the time of a pair [s].
    stages, position
        Pipeline stages :math:`p`, position of the stage :math:`i` from the outside [1].
    num_microbatches
        Micro-batches per step :math:`m` [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s].

    Notes
    -----
    The steady state: :math:`S_i` times a pair of each kind. Where there is one of a kind, it is the first and the last.

    Examples
    --------
    >>> float(dualpipe_last_forward_ready_time(10.0, 13.0, 3.0, 4.0, 0.0, 12.0))
    19.0
    >>> float(dualpipe_last_forward_ready_time(10.0, 13.0, 3.0, 4.0, 0.0, 8.0))
    7.0
    """
    rounds = 0.5 * num_microbatches - stages + position + 1.0
    return +np.where(rounds > 1.0, first_return + 2.0 * (rounds - 2.0) * total, first_pair - total)


@equation(reference=ORDER)
def dualpipe_steady_time(
    last_forward: Seconds,
    first_return: Seconds,
    total: Seconds,
    stages: Count,
    position: Count,
    num_microbatches: Count,
) -> Seconds:
    r"""DualPipe: end of the steady state of a stage.

    .. math:: e_i = \max\bigl(l_i + t,\; d_i + 2 (S_i - 1)\, t\bigr), \qquad S_i = m / 2 - p + i + 1

    Parameters
    ----------
    last_forward
        End of its last pair whose forward pass runs inwards :math:`l_i` [s].
    first_return
        End of its first pair whose forward pass runs outwards :math:`d_i` [s].
    total
        All passes of a micro-batch on the stage :math:`t`, which is also the time of a pair [s].
    stages, position
        Pipeline stages :math:`p`, position of the stage :math:`i` from the outside [1].
    num_microbatches
        Micro-batches per step :math:`m` [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s].

    Notes
    -----
    For at least :math:`2 p` micro-batches.

    Examples
    --------
    >>> float(dualpipe_steady_time(22.0, 13.0, 3.0, 4.0, 0.0, 12.0))
    25.0
    """
    rounds = 0.5 * num_microbatches - stages + position + 1.0
    return np.maximum(last_forward + total, first_return + 2.0 * (rounds - 1.0) * total)


@equation(reference=ORDER)
def dualpipe_last_pair_ready_time(
    steady: Seconds,
    before: Seconds,
    before_held: Seconds,
    total: Seconds,
    forward: Seconds,
    stages: Count,
    held: Count,
) -> Seconds:
    r"""DualPipe: time at which a stage is ready for its last pair.

    .. math:: r_{i,k} = e_k + \sum_{i < j < k} t_j + n_k\, (2 t_i - F_i), \qquad n_k = p / 2 - 1 - k

    Parameters
    ----------
    steady
        End of the steady state of stage :math:`k \ge i` :math:`e_k` [s].
    before, before_held
        Passes of a micro-batch on the stages before :math:`i`, and before :math:`k` [s].
    total, forward
        All passes of a micro-batch :math:`t_i`, and the forward pass :math:`F_i` [s].
    stages
        Pipeline stages :math:`p` [1].
    held
        Position of stage :math:`k` from the outside, from which the path goes outwards to :math:`i` [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s]; the longest over :math:`k` counts.

    Notes
    -----
    After the steady state a stage takes a backward pass alone and a pair in turn. With :math:`k = i` the sum is
    :math:`-t_i`.

    Examples
    --------
    >>> float(dualpipe_last_pair_ready_time(25.0, 3.0, 3.0, 3.0, 1.0, 8.0, 1.0))
    32.0
    """
    inner = 0.5 * stages - 1.0 - held
    return steady + before_held - before - total + inner * (2.0 * total - forward)


@equation(reference=ORDER)
def dualpipe_last_turn_ready_time(
    last_pair: Seconds, input_gradient: Seconds, weight_gradient: Seconds, position: Count
) -> Seconds:
    r"""DualPipe: time at which a stage is ready for its last input gradient inwards.

    .. math:: r_i = f_i + 2 i\, B + (i + 1)\, W

    Parameters
    ----------
    last_pair
        End of the last pair of the stage :math:`f_i` [s].
    input_gradient, weight_gradient
        Passes of the stage :math:`B, W` [s].
    position
        Position of the stage from the outside :math:`i` [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s].

    Notes
    -----
    Backward passes of both directions in turn; the weight gradients of the second half of them are put off.

    Examples
    --------
    >>> float(dualpipe_last_turn_ready_time(40.0, 1.0, 2.0, 2.0))
    50.0
    """
    return last_pair + 2.0 * position * input_gradient + (position + 1.0) * weight_gradient


@equation(reference=ORDER)
def dualpipe_last_return_ready_time(
    last_turn: Seconds, input_gradient: Seconds, weight_gradient: Seconds, stages: Count, position: Count
) -> Seconds:
    r"""DualPipe: time at which a stage is ready for its last input gradient, which runs outwards.

    .. math:: r_i = u_i + n\, (B + W), \qquad n = p / 2 - 1 - i

    Parameters
    ----------
    last_turn
        End of its last input gradient inwards :math:`u_i` [s].
    input_gradient, weight_gradient
        Passes of the stage :math:`B, W` [s].
    stages, position
        Pipeline stages :math:`p`, position of the stage :math:`i` from the outside [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s].

    Notes
    -----
    Weight gradients that were put off fill the gaps.

    Examples
    --------
    >>> float(dualpipe_last_return_ready_time(50.0, 1.0, 2.0, 8.0, 1.0))
    56.0
    """
    return last_turn + (0.5 * stages - 1.0 - position) * (input_gradient + weight_gradient)


@equation(reference=ORDER)
def dualpipe_end_time(
    last_return: Seconds, weight_gradient: Seconds, position: Count, before: Seconds, synchronous: Ratio
) -> Seconds:
    r"""DualPipe: time of a step as the end of one stage; the longest of all stages is the time of the step.

    .. math:: t_i = v_i + (i + 1)\, W - (1 - s) \sum_{j < i} F_j

    Parameters
    ----------
    last_return
        End of the last input gradient of the stage :math:`v_i` [s].
    weight_gradient
        Weight gradients of one micro-batch :math:`W` [s].
    position
        Position of the stage from the outside :math:`i` [1].
    before
        Forward passes of the stages further out, after which this one starts [s].
    synchronous
        1 where every stage waits for the last one before it updates its weights, else 0 :math:`s` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Exact for equal stages, and where the two outer ones differ from all others, for an even number of at least
    :math:`2 p` micro-batches. Never above the replay; below it by 1.3 % at most where every stage has a size of its own
    within 0.5 to 1.6, by 2.5 % where any two passes differ by factors of up to 15.

    Examples
    --------
    >>> float(dualpipe_end_time(60.0, 1.0, 3.0, 3.0, 1.0)), float(dualpipe_end_time(60.0, 1.0, 3.0, 3.0, 0.0))
    (64.0, 61.0)
    """
    return last_return + (position + 1.0) * weight_gradient - (1.0 - synchronous) * before
