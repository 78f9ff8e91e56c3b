"""Linear recurrences along the sequence: work and traffic of their chunked and serial algorithms."""

from __future__ import annotations

from perfmodel.units import Bytes, BytesPerElement, Count, Flop, equation

SSD = "Dao and Gu 2024, arXiv 2405.21060, section 6"
MAMBA = "Gu and Dao 2023, arXiv 2312.00752, sections 3.2 and 3.3"
DELTA = "Yang et al. 2024, arXiv 2406.06484, section 3, and arXiv 2412.06464, section 3.3"
LIGHTNING = "Qin et al. 2024, arXiv 2401.04658, section 3"

#: Work per channel and state of a serial scan: step times decay, exponential, step times input, two multiply-adds.
SERIAL_WORK = 7.0
#: Backward builds the forward pass again (states are not kept) and makes two products for each of its products.
BACKWARD_WORK = 3.0


@equation(reference=f"{SSD}; {LIGHTNING}")
def recurrence_flop(
    tokens: Count, heads: Count, state: Count, head_dim: Count, products: Count,
    flop_per_multiply_accumulate: Flop = 2.0,
) -> Flop:  # fmt: skip
    r"""Work that a linear recurrence needs, one token after the other: what model FLOP count.

    .. math:: W = 2\, p\, T\, h\, N\, P

    Parameters
    ----------
    tokens
        Tokens :math:`T` [1].
    heads
        Heads :math:`h` [1].
    state, head_dim
        Size of the state of a head :math:`N \times P` [1].
    products
        Products with the state per token :math:`p` [1]: update and output, and with a delta rule the old value too.
    flop_per_multiply_accumulate
        Work of one multiply-accumulate [FLOP].

    Returns
    -------
    Flop
        Work [FLOP]; the decay of the state is not counted.

    Notes
    -----
    Independent of the length of the sequence and of how the kernel cuts it into chunks.

    Examples
    --------
    >>> float(recurrence_flop(1.0, 2.0, 4.0, 8.0, 2.0))
    256.0
    """
    return flop_per_multiply_accumulate * products * tokens * heads * state * head_dim


@equation(reference=f"{SSD}; {LIGHTNING}")
def chunked_scan_flop(
    tokens: Count, heads: Count, groups: Count, state: Count, head_dim: Count, chunk: Count,
    flop_per_multiply_accumulate: Flop = 2.0,
) -> Flop:  # fmt: skip
    r"""Work of a recurrence with a scalar decay per head, as matrix products inside and between chunks.

    .. math:: W = 2\, T \bigl( g\, Q\, N + h\, (Q\, P + 2\, N P) \bigr)

    Parameters
    ----------
    tokens
        Tokens :math:`T` [1].
    heads, groups
        Heads :math:`h`, and pairs of input and output vectors that they share :math:`g` [1].
    state, head_dim
        Size of the state of a head :math:`N \times P` [1].
    chunk
        Tokens of a chunk :math:`Q` [1].
    flop_per_multiply_accumulate
        Work of one multiply-accumulate [FLOP].

    Returns
    -------
    Flop
        Work of the forward pass [FLOP].

    Notes
    -----
    Scores of a chunk per group, scores times inputs, chunk states, and outputs from the state before the chunk. Whole
    squares of scores are counted. Passing the states on is elementwise and not counted.

    Examples
    --------
    >>> float(chunked_scan_flop(1.0, 2.0, 1.0, 4.0, 8.0, 16.0))
    896.0
    """
    within = groups * chunk * state + heads * chunk * head_dim
    return flop_per_multiply_accumulate * tokens * (within + 2.0 * heads * state * head_dim)


