"""Longest paths of ZB-V through uneven stages, and what DualPipe shares with it: waves of passes.

Between its first pass and its last one a stage has a few marks in its order, such as its last forward pass. From
mark to mark it works on its own, or it waits for the same pass next door: a wave of passes, which runs down the
pipeline or up. Every path that is counted is one of the schedule, so that no time is longer than that of the replay.

Times are those of one pass through one chunk; a stage is counted from 0, a sum before a stage does not contain it.
"""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import only_where
from perfmodel.units import Count, Ratio, Seconds, equation

ORDER = "Qi et al. 2024, arXiv 2405.15362 and 2401.10241, section 6; longest path of the order, checked by replay"
BOTH = "Qi et al. 2024, arXiv 2405.15362; DeepSeek-AI 2024, arXiv 2412.19437; longest path of the order"


@equation(reference="max-plus recurrence of a pass that waits for its stage and for the pass next door")
def wave_time(passing: Seconds, arrival: Seconds, skipped: Count, ready: Seconds) -> Seconds:
    r"""End of a pass of a wave, which runs from stage to stage.

    .. math:: t_i = x_i + \max(t_j + k\, x_i,\; r_i)

    Parameters
    ----------
    passing
        The pass on this stage :math:`x_i` [s].
    arrival
        End of the pass on the stage :math:`j` from which the wave comes :math:`t_j` [s].
    skipped
        Stages between the two, equal to this one :math:`k` [1]; -1 where both are the same stage.
    ready
        Time at which the stage has done what comes before the pass in its order :math:`r_i` [s].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s].

    Notes
    -----
    Exact for the one pass; a path that changes stage twice between two marks is left out.

    Examples
    --------
    >>> float(wave_time(2.0, 3.0, 1.0, 4.0)), float(wave_time(2.0, 7.0, -1.0, 4.0))
    (7.0, 7.0)
    """
    return passing + np.maximum(arrival + skipped * passing, ready)


@equation(reference=BOTH)
def first_gradient_ready_time(
    before: Seconds, before_held: Seconds, forward_held: Seconds, position: Count, held: Count, depth: Count
) -> Seconds:
    r"""Time at which a stage has made the forward passes that come before its first input gradient.

    .. math:: r_{i,k} = \sum_{j < k} F_j + 2 (d - k + i)\, F_k + \sum_{i \le j < k} F_j

    Parameters
    ----------
    before, before_held
        Forward passes of the stages before :math:`i`, and before :math:`k` [s].
    forward_held
        Forward pass of stage :math:`k`, at which the path stays [s].
    position, held
        The stage :math:`i`, and :math:`k \ge i` [1].
    depth
        Stages down to the turn of the model :math:`d` [1]: :math:`p` for ZB-V, :math:`p / 2` for DualPipe.

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s]; the longest over :math:`k` counts.

    Notes
    -----
    Micro-batch :math:`i` on its way back is the last forward pass before. Stage :math:`k` makes
    :math:`2 (d - k + i)` passes up to it.

    Examples
    --------
    >>> float(first_gradient_ready_time(1.0, 1.0, 1.0, 1.0, 1.0, 4.0))
    9.0
    >>> float(first_gradient_ready_time(1.0, 3.0, 2.0, 1.0, 3.0, 4.0))
    13.0
    """
    return 2.0 * before_held - before + 2.0 * (depth - held + position) * forward_held


@equation(reference=ORDER)
def zb_v_return_ready_time(
    first_gradient: Seconds,
    forward: Seconds,
    input_gradient: Seconds,
    weight_gradient: Seconds,
    stages: Count,
    position: Count,
    num_microbatches: Count,
) -> Seconds:
    r"""ZB-V: time at which a stage is ready for the first input gradient of its first chunk.

    .. math:: r_i = a_i + (p - 1 - i + q)\, F + (p - 1 - i)\, B + (p - i)\, W, \qquad q = [m + i \ge 2 p]

    Parameters
    ----------
    first_gradient
        End of the first input gradient of the stage :math:`a_i` [s].
    forward, input_gradient, weight_gradient
        Passes of the stage :math:`F, B, W` [s].
    stages, position
        Pipeline stages :math:`p` and position of the stage :math:`i` [1].
    num_microbatches
        Micro-batches per step :math:`m` [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s].

    Notes
    -----
    Passes of the second chunk in between, and one forward pass of the first chunk where one is left.

    Examples
    --------
    >>> float(zb_v_return_ready_time(5.0, 1.0, 2.0, 3.0, 4.0, 2.0, 8.0))
    15.0
    """
    below = stages - 1.0 - position
    own = first_gradient + below * (forward + input_gradient + weight_gradient) + weight_gradient
    return own + only_where(num_microbatches + position >= 2.0 * stages, forward)


