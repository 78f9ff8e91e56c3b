"""Findings of a task as the content of a Parquet file, and back."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from perfmodel.study.search.walk import Found, Table

_COUNTS = ("enumerated", "evaluated", "feasible", "allowed")
_TABLES = ("best", "front", "bests", "least_memory")
_PLACE = ("region", "point", "candidate")
_KEY = b"perfmodel"


def found_bytes(found: Found, label: str) -> bytes:
    """The content of a file.

    Parameters
    ----------
    label
        What the file belongs to.

    Notes
    -----
    One row per candidate: the table that it is in, its place, and its objectives (``least_memory`` has one value only,
    the others are NaN there). Counts are in the metadata, with a hash over everything.
    """
    tables = {name: getattr(found, name) for name in _TABLES}
    objectives = max(table.values.shape[1] for table in tables.values())
    place = np.concatenate([table.place for table in tables.values()])
    values = np.concatenate([_widened(table.values, objectives) for table in tables.values()])
    columns: dict[str, Any] = {
        "table": pa.array([name for name, table in tables.items() for _ in range(len(table))], pa.string())
    }
    columns |= {name: pa.array(place[:, position], pa.int64()) for position, name in enumerate(_PLACE)}
    columns |= {f"objective_{one}": pa.array(values[:, one], pa.float64()) for one in range(objectives)}
    counts = {name: int(getattr(found, name)) for name in _COUNTS}
    described = {"label": label, "counts": counts, "sha256": _hash(found, label)}
    stream = io.BytesIO()
    pq.write_table(pa.table(columns).replace_schema_metadata({_KEY: json.dumps(described).encode()}), stream)
    return stream.getvalue()


def _widened(values: np.ndarray, width: int) -> np.ndarray:
    return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=np.nan)


def read_found(content: bytes, label: str, objectives: int) -> Found | None:
    """The findings behind the content of a file; None when it is not what was written for this label."""
    try:
        table = pq.read_table(pa.BufferReader(content))
        described: Mapping[str, Any] = json.loads((table.schema.metadata or {})[_KEY])
        found = _found(table, described["counts"], objectives)
        intact = described["sha256"] == _hash(found, label)
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, OverflowError):
        return None
    return found if intact else None


def _found(table: pa.Table, counts: Mapping[str, int], objectives: int) -> Found:
    names = np.array(table["table"].to_pylist(), dtype=object)
    place = np.stack([table[name].to_numpy() for name in _PLACE], axis=1).astype(np.int64).reshape(-1, len(_PLACE))
    columns = [table[f"objective_{one}"].to_numpy() for one in range(objectives)]
    values = np.stack(columns, axis=1).astype(np.float64).reshape(-1, objectives)

    def named(name: str, width: int) -> Table:
        rows = np.flatnonzero(names == name)
        return Table(place[rows], np.ascontiguousarray(values[rows, :width]))

    enumerated, evaluated, feasible, allowed = (int(counts[name]) for name in _COUNTS)
    best, front, bests = (named(name, objectives) for name in ("best", "front", "bests"))
    return Found(enumerated, evaluated, feasible, allowed, best, front, bests, named("least_memory", 1))


def _hash(found: Found, label: str) -> str:
    """Hash of the findings, bit for bit, and of what they belong to."""
    digest = hashlib.sha256(label.encode())
    digest.update(json.dumps([int(getattr(found, name)) for name in _COUNTS]).encode())
    for name in _TABLES:
        table: Table = getattr(found, name)
        digest.update(f" {name} {len(table)} ".encode())
        digest.update(np.ascontiguousarray(table.place, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(table.values, dtype="<f8").tobytes())
    return digest.hexdigest()
