"""Pipeline parallelism: bubble, step time, activations in flight and transfers of 1F1B schedules."""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import only_where
from perfmodel.units import Bytes, BytesPerElement, Count, Ratio, Seconds, equation

MEGATRON = "Narayanan et al. 2021, arXiv 2104.04473, section 2.2"
SELECTIVE = "Korthikanti et al. 2022, arXiv 2205.05198, section 4.2.3"


@equation(reference=f"{SELECTIVE}; Megatron-LM interleaved schedule (warm-up micro-batches)")
def in_flight_microbatches(stages: Count, position: Count, num_microbatches: Count, virtual_stages: Count) -> Count:
    r"""Most micro-batches whose activations one stage keeps, in units of the whole stage.

    .. math::
        n_i = \min(p - i,\; m) \text{ for } v = 1, \qquad
        n_i = \min\!\left(\frac{2 (p - i - 1) + (v - 1) p + 1}{v},\; m\right) \text{ for } v > 1

    Parameters
    ----------
    stages
        Pipeline stages :math:`p` [1].
    position
        Position of the stage :math:`i`, from 0 [1].
    num_microbatches
        Micro-batches per step :math:`m` [1].
    virtual_stages
        Model chunks per stage :math:`v` [1].

    Returns
    -------
    Count
        Micro-batches in flight [1]; a fraction counts chunks.

    Notes
    -----
    For the first stage and :math:`v > 1` it is :math:`p\,(1 + (p - 1)/(p v))`.

    Examples
    --------
    >>> float(in_flight_microbatches(4.0, 0.0, 16.0, 1.0)), float(in_flight_microbatches(4.0, 0.0, 16.0, 2.0))
    (4.0, 5.5)
    """
    plain = stages - position
    chunks = 2.0 * (stages - position - 1.0) + (virtual_stages - 1.0) * stages + 1.0
    return np.minimum(np.where(virtual_stages > 1.0, chunks / virtual_stages, plain), num_microbatches)


@equation(reference=MEGATRON)
def pipeline_bubble_time(other_stages_time: Seconds, virtual_stages: Count) -> Seconds:
    r"""Idle time of a stage in one step, while the pipeline fills and drains.

    .. math:: t_b = \frac{1}{v} \sum_{j \ne i} t_j

    Parameters
    ----------
    other_stages_time
        Forward and backward time of one micro-batch, summed over the other stages [s].
    virtual_stages
        Model chunks per stage :math:`v` [1].

    Returns
    -------
    Seconds
        Idle time [s]; for equal stages :math:`(p - 1)\, t / v`.

    Notes
    -----
    Holds for 1F1B and its interleaved form; synchronous, flushed at the end of the step.

    Examples
    --------
    >>> float(pipeline_bubble_time(12.0, 4.0))
    3.0
    """
    return other_stages_time / virtual_stages


@equation(reference=MEGATRON)
def pipeline_time(
    num_microbatches: Count, slowest_stage_time: Seconds, other_stages_time: Seconds, virtual_stages: Count
) -> Seconds:
    r"""Time of all micro-batches of one step through the pipeline.

    .. math:: t = m\, t_\mathrm{max} + \frac{1}{v} \sum_{j \ne \mathrm{max}} t_j

    Parameters
    ----------
    num_microbatches
        Micro-batches per step :math:`m` [1].
    slowest_stage_time
        Forward and backward time of one micro-batch on the slowest stage [s].
    other_stages_time
        The same, summed over the other stages [s].
    virtual_stages
        Model chunks per stage :math:`v` [1].

    Returns
    -------
    Seconds
        Time [s]; for equal stages :math:`m t + (p - 1)\, t / v`.

    Notes
    -----
    The slowest stage works without a gap once it is reached. Transfers between stages are counted apart.

    Examples
    --------
    >>> float(pipeline_time(8.0, 1.0, 3.0, 1.0))
    11.0
    """
    return num_microbatches * slowest_stage_time + pipeline_bubble_time(other_stages_time, virtual_stages)


@equation(reference=MEGATRON)
def bubble_fraction(stages: Count, num_microbatches: Count, virtual_stages: Count) -> Ratio:
    r"""Bubble of equal stages relative to the ideal time of the step.

    .. math:: \frac{t_b}{t_\mathrm{ideal}} = \frac{1}{v} \frac{p - 1}{m}

    Parameters
    ----------
    stages
        Pipeline stages :math:`p` [1].
    num_microbatches
        Micro-batches per step :math:`m` [1].
    virtual_stages
        Model chunks per stage :math:`v` [1].

    Returns
    -------
    Ratio
        Bubble relative to the time without bubble [1].

    Notes
    -----
    Equal stages, no transfer time.

    Examples
    --------
    >>> float(bubble_fraction(8.0, 56.0, 1.0))
    0.125
    """
    return (stages - 1.0) / (virtual_stages * num_microbatches)


@equation(reference=MEGATRON)
def pipeline_transfers(stages: Count, num_microbatches: Count, virtual_stages: Count, passes: Count) -> Count:
    r"""Messages that a stage inside the pipeline sends in one step: activations on, gradients back.

    .. math:: n = r\, m\, v \; [p > 1]

    Parameters
    ----------
    stages
        Pipeline stages :math:`p` [1].
    num_microbatches
        Micro-batches per step :math:`m` [1].
    virtual_stages
        Model chunks per stage :math:`v` [1].
    passes
        Passes over the model :math:`r` [1]: 2 in training, 1 for forward only.

    Returns
    -------
    Count
        Messages [1]; none for one stage.

    Notes
    -----
    The stages at the ends send up to half as many with one chunk per stage; the busiest stage counts.

    Examples
    --------
    >>> float(pipeline_transfers(4.0, 8.0, 2.0, 2.0))
    32.0
    """
    return only_where(stages > 1.0, passes * num_microbatches * virtual_stages)


@equation(reference=f"{MEGATRON} and section 4.1")
def pipeline_message_bytes(tokens: Count, hidden: Count, bytes_per_element: BytesPerElement, shards: Count) -> Bytes:
    r"""Bytes of one message between neighbouring stages.

    .. math:: S = T\, h\, b / t

    Parameters
    ----------
    tokens
        Tokens of a micro-batch on one rank :math:`T` [1].
    hidden
        Width of the residual stream :math:`h` [1].
    bytes_per_element
        Bytes per element :math:`b` [B].
    shards
        Ranks that each send a part :math:`t` [1]: the tensor-parallel size with sequence parallelism or
        scatter-gather transfers, else 1.

    Returns
    -------
    Bytes
        Bytes per rank and message [B].

    Notes
    -----
    Only the residual stream crosses stages.

    Examples
    --------
    >>> float(pipeline_message_bytes(2048.0, 1024.0, 2.0, 8.0))
    524288.0
    """
    return tokens * hidden * bytes_per_element / shards
