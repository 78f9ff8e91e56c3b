"""Memory of one device in training: state, activations, logits, buffers."""

from __future__ import annotations

import numpy as np

from perfmodel.units import Bandwidth, Bytes, BytesPerElement, Count, Ratio, Seconds, equation

ZERO = "Rajbhandari et al. 2020, arXiv 1910.02054"
OFFLOAD = "Rajbhandari et al. 2021, arXiv 2104.07857 (ZeRO-Infinity); Ren et al. 2021, arXiv 2101.06840 (ZeRO-Offload)"
SELECTIVE = "Korthikanti et al. 2022, arXiv 2205.05198"


@equation(reference=f"{ZERO}, section 3.1")
def state_bytes(parameters: Count, bytes_per_parameter: BytesPerElement, shards: Count) -> Bytes:
    r"""Bytes of one kind of state: weights, gradients, master weights or moments.

    .. math:: M = N\, b / n

    Parameters
    ----------
    parameters
        Parameters of the device before sharding :math:`N` [1].
    bytes_per_parameter
        Bytes per parameter :math:`b` [B].
    shards
        Ranks that share this state :math:`n` [1].

    Returns
    -------
    Bytes
        Memory [B].

    Notes
    -----
    Even shards; padding to the number of shards is not counted.

    Examples
    --------
    Mixed-precision Adam keeps 16 bytes per parameter:

    >>> float(state_bytes(7.5e9, 16.0, 1.0)) / 1e9
    120.0
    """
    return parameters * bytes_per_parameter / shards


@equation(reference=f"{SELECTIVE}, section 4")
def activation_bytes(bytes_per_microbatch: Bytes, in_flight: Count) -> Bytes:
    r"""Bytes of activations kept for the backward pass on one stage.

    .. math:: M = a\, n

    Parameters
    ----------
    bytes_per_microbatch
        Activations of one micro-batch of the whole stage :math:`a` [B].
    in_flight
        Micro-batches in flight :math:`n` [1].

    Returns
    -------
    Bytes
        Memory [B].

    Notes
    -----
    See ``pipeline.in_flight_microbatches``.

    Examples
    --------
    >>> float(activation_bytes(10.0, 5.5))
    55.0
    """
    return bytes_per_microbatch * in_flight


@equation(reference=f"Chen et al. 2016, arXiv 1604.06174; {SELECTIVE}, section 5")
def recomputed_activation_bytes(saved_bytes: Bytes, checkpoint_bytes: Bytes, recompute_fraction: Ratio) -> Bytes:
    r"""Activations of a layer when a fraction of the layers keeps only what recomputation needs.

    .. math:: a = (1 - \varphi)\, a_s + \varphi\, a_c

    Parameters
    ----------
    saved_bytes
        Activations of a layer without recomputation :math:`a_s` [B].
    checkpoint_bytes
        Activations of a layer with it :math:`a_c` [B].
    recompute_fraction
        Fraction of the layers that recompute :math:`\varphi` [1].

    Returns
    -------
    Bytes
        Mean bytes per layer [B].

    Notes
    -----
    The working set of the layer being recomputed is counted once, apart.

    Examples
    --------
    >>> float(recomputed_activation_bytes(34.0, 2.0, 0.5))
    18.0
    """
    return (1.0 - recompute_fraction) * saved_bytes + recompute_fraction * checkpoint_bytes


@equation(reference=f"counting; {SELECTIVE}, section 4.3")
def logits_bytes(tokens: Count, vocabulary: Count, bytes_per_logit: BytesPerElement) -> Bytes:
    r"""Bytes of logits and of what the loss keeps of them.

    .. math:: M = T\, V\, b

    Parameters
    ----------
    tokens
        Tokens of a micro-batch on one rank :math:`T` [1].
    vocabulary
        Vocabulary entries on one rank :math:`V` [1].
    bytes_per_logit
        Bytes per logit of all the copies together :math:`b` [B].

    Returns
    -------
    Bytes
        Memory [B].

    Notes
    -----
    Only one micro-batch is at the loss at a time.

    Examples
    --------
    >>> float(logits_bytes(1000.0, 128.0, 6.0))
    768000.0
    """
    return tokens * vocabulary * bytes_per_logit


@equation(reference=f"{ZERO}; Zhao et al. 2023, arXiv 2304.11277")
def gathered_bytes(layer_parameters: Count, bytes_per_parameter: BytesPerElement, layers_gathered: Count) -> Bytes:
    r"""Bytes of parameters (or gradients) that are whole for a while under full sharding.

    .. math:: M = N_l\, b\, k

    Parameters
    ----------
    layer_parameters
        Parameters of one gathered layer :math:`N_l` [1].
    bytes_per_parameter
        Bytes per parameter while gathered :math:`b` [B].
    layers_gathered
        Layers that are whole at the same time :math:`k` [1].

    Returns
    -------
    Bytes
        Memory [B].

    Notes
    -----
    One layer computes while the next one is prefetched: two layers at a time.

    Examples
    --------
    >>> float(gathered_bytes(1e8, 2.0, 2.0)) / 1e6
    400.0
    """
    return layer_parameters * bytes_per_parameter * layers_gathered


