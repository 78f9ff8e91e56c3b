"""Rates between nodes as tables of published runs write them."""

from __future__ import annotations

import pytest

from perfmodel.study.validation.network_text import rate_per_device


@pytest.mark.parametrize(
    ("text", "devices", "gigabytes"),
    [
        ("8x HDR 200Gb/s per node", 8, 25.0),
        ("8x200Gb/s per node CLOS", 8, 25.0),
        ("1600 Gbps/node RoCE", 8, 25.0),
        ("800 Gb/s per node IB", 8, 12.5),
        ("CX-7 NDR 400Gb/s per GPU", 4, 50.0),
        ("4x ConnectX-7 IB NDR 400Gb/s", 4, 50.0),
        ("Storage: 2x ConnectX-7 IB NDR 400Gb/s, Compute: 8x ConnectX-7 IB NDR 400Gb/s, Management: 100Gb/s", 8, 50.0),
        ("8x Slingshot-11 200Gb/s per node", 12, 200.0 / 12.0),
    ],
)
def test_a_rate_is_per_device_and_direction(text: str, devices: int, gigabytes: float) -> None:
    assert rate_per_device(text, devices) == pytest.approx(gigabytes * 1e9)


@pytest.mark.parametrize("text", ["", "single node", "not stated", "DCN between slices", "10G Ethernet", "NDR 400Gb/s"])
def test_a_text_without_a_rate_or_without_what_it_is_of_says_nothing(text: str) -> None:
    assert rate_per_device(text, 8) is None