@equation(reference=DELTA)
def delta_rule_flop(
    tokens: Count, heads: Count, state: Count, head_dim: Count, chunk: Count,
    flop_per_multiply_accumulate: Flop = 2.0,
) -> Flop:  # fmt: skip
    r"""Work of a gated delta rule in its chunked form (WY representation).

    .. math:: W = 2\, T\, h \left( 3\, Q N + 2\, Q P + 3\, N P + \tfrac16 Q^2 \right)

    Parameters
    ----------
    tokens
        Tokens :math:`T` [1].
    heads
        Value heads :math:`h` [1].
    state, head_dim
        Width of keys :math:`N` and of values :math:`P` [1].
    chunk
        Tokens of a chunk :math:`Q` [1].
    flop_per_multiply_accumulate
        Work of one multiply-accumulate [FLOP].

    Returns
    -------
    Flop
        Work of the forward pass [FLOP].

    Notes
    -----
    Keys on keys, the inverse of a unit triangular matrix of a chunk (forward substitution), its products with keys and
    values, queries on keys and scores on values; with the state: the correction of the values, the output, the update.

    Examples
    --------
    >>> float(delta_rule_flop(1.0, 1.0, 2.0, 2.0, 6.0))
    156.0
    """
    within = 3.0 * chunk * state + 2.0 * chunk * head_dim + chunk * chunk / 6.0
    return flop_per_multiply_accumulate * tokens * heads * (within + 3.0 * state * head_dim)


@equation(reference=MAMBA)
def selective_scan_flop(
    tokens: Count, channels: Count, state: Count, flop_per_element: Flop = 1.0,
) -> Flop:  # fmt: skip
    r"""Work of a selective scan on the vector units.

    .. math:: W = 7\, T\, D\, N

    Parameters
    ----------
    tokens
        Tokens :math:`T` [1].
    channels
        Channels :math:`D` [1].
    state
        States of a channel :math:`N` [1].
    flop_per_element
        Work of one arithmetic operation [FLOP].

    Returns
    -------
    Flop
        Work of the forward pass [FLOP].

    Notes
    -----
    Per channel and state: step times decay, its exponential, step times input, and two multiply-adds (state, output).

    Examples
    --------
    >>> float(selective_scan_flop(1.0, 2.0, 3.0))
    42.0
    """
    return SERIAL_WORK * flop_per_element * tokens * channels * state


@equation(reference=f"{SSD}; kernels: state-spaces/mamba (Apache-2.0)")
def chunked_scan_traffic(
    tokens: Count, heads: Count, groups: Count, state: Count, head_dim: Count, chunk: Count,
    activation_bytes: BytesPerElement, state_bytes: BytesPerElement,
) -> Bytes:  # fmt: skip
    r"""Memory traffic of the chunked recurrence as separate kernels.

    .. math:: Q_m = T \left( a\, (3\, h P + 4\, g N + 2\, g Q) + 4\, c\, h\, \frac{N P}{Q} \right)

    Parameters
    ----------
    tokens
        Tokens :math:`T` [1].
    heads, groups
        Heads :math:`h`, and pairs of input and output vectors that they share :math:`g` [1].
    state, head_dim
        Size of the state of a head :math:`N \times P` [1].
    chunk
        Tokens of a chunk :math:`Q` [1].
    activation_bytes, state_bytes
        Bytes per element of activations :math:`a` and of chunk states :math:`c` [B].

    Returns
    -------
    Bytes
        Traffic of the forward pass [B].

    Notes
    -----
    Inputs are read for the chunk states and for the output, the output is written; both vectors are read twice. Scores
    of a chunk are written and read once per group; chunk states are written, passed on (read, written) and read.

    Examples
    --------
    >>> float(chunked_scan_traffic(2.0, 1.0, 1.0, 4.0, 8.0, 2.0, 2.0, 4.0))
    688.0
    """
    rows = activation_bytes * (3.0 * heads * head_dim + 4.0 * groups * state + 2.0 * groups * chunk)
    return tokens * (rows + 4.0 * state_bytes * heads * state * head_dim / chunk)


