"""Finding a number: the fall-back order, what to say when it is absent, and where each number came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NoReturn

from perfmodel.errors import SpecError
from perfmodel.machine.machine import Factor
from perfmodel.provenance import Basis, Sourced
from perfmodel.specs.base import FileSpec
from perfmodel.specs.efficiency import ANY, EfficiencySpec, KernelEfficiency
from perfmodel.specs.hardware import AcceleratorSpec
from perfmodel.specs.quantities import SpecModel
from perfmodel.specs.software import SoftwareSpec, StackEfficiency

#: Kernels of formats that run on the same unit may share efficiency numbers, never peaks.
_SIBLINGS = {
    "fp16": "bf16", "bf16": "fp16", "fp8-block": "fp8", "bf16-fp8-cache": "bf16",
    "int8-weight": "bf16", "int4-weight": "bf16", "mxfp4-weight": "bf16", "mxfp4-mxfp8": "fp8",
}  # fmt: skip


@dataclass
class Ledger:
    """Collects the provenance of every leaf while a machine is put together."""

    provenance: dict[str, Sourced] = field(default_factory=dict)
    derived: dict[str, tuple[Factor, ...]] = field(default_factory=dict)

    def take(self, path: str, number: Sourced) -> Any:
        """Record ``number`` as the origin of the leaf at ``path`` and return its value."""
        self.provenance[path] = number
        return number.value

    def take_product(
        self, path: str, factors: Sequence[tuple[Sourced, int]], *, stated_as: str, unit: str, note: str
    ) -> Any:
        """Record a leaf that is a product of powers of stated numbers and return its value.

        ``stated_as`` is the spec path under which a file could state it directly. The basis is
        ``derived``, or ``assumed`` when one of the factors is.
        """
        value = prod(number.value**power for number, power in factors)
        assumed = any(number.basis == Basis.ASSUMED for number, _ in factors)
        low, high = _product_range(factors)
        self.derived[path] = tuple(Factor(number, power) for number, power in factors)
        basis = Basis.ASSUMED if assumed else Basis.DERIVED
        source = next((number.source for number, _ in factors if number.basis == Basis.ASSUMED), factors[0][0].source)
        return self.take(path, Sourced(value, unit, source, basis, stated_as, low=low, high=high, note=note))


def _product_range(factors: Sequence[tuple[Sourced, int]]) -> tuple[float | None, float | None]:
    """Range of a product from the stated ranges of its factors; None when no factor states one."""
    if all(number.low is None and number.high is None for number, _ in factors):
        return None, None
    ends = [
        (
            (number.value if number.low is None else number.low) ** power,
            (number.value if number.high is None else number.high) ** power,
        )
        for number, power in factors
    ]
    return prod(min(pair) for pair in ends), prod(max(pair) for pair in ends)


def missing(spec: FileSpec, path: str, example: str) -> NoReturn:
    """Raise the error about a needed number that a file does not state."""
    where = str(spec.origin) if spec.origin is not None else f"{spec.name}.yaml"
    kind = getattr(spec, "kind", "spec")
    raise SpecError(
        f"{where}: {kind} {spec.name!r} does not state {path}, which this question needs; write `{example}` there "
        "(a number of another device is never used instead)"
    )


def needed(number: Sourced | None, spec: FileSpec, path: str, example: str) -> Sourced:
    """Return the number, or raise :class:`SpecError` that names it, the file and what to write."""
    return number if number is not None else missing(spec, path, example)


@dataclass(frozen=True)
class Levels:
    """The places where an efficiency number may stand, nearest first."""

    accelerator: AcceleratorSpec
    efficiency_class: EfficiencySpec
    software: SoftwareSpec

    def stack_entries(self) -> list[StackEfficiency]:
        """Entries of the software stack that apply to the accelerator, nearest first."""
        names = (self.accelerator.name, *self.accelerator.aliases, self.efficiency_class.name, ANY)
        entries = self.software.efficiency
        return [entries[name] for name in dict.fromkeys(names) if name in entries]

    def kernels(self) -> list[KernelEfficiency]:
        return [*self.stack_entries(), self.accelerator.efficiency, self.efficiency_class.efficiency]

    def find(self, family: str, key: str, number: str, example: str) -> Sourced:
        """Look one number of one family (``matmul``, ``attention``, ``elementwise``, ...) up.

        At each level the entry of ``key`` counts first, then for a 16-bit format its sibling, then ``any``.

        Raises
        ------
        SpecError
            No level states the number.
        """
        found = self.stated(family, key, number)
        if found is not None:
            return found
        path = f"efficiency.{family}.{key}.{number}"
        return missing(
            self.efficiency_class,
            path,
            f"efficiency: {{{family}: {{{key}: {{{number}: {example}}}}}}}",
        )

    def stated(self, family: str, key: str, number: str) -> Any:
        """Like :meth:`find`, for a number or switch that kernels may do without: None where no level states it."""
        for name, entry in self.entries(family, key):
            found = getattr(entry, number)
            if found is not None:
                return _borrowed(found, key, name) if isinstance(found, Sourced) and name not in (key, ANY) else found
        return None

    def entries(self, family: str, key: str) -> Iterator[tuple[str, SpecModel]]:
        """Entries of a family that apply to a key, nearest first, with the key that each stands under."""
        for level in self.kernels():
            entries: Mapping[str, SpecModel] = getattr(level, family)
            for name in (key, _SIBLINGS.get(key), ANY):
                if name is not None and name in entries:
                    yield name, entries[name]


def _borrowed(number: Sourced, key: str, name: str) -> Sourced:
    note = f"{number.note}; " if number.note else ""
    return replace(number, note=f"{note}measured with {name}, used for {key} (same unit)")