@equation(reference="Li et al. 2020, arXiv 2006.15704 (gradient buckets)")
def bucket_bytes(gradient_bytes: Bytes, bucket_size: Bytes, buckets_in_flight: Count) -> Bytes:
    r"""Bytes of communication buckets besides the gradients themselves.

    .. math:: M = \min(G,\; k\, S_b)

    Parameters
    ----------
    gradient_bytes
        Gradients of the device :math:`G` [B].
    bucket_size
        Size of one bucket :math:`S_b` [B].
    buckets_in_flight
        Buckets that exist at the same time :math:`k` [1].

    Returns
    -------
    Bytes
        Memory [B].

    Notes
    -----
    Buckets that are views of the gradients cost nothing: pass no buckets in flight.

    Examples
    --------
    >>> float(bucket_bytes(100.0, 25.0, 2.0))
    50.0
    """
    return np.minimum(gradient_bytes, buckets_in_flight * bucket_size)


@equation(reference=f"counting; {ZERO}")
def peak_memory(
    state: Bytes, activations: Bytes, logits: Bytes, buffers: Bytes, workspace: Bytes, reserved: Bytes
) -> Bytes:
    r"""Peak memory of a device: all the parts exist together at the end of the forward pass.

    .. math:: M = M_s + M_a + M_l + M_b + M_w + M_r

    Parameters
    ----------
    state, activations, logits, buffers, workspace, reserved
        Parts of the memory [B]: model and optimizer state, saved activations, logits, communication buffers,
        kernel workspace, and what the runtime keeps for itself.

    Returns
    -------
    Bytes
        Peak [B].

    Notes
    -----
    No fragmentation factor; measured peaks of tuned stacks do not need one.

    Examples
    --------
    >>> float(peak_memory(10.0, 5.0, 1.0, 1.0, 0.5, 0.5))
    18.0
    """
    return state + activations + logits + buffers + workspace + reserved


@equation(reference=f"counting; {OFFLOAD}")
def offloaded_bytes(bytes_kept: Bytes, share: Ratio) -> Bytes:
    r"""Bytes that are kept in the memory of the host instead of that of the device.

    .. math:: M_h = \varphi\, M

    Parameters
    ----------
    bytes_kept
        Bytes that would be kept on the device :math:`M` [B].
    share
        Share that is kept elsewhere :math:`\varphi` [1].

    Returns
    -------
    Bytes
        Memory of the host [B].

    Notes
    -----
    Buffers of what is under way are not counted.

    Examples
    --------
    >>> float(offloaded_bytes(100.0, 0.25))
    25.0
    """
    return share * bytes_kept


@equation(reference=OFFLOAD)
def transfer_time(moved: Bytes, link_bandwidth: Bandwidth, store_bandwidth: Bandwidth) -> Seconds:
    r"""Time to move bytes between a device and the memory of its host, or storage behind it.

    .. math:: t = \frac{S}{\min(B_l,\; B_s)}

    Parameters
    ----------
    moved
        Bytes in one direction :math:`S` [B].
    link_bandwidth
        Link between device and host, per direction :math:`B_l` [B/s].
    store_bandwidth
        What the memory or the storage gives one device :math:`B_s` [B/s].

    Returns
    -------
    Seconds
        Time [s].

    Notes
    -----
    Large transfers in pinned memory; the two directions of a link do not disturb each other.

    Examples
    --------
    >>> float(transfer_time(64e9, 64e9, 200e9))
    1.0
    """
    return moved / np.minimum(link_bandwidth, store_bandwidth)


@equation(reference=f"{OFFLOAD}; Isaev et al. 2023, doi:10.1145/3581784.3607102 (Calculon)")
def required_bandwidth(moved: Bytes, window: Seconds) -> Bandwidth:
    r"""Bandwidth at which transfers take exactly as long as the computation that could hide them.

    .. math:: B = S / w

    Parameters
    ----------
    moved
        Bytes in one direction :math:`S` [B].
    window
        Computation at the same time :math:`w` [s].

    Returns
    -------
    Bandwidth
        Bandwidth [B/s].

    Notes
    -----
    Below it the link is what limits the step.

    Examples
    --------
    >>> float(required_bandwidth(10.0, 2.0))
    5.0
    """
    return moved / window
