"""Units: parsing of quantities in files, annotated types for equations, formatting for people.

Inside the engine every number is a plain SI float (s, B, FLOP, J, W, USD). In files a quantity is a
string with its unit (``3.35 TB/s``). Equations annotate each parameter with one of the aliases below;
the annotation documents the unit, and the dimension tests check it.
"""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numeric: TypeAlias = float | NDArray[np.float64]
else:
    Numeric = Any

#: Base dimensions, in the order of the exponent vectors: time, information, arithmetic work, energy,
#: money, mass, length, tokens. Parameters and counts are dimensionless.
BASE_SYMBOLS = ("s", "B", "FLOP", "J", "USD", "kg", "m", "token")


class UnitError(ValueError):
    """A quantity could not be read, or has the wrong dimension. The message is meant for people."""


@dataclass(frozen=True)
class Unit:
    """A unit: its symbol, its exponents over :data:`BASE_SYMBOLS` and its factor to SI."""

    symbol: str
    exponents: tuple[int, ...]
    factor: float = 1.0

    def __repr__(self) -> str:
        return f"Unit({self.symbol!r})"

    @property
    def is_dimensionless(self) -> bool:
        return not any(self.exponents)


def _exponents(**powers: int) -> tuple[int, ...]:
    return tuple(powers.get(symbol, 0) for symbol in BASE_SYMBOLS)


_DECIMAL_PREFIXES = {
    "": 1.0, "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "m": 1e-3,
    "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
}  # fmt: skip
_BINARY_PREFIXES = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}

#: Symbols that take SI prefixes: (exponents, factor to SI).
_PREFIXED: dict[str, tuple[tuple[int, ...], float]] = {
    "s": (_exponents(s=1), 1.0),
    "B": (_exponents(B=1), 1.0),
    "bit": (_exponents(B=1), 0.125),
    "b": (_exponents(B=1), 0.125),
    "FLOP": (_exponents(FLOP=1), 1.0),
    "OP": (_exponents(FLOP=1), 1.0),
    "J": (_exponents(J=1), 1.0),
    "W": (_exponents(J=1, s=-1), 1.0),
    "Wh": (_exponents(J=1), 3600.0),
    "Hz": (_exponents(s=-1), 1.0),
    "g": (_exponents(kg=1), 1e-3),
    "m": (_exponents(m=1), 1.0),
    "USD": (_exponents(USD=1), 1.0),
    "token": (_exponents(token=1), 1.0),
}
#: Symbols without prefixes.
_PLAIN: dict[str, tuple[tuple[int, ...], float]] = {
    "1": (_exponents(), 1.0),
    "%": (_exponents(), 0.01),
    "min": (_exponents(s=1), 60.0),
    "h": (_exponents(s=1), 3600.0),
    "d": (_exponents(s=1), 86400.0),
    "day": (_exponents(s=1), 86400.0),
    "days": (_exponents(s=1), 86400.0),
    "year": (_exponents(s=1), 365.25 * 86400.0),
    "years": (_exponents(s=1), 365.25 * 86400.0),
    "tokens": (_exponents(token=1), 1.0),
    "param": (_exponents(), 1.0),
    "element": (_exponents(), 1.0),
}


def _read_symbol(symbol: str) -> tuple[tuple[int, ...], float] | None:
    """Exponents and SI factor of one (possibly prefixed) symbol, or None when it is not known."""
    if symbol in _PLAIN:
        return _PLAIN[symbol]
    for base in sorted(_PREFIXED, key=len, reverse=True):
        if not symbol.endswith(base):
            continue
        prefix = symbol[: len(symbol) - len(base)]
        exponents, factor = _PREFIXED[base]
        if prefix in _BINARY_PREFIXES and base in ("B", "bit"):
            return exponents, factor * _BINARY_PREFIXES[prefix]
        if prefix in _DECIMAL_PREFIXES:
            return exponents, factor * _DECIMAL_PREFIXES[prefix]
    return None


