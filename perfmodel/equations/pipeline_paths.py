"""Longest paths through a pipeline of uneven stages: the max-plus recurrence of 1F1B, interleaved 1F1B and ZB-H1.

A schedule is a graph of passes; its time is the longest path. In these schedules the path starts through the
warm-up, stays at one stage while micro-batches pass, and leaves through the end of the step. Times are those of
one pass through one chunk; a stage is counted from 0.
"""

from __future__ import annotations

import numpy as np

from perfmodel.units import Count, Ratio, Seconds, equation

ORDER = "Narayanan et al. 2021, arXiv 2104.04473, section 2.2; longest path of the order, checked against its replay"
ZERO_BUBBLE = "Qi et al. 2024, arXiv 2401.10241, section 2.1; longest path of the order, checked against its replay"


@equation(reference="Megatron-LM schedules (warm-up micro-batches); Narayanan et al. 2021, arXiv 2104.04473")
def passes_ahead(stages: Count, position: Count, virtual_stages: Count) -> Count:
    r"""Forward passes that a stage makes before it takes forward and backward passes in turn.

    .. math:: w_i = p - i - 1 \text{ for } v = 1, \qquad w_i = 2 (p - i - 1) + (v - 1) p \text{ for } v > 1

    Parameters
    ----------
    stages
        Pipeline stages :math:`p` [1].
    position
        Position of the stage :math:`i`, from 0 [1].
    virtual_stages
        Model chunks per stage :math:`v` [1].

    Returns
    -------
    Count
        Passes through one chunk [1].

    Notes
    -----
    With fewer passes in a step than this, the stage makes all of them.

    Examples
    --------
    >>> float(passes_ahead(4.0, 1.0, 1.0)), float(passes_ahead(4.0, 1.0, 2.0))
    (2.0, 8.0)
    """
    below = stages - position - 1.0
    return +np.where(virtual_stages > 1.0, 2.0 * below + (virtual_stages - 1.0) * stages, below)


@equation(reference=ORDER)
def run_time(
    reach: Seconds,
    slowest_before: Seconds,
    passes: Count,
    round_trip: Seconds,
    slowest: Seconds,
    stages: Count,
    virtual_stages: Count,
) -> Seconds:
    r"""Time until a stage has made its first passes of one direction, when nothing else is in the way.

    .. math::
        r = R + n\, x, \qquad
        r = \max\bigl(R + n\, x,\; R + T + k X + (n - p - k)\, x\bigr) \text{ for } v > 1,\; n \ge p,
        \qquad k = \min\bigl(n - p,\; (v - 1)\, p - 1\bigr)

    Parameters
    ----------
    reach
        Time of a pass through the stages up to and including this one :math:`R` [s].
    slowest_before
        Longest pass among these stages :math:`x` [s].
    passes
        Passes before the one in question :math:`n` [1].
    round_trip, slowest
        Passes through all stages together :math:`T`, and the longest of them :math:`X` [s].
    stages, virtual_stages
        Pipeline stages :math:`p` and chunks per stage :math:`v` [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s].

    Notes
    -----
    A flow shop: jobs queue before the slowest machine. Micro-batches of an interleaved schedule come back after
    :math:`p` passes, so that the slowest stage further down counts as well, for passes before the last chunk.

    Examples
    --------
    >>> float(run_time(3.0, 1.5, 4.0, 8.0, 2.0, 4.0, 1.0)), float(run_time(3.0, 1.5, 8.0, 8.0, 2.0, 4.0, 2.0))
    (9.0, 18.5)
    """
    plain = reach + passes * slowest_before
    below = np.minimum(passes - stages, (virtual_stages - 1.0) * stages - 1.0)
    around = reach + round_trip + below * slowest + (passes - stages - below) * slowest_before
    return np.maximum(plain, np.where((virtual_stages > 1.0) & (passes >= stages), around, plain))


@equation(reference=ORDER)
def first_return_time(own: Seconds, arrival: Seconds, run_ahead: Seconds) -> Seconds:
    r"""Time until a stage has ended its first pass of the other direction.

    .. math:: s_i = B_i + \max(s_{i+1},\; r_i)

    Parameters
    ----------
    own
        The pass itself :math:`B_i` [s].
    arrival
        Time at which the stage below has ended it :math:`s_{i+1}` [s].
    run_ahead
        Time at which the passes that the stage runs ahead have ended :math:`r_i` [s].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s].

    Notes
    -----
    With the directions exchanged it is the time from the start of the last forward pass to the end of the step:
    the order read from its end is the order again.

    Examples
    --------
    >>> float(first_return_time(2.0, 7.0, 5.0))
    9.0
    """
    return own + np.maximum(arrival, run_ahead)


