"""Overlap of communication with computation, and the slow-downs of a whole step."""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import inverse_count, larger_and_ratio
from perfmodel.units import Count, Ratio, Seconds, equation

STEP_STUDY = "perfmodel training-step study (closed forms for measured steps)"


@equation(reference=f"{STEP_STUDY}; overlap of gradient reduction: Li et al. 2020, arXiv 2006.15704")
def exposed_time(total: Seconds, exposed_fraction: Ratio, window: Seconds) -> Seconds:
    r"""Communication time that computation does not hide.

    .. math:: t_e = t - \min\bigl((1 - x)\, t,\; w\bigr)

    Parameters
    ----------
    total
        Communication time :math:`t` [s].
    exposed_fraction
        Fraction that can never be hidden :math:`x` [1].
    window
        Computation that may run at the same time :math:`w` [s].

    Returns
    -------
    Seconds
        Exposed time [s], between ``exposed_fraction * total`` and ``total``.

    Notes
    -----
    Assumes that hidden communication does not slow the computation down; where it does, ``exposed_fraction`` says so.

    Examples
    --------
    >>> float(exposed_time(10.0, 0.2, 100.0)), float(exposed_time(10.0, 0.2, 3.0))
    (2.0, 7.0)
    """
    # The same as the formula above, without the cancellation of two equal times.
    return np.maximum(exposed_fraction * total, total - window)


@equation(reference="Subramanian et al. 2024, arXiv 2410.00273; overlap by layer: Li et al. 2020, arXiv 2006.15704")
def layered_exposed_time(total: Seconds, exposed_fraction: Ratio, window: Seconds, layers: Count) -> Seconds:
    r"""Communication time that computation does not hide, when each layer hides behind the pass of the next one.

    .. math:: t_e = \max\Bigl(x\, t,\; \frac{t}{L} + \Bigl(1 - \frac1L\Bigr) \max(t - w,\, 0)\Bigr)

    Parameters
    ----------
    total
        Communication of all layers :math:`t` [s].
    exposed_fraction
        Fraction that can never be hidden :math:`x` [1].
    window
        Computation of all layers that may run at the same time :math:`w` [s].
    layers
        Equal layers :math:`L \ge 1` [1].

    Returns
    -------
    Seconds
        Exposed time [s], from the communication of one layer to ``total``.

    Notes
    -----
    The collective of the last layer of the pass has nothing left to hide behind. Assumes equal layers.

    Examples
    --------
    >>> float(layered_exposed_time(8.0, 0.0, 100.0, 4.0)), float(layered_exposed_time(8.0, 0.0, 4.0, 4.0))
    (2.0, 5.0)
    """
    last = inverse_count(layers)
    return np.maximum(exposed_fraction * total, last * total + (1.0 - last) * np.maximum(total - window, 0.0))


@equation(reference=f"{STEP_STUDY}; Zhao et al. 2023, arXiv 2304.11277 (FSDP)")
def gathered_layer_time(compute: Seconds, gather: Seconds, exposed_fraction: Ratio) -> Seconds:
    r"""Time of a layer whose parameters are gathered while the layer before it computes.

    .. math:: t = \left(c^4 + g^4\right)^{1/4} + x\, g

    Parameters
    ----------
    compute
        Computation of the layer :math:`c` [s].
    gather
        Collectives of the layer :math:`g` [s].
    exposed_fraction
        Fraction of the collectives that is added on top :math:`x` [1].

    Returns
    -------
    Seconds
        Time of the layer [s].

    Notes
    -----
    Assumes equal layers, so that the gather of the next one meets the computation of this one.

    Examples
    --------
    >>> float(gathered_layer_time(2.0, 0.0, 0.5))
    2.0
    """
    larger, ratio = larger_and_ratio(compute, gather)
    square = ratio * ratio
    return larger * np.sqrt(np.sqrt(1.0 + square * square)) + exposed_fraction * gather


@equation(reference=STEP_STUDY)
def jitter_factor(devices: Count, devices_per_node: Count, jitter_per_doubling: Ratio) -> Ratio:
    r"""Slow-down of a synchronous step by the slowest of many devices.

    .. math:: f = 1 + j \max\bigl(0, \log_2(n / g)\bigr)

    Parameters
    ----------
    devices
        Devices of the job :math:`n` [1].
    devices_per_node
        Devices of a node :math:`g` [1].
    jitter_per_doubling
        Relative slow-down per doubling :math:`j` [1].

    Returns
    -------
    Ratio
        Factor on the step time [1], at least 1.

    Notes
    -----
    The expected maximum of many light-tailed delays grows with the logarithm of their number.

    Examples
    --------
    >>> round(float(jitter_factor(1024.0, 8.0, 0.01)), 6)
    1.07
    """
    return 1.0 + jitter_per_doubling * np.maximum(np.log2(devices / devices_per_node), 0.0)


@equation(reference=f"Chen et al. 2016, arXiv 1604.06174; {STEP_STUDY}")
def recompute_time(forward_time: Seconds, recompute_fraction: Ratio, skipped_time: Seconds) -> Seconds:
    r"""Time to recompute activations in the backward pass.

    .. math:: t = \varphi\,(t_f - t_s)

    Parameters
    ----------
    forward_time
        Forward time of the operators that the policy recomputes :math:`t_f` [s].
    recompute_fraction
        Fraction of the layers that use the policy :math:`\varphi` [1].
    skipped_time
        Forward time of operators whose result backward does not need :math:`t_s \le t_f` [s].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Recomputed operators take their forward time again, with their collectives if these are passed.

    Examples
    --------
    >>> float(recompute_time(10.0, 0.5, 2.0))
    4.0
    """
    return recompute_fraction * (forward_time - skipped_time)


@equation(reference=STEP_STUDY)
def training_step_time(
    pipeline_time: Seconds, exposed_pipeline_transfer: Seconds, exposed_data_communication: Seconds,
    optimizer_time: Seconds, fixed_overhead: Seconds, jitter_factor: Ratio,
) -> Seconds:  # fmt: skip
    r"""Time of one synchronous training step.

    .. math:: t = f\,(t_p + t_{pp} + t_{dp} + t_o + t_0)

    Parameters
    ----------
    pipeline_time
        All micro-batches through the pipeline, bubble included :math:`t_p` [s].
    exposed_pipeline_transfer
        Transfers between stages that are not hidden :math:`t_{pp}` [s].
    exposed_data_communication
        Gradient reduction and parameter gather that are not hidden :math:`t_{dp}` [s].
    optimizer_time
        Optimizer :math:`t_o` [s].
    fixed_overhead
        Data loader, logging, garbage collection :math:`t_0` [s].
    jitter_factor
        Slow-down by the slowest device :math:`f` [1].

    Returns
    -------
    Seconds
        Step time [s].

    Notes
    -----
    Assumes that these parts follow each other.

    Examples
    --------
    >>> float(training_step_time(10.0, 1.0, 1.0, 0.5, 0.5, 1.0))
    13.0
    """
    parts = pipeline_time + exposed_pipeline_transfer + exposed_data_communication + optimizer_time + fixed_overhead
    return jitter_factor * parts