@equation(reference=f"{DELTA}; kernels: fla-org/flash-linear-attention (MIT)")
def delta_rule_traffic(
    tokens: Count, heads: Count, groups: Count, state: Count, head_dim: Count, chunk: Count,
    activation_bytes: BytesPerElement, state_bytes: BytesPerElement,
) -> Bytes:  # fmt: skip
    r"""Memory traffic of the chunked delta rule as separate kernels.

    .. math:: Q_m = T \left( a\, (6\, h P + 2\, h N + 4\, g N + 4\, h Q) + 2\, c\, h\, \frac{N P}{Q} \right)

    Parameters
    ----------
    tokens
        Tokens :math:`T` [1].
    heads, groups
        Value heads :math:`h` and key heads :math:`g` [1].
    state, head_dim
        Width of keys :math:`N` and of values :math:`P` [1].
    chunk
        Tokens of a chunk :math:`Q` [1].
    activation_bytes, state_bytes
        Bytes per element of activations :math:`a` and of chunk states :math:`c` [B].

    Returns
    -------
    Bytes
        Traffic of the forward pass [B].

    Notes
    -----
    Values are read, transformed values and corrected values written and read, outputs written; transformed keys written
    and read; queries read once and keys three times; the matrix of a chunk written, inverted (read, written) and read;
    states of the chunks written and read.

    Examples
    --------
    >>> float(delta_rule_traffic(2.0, 1.0, 1.0, 4.0, 8.0, 2.0, 2.0, 4.0))
    576.0
    """
    rows = heads * (6.0 * head_dim + 2.0 * state + 4.0 * chunk) + 4.0 * groups * state
    return tokens * (activation_bytes * rows + 2.0 * state_bytes * heads * state * head_dim / chunk)


@equation(reference=MAMBA)
def selective_scan_traffic(tokens: Count, channels: Count, state: Count, activation_bytes: BytesPerElement) -> Bytes:
    r"""Memory traffic of a selective scan: the states never leave the chip.

    .. math:: Q_m = a\, T\, (3\, D + 2\, N)

    Parameters
    ----------
    tokens
        Tokens :math:`T` [1].
    channels
        Channels :math:`D` [1].
    state
        States of a channel :math:`N` [1].
    activation_bytes
        Bytes per element of activations :math:`a` [B].

    Returns
    -------
    Bytes
        Traffic of the forward pass [B].

    Notes
    -----
    Input and step of every channel are read, its output is written; input and output vectors are read once.

    Examples
    --------
    >>> float(selective_scan_traffic(2.0, 8.0, 4.0, 2.0))
    128.0
    """
    return activation_bytes * tokens * (3.0 * channels + 2.0 * state)


@equation(reference=f"{SSD}; {DELTA}")
def scan_backward_flop(forward_flop: Flop) -> Flop:
    r"""Work of the backward pass of a recurrence, the rebuilt states included.

    .. math:: W_b = 3\, W_f

    Parameters
    ----------
    forward_flop
        Work of the forward pass :math:`W_f` [FLOP].

    Returns
    -------
    Flop
        Work of the backward pass [FLOP].

    Notes
    -----
    States and scores are not kept: they are built again, and every product has two gradients.

    Examples
    --------
    >>> float(scan_backward_flop(2.0))
    6.0
    """
    return BACKWARD_WORK * forward_flop


@equation(reference=f"{SSD}; {DELTA}")
def scan_backward_traffic(forward_traffic: Bytes) -> Bytes:
    r"""Memory traffic of the backward pass of a recurrence.

    .. math:: Q_b = 3\, Q_f

    Parameters
    ----------
    forward_traffic
        Traffic of the forward pass :math:`Q_f` [B].

    Returns
    -------
    Bytes
        Traffic of the backward pass [B].

    Notes
    -----
    What forward moved is moved again to rebuild the states, and twice over for the gradients of inputs and states.

    Examples
    --------
    >>> float(scan_backward_traffic(2.0))
    6.0
    """
    return BACKWARD_WORK * forward_traffic