@equation(reference=ORDER)
def zb_v_last_forward_ready_time(
    first_return: Seconds,
    forward: Seconds,
    input_gradient: Seconds,
    weight_gradient: Seconds,
    stages: Count,
    position: Count,
    num_microbatches: Count,
) -> Seconds:
    r"""ZB-V: time at which a stage is ready for its last forward pass.

    .. math::
        r_i = c_i + (2 m - 3 p + i - q)\, F + (2 m - 2 p - 2)\, B + (2 m - 2 p - 1)\, W,
        \qquad q = [m + i \ge 2 p]

    Parameters
    ----------
    first_return
        End of the first input gradient of its first chunk :math:`c_i` [s].
    forward, input_gradient, weight_gradient
        Passes of the stage :math:`F, B, W` [s].
    stages, position
        Pipeline stages :math:`p` and position of the stage :math:`i` [1].
    num_microbatches
        Micro-batches per step :math:`m` [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s].

    Notes
    -----
    The steady state, in which the stage does not wait. The last forward pass is one of the second chunk: it runs up.

    Examples
    --------
    >>> float(zb_v_last_forward_ready_time(10.0, 1.0, 1.0, 1.0, 4.0, 0.0, 8.0))
    26.0
    """
    rounds = 2.0 * (num_microbatches - stages)
    forwards = (rounds - stages + position) * forward - only_where(num_microbatches + position >= 2.0 * stages, forward)
    return first_return + forwards + (rounds - 2.0) * input_gradient + (rounds - 1.0) * weight_gradient


@equation(reference=ORDER)
def zb_v_last_turn_ready_time(
    last_forward: Seconds,
    before: Seconds,
    before_held: Seconds,
    input_gradient: Seconds,
    input_gradient_held: Seconds,
    weight_gradient_held: Seconds,
    held: Count,
) -> Seconds:
    r"""ZB-V: time at which a stage is ready for the last input gradient of its second chunk.

    .. math:: r_{i,k} = l_k + \sum_{k \le j < i} B_j + \bigl(W_k + 2 B_k + 2 (k - 1)\, B_i\bigr) [k > 0]

    Parameters
    ----------
    last_forward
        End of the last forward pass of stage :math:`k \le i` [s].
    before, before_held
        Input gradients of the stages before :math:`i`, and before :math:`k` [s].
    input_gradient, input_gradient_held, weight_gradient_held
        Passes :math:`B_i, B_k, W_k` [s].
    held
        Position of stage :math:`k`, from which the path goes down to :math:`i` [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s]; the longest over :math:`k` counts.

    Notes
    -----
    After its last forward pass a stage takes input gradients of both chunks in turn, :math:`2 k` of them.

    Examples
    --------
    >>> float(zb_v_last_turn_ready_time(10.0, 3.0, 3.0, 1.0, 1.0, 1.0, 3.0))
    17.0
    >>> float(zb_v_last_turn_ready_time(10.0, 3.0, 0.0, 1.0, 1.0, 1.0, 0.0))
    13.0
    """
    in_turn = weight_gradient_held + 2.0 * input_gradient_held + 2.0 * (held - 1.0) * input_gradient
    return last_forward + before - before_held + only_where(held > 0.0, in_turn)


@equation(reference=ORDER)
def zb_v_last_return_ready_time(
    last_turn: Seconds, input_gradient: Seconds, weight_gradient: Seconds, stages: Count, position: Count
) -> Seconds:
    r"""ZB-V: time at which a stage is ready for its last input gradient.

    .. math:: r_i = u_i + (p - 1 - i)(B + W) + W\, [i = 0]

    Parameters
    ----------
    last_turn
        End of the last input gradient of its second chunk :math:`u_i` [s].
    input_gradient, weight_gradient
        Passes of the stage :math:`B, W` [s].
    stages, position
        Pipeline stages :math:`p` and position of the stage :math:`i` [1].

    Returns
    -------
    Seconds
        Time from the first pass of the pipeline [s].

    Notes
    -----
    The last input gradient is one of the first chunk: it runs up.

    Examples
    --------
    >>> float(zb_v_last_return_ready_time(10.0, 1.0, 2.0, 4.0, 0.0))
    21.0
    """
    own = last_turn + (stages - 1.0 - position) * (input_gradient + weight_gradient)
    return own + only_where(position <= 0.0, weight_gradient)


@equation(reference=ORDER)
def zb_v_end_time(
    last_return: Seconds, weight_gradient: Seconds, position: Count, before: Seconds, synchronous: Ratio
) -> Seconds:
    r"""ZB-V: time of a step as the end of one stage; the longest of all stages is the time of the step.

    .. math:: t_i = v_i + (1 + 2 i)\, W - (1 - s) \sum_{j < i} F_j

    Parameters
    ----------
    last_return
        End of the last input gradient of the stage :math:`v_i` [s].
    weight_gradient
        Weight gradients of a chunk :math:`W` [s].
    position
        Position of the stage :math:`i` [1].
    before
        Forward passes of the stages before, after which this one starts [s].
    synchronous
        1 where every stage waits for the last one before it updates its weights, else 0 :math:`s` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Exact for equal stages, for at least :math:`2 p - 1` micro-batches. Never above the replay; below it by 0.8 % at
    most where the passes of a stage grow together, by 2.5 % where each of them differs on its own by factors of up
    to 2.5, by 4.5 % where any two differ by factors of up to 15.

    Examples
    --------
    >>> float(zb_v_end_time(20.0, 1.0, 3.0, 3.0, 1.0)), float(zb_v_end_time(20.0, 1.0, 3.0, 3.0, 0.0))
    (27.0, 24.0)
    """
    return last_return + (1.0 + 2.0 * position) * weight_gradient - (1.0 - synchronous) * before
