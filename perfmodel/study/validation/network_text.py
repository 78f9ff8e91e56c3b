"""Reading the free text that tables use for networks."""

from __future__ import annotations

import re

from perfmodel.units import parse_quantity

#: ``8x HDR 200Gb/s per node``, ``1600 Gbps/node``, ``400Gb/s per GPU``.
_RATE = re.compile(
    r"(?:(?P<ports>\d+)\s*x(?:\s[^,;:]*?)?)?(?P<rate>\d+(?:\.\d+)?)\s*(?:Gb/s|Gbps|Gbit/s)"
    r"\s*(?P<per>/\s*node|per node|per GPU)?",
    re.IGNORECASE,
)
#: Some systems list the networks of storage and management beside the one that matters.
_COMPUTE = re.compile(r"compute:[^,;]*", re.IGNORECASE)


def rate_per_device(text: str, devices_per_node: int) -> float | None:
    """Bandwidth between nodes per device and direction, as a text about the network says it.

    Parameters
    ----------
    text
        Such as ``8x HDR 200Gb/s per node`` or ``CX-7 NDR 400Gb/s per GPU``.
    devices_per_node
        Devices that share the ports of a node.

    Returns
    -------
    float or None
        [B/s]; None where the text does not say a rate, or not of what.
    """
    named = _COMPUTE.search(text)
    found = _RATE.search(named.group(0) if named else text)
    if found is None:
        return None
    rate = parse_quantity(f"{found['rate']} Gb/s", "B/s")
    if found["per"] is not None and found["per"].lower().endswith("gpu"):
        return rate
    if found["ports"] is None and found["per"] is None:
        return None
    return rate * float(found["ports"] or 1.0) / devices_per_node
