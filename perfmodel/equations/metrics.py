"""What people compare: utilisation, throughput, time, energy and cost per token."""

from __future__ import annotations

from typing import Annotated

from perfmodel.units import (
    Count,
    Dollars,
    Flop,
    FlopPerToken,
    FlopRate,
    Joules,
    Numeric,
    Ratio,
    Seconds,
    TokenRate,
    Tokens,
    equation,
    parse_unit,
)

PALM = "Chowdhery et al. 2022, arXiv 2204.02311, appendix B"
MEGATRON = "Narayanan et al. 2021, arXiv 2104.04473, section 5.1"

JoulesPerToken = Annotated[Numeric, parse_unit("J/token")]
DollarsPerToken = Annotated[Numeric, parse_unit("USD/token")]


@equation(reference=PALM)
def model_flop_utilisation(model_flop: Flop, time: Seconds, devices: Count, peak: FlopRate) -> Ratio:
    r"""Model FLOP utilisation: useful work over what the devices could do.

    .. math:: \mathrm{MFU} = \frac{W_m}{t\, n\, P}

    Parameters
    ----------
    model_flop
        Work that the model needs, without recomputation :math:`W_m` [FLOP].
    time
        Time :math:`t` [s].
    devices
        Devices :math:`n` [1].
    peak
        Dense peak of one device :math:`P` [FLOP/s].

    Returns
    -------
    Ratio
        Utilisation [1].

    Notes
    -----
    The convention for attention (causal pairs counted once or as a full square) is that of ``model_flop``.

    Examples
    --------
    >>> float(model_flop_utilisation(4e15, 1.0, 8.0, 1e15))
    0.5
    """
    return model_flop / (time * devices * peak)


@equation(reference=f"{MEGATRON}; {PALM}")
def hardware_flop_utilisation(executed_flop: Flop, time: Seconds, devices: Count, peak: FlopRate) -> Ratio:
    r"""Hardware FLOP utilisation: executed work, recomputation included, over what the devices could do.

    .. math:: \mathrm{HFU} = \frac{W_h}{t\, n\, P}

    Parameters
    ----------
    executed_flop
        Work that was executed :math:`W_h` [FLOP].
    time
        Time :math:`t` [s].
    devices
        Devices :math:`n` [1].
    peak
        Dense peak of one device :math:`P` [FLOP/s].

    Returns
    -------
    Ratio
        Utilisation [1].

    Notes
    -----
    At least the model FLOP utilisation.

    Examples
    --------
    >>> float(hardware_flop_utilisation(6e15, 1.0, 8.0, 1e15))
    0.75
    """
    return executed_flop / (time * devices * peak)


@equation(reference=MEGATRON)
def achieved_flop_rate(flop: Flop, time: Seconds, devices: Count) -> FlopRate:
    r"""Arithmetic rate per device.

    .. math:: r = \frac{W}{t\, n}

    Parameters
    ----------
    flop
        Work :math:`W` [FLOP].
    time
        Time :math:`t` [s].
    devices
        Devices :math:`n` [1].

    Returns
    -------
    FlopRate
        Rate of one device [FLOP/s].

    Notes
    -----
    Model or executed work, as passed.

    Examples
    --------
    >>> float(achieved_flop_rate(800.0, 2.0, 4.0))
    100.0
    """
    return flop / (time * devices)


@equation(reference=PALM)
def tokens_per_second(tokens: Tokens, time: Seconds) -> TokenRate:
    r"""Throughput.

    .. math:: r = D / t

    Parameters
    ----------
    tokens
        Tokens :math:`D` [token].
    time
        Time :math:`t` [s].

    Returns
    -------
    TokenRate
        Throughput [token/s].

    Notes
    -----
    Divide by the devices for the throughput of one device.

    Examples
    --------
    >>> float(tokens_per_second(4096.0, 2.0))
    2048.0
    """
    return tokens / time


@equation(reference=PALM)
def flop_per_token(model_flop: Flop, tokens: Tokens) -> FlopPerToken:
    r"""Work per token.

    .. math:: w = W / D

    Parameters
    ----------
    model_flop
        Work :math:`W` [FLOP].
    tokens
        Tokens :math:`D` [token].

    Returns
    -------
    FlopPerToken
        Work per token [FLOP/token].

    Notes
    -----
    About six per parameter and token for training a dense model, plus attention.

    Examples
    --------
    >>> float(flop_per_token(600.0, 10.0))
    60.0
    """
    return model_flop / tokens


@equation(reference=f"{MEGATRON} (end-to-end training time)")
def run_time(total_tokens: Tokens, tokens_per_step: Tokens, step_time: Seconds, goodput: Ratio) -> Seconds:
    r"""Wall time of a training run.

    .. math:: t = \frac{D}{d} \frac{t_s}{G}

    Parameters
    ----------
    total_tokens
        Tokens of the run :math:`D` [token].
    tokens_per_step
        Tokens of one step :math:`d` [token].
    step_time
        Time of one step :math:`t_s` [s].
    goodput
        Fraction of the wall time that makes progress :math:`G` [1].

    Returns
    -------
    Seconds
        Wall time [s].

    Notes
    -----
    A constant batch; the last step may be partial.

    Examples
    --------
    >>> float(run_time(1000.0, 10.0, 2.0, 0.8))
    250.0
    """
    return total_tokens / tokens_per_step * step_time / goodput


@equation(reference="Patterson et al. 2021, arXiv 2104.10350")
def energy_per_token(energy: Joules, tokens: Tokens) -> JoulesPerToken:
    r"""Energy per token.

    .. math:: e = E / D

    Parameters
    ----------
    energy
        Energy :math:`E` [J].
    tokens
        Tokens :math:`D` [token].

    Returns
    -------
    JoulesPerToken
        Energy per token [J/token].

    Notes
    -----
    Device or facility energy, as passed.

    Examples
    --------
    >>> float(energy_per_token(100.0, 50.0))
    2.0
    """
    return energy / tokens


@equation(reference="Barroso, Hoelzle and Ranganathan 2018, The Datacenter as a Computer, chapter 6")
def cost_per_token(cost: Dollars, tokens: Tokens) -> DollarsPerToken:
    r"""Money per token.

    .. math:: c = C / D

    Parameters
    ----------
    cost
        Cost :math:`C` [USD].
    tokens
        Tokens :math:`D` [token].

    Returns
    -------
    DollarsPerToken
        Cost per token [USD/token].

    Notes
    -----
    Times a million it is the usual price.

    Examples
    --------
    >>> float(cost_per_token(10.0, 5.0))
    2.0
    """
    return cost / tokens
