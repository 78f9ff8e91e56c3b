"""Energy and power: work, movement, idling, the power limit and the facility."""

from __future__ import annotations

import numpy as np

from perfmodel.equations._guards import safe_ratio
from perfmodel.units import (
    Bytes,
    Count,
    EnergyPerByte,
    EnergyPerFlop,
    Flop,
    Hertz,
    Joules,
    Ratio,
    Seconds,
    Watts,
    equation,
)

HOROWITZ = "Horowitz 2014, doi:10.1109/ISSCC.2014.6757323"
ROOFLINE_OF_ENERGY = "Choi et al. 2013, doi:10.1109/IPDPS.2013.77"
VOLTAGE_AND_CLOCK = "Brooks et al. 2000, doi:10.1109/40.888701 (the voltage follows the clock)"
PROVISIONING = "Fan et al. 2007, doi:10.1145/1250662.1250665 (racks hold what their peak power allows)"
PUE = "ISO/IEC 30134-2:2016 (power usage effectiveness)"


@equation(reference=HOROWITZ)
def arithmetic_energy(flop: Flop, energy_per_flop: EnergyPerFlop) -> Joules:
    r"""Energy of arithmetic, operand delivery inside the unit included.

    .. math:: E = W\, \varepsilon_f

    Parameters
    ----------
    flop
        Work :math:`W` [FLOP].
    energy_per_flop
        Energy of one operation of this unit and data type :math:`\varepsilon_f` [J/FLOP].

    Returns
    -------
    Joules
        Energy [J].

    Notes
    -----
    Independent of time: clocks and voltage are those for which the energy is stated.

    Examples
    --------
    >>> round(float(arithmetic_energy(1e15, 0.6e-12)), 6)
    600.0
    """
    return flop * energy_per_flop


@equation(reference=HOROWITZ)
def movement_energy(traffic: Bytes, energy_per_byte: EnergyPerByte) -> Joules:
    r"""Energy to move bytes: to memory, or over a network.

    .. math:: E = Q\, \varepsilon_b

    Parameters
    ----------
    traffic
        Bytes moved :math:`Q` [B].
    energy_per_byte
        Energy per byte of this path :math:`\varepsilon_b` [J/B].

    Returns
    -------
    Joules
        Energy [J].

    Notes
    -----
    Independent of the achieved bandwidth.

    Examples
    --------
    >>> round(float(movement_energy(1e12, 40e-12)), 6)
    40.0
    """
    return traffic * energy_per_byte


@equation(reference=ROOFLINE_OF_ENERGY)
def static_energy(power: Watts, time: Seconds) -> Joules:
    r"""Energy of constant power: idle devices, hosts, fans, switches.

    .. math:: E = P_0\, t

    Parameters
    ----------
    power
        Constant power :math:`P_0` [W].
    time
        Time :math:`t` [s].

    Returns
    -------
    Joules
        Energy [J].

    Notes
    -----
    Drawn whether or not work is done.

    Examples
    --------
    >>> float(static_energy(70.0, 10.0))
    700.0
    """
    return power * time


@equation(reference=ROOFLINE_OF_ENERGY)
def device_energy(static_power: Watts, dynamic_energy: Joules, time: Seconds) -> Joules:
    r"""Energy of a device over a time.

    .. math:: E = P_0\, t + E_d

    Parameters
    ----------
    static_power
        Idle power :math:`P_0` [W].
    dynamic_energy
        Energy of work and movement :math:`E_d` [J].
    time
        Time :math:`t` [s].

    Returns
    -------
    Joules
        Energy [J].

    Notes
    -----
    Use a time that respects the power limit (:func:`power_limited_time`).

    Examples
    --------
    >>> float(device_energy(70.0, 300.0, 10.0))
    1000.0
    """
    return static_power * time + dynamic_energy


@equation(reference=ROOFLINE_OF_ENERGY)
def device_power(static_power: Watts, dynamic_energy: Joules, time: Seconds, peak_power: Watts) -> Watts:
    r"""Average power of a device, at most its limit.

    .. math:: P = \min\!\left(P_\mathrm{max},\; P_0 + \frac{E_d}{t}\right)

    Parameters
    ----------
    static_power
        Idle power :math:`P_0` [W].
    dynamic_energy
        Energy of work and movement :math:`E_d` [J].
    time
        Time :math:`t` [s]; zero gives the idle power.
    peak_power
        Power limit :math:`P_\mathrm{max}` [W].

    Returns
    -------
    Watts
        Average power [W].

    Notes
    -----
    Where the cap binds, the stated time is too short: see :func:`power_limited_time`.

    Examples
    --------
    >>> float(device_power(70.0, 300.0, 1.0, 700.0)), float(device_power(70.0, 900.0, 1.0, 700.0))
    (370.0, 700.0)
    """
    return np.minimum(peak_power, static_power + safe_ratio(dynamic_energy, time))


@equation(reference=ROOFLINE_OF_ENERGY)
def power_limited_time(dynamic_energy: Joules, idle_power: Watts, peak_power: Watts, time: Seconds) -> Seconds:
    r"""Time of work when the device may not draw more than its power limit.

    .. math:: t' = \max\!\left(t,\; \frac{E_d}{P_\mathrm{max} - P_0}\right)

    Parameters
    ----------
    dynamic_energy
        Energy of work and movement :math:`E_d` [J].
    idle_power
        Idle power :math:`P_0` [W].
    peak_power
        Power limit :math:`P_\mathrm{max} > P_0` [W].
    time
        Time without a limit :math:`t` [s].

    Returns
    -------
    Seconds
        Time [s]; the cap binds where it is larger than ``time``.

    Notes
    -----
    Assumes constant energy per operation; at lower voltage a throttled device needs less, so that this is an
    upper bound.

    Examples
    --------
    >>> float(power_limited_time(1260.0, 70.0, 700.0, 1.0))
    2.0
    """
    return np.maximum(time, safe_ratio(dynamic_energy, peak_power - idle_power))