@equation(reference=ORDER)
def second_group_time(start: Seconds, slot: Seconds, onwards: Seconds, stages: Count, position: Count) -> Seconds:
    r"""Interleaved: time until the second group of micro-batches has passed a chunk, held up at one stage.

    .. math:: g_i = s_i + \bigl(p - 1 - 2 (p - 1 - i)\bigr)\, \tau_i + \sum_{j \ge i} F_j \; [2 (p - 1 - i) < p]

    Parameters
    ----------
    start
        End of the first backward pass of the stage :math:`s_i` [s].
    slot
        Forward and backward pass of the stage :math:`\tau_i` [s].
    onwards
        Forward passes of this stage and of those below [s].
    stages, position
        Pipeline stages :math:`p` and position of the stage :math:`i` [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s]; zero for stages of the first half.

    Notes
    -----
    From the last stage the group goes on to the next chunk of the first one.

    Examples
    --------
    >>> float(second_group_time(10.0, 3.0, 1.0, 4.0, 3.0))
    20.0
    """
    below = stages - 1.0 - position
    late = start + (stages - 1.0 - 2.0 * below) * slot + onwards
    return +np.where(2.0 * below < stages, late, 0.0)


@equation(reference=ORDER)
def late_start_time(
    start: Seconds,
    second_group: Seconds,
    before: Seconds,
    slot: Seconds,
    position: Count,
    stages: Count,
    num_microbatches: Count,
    virtual_stages: Count,
) -> Seconds:
    r"""Start of the longest path at a stage, where the second group of micro-batches may be what holds it up.

    .. math:: s_i' = \max\Bigl(s_i,\; \max_j g_j + \sum_{j < i} F_j - (1 + 2 i)\, \tau_i\Bigr)
        \text{ for } v > 1,\; m \ge 2 p, \quad \text{else } s_i

    Parameters
    ----------
    start
        End of the first backward pass of the stage :math:`s_i` [s].
    second_group
        Latest time of the second group :math:`\max_j g_j` [s].
    before
        Forward passes of the stages before [s].
    slot
        Forward and backward pass of the stage :math:`\tau_i` [s].
    position, stages
        Position of the stage :math:`i` and pipeline stages :math:`p` [1].
    num_microbatches, virtual_stages
        Micro-batches per step :math:`m` and chunks per stage :math:`v` [1].

    Returns
    -------
    Seconds
        The end of the first backward pass from which the stage can work without a gap [s].

    Notes
    -----
    The group arrives :math:`1 + 2 i` pairs of passes after the first backward pass.

    Examples
    --------
    >>> float(late_start_time(10.0, 20.0, 1.0, 3.0, 0.0, 4.0, 8.0, 2.0))
    18.0
    """
    late = second_group + before - (1.0 + 2.0 * position) * slot
    twice = (virtual_stages > 1.0) & (num_microbatches >= 2.0 * stages)
    return np.maximum(start, np.where(twice, late, start))


@equation(reference=ORDER)
def late_end_time(end: Seconds, late_end: Seconds, position: Count, passes: Count, ahead: Count) -> Seconds:
    r"""End of a path that also started late: late as well, where there are passes enough between the two.

    .. math:: e_i'' = e_i' \text{ for } n - 2 - w_i \ge 2 (1 + 2 i), \quad \text{else } e_i

    Parameters
    ----------
    end, late_end
        Time from the start of the last forward pass to the end of the step :math:`e_i`, and the same where the
        last group but one holds it up :math:`e_i'` [s].
    position
        Position of the stage :math:`i` [1].
    passes, ahead
        Forward passes of a step :math:`n`, and those that the stage runs ahead :math:`w_i` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    A late start and a late end each take the place of :math:`1 + 2 i` pairs of passes.

    Examples
    --------
    >>> float(late_end_time(3.0, 5.0, 0.0, 16.0, 10.0)), float(late_end_time(3.0, 5.0, 1.0, 16.0, 10.0))
    (5.0, 3.0)
    """
    return +np.where(passes - 2.0 - ahead >= 2.0 * (1.0 + 2.0 * position), late_end, end)


