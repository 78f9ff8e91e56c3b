"""Score the predictions against a folder of measurements: ``python tools/score.py FOLDER``.

The product never reads measurements; this script does, with the equations and the numbers of the catalogue as they
ship. It prints one table: what was predicted, on how many rows, and how far off (absolute percentage errors and the
mean signed error).
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.build import build_question
from perfmodel.engine.evaluate import evaluate
from perfmodel.engine.networks import ALL_REDUCE, Group, collective_time
from perfmodel.errors import PerfmodelError
from perfmodel.machine.machine import Machine
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.resolve import load_scenario
from perfmodel.study.validation.kinds import validate
from perfmodel.study.validation.lines import Line

Row = Mapping[str, str]

#: Suffix of the kernel files -> accelerator of the catalogue.
DEVICES = {
    "a100": "a100-sxm4-80gb",
    "h100": "h100-sxm5-80gb",
    "h200": "h200-sxm-141gb",
    "b200": "b200-sxm-180gb",
    "l40s": "l40s",
}
#: Tables of kernels (``TABLE_DEVICE.csv``), and the columns that say their data types.
KERNEL_TABLES = ("gemm", "context_attention", "generation_attention", "context_mla", "generation_mla", "moe")
KERNEL_TYPES = ("gemm_dtype", "attn_dtype", "mla_dtype", "moe_dtype", "kv_cache_dtype")
#: Below this size a collective is mostly latency; its errors are reported apart.
LATENCY_REGION = 2.0**20


@dataclass(frozen=True)
class Score:
    """Errors of one group of predictions, in percent."""

    what: str
    group: str
    rows: int
    mean: float
    median: float
    ninetieth: float
    bias: float

    @classmethod
    def of(cls, what: str, group: str, predicted: Iterable[float], measured: Iterable[float]) -> Score:
        """Score predictions against measurements of the same quantity."""
        ratio = np.asarray(list(predicted)) / np.asarray(list(measured)) - 1.0
        errors = np.abs(ratio) * 100
        if not errors.size:
            return cls(what, group, 0, *([float("nan")] * 4))
        quantiles = np.quantile(errors, [0.5, 0.9])
        mean, bias = float(errors.mean()), float(ratio.mean() * 100)
        return cls(what, group, errors.size, mean, float(quantiles[0]), float(quantiles[1]), bias)


def read_rows(path: Path) -> list[Row]:
    """Rows of a CSV file by column name; none when the file is absent."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _column(rows: Sequence[Row], name: str) -> NDArray[np.float64]:
    return np.array([float(row[name]) for row in rows])


def score_kernels(folder: Path, catalogue: Catalogue) -> Iterator[Score]:
    """Kernels of every device that has measurements, by framework and data type, as ``perfmodel validate`` predicts."""
    for table in KERNEL_TABLES:
        for suffix, accelerator in DEVICES.items():
            path = folder / "kernels" / f"{table}_{suffix}.csv"
            if not path.is_file():
                continue
            groups: dict[str, list[Line]] = {}
            for line in validate("kernels", path, catalogue):
                if line.ok and line.quantity == "latency_ms" and line.columns.get("physical_ok", "1") == "1":
                    groups.setdefault(_kernel_group(line), []).append(line)
            for group, lines in sorted(groups.items()):
                predicted = np.array([line.prediction.value for line in lines], dtype=np.float64)
                measured = np.array([line.measured for line in lines])
                yield Score.of(f"{table} {group}", accelerator, predicted, measured)


def _kernel_group(line: Line) -> str:
    columns = line.columns
    types = [columns[name] for name in KERNEL_TYPES if columns.get(name)]
    return " ".join([columns.get("framework", "").lower(), "/".join(dict.fromkeys(types))])


def one_node(catalogue: Catalogue, accelerator: str) -> Machine:
    """The machine of one scale-up domain, with the numbers that a scenario would use."""
    device = catalogue.load("accelerator", accelerator)
    size = device.scale_up.domain or 1
    tier = {"name": "node", "interconnect": device.scale_up.interconnect or "pcie4-x16", "devices": size}
    scenario = {
        "kind": "scenario",
        "name": accelerator,
        "model": "llama-3.1-8b",
        "software": "megatron-lm-2022",  # no kernel numbers of its own: those of the accelerator remain
        "numerics": "bf16-mixed",
        "workload": {"kind": "training", "sequence_length": 8192, "global_batch": size},
        "cluster": {"accelerator": accelerator, "devices": size, "devices_per_node": size, "tiers": [tier]},
    }
    return build_question(load_scenario(scenario, catalogue)).problem.machine


def score_all_reduce(folder: Path, catalogue: Catalogue) -> Iterator[Score]:
    """All-reduce inside a node, as the NCCL tests measure it."""
    for suffix, accelerator in DEVICES.items():
        rows = [
            row
            for row in read_rows(folder / "kernels" / f"nccl_{suffix}.csv")
            if row["op_name"] == "all_reduce" and row["nccl_dtype"] == "half"
        ]
        if not rows or suffix == "l40s":  # joined by PCIe, which is not switched
            continue
        measured = _column(rows, "latency_ms") * 1e-3
        predicted = _all_reduce_time(rows, catalogue, accelerator)
        large = _column(rows, "bytes") >= LATENCY_REGION
        yield Score.of("all-reduce in a node >= 1 MiB", accelerator, predicted[large], measured[large])
        yield Score.of("all-reduce in a node < 1 MiB", accelerator, predicted[~large], measured[~large])


