"""A kernel before its times are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perfmodel.machine.machine import AttentionParameters, ElementwiseParameters, MatmulParameters
from perfmodel.units import Numeric

FORWARD, BACKWARD = "forward", "backward"


@dataclass(frozen=True)
class Draft:
    """A kernel before its times are known."""

    block: str
    operator: str
    phase: str
    data_type: str
    parameters: MatmulParameters | AttentionParameters | ElementwiseParameters
    flop: Numeric = 0.0
    streamed: Numeric = 0.0  # bytes that the cache may hold: activations
    cold: Numeric = 0.0  # bytes that come from memory in any case: weights
    cacheable: bool = True
    matmul: Mapping[str, Any] | None = None  # dimensions and element widths
    vector_flop: Numeric = 0.0
    tile: Mapping[str, Any] | None = None
    plateau: Mapping[str, Any] | None = None  # arithmetic at one sustained rate
    attention: Mapping[str, Any] | None = None  # tiles over units
    two_units: Mapping[str, Any] | None = None  # matrix and vector work, each at its rate
    attention_backward: bool = False
    mean_share: Numeric = 1.0  # work of the mean rank over that of the slowest, which is the one that is timed
    weight_gradient: bool = False  # makes gradients of weights only: no other stage waits for it

    @property
    def on_vector_units(self) -> bool:
        """All arithmetic is that of the vector units."""
        return all(one is None for one in (self.tile, self.plateau, self.attention, self.two_units))