@functools.cache
def parse_unit(text: str) -> Unit:
    """Read a unit expression such as ``TB/s``, ``pJ/bit`` or ``USD/kWh``.

    Raises
    ------
    UnitError
        A symbol is unknown; the message names it.
    """
    exponents = [0] * len(BASE_SYMBOLS)
    factor = 1.0
    sign = 1
    for part in re.split(r"([*/·])", text.strip().replace(" ", "")):
        if part in ("*", "·"):
            sign = 1
            continue
        if part == "/":
            sign = -1
            continue
        match = re.fullmatch(r"([^\d^]+|1|%)(?:\^?(-?\d))?", part)
        read = _read_symbol(match.group(1)) if match else None
        if match is None or read is None:
            raise UnitError(f"unknown unit {part!r} in {text!r}")
        power = sign * int(match.group(2) or 1)
        exponents = [total + power * one for total, one in zip(exponents, read[0], strict=True)]
        factor *= read[1] ** power
    return Unit(text.strip(), tuple(exponents), factor)


_QUANTITY = re.compile(r"\s*([-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(.*?)\s*$")


def parse_quantity(text: str, expected: str) -> float:
    """Read a quantity with its unit and return it in SI.

    Parameters
    ----------
    text
        For example ``"3.35 TB/s"`` or ``"80 GiB"``.
    expected
        Unit whose dimension the quantity must have, for example ``"B/s"``.

    Raises
    ------
    UnitError
        Not a quantity, unknown unit, missing unit, or wrong dimension.
    """
    wanted = parse_unit(expected)
    match = _QUANTITY.match(text)
    if not match:
        raise UnitError(f"{text!r} is not a quantity; expected a number with a unit of {expected}")
    number, symbol = float(match.group(1).replace("_", "")), match.group(2)
    if not symbol:
        if wanted.is_dimensionless:
            return number
        raise UnitError(f"{text!r} has no unit; expected a unit of {expected}")
    unit = parse_unit(symbol)
    if unit.exponents != wanted.exponents:
        raise UnitError(f"{text!r} is not a quantity of {expected}")
    value = number * unit.factor
    if not math.isfinite(value):
        raise UnitError(f"{text!r} is not finite")
    return value


_COUNT_SUFFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}


def parse_count(text: str) -> float:
    """Read a count such as ``15.6T``, ``405B`` or ``8k`` (powers of 1000).

    Raises
    ------
    UnitError
        Not a count.
    """
    match = re.fullmatch(r"\s*([-+]?[\d_]*\.?\d+(?:[eE][-+]?\d+)?)\s*([kKMBGT]?)\s*", text)
    if not match:
        raise UnitError(f"{text!r} is not a count (examples: 8192, 8k, 405B, 15.6T)")
    return float(match.group(1).replace("_", "")) * _COUNT_SUFFIXES[match.group(2)]


_FORMAT_PREFIXES = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""),
                    (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f")]  # fmt: skip


def format_quantity(value: float, unit: str, digits: int = 3) -> str:
    """Format an SI value with an SI prefix: ``format_quantity(3.35e12, "B/s")`` is ``3.35 TB/s``."""
    if value is None or not math.isfinite(value):
        return "-" if value is None else f"{value} {unit}".strip()
    if value == 0 or unit in ("", "1", "USD", "kg", "%"):
        return f"{value:,.{digits}g} {unit}".strip() if abs(value) < 1e4 else f"{value:,.0f} {unit}".strip()
    for factor, prefix in _FORMAT_PREFIXES:
        if abs(value) >= factor * (1 - 0.5 * 10.0**-digits):
            return f"{_significant(value / factor, digits)} {prefix}{unit}"
    return f"{value:.{digits}g} {unit}"


def format_memory(value: float) -> str:
    """Bytes of a device's memory, always in GiB so that need and offer compare: ``86.7 GiB``."""
    return f"{value / 2**30:,.1f} GiB"


def _significant(value: float, digits: int) -> str:
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)) + 1e-12))
    return f"{value:.{decimals}f}"


