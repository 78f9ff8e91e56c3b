"""The published JSON Schema of a result (``docs/reference/result.schema.json``), made from the types of its rows."""

from __future__ import annotations

import json
import sys
import types
import typing
from dataclasses import fields
from typing import Any

from perfmodel.engine.headline import ENERGY_PARTS, MEMORY_PARTS
from perfmodel.engine.result import (
    OPTIONAL_KEYS,
    PLAN_COUNTS,
    SCHEMA,
    CauseRow,
    CommunicationRow,
    MeasuredTerm,
    OperatorRow,
    PublishedRow,
    ResultWarning,
    StageRow,
)
from perfmodel.provenance import Basis

_NUMBER: dict[str, Any] = {"type": "number"}
_OPTIONAL: dict[str, Any] = {"type": ["number", "null"]}
_TEXT: dict[str, Any] = {"type": "string"}
_WHOLE: dict[str, Any] = {"type": "integer"}
#: Numbers by dotted result key, nested.
_NUMBERS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {"anyOf": [_NUMBER, {"$ref": "#/$defs/numbers"}]},
}
_COMMUNICATION = ("tensor", "context", "expert", "pipeline", "data")
_TIME_PARTS = (
    "forward_s",
    "backward_s",
    "recompute_s",
    *(f"{name}_communication_s" for name in _COMMUNICATION),
    "pipeline_bubble_s",
    "optimizer_s",
    "offload_s",
    "overhead_s",
)


def result_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the object that ``--format json`` prints.

    Every key listed is always there; objects may gain keys in later versions.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "perfmodel result",
        **_object(
            {
                "schema": {"const": SCHEMA},
                "version": _TEXT,
                "scenario": _object({"name": _TEXT, "sha256": _TEXT}),
                "question": {"enum": ["evaluate", "search", "capacity", "solve"]},
                "workload": _TEXT,
                "feasible": {"type": "boolean"},
                "reasons": _list(_TEXT),
                "plans": _list(_plan()),
            }
            | _numbers()
            | _rows()
        ),
        "allOf": [
            {"if": {"properties": {"question": {"const": question}}}, "then": _object(added)}
            for question, added in (("search", _search()), ("capacity", _capacity()), ("solve", _solve()))
        ],
        "$defs": {"numbers": _NUMBERS, "entry": _entry()},
    }


def _search() -> dict[str, Any]:
    """Keys that a search adds to the result of its best candidate."""
    counts = ("enumerated", "evaluated", "feasible", "allowed")
    entries = _list({"$ref": "#/$defs/entry"})
    return {
        "objectives": {"type": "object", "minProperties": 1, "additionalProperties": {"enum": ["min", "max"]}},
        **{f"candidates_{name}": _WHOLE for name in counts},
        "seconds": _NUMBER,
        **dict.fromkeys(("best", "pareto", "sweep"), entries),
    }


def _entry() -> dict[str, Any]:
    """One candidate of a search: what a scenario sets to be it, and its numbers as in a result."""
    numbers = {"$ref": "#/$defs/numbers"}
    stated = {"settings": {"type": "object"}, "plans": _list(_plan())}
    return {
        **_object(stated | dict.fromkeys(("time", "memory", "energy", "metrics"), numbers)),
        "additionalProperties": numbers,
    }


def _capacity() -> dict[str, Any]:
    """Keys that a capacity question adds to the result of its chosen point."""
    sizes = _list(_size())
    return {
        "devices": _or_none(_WHOLE),
        "cluster": _or_none(_TEXT),
        "pricing": _or_none(_TEXT),
        "settings": _or_none({"type": "object"}),
        "binding_constraint": _or_none(_TEXT),
        "binding_constraints": _list(_TEXT),
        "granularity_devices": _WHOLE,
        "goal": _object(
            {
                "minimise": {"enum": ["devices", "money", "energy"]},
                "deadline_days": _OPTIONAL,
                "tokens_per_s": _OPTIONAL,
            }
        ),
        "sizes": sizes,
        "others": sizes,
        "confidence": {"type": "object", "additionalProperties": _or_none(_size())},
    }


def _size() -> dict[str, Any]:
    """One size of a cluster with its best plan; null where there is none, or where a number is not known."""
    numbers = ("days", "tokens_per_s", "step_s", "mfu", "usd", "usd_per_million_tokens", "energy_kwh", "peak_power_w",
               "peak_memory_bytes")  # fmt: skip
    told: dict[str, Any] = {
        "devices": _WHOLE,
        "cluster": _TEXT,
        "pricing": _or_none(_TEXT),
        "meets_goal": {"type": "boolean"},
        "stopped_by": _list(_TEXT),
        "probability": _OPTIONAL,
    }
    return _object(told | dict.fromkeys(numbers, _OPTIONAL) | {"settings": _or_none({"type": "object"})})