@equation(reference=ORDER)
def stage_path_time(
    forward: Seconds,
    backward: Seconds,
    start: Seconds,
    end: Seconds,
    forward_run: Seconds,
    backward_run: Seconds,
    passes: Count,
    ahead: Count,
) -> Seconds:
    r"""Longest path that stays at one stage under 1F1B; the longest of all stages is the time of the step.

    .. math::
        t_i = \begin{cases}
            s_i + (n - 2 - w_i)(F_i + B_i) + e_i & n \ge w_i + 2 \\
            \max(s_i - B_i + r_i^B,\; r_i^F - F_i + e_i) & \text{else}
        \end{cases}

    Parameters
    ----------
    forward, backward
        Passes of the stage :math:`F_i, B_i` [s].
    start
        Time until it has ended its first backward pass :math:`s_i` [s].
    end
        Time from the start of its last forward pass to the end of the step :math:`e_i` [s].
    forward_run, backward_run
        Time of all passes of one direction up to the stage :math:`r_i^F, r_i^B` [s].
    passes, ahead
        Forward passes of a step :math:`n`, and those that the stage runs ahead :math:`w_i` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    The second case is that of few micro-batches: the stage makes all forward passes before the first backward one.

    Examples
    --------
    >>> float(stage_path_time(1.0, 2.0, 6.0, 3.0, 0.0, 0.0, 8.0, 0.0))
    27.0
    """
    between = passes - 2.0 - ahead
    long = start + between * (forward + backward) + end
    short = np.maximum(start - backward + backward_run, forward_run - forward + end)
    return +np.where(between >= 0.0, long, short)


@equation(reference=ZERO_BUBBLE)
def postponed_tail_time(
    weight_gradient: Seconds, position: Count, arrival: Seconds, before: Seconds, synchronous: Ratio
) -> Seconds:
    r"""ZB-H1: time from the last input gradient of a stage to the end of the step.

    .. math:: u_i = \max\Bigl(u_{i-1} + B_{i-1},\; (i + 1) W_i - (1 - s) \sum_{j < i} F_j\Bigr)

    Parameters
    ----------
    weight_gradient
        Weight gradients of one micro-batch on the stage :math:`W_i` [s].
    position
        Position of the stage :math:`i` [1]: it has put off as many weight gradients.
    arrival
        The same time of the stage before, with its input gradient :math:`u_{i-1} + B_{i-1}` [s].
    before
        Forward passes of the stages before [s].
    synchronous
        1 where every stage waits for the last one before it updates its weights, else 0 :math:`s` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Where stages do not wait, a stage that started later may end later.

    Examples
    --------
    >>> float(postponed_tail_time(1.0, 3.0, 2.0, 5.0, 1.0))
    4.0
    """
    own = (position + 1.0) * weight_gradient - (1.0 - synchronous) * before
    return np.maximum(arrival, own)


@equation(reference=ZERO_BUBBLE)
def zb_h1_path_time(
    forward: Seconds,
    input_gradient: Seconds,
    weight_gradient: Seconds,
    start: Seconds,
    below: Seconds,
    tail: Seconds,
    num_microbatches: Count,
    stages: Count,
    position: Count,
) -> Seconds:
    r"""Longest path that stays at one stage under ZB-H1; the longest of all stages is the time of the step.

    .. math::
        t_i = s_i + (m - 2 - w)(F + B) + (m - p) W + F + B + \max\bigl(w (B + W),\; D\bigr) + u_i,
        \qquad w = p - 1 - i

    Parameters
    ----------
    forward, input_gradient, weight_gradient
        Passes of the stage :math:`F, B, W` [s].
    start
        Time until it has ended its first input gradient :math:`s_i` [s].
    below
        Forward passes and input gradients of the stages below :math:`D` [s].
    tail
        Time from its last input gradient to the end of the step :math:`u_i` [s].
    num_microbatches, stages, position
        Micro-batches :math:`m`, stages :math:`p`, position of the stage :math:`i` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    For at least as many micro-batches as stages. Exact for equal stages.

    Examples
    --------
    >>> float(zb_h1_path_time(1.0, 1.0, 1.0, 5.0, 0.0, 4.0, 8.0, 4.0, 3.0))
    27.0
    """
    ahead = stages - 1.0 - position
    steady = (num_microbatches - 2.0 - ahead) * (forward + input_gradient) + (
        num_microbatches - stages
    ) * weight_gradient
    last = forward + input_gradient + np.maximum(ahead * (input_gradient + weight_gradient), below)
    return start + steady + last + tail
