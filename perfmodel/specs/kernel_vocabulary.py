"""What the words of tables of kernel measurements mean in the catalogue (``kind: kernel-vocabulary``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from perfmodel.specs.base import FileSpec, SpecModel, WholeField

Bits = Annotated[float, Field(gt=0.0, le=64.0)]


class FrameworkWord(SpecModel):
    """A framework: its stack, stacks of single versions by pattern, and the copies its benchmark cycles through."""

    software: str
    weight_copies: WholeField = 1
    input_copies: WholeField = 1
    versions: Mapping[str, str] = Field(default_factory=dict)


class LibraryWord(SpecModel):
    """Kernels with numbers of their own: pattern of ``kernel_source``, families, and stacks that borrow them."""

    kernels: str
    families: tuple[str, ...]
    software: str
    frameworks: tuple[str, ...] = ()


class TypeWord(SpecModel):
    """A data type: key of the efficiency numbers, format whose peak counts, bits per value as moved."""

    key: str
    peak: str
    activation_bits: Bits
    weight_bits: Bits


class LatentWord(SpecModel):
    """Sizes of multi-head latent attention that the tables imply."""

    latent_dim: WholeField
    rotary_dim: WholeField
    head_dim: WholeField
    value_dim: WholeField


class KernelVocabularySpec(FileSpec):
    """Devices, frameworks, libraries, types and columns of tables of kernels."""

    kind: Literal["kernel-vocabulary"]
    devices: Mapping[str, str]
    frameworks: Mapping[str, FrameworkWord]
    default_framework: FrameworkWord
    libraries: tuple[LibraryWord, ...] = ()
    decode_kernels: tuple[str, ...] = ()
    types: Mapping[str, TypeWord]
    latent: LatentWord
    collectives: tuple[str, ...] = ()
    layer_columns: Mapping[str, str] = Field(default_factory=dict)
