"""The optimizer step and gradient accumulation: passes over state at memory bandwidth."""

from __future__ import annotations

from perfmodel.units import Bandwidth, Bytes, BytesPerElement, Count, Ratio, Seconds, equation

ADAM = "Kingma and Ba 2015, arXiv 1412.6980"
STEP_STUDY = "perfmodel training-step study (closed forms for measured steps)"


@equation(reference=f"{ADAM}; {STEP_STUDY}")
def optimizer_traffic(parameters: Count, bytes_per_parameter_state: BytesPerElement, traffic_factor: Ratio) -> Bytes:
    r"""Memory traffic of one optimizer step.

    .. math:: Q = f\, N\, b

    Parameters
    ----------
    parameters
        Parameters that this rank updates :math:`N` [1].
    bytes_per_parameter_state
        Bytes read and written per parameter in one fused pass :math:`b` [B] (mixed-precision Adam: reads of
        gradient, master weight and two moments, writes of the last three and of the low-precision weight: 30).
    traffic_factor
        Traffic of the stack relative to that pass :math:`f` [1]: norm, clipping, unfused passes.

    Returns
    -------
    Bytes
        Traffic [B].

    Notes
    -----
    Arithmetic never limits an elementwise optimizer.

    Examples
    --------
    >>> float(optimizer_traffic(1e9, 30.0, 1.5)) / 1e9
    45.0
    """
    return parameters * bytes_per_parameter_state * traffic_factor


@equation(reference=f"{ADAM}; {STEP_STUDY}")
def optimizer_time(traffic: Bytes, bandwidth: Bandwidth, bandwidth_fraction: Ratio) -> Seconds:
    r"""Time of one optimizer step.

    .. math:: t = \frac{Q}{\beta B}

    Parameters
    ----------
    traffic
        Memory traffic :math:`Q` [B].
    bandwidth
        Memory bandwidth :math:`B` [B/s].
    bandwidth_fraction
        Sustained fraction of it :math:`\beta` [1].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Multi-tensor kernels: launches do not count.

    Examples
    --------
    >>> round(float(optimizer_time(45e9, 3e12, 0.75)), 6)
    0.02
    """
    return traffic / (bandwidth * bandwidth_fraction)


@equation(reference="counting; Micikevicius et al. 2018, arXiv 1710.03740 (mixed precision)")
def accumulation_traffic(parameters: Count, gradient_bytes: BytesPerElement) -> Bytes:
    r"""Memory traffic to add the weight gradients of one micro-batch to the accumulated ones.

    .. math:: Q = 2\, N\, b

    Parameters
    ----------
    parameters
        Parameters of the device :math:`N` [1].
    gradient_bytes
        Bytes per accumulated gradient :math:`b` [B].

    Returns
    -------
    Bytes
        Traffic [B]: one read and one write.

    Notes
    -----
    Fused into the weight-gradient matmul it is the read of its output tile.

    Examples
    --------
    >>> float(accumulation_traffic(1e9, 4.0)) / 1e9
    8.0
    """
    return 2.0 * parameters * gradient_bytes
