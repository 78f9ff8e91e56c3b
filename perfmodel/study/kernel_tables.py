"""Tables of kernel measurements: which kernel a row times, on what, and its sizes.

The names of the columns and of the values are those of the collectors of serving frameworks; what they mean in the
catalogue is in ``catalog/vocabulary/kernel-tables.yaml``. Measured values and sources are never looked at here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from perfmodel.specs.kinds import package_folder
from perfmodel.specs.yaml_reader import read_file
from perfmodel.study.validation.lines import Row
from perfmodel.study.validation.tables import IncompleteRow, InfeasibleRow, UnsupportedRow, number

BITS_PER_BYTE = 8.0
#: A window that no cache reaches: full attention.
NO_WINDOW = 2.0**40
#: Column `distribution` of experts: evenly spread, or a popularity that follows a power law.
BALANCED, SKEWED = "balanced", "power_law"


@dataclass(frozen=True)
class Case:
    """One kernel of one row.

    Attributes
    ----------
    family
        Key of ``engine.kernel_forms.FORMS``.
    accelerator, software
        Names in the catalogue.
    key
        Entry of the efficiency numbers: a data type, with its cache type where that differs, or a kind of
        memory-bound kernel.
    peak
        Format whose peak counts.
    sizes
        What the form needs, one number each.
    configuration
        What is left out of a fit together.
    assumed
        Blank columns that took a default, as ``column=value``.
    """

    family: str
    accelerator: str
    software: str
    key: str
    peak: str
    sizes: Mapping[str, float]
    configuration: tuple[float, ...]
    assumed: tuple[str, ...] = field(default=())


@functools.cache
def names() -> Mapping[str, Any]:
    """The shipped table of names."""
    return read_file(package_folder() / "catalog" / "vocabulary" / "kernel-tables.yaml").data


def accelerator_of(row: Row) -> str:
    """The accelerator that a row names in its column ``device`` or ``gpu``."""
    text = row.get("device") or row.get("gpu") or ""
    if not text:
        raise IncompleteRow("device is blank and has no default")
    known: Mapping[str, str] = names()["devices"]
    if text not in known:
        raise UnsupportedRow(f"device {text!r} is not in the table of devices (catalog/vocabulary/kernel-tables.yaml)")
    return known[text]


def framework_of(row: Row) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """What the shipped table says of the framework of a row, and what was assumed where none is stated."""
    text = row.get("framework", "").lower()
    if not text:
        default: Mapping[str, Any] = names()["default_framework"]
        return default, (f"framework={default['software']}",)
    known: Mapping[str, Mapping[str, Any]] = names()["frameworks"]
    if text not in known:
        raise UnsupportedRow(f"framework {row['framework']!r} has no software stack; there are {', '.join(known)}")
    return known[text], ()


def _software(row: Row, family: str, framework: Mapping[str, Any]) -> str:
    """The stack that holds the numbers of the kernel: the framework by its version, or the library it borrows from."""
    source = row.get("kernel_source", "")
    for library in names()["libraries"]:
        borrows = framework["software"] in library.get("frameworks", (framework["software"],))
        if borrows and family in library["families"] and fnmatchcase(source, library["kernels"]):
            return str(library["software"])
    versions: Mapping[str, str] = framework.get("versions", {})
    version = row.get("version", "")
    return next((name for one, name in versions.items() if fnmatchcase(version, one)), str(framework["software"]))


def _type(row: Row, column: str) -> Mapping[str, Any]:
    text = row.get(column, "")
    if not text:
        raise IncompleteRow(f"{column} is blank and has no default")
    known: Mapping[str, Mapping[str, Any]] = names()["types"]
    if text not in known:
        raise UnsupportedRow(f"{column} {text!r} is not modelled; there are {', '.join(known)}")
    return known[text]


def _sizes(row: Row, columns: Mapping[str, str], least: float = 1.0) -> dict[str, float]:
    """Numbers of a row by the names of the forms; each at least ``least``."""
    found: dict[str, float] = {}
    for name, column in columns.items():
        value = number(row, column)
        if value is None:
            raise IncompleteRow(f"{column} is blank and has no default")
        if value < least:
            raise InfeasibleRow(f"{column} is {value:g}, less than {least:g}")
        found[name] = value
    return found


def _divides(sizes: Mapping[str, float], part: str, whole: str) -> None:
    if sizes[whole] % sizes[part]:
        raise InfeasibleRow(f"{part} = {sizes[part]:g} does not divide {whole} = {sizes[whole]:g}")


def _case(
    row: Row, family: str, key: str, peak: str, sizes: Mapping[str, float], configuration: tuple[float, ...],
    assumed: tuple[str, ...] = (),
) -> Case:  # fmt: skip
    framework, more = framework_of(row)
    software = _software(row, family, framework)
    return Case(family, accelerator_of(row), software, key, peak, sizes, configuration, (*assumed, *more))


def matmul_case(row: Row) -> Case:
    """A matrix product."""
    sizes = _sizes(row, {"m": "m", "n": "n", "k": "k"})
    kind = _type(row, "gemm_dtype")
    framework, _ = framework_of(row)
    more = {
        "activation_bytes": kind["activation_bits"] / BITS_PER_BYTE,
        "weight_bytes": kind["weight_bits"] / BITS_PER_BYTE,
        "weight_copies": float(framework["weight_copies"]),
        "input_copies": float(framework["input_copies"]),
    }
    return _case(row, "matmul", kind["key"], kind["peak"], sizes | more, (sizes["n"], sizes["k"]))


def _cache_key(row: Row, compute: Mapping[str, Any]) -> tuple[str, float, tuple[str, ...]]:
    """Key of the numbers (compute and cache type), bytes of a cached element, and what was assumed."""
    if not row.get("kv_cache_dtype", ""):
        return compute["key"], compute["activation_bits"] / BITS_PER_BYTE, (f"kv_cache_dtype={compute['key']}",)
    cache = _type(row, "kv_cache_dtype")
    key = compute["key"] if cache["key"] == compute["key"] else f"{compute['key']}-{cache['key']}-cache"
    return key, cache["activation_bits"] / BITS_PER_BYTE, ()


def _optional(row: Row, column: str, default: float) -> tuple[float, tuple[str, ...]]:
    value = number(row, column)
    return (default, (f"{column}={default:g}",)) if value is None else (value, ())


def _window(row: Row) -> tuple[float, tuple[str, ...]]:
    window, assumed = _optional(row, "window_size", 0.0)
    return (window if window > 0 else NO_WINDOW), assumed


_HEADS = {"batch": "batch_size", "heads": "num_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim"}


def attention_case(row: Row) -> Case:
    """Attention over new tokens; stacks hand a prompt of one token to their decode kernels."""
    if any(fnmatchcase(row.get("kernel_source", ""), one) for one in names()["decode_kernels"]):
        return decode_case(row)
    sizes = _sizes(row, _HEADS | {"queries": "isl"})
    _divides(sizes, "kv_heads", "heads")
    compute = _type(row, "attn_dtype")
    key, cache_bytes, assumed = _cache_key(row, compute)
    cached, no_prefix = _optional(row, "step", 0.0)
    window, no_window = _window(row)
    dim = sizes["head_dim"]
    more = {"cached": cached, "window": window, "cache_bytes": cache_bytes, "query_dim": dim, "value_dim": dim}
    configuration = (sizes["heads"], sizes["kv_heads"], dim, window)
    return _case(
        row, "attention", key, compute["peak"], sizes | more, configuration, (*assumed, *no_prefix, *no_window)
    )


def decode_case(row: Row) -> Case:
    """Attention of one new token per sequence; the cache holds ``isl + step`` positions."""
    sizes = _sizes(row, _HEADS | {"new": "isl"})
    _divides(sizes, "kv_heads", "heads")
    compute = _type(row, "attn_dtype")
    key, cache_bytes, assumed = _cache_key(row, compute)
    step, no_step = _optional(row, "step", 0.0)
    window, no_window = _window(row)
    more = {"keys": sizes["new"] + step, "window": window, "cache_bytes": cache_bytes}
    configuration = (sizes["heads"], sizes["kv_heads"], sizes["head_dim"], window)
    return _case(
        row, "decode_attention", key, compute["peak"], sizes | more, configuration, (*assumed, *no_step, *no_window)
    )


def _latent(row: Row) -> tuple[dict[str, float], Mapping[str, Any], str, tuple[str, ...]]:
    sizes = _sizes(row, {"batch": "batch_size", "heads": "num_heads", "queries": "isl"})
    compute = _type(row, "mla_dtype")
    key, cache_bytes, assumed = _cache_key(row, compute)
    step, no_step = _optional(row, "step", 0.0)
    implied = {name: float(value) for name, value in names()["latent"].items()}
    more = {"cached": step, "keys": sizes["queries"] + step, "cache_bytes": cache_bytes}
    return sizes | more | implied, compute, key, (*assumed, *no_step)


def latent_attention_case(row: Row) -> Case:
    """Multi-head latent attention over new tokens."""
    sizes, compute, key, assumed = _latent(row)
    return _case(row, "latent_attention", key, compute["peak"], sizes, (sizes["heads"], sizes["batch"]), assumed)


def latent_decode_case(row: Row) -> Case:
    """Multi-head latent attention of one new token per sequence."""
    sizes, compute, key, assumed = _latent(row)
    return _case(row, "latent_decode", key, compute["peak"], sizes, (sizes["heads"], sizes["batch"]), assumed)


def expert_case(row: Row) -> Case:
    """The experts of one rank: rows of the tokens that are routed to it."""
    sizes = _sizes(
        row,
        {
            "tokens": "num_tokens", "hidden": "hidden_size", "inter": "inter_size", "top_k": "topk",
            "experts": "num_experts", "tensor_ranks": "moe_tp_size", "expert_ranks": "moe_ep_size",
        },
    )  # fmt: skip
    _divides(sizes, "expert_ranks", "experts")
    if sizes["top_k"] > sizes["experts"]:
        raise InfeasibleRow(f"topk = {sizes['top_k']:g} is more than num_experts = {sizes['experts']:g}")
    spread = row.get("distribution", "")
    if spread and not spread.startswith((BALANCED, SKEWED)):
        raise UnsupportedRow(f"distribution {spread!r} is not modelled; there are {BALANCED} and {SKEWED}_*")
    kind = _type(row, "moe_dtype")
    more = {
        "inner": sizes["inter"] / sizes["tensor_ranks"],
        "gates": 1.0 if "nongated" in row.get("kernel_source", "") else 2.0,
        "skewed": float(spread.startswith(SKEWED)),
        "activation_bytes": kind["activation_bits"] / BITS_PER_BYTE,
        "weight_bytes": kind["weight_bits"] / BITS_PER_BYTE,
    }
    configuration = (sizes["hidden"], sizes["inter"], sizes["experts"], sizes["top_k"])
    assumed = () if spread else (f"distribution={BALANCED}",)
    return _case(row, "experts", kind["key"], kind["peak"], sizes | more, configuration, assumed)


#: Readers by `op_name`, and the column that tells the kernel where that is blank.
READERS: Mapping[str, tuple[Callable[[Row], Case], str]] = {
    "gemm": (matmul_case, "gemm_dtype"),
    "context_attention": (attention_case, ""),
    "generation_attention": (decode_case, ""),
    "mla_context": (latent_attention_case, ""),
    "context_mla": (latent_attention_case, ""),
    "mla_generation": (latent_decode_case, ""),
    "generation_mla": (latent_decode_case, ""),
    "moe": (expert_case, "moe_dtype"),
}


def reader_of(row: Row) -> Callable[[Row], Case] | None:
    """The reader of a row by its ``op_name``, else by its columns; None for anything that is not one kernel."""
    named = READERS.get(row.get("op_name", ""))
    if named is not None:
        return named[0]
    if row.get("op_name"):
        return None
    return next((reader for reader, column in READERS.values() if column and row.get(column)), None)


def is_collective(row: Row) -> bool:
    """The row times a collective or a transfer between devices."""
    return bool(row.get("collective")) or row.get("op_name", "") in names()["collectives"]


def layer_cases(row: Row) -> dict[str, Callable[[Row], Case]]:
    """Readers of a row with one column per operator of a decoder layer, for the columns that are filled."""
    return {
        column: functools.partial(_layer_case, operator=operator)
        for column, operator in names()["layer_columns"].items()
        if row.get(column)
    }


def _layer_case(row: Row, operator: str) -> Case:
    """One operator of a decoder layer under tensor parallelism, in 16 bits."""
    columns = {
        "tokens": "num_tokens", "ranks": "num_tensor_parallel_workers", "heads": "n_head", "kv_heads": "n_kv_head",
        "hidden": "n_embd", "inner": "n_expanded_embd",
    }  # fmt: skip
    sizes = _sizes(row, columns)
    gates = 2.0 if row.get("use_gated_mlp", "").lower() in {"true", "1"} else 1.0
    hidden, inner = sizes["hidden"], sizes["inner"] / sizes["ranks"]
    head_dim = hidden / sizes["heads"]
    # A rank has at least one key-value head: with fewer heads than ranks they are copied.
    heads, kv_heads = sizes["heads"] / sizes["ranks"], max(sizes["kv_heads"] / sizes["ranks"], 1.0)
    products = {
        "qkv": ((heads + 2.0 * kv_heads) * head_dim, hidden), "output": (hidden, heads * head_dim),
        "up": (gates * inner, hidden), "down": (hidden, inner),
    }  # fmt: skip
    if operator in products:
        return matmul_case({**row, "m": row["num_tokens"], "n": str(products[operator][0]),
                            "k": str(products[operator][1]), "gemm_dtype": "float16"})  # fmt: skip
    kinds = {
        "norm": (hidden, 2.0), "residual": (hidden, 3.0), "embedding": (hidden, 2.0),
        "activation": (inner, gates + 1.0), "rotary": ((heads + kv_heads) * head_dim, 2.0),
    }  # fmt: skip
    features, moved = kinds[operator]
    more = {"features": features, "elements_moved": moved}
    return _case(row, "elementwise", operator, "fp16", sizes | more, (hidden, inner))