def _alias(symbol: str) -> Unit:
    return parse_unit(symbol)


# Annotated aliases for the equations. The unit of the value in SI is the unit in the annotation.
Seconds = Annotated[Numeric, _alias("s")]
Bytes = Annotated[Numeric, _alias("B")]
Bandwidth = Annotated[Numeric, _alias("B/s")]
Flop = Annotated[Numeric, _alias("FLOP")]
FlopRate = Annotated[Numeric, _alias("FLOP/s")]
FlopPerByte = Annotated[Numeric, _alias("FLOP/B")]
FlopPerToken = Annotated[Numeric, _alias("FLOP/token")]
Tokens = Annotated[Numeric, _alias("token")]
TokenRate = Annotated[Numeric, _alias("token/s")]
Joules = Annotated[Numeric, _alias("J")]
Watts = Annotated[Numeric, _alias("J/s")]
EnergyPerFlop = Annotated[Numeric, _alias("J/FLOP")]
EnergyPerByte = Annotated[Numeric, _alias("J/B")]
Dollars = Annotated[Numeric, _alias("USD")]
DollarsPerSecond = Annotated[Numeric, _alias("USD/s")]
DollarsPerJoule = Annotated[Numeric, _alias("USD/J")]
KilogramsPerJoule = Annotated[Numeric, _alias("kg/J")]
Kilograms = Annotated[Numeric, _alias("kg")]
Hertz = Annotated[Numeric, _alias("1/s")]
#: A pure number that may be fractional: efficiency, fraction, ratio, exponent.
Ratio = Annotated[Numeric, _alias("1")]
#: A pure number that counts things (devices, layers, elements); integral in a plan, float in equations.
Count = Annotated[Numeric, _alias("1")]
#: Seconds per loop element, per score ... (dimension of time, counted per dimensionless element).
SecondsPerElement = Annotated[Numeric, _alias("s")]
#: Bytes per element of a number format.
BytesPerElement = Annotated[Numeric, _alias("B")]

#: Types of operands that are not traced, as they are met: a look at the type is quicker than one for an attribute.
_UNTRACED: set[type] = {float, int, bool}

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Every equation by its dotted name; the dimension, parity and documentation tests walk it.
EQUATIONS: dict[str, Callable[..., Any]] = {}


def _is_traced(kind: type) -> bool:
    traced = hasattr(kind, "trace_call")
    if not traced:
        _UNTRACED.add(kind)
    return traced


def equation(*, reference: str) -> Callable[[_Function], _Function]:
    """Register a function of the physics and make it explainable.

    The wrapped function is called as it is with numbers and arrays. When an argument is a traced
    operand (it has a ``trace_call`` method) the call becomes one node of the derivation.

    Parameters
    ----------
    reference
        Citation of the formula, printed in derivations and in the theory pages.
    """

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for argument in (*args, *kwargs.values()):
                if type(argument) not in _UNTRACED and _is_traced(type(argument)):
                    bound = signature.bind(*args, **kwargs)
                    bound.apply_defaults()
                    return argument.trace_call(function, reference, bound.arguments)
            return function(*args, **kwargs)

        call.reference = reference  # type: ignore[attr-defined]
        EQUATIONS[f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"] = call
        return call  # type: ignore[return-value]

    return decorate


def unit_of(annotation: Any) -> Unit | None:
    """Unit carried by an annotated alias, or None."""
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, Unit):
            return extra
    return None


def equation_units(function: Callable[..., Any]) -> Mapping[str, Unit | None]:
    """Units of the parameters of an equation and of its result (key ``return``)."""
    hints = inspect.get_annotations(inspect.unwrap(function), eval_str=True)
    return {name: unit_of(hint) for name, hint in hints.items()}