def _all_reduce_time(rows: Sequence[Row], catalogue: Catalogue, accelerator: str) -> NDArray[np.float64]:
    size, ranks = _column(rows, "bytes"), _column(rows, "num_gpus")
    return np.asarray(collective_time(ALL_REDUCE, size, Group(ranks, (ranks,)), one_node(catalogue, accelerator).tiers))


# -- training steps -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Origin:
    """How the runs of one source are described in the catalogue; ``virtual_stages`` where a row is blank."""

    software: str
    cluster: str
    numerics: str
    virtual_stages: int = 1


#: Sources whose layouts are complete, by the key of the table.
ORIGINS = {
    "sc21": Origin("megatron-lm-2021", "selene", "fp16-mixed"),
    "korthikanti22": Origin("megatron-lm-2022", "selene", "fp16-mixed"),
    "llama3-herd": Origin("meta-llama3", "meta-24k-h100-roce", "bf16-mixed", virtual_stages=8),
}


def score_training(folder: Path, catalogue: Catalogue) -> Iterator[Score]:
    """Published training steps, by source and by the role of the row; rows that were fitted are told apart."""
    groups: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in read_rows(folder / "training" / "measured.csv"):
        origin = ORIGINS.get(row["source_key"])
        if origin is None or row["core_set"] != "1" or row["canonical"] != "1" or row["zero_or_fsdp"] == "zero3":
            continue
        result = evaluate(load_scenario(scenario_of(row, origin), catalogue))
        # A run that was published ran: too much predicted memory is an error of the prediction, not of the row.
        if all(reason.startswith("memory") for reason in result.reasons):
            pair = (result.time["step_s"], float(row["iter_time_s"]))
            groups.setdefault((row["source_key"], row["role"]), []).append(pair)
        else:
            print(f"skipped {row['id']}: {'; '.join(result.reasons)}", file=sys.stderr)
    for (source, role), pairs in sorted(groups.items()):
        yield Score.of(f"training step ({role})", source, *zip(*pairs, strict=True))


def scenario_of(row: Row, origin: Origin) -> dict[str, Any]:
    """The scenario that the columns of a row describe."""
    layers, pp = _whole(row, "layers"), _whole(row, "pp")
    virtual = _whole(row, "vp", origin.virtual_stages)
    recompute = next((policy for policy in ("full", "selective") if row["recompute"].startswith(policy)), "none")
    return {
        "kind": "scenario",
        "name": row["id"],
        "model": model_of(row),
        "cluster": {"name": origin.cluster, "devices": _whole(row, "n_gpus")},
        "software": origin.software,
        "numerics": origin.numerics,
        "workload": {
            "kind": "training",
            "sequence_length": _whole(row, "seq_len"),
            "global_batch": _whole(row, "global_batch"),
        },
        "strategy": {
            "tp": _whole(row, "tp"),
            "cp": _whole(row, "cp"),
            "pp": pp,
            "micro_batch": _whole(row, "micro_batch", 1),
            "sequence_parallel": _whole(row, "sp", 0) == 1,
            "zero": 2 if row["zero_or_fsdp"].startswith("fsdp") else 0,
            "recompute": recompute,
            "pipeline": {"virtual_stages": virtual, "embedding_and_head_as_layers": layers % pp != 0},
        },
    }


def model_of(row: Row) -> dict[str, Any]:
    """The architecture that the columns of a row describe: gated ones are Llama-like, others GPT-like."""
    gated = _whole(row, "gated_mlp") == 1
    attention = {
        "heads": _whole(row, "heads"),
        "kv_heads": _whole(row, "kv_heads"),
        "head_dim": _whole(row, "head_dim"),
    }
    embedding = {"tied": False, "positions": "rotary"} if gated else {
        "tied": True, "positions": "learned", "position_rows": _whole(row, "seq_len"),
    }  # fmt: skip
    return {
        "name": row["model"],
        "family": "decoder",
        "layers": _whole(row, "layers"),
        "hidden": _whole(row, "hidden"),
        "vocabulary": _whole(row, "vocab"),
        "dropout": not gated,
        "attention": attention | {"bias": "none" if gated else "all"},
        "mlp": {
            "hidden": _whole(row, "ffn_hidden"), "gated": gated, "activation": "silu" if gated else "gelu",
            "bias": not gated,
        },
        "norm": {"kind": "rmsnorm"} if gated else {"kind": "layernorm", "bias": True},
        "embedding": embedding,
    }  # fmt: skip


def _whole(row: Row, name: str, blank: int | None = None) -> int:
    """A whole number of a row (counts are often written as floats)."""
    if not row[name].strip():
        if blank is None:
            raise PerfmodelError(f"row {row['id']}: {name} is blank")
        return blank
    return int(float(row[name]))


def print_scores(scores: Iterable[Score]) -> int:
    """Print the table and return the number of groups."""
    print(f"{'predicted':<44} {'group':<18} {'rows':>6} {'mean %':>8} {'median %':>9} {'p90 %':>8} {'bias %':>8}")
    count = 0
    for score in scores:
        numbers = f"{score.mean:8.1f} {score.median:9.1f} {score.ninetieth:8.1f} {score.bias:+8.1f}"
        print(f"{score.what:<44} {score.group:<18} {score.rows:6d} {numbers}")
        count += 1
    return count


def main(arguments: Sequence[str]) -> int:
    """Score one folder."""
    if len(arguments) != 1:
        print("usage: python tools/score.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    if not (folder / "kernels").is_dir():
        print(f"error: {folder} has no measurements (expected a folder with kernels/*.csv)", file=sys.stderr)
        return 2
    catalogue = Catalogue(())
    try:
        groups = print_scores(
            score for part in (score_kernels, score_all_reduce, score_training) for score in part(folder, catalogue)
        )
    except PerfmodelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if groups else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
