"""`perfmodel calibrate` on kernels and collectives: made-up slower times give a spec that loads and says so."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import pytest

from perfmodel.specs.catalogue import Catalogue

SLOWER = 1.25


def collectives() -> list[dict[str, str]]:
    operations, ranks, powers = ("all_reduce", "all_gather", "all_to_all"), (2, 4, 8), range(12, 31, 2)
    return [
        {"gpu": "A100-SXM-80GB", "op": operation, "n_gpus": str(count), "n_nodes": "1", "bytes": str(2**power),
         "library": "NCCL", "dtype": "float", "time_us": "1"}
        for operation, count, power in product(operations, ranks, powers)
    ]  # fmt: skip


def kernels() -> list[dict[str, str]]:
    sizes = (256, 1024, 2048, 4096, 8192)
    return [
        {"framework": "TRTLLM", "version": "1.3.0rc20", "device": "NVIDIA H100 80GB HBM3", "op_name": "gemm",
         "gemm_dtype": "bfloat16", "kernel_source": "torch_flow", "m": str(m), "n": str(n), "k": str(k),
         "latency_ms": "1"}
        for m, n, k in product(sizes, sizes, sizes)
    ]  # fmt: skip


#: Kind -> rows without their times, accelerator, stack, measured column, path of a number that falls with slower times.
KINDS = {
    "collectives": (collectives(), "a100", "megatron-core", "time_us", ("collective", "scale-up", "link_fraction")),
    "kernels": (kernels(), "h100", "trtllm", "latency_ms", ("matmul", "bf16", "plateau")),
}


def write(rows: Sequence[Mapping[str, str]], path: Path) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def fitted(run: Callable, folder: Path, kind: str, factor: float) -> tuple[float, str]:
    """The number of a fit to the product's own times times a factor, and what the command said."""
    rows, accelerator, software, column, path = KINDS[kind]
    printed = run("validate", kind, write(rows, folder / "blank.csv"), "--format", "csv").out
    lines = list(csv.DictReader(io.StringIO(printed)))
    timed = [{**row, column: str(float(line["predicted"]) * factor)} for row, line in zip(rows, lines, strict=True)]
    specs = folder / f"specs-{factor}"
    specs.mkdir()
    arguments = ("--accelerator", accelerator, "--software", software, "--output", str(specs / "mine.yaml"))
    outcome = run("calibrate", kind, write(timed, folder / "slow.csv"), *arguments)
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    assert run("specs", "check", str(specs)).code == 0
    found = Catalogue([specs]).load("software", str(specs / "mine.yaml"))
    assert found.name.startswith(f"{software}-on-")
    (own,) = (one for name, one in found.efficiency.items() if name.startswith(accelerator))
    family, key, number = path
    entry = getattr(own, family)
    entry = entry[key] if isinstance(entry, Mapping) else getattr(entry, key.replace("-", "_"))
    assert getattr(entry, number).basis == "measured"
    return getattr(entry, number).value, outcome.err


@pytest.mark.parametrize("kind", KINDS)
def test_slower_times_give_a_smaller_fraction(run: Callable, tmp_path: Path, kind: str) -> None:
    same, told = fitted(run, tmp_path, kind, 1.0)
    slower, _ = fitted(run, tmp_path, kind, SLOWER)
    assert slower * SLOWER == pytest.approx(same, rel=0.1)
    error = re.search(r"mean error ([\d.]+) %", told)
    assert error is not None
    assert float(error[1]) < 2.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_without_a_row_of_the_stack_is_one_message(run: Callable, tmp_path: Path, kind: str) -> None:
    rows, *_ = KINDS[kind]
    target = tmp_path / "mine.yaml"
    table = write(rows, tmp_path / "rows.csv")
    outcome = run(
        "calibrate", kind, table, "--accelerator", "mi300x", "--software", "megatron-core", "--output", str(target)
    )
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert not target.exists()