@equation(reference=VOLTAGE_AND_CLOCK)
def capped_clock_ratio(
    cap: Watts, idle_power: Watts, rated_power: Watts, exponent: Ratio, limit: Hertz, rated_clock: Hertz
) -> Ratio:
    r"""Clock of a device under a power cap or a locked clock, over its clock without.

    .. math::
        c = \min\!\left(\Bigl(\frac{P_\mathrm{cap} - P_0}{P_\mathrm{max} - P_0}\Bigr)^{1/\alpha},\;
        \frac{f_\mathrm{limit}}{f_\mathrm{rated}}\right)

    Parameters
    ----------
    cap
        Power that the operator allows a device :math:`P_\mathrm{cap}` [W].
    idle_power
        Idle power :math:`P_0` [W].
    rated_power
        Power limit without the cap :math:`P_\mathrm{max}` [W].
    exponent
        Exponent :math:`\alpha` of the clock in the power above idle [1]; 3 where the voltage follows the clock.
    limit, rated_clock
        Clock that the operator allows, and that of the rated peak :math:`f` [Hz]; both 1 where none is set.

    Returns
    -------
    Ratio
        Rate of arithmetic over that without a limit [1], at most 1; 0 where the cap is at or below idle power.

    Notes
    -----
    Assumes that the work draws the rated power when nothing limits it, as large matmuls do; memory keeps its
    bandwidth. Work that draws less loses less, so that this is a lower bound of the clock.

    Examples
    --------
    >>> round(float(capped_clock_ratio(500.0, 100.0, 700.0, 3.0, 1.0, 1.0)), 3)
    0.874
    """
    above = np.maximum(safe_ratio(cap - idle_power, rated_power - idle_power), 0.0)
    return np.minimum(np.minimum(above ** (1.0 / exponent), 1.0), limit / rated_clock)


@equation(reference=VOLTAGE_AND_CLOCK)
def clocked_energy(energy_per_flop: EnergyPerFlop, clock_ratio: Ratio, exponent: Ratio) -> EnergyPerFlop:
    r"""Energy of an operation at a lower clock, whose voltage is lower too.

    .. math:: \varepsilon_c = \varepsilon_f\, c^{\alpha - 1}

    Parameters
    ----------
    energy_per_flop
        Energy of an operation at the clock without limits :math:`\varepsilon_f` [J/FLOP].
    clock_ratio
        Clock over that without limits :math:`c` [1] (:func:`capped_clock_ratio`).
    exponent
        Exponent :math:`\alpha` of the clock in the power above idle [1].

    Returns
    -------
    EnergyPerFlop
        Energy of an operation [J/FLOP].

    Notes
    -----
    Power over rate: :math:`c^\alpha` over :math:`c`. Memory and links have clocks of their own and keep their energy.

    Examples
    --------
    >>> round(float(clocked_energy(0.8e-12, 0.9, 3.0)) * 1e12, 3)
    0.648
    """
    return energy_per_flop * clock_ratio ** (exponent - 1.0)


@equation(reference=PUE)
def facility_energy(it_energy: Joules, power_usage_effectiveness: Ratio) -> Joules:
    r"""Energy of the facility: computers, cooling and power distribution.

    .. math:: E_\mathrm{facility} = \mathrm{PUE} \cdot E_\mathrm{IT}

    Parameters
    ----------
    it_energy
        Energy of the computing equipment [J].
    power_usage_effectiveness
        PUE [1], at least 1.

    Returns
    -------
    Joules
        Energy [J].

    Notes
    -----
    A yearly average; it varies with load and weather.

    Examples
    --------
    >>> float(facility_energy(100.0, 1.25))
    125.0
    """
    return it_energy * power_usage_effectiveness


@equation(reference=PUE)
def cluster_power(
    device_power: Watts, overhead_power: Watts, devices: Count, power_usage_effectiveness: Ratio
) -> Watts:
    r"""Power of a job at the meter of the facility.

    .. math:: P = \mathrm{PUE}\, n\, (P_d + P_h)

    Parameters
    ----------
    device_power
        Power of one device :math:`P_d` [W].
    overhead_power
        Hosts, fans, switches and optics per device :math:`P_h` [W].
    devices
        Devices :math:`n` [1].
    power_usage_effectiveness
        PUE [1].

    Returns
    -------
    Watts
        Power [W].

    Notes
    -----
    All devices alike.

    Examples
    --------
    >>> float(cluster_power(700.0, 300.0, 8.0, 1.25))
    10000.0
    """
    return devices * (device_power + overhead_power) * power_usage_effectiveness


@equation(reference=PROVISIONING)
def nodes_per_rack(rack_power: Watts, node_power: Watts) -> Count:
    r"""Nodes that the power of a rack carries.

    .. math:: n = \lfloor P_\mathrm{rack} / P_\mathrm{node} \rfloor

    Parameters
    ----------
    rack_power
        Power that a rack is built for [W].
    node_power
        Largest power of a node, devices and host [W].

    Returns
    -------
    Count
        Nodes [1].

    Notes
    -----
    No power is shared between racks and nothing is oversubscribed: all nodes may draw their peak at once.

    Examples
    --------
    >>> float(nodes_per_rack(40e3, 10.2e3))
    3.0
    """
    return np.floor(safe_ratio(rack_power, node_power))
