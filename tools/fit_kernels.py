"""Write the kernel numbers of accelerators and serving stacks: ``python tools/fit_kernels.py FOLDER [STACK ...]``.

Runs the calibration of the product on every table of a folder of kernel measurements. First the bf16 products of each
accelerator, over all stacks: its ``efficiency.matmul.bf16`` and the bandwidth of its cache in ``hardware_specs``. Then
the stacks on top of it: their ``efficiency:`` section in ``perfmodel/catalog/software``. It prints one line per entry.
A second run writes the same files.

``python tools/fit_kernels.py FOLDER --errors`` writes nothing and prints how far bf16 products are off that neither the
accelerator nor their stack was fitted to: the mean over ten choices of what is left out, and the best and the worst.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from perfmodel.errors import UsageError
from perfmodel.files import write_whole
from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.calibration.kernel_fit import Fit
from perfmodel.study.calibration.kernels import calibrate, calibrate_accelerator, unseen_errors
from perfmodel.study.kernel_tables import names

ROOT = Path(__file__).resolve().parents[1]
SOFTWARE, ACCELERATORS = ROOT / "perfmodel" / "catalog" / "software", ROOT / "hardware_specs" / "accelerators"
PROVENANCE = {"source": "perfmodel-kernel-fit", "basis": "measured"}
TABLES = (
    "gemm", "context_attention", "generation_attention", "context_mla", "generation_mla", "moe",
    "power_gemm", "power_context_attention", "power_generation_attention", "power_moe", "vidur_mlp",
)  # fmt: skip
SUFFIXES = ("a100", "h100", "h200", "b200", "l40s")


def main(arguments: Sequence[str]) -> int:
    """Fit the accelerators, and on them every stack, or the stacks that are named after the folder."""
    folder = Path(arguments[0])
    tables = {suffix: _rows(folder, suffix) for suffix in SUFFIXES}
    if "--errors" in arguments:
        _print_unseen(tables)
        return 0
    for suffix, rows in tables.items():
        accelerator = names()["devices"][suffix]
        fit = calibrate_accelerator(rows, accelerator, Catalogue(()))
        print(f"{'all stacks':<20} {accelerator:<16} {_summary(fit)}", flush=True)
        _replace_products(ACCELERATORS / f"{accelerator}.yaml", fit)
    for stack in arguments[1:] or _stacks():
        efficiency: dict[str, Any] = {}
        for suffix, rows in tables.items():
            accelerator = names()["devices"][suffix]
            try:
                found = calibrate(rows, accelerator, stack, Catalogue(()))
            except UsageError as error:
                print(f"{stack} on {accelerator}: {str(error)[:60]}", file=sys.stderr)
                continue
            efficiency[accelerator] = {"provenance": PROVENANCE, **found.efficiency()}
            for fit in found.fits:
                print(f"{stack:<20} {accelerator:<16} {_summary(fit)}", flush=True)
        _replace(SOFTWARE / f"{stack}.yaml", efficiency)
    return 0


def _print_unseen(tables: Mapping[str, list[Mapping[str, str]]]) -> None:
    for suffix, rows in tables.items():
        accelerator = names()["devices"][suffix]
        turns = list(zip(*unseen_errors(rows, accelerator, Catalogue(())).values(), strict=True))
        errors = [100.0 * np.abs(np.expm1(np.concatenate(turn))) for turn in turns]
        means = [one.mean() for one in errors]
        shown = ", ".join(f"{mean:.1f}" for mean in means)
        median = np.median(np.concatenate(errors))
        print(f"{accelerator:<16} mean {np.mean(means):5.1f} %, median {median:5.1f} % ({shown})")


def _stacks() -> list[str]:
    table = names()
    frameworks = table["frameworks"].values()
    versions = [one for framework in frameworks for one in framework.get("versions", {}).values()]
    single = (*frameworks, *table["libraries"], table["default_framework"])
    named = [*(one["software"] for one in single), *versions]
    return list(dict.fromkeys(named))


def _rows(folder: Path, suffix: str) -> list[Mapping[str, str]]:
    rows: list[Mapping[str, str]] = []
    for table in TABLES:
        path = folder / f"{table}_{suffix}.csv"
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows.extend(csv.DictReader(file))
    return rows


def _replace_products(path: Path, fit: Fit) -> None:
    """The entry of the 16-bit products of an accelerator, and the bandwidth of its cache, which stands elsewhere."""
    entry = fit.entry()
    cache = entry.pop("cache_bandwidth")
    text = path.read_text(encoding="utf-8")
    lines = "\n".join(line.removeprefix("  ") for line in _entry(fit.key, entry))
    text, entries = re.subn(rf"(?<=\n  matmul:\n)    {fit.key}: .*(\n {{6,}}.*)*", lines, text)
    text, caches = re.subn(r"(cache: {.*bandwidth: {value: )[^,]*", rf"\g<1>{cache}", text)
    if (entries, caches) != (1, 1):
        raise UsageError(f"{path}: no entry of {fit.key} products, or no bandwidth of the cache, to replace")
    write_whole(path, text)


def _replace(path: Path, efficiency: Mapping[str, Any]) -> None:
    head, _, _ = path.read_text(encoding="utf-8").partition("\nefficiency:")
    lines = ["efficiency:"] if efficiency else ["efficiency: {}"]
    for accelerator, families in efficiency.items():
        lines.append(f"  {accelerator}:")
        for family, entries in families.items():
            if family == "provenance":
                lines.append(f"    {family}: {_inline(entries)}")
                continue
            lines += [f"    {family}:", *(line for key, entry in entries.items() for line in _entry(key, entry))]
    write_whole(path, f"{head}\n" + "\n".join(lines) + "\n")


def _entry(key: str, entry: Mapping[str, Any]) -> list[str]:
    """One entry on three lines: numbers and switches, residuals, range."""
    apart = ("error", "power")
    numbers = ", ".join(f"{name}: {_inline(value)}" for name, value in entry.items() if name not in apart)
    error = dict(entry["error"])
    valid = _inline(error.pop("valid"))
    residuals = _inline(error)[:-1]
    lines = [f"      {key}: {{{numbers},", f"        error: {residuals},"]
    if "power" not in entry:
        return [*lines, f"          valid: {valid}}}}}"]
    return [*lines, f"          valid: {valid}}},", f"        power: {_inline(entry['power'])}}}"]


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _summary(fit: Fit) -> str:
    def errors(logarithms: Any) -> str:
        if not logarithms.size:
            return f"{'-':>22}"
        percent = np.abs(np.expm1(logarithms)) * 100
        return f"{percent.size:5d} {percent.mean():5.1f} / {np.median(percent):5.1f}"

    return f"{fit.family:<17} {fit.key:<15} fitted {errors(fit.fitted)}   left out {errors(fit.left_out)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
