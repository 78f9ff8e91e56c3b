"""Number formats (how many bits a value takes) and optimizers (what they keep per parameter)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from perfmodel.errors import SpecError, nearest
from perfmodel.provenance import Sourced
from perfmodel.specs.base import FileSpec, WholeField
from perfmodel.specs.quantities import Provenance, SpecModel, quantity

BITS_PER_BYTE = 8.0


class FormatSpec(SpecModel):
    """One number format.

    Attributes
    ----------
    bits
        Bits per value, shared scales included: 8.25 for 32 values of 8 bits with one scale of 8 bits [1].
    element
        Format whose peak and efficiency the matrix unit uses, when it is not the name itself.
    title
        For people.
    """

    bits: Annotated[Sourced, quantity("1", minimum=0.5, maximum=128.0)]
    element: str | None = None
    title: str = ""
    provenance: Provenance | None = None

    @property
    def bytes(self) -> float:
        """Bytes per value [B]."""
        return float(self.bits.value) / BITS_PER_BYTE


class OrthogonaliseSpec(SpecModel):
    """Newton-Schulz iterations on the update of every hidden matrix; other parameters have an optimizer of their own.

    Attributes
    ----------
    iterations
        Of the polynomial.
    others
        Optimizer of embeddings, head, norms and biases.
    """

    iterations: WholeField
    others: str


class OptimizerSpec(SpecModel):
    """What an optimizer keeps for each parameter, besides weight, gradient and master weight.

    ``orthogonalise``: the update of a hidden matrix is made orthogonal by matrix products (Muon).
    """

    moments: Annotated[int, Field(ge=0, le=4)]
    format: str
    orthogonalise: OrthogonaliseSpec | None = None
    title: str = ""


class FormatsSpec(FileSpec):
    """The file of number formats (``kind: formats``)."""

    kind: Literal["formats"]
    formats: Mapping[str, FormatSpec]
    optimizers: Mapping[str, OptimizerSpec]

    def format(self, name: str) -> FormatSpec:
        """The format of that name.

        Raises
        ------
        SpecError
            There is none; the message lists them.
        """
        if name not in self.formats:
            raise SpecError(
                f"unknown number format {name!r}; formats: {', '.join(self.formats)}{nearest(name, self.formats)}"
            )
        return self.formats[name]

    def moment_bytes(self, optimizer: str) -> float:
        """Bytes of the moments that an optimizer keeps per parameter [B]."""
        kept = self.optimizers[optimizer]
        return kept.moments * self.bytes_per_value(kept.format)

    def bytes_per_value(self, name: str) -> float:
        """Bytes that one value of a format takes, scales included [B].

        Raises
        ------
        SpecError
            The format is not known.
        """
        return self.format(name).bytes