def _solve() -> dict[str, Any]:
    """Keys that a solution adds to the result at the value; numbers are in SI, in the unit of ``unit``."""
    ends = _object({"from": _NUMBER, "to": _NUMBER})
    return {
        "vary": _TEXT,
        "value": _OPTIONAL,
        "unit": _TEXT,
        "written": _or_none(_TEXT),
        "target": _object({"key": _TEXT, "value": _NUMBER, "unit": _TEXT}),
        "exact": {"type": "boolean"},
        "meets_target": {"enum": ["exact", "smallest", "largest", None]},
        "crossings": _WHOLE,
        "between": ends,
        "reached": _or_none(ends),
    }


def _or_none(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


def _numbers() -> dict[str, Any]:
    interval = _object({"p10": _NUMBER, "p50": _NUMBER, "p90": _NUMBER, "basis": _TEXT})
    memory = dict.fromkeys((*MEMORY_PARTS, "kv_cache_bytes"), _NUMBER)
    optional = {part: _object(dict.fromkeys(keys, _OPTIONAL)) for part, keys in OPTIONAL_KEYS.items()}
    return optional | {
        "time": _object(
            {
                "step_s": _NUMBER,
                "breakdown": _object(dict.fromkeys(_TIME_PARTS, _NUMBER)),
                "overlapped": {"type": "object", "additionalProperties": _NUMBER},
            }
        ),
        "memory": _object(
            {"peak_bytes": _NUMBER, "peak_rank": _TEXT, "capacity_bytes": _NUMBER, "breakdown": _object(memory)}
        ),
        "energy": _object(
            dict.fromkeys(("per_step_j", "per_token_j", "average_power_w", "peak_power_w"), _NUMBER)
            | {"breakdown": _object(dict.fromkeys(ENERGY_PARTS, _NUMBER))}
        ),
        "metrics": _object(
            dict.fromkeys(("tokens_per_s", "tokens_per_s_per_device", "mfu", "hfu", "model_flop_per_token"), _NUMBER)
            | {"mfu_variants": {"type": "object", "additionalProperties": _NUMBER}}
        ),
        "uncertainty": {"type": "object", "additionalProperties": interval},
    }


def _rows() -> dict[str, Any]:
    source = _object({"key": _TEXT, "basis": {"enum": [str(one) for one in Basis]}, "used_for": _list(_TEXT)})
    kinds = {
        "operators": OperatorRow,
        "communication": CommunicationRow,
        "stages": StageRow,
        "waterfall": CauseRow,
        "published": PublishedRow,
        "warnings": ResultWarning,
    }
    rows = {name: _list(_row(kind)) for name, kind in kinds.items()}
    return rows | {"sources": _list(source), "measured": _measured()}


def _measured() -> dict[str, Any]:
    numbers = dict.fromkeys(("step_s", "tokens_per_s", "mfu", "p10", "p90"), _NUMBER)
    stated = {
        "at": {"type": "object"},
        **dict.fromkeys(("step_s", "predicted_s", "difference_s", "ratio"), _NUMBER),
        "reasons": _list(_TEXT),
        "terms": _list(_row(MeasuredTerm)),
        "anchored": _object(numbers | {"days": _OPTIONAL, "basis": _TEXT}),
    }
    return {**_object(stated), "type": ["object", "null"]}


def _plan() -> dict[str, Any]:
    counts: dict[str, Any] = dict.fromkeys(PLAN_COUNTS, _WHOLE)
    texts: dict[str, Any] = dict.fromkeys(("role", "pool", "recompute", "schedule"), _TEXT)
    return _object(counts | texts)


def _row(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return _object({item.name: _type(hints[item.name]) for item in fields(kind)})


def _type(hint: Any) -> dict[str, Any]:
    plain = {float: _NUMBER, int: _WHOLE, str: _TEXT, bool: {"type": "boolean"}}
    if hint in plain:
        return plain[hint]
    if isinstance(hint, types.UnionType):
        return _OPTIONAL
    if typing.get_origin(hint) is tuple:
        return _list(_TEXT)
    return {"type": "object", "additionalProperties": _NUMBER}


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def schema_text() -> str:
    """The schema as it is published."""
    return json.dumps(result_schema(), indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
