"""The answer in one sentence, and the shares that it rests on (ratios of what the result says)."""

from __future__ import annotations

from collections.abc import Mapping

from perfmodel.engine.result import OperatorRow, Result
from perfmodel.report.display import (
    clean,
    is_number,
    key_quantity,
    label_of_key,
    memory,
    percent,
    quantity,
    scale,
    short_percent,
    significant,
)

_BOUND_WORDS = {
    "compute": "compute-bound",
    "memory": "memory-bound",
    "launch": "launch-bound",
    "communication": "communication-bound",
    "bubble": "limited by the pipeline bubble",
    "overhead": "limited by overheads",
}
_PASSES = ("forward_s", "backward_s", "recompute_s")

CONFIDENCE = {
    "calibrated": "this accelerator and software stack were fitted to measurements",
    "transferred": "fitted on other hardware or software of the same class",
    "assumed": "no measurement of this class stands behind the efficiencies",
}


def positive(values: Mapping[str, object] | None) -> dict[str, float]:
    """The entries that are numbers other than zero, largest first."""
    numbers = {key: float(value) for key, value in (values or {}).items() if is_number(value) and value != 0}
    return dict(sorted(numbers.items(), key=lambda item: -abs(item[1])))


def operator_times(result: Result) -> list[tuple[OperatorRow, float]]:
    """Operators with the time of all their occurrences in a step."""
    microbatches = float(next(iter(result.plans), {}).get("num_microbatches", 1))
    return [(row, row.seconds_per_step(microbatches)) for row in result.operators]


def operator_shares(result: Result) -> list[tuple[OperatorRow, float]]:
    """Operators with their share of operator time (before overlap), largest first."""
    return _shares(operator_times(result))


def _shares(times: list[tuple[OperatorRow, float]]) -> list[tuple[OperatorRow, float]]:
    total = sum(seconds for _, seconds in times)
    shares = [(row, seconds / total if total > 0 else 0.0) for row, seconds in times]
    return sorted(shares, key=lambda pair: -pair[1])


def operator_label(row: OperatorRow) -> str:
    """Name of an operator without the phase, which has a column of its own."""
    return clean(row.name.removesuffix(f":{row.phase}"))


def bound_shares(result: Result) -> dict[str, float]:
    """Share of the step by what limits it: compute, memory, launch, communication, bubble, overhead."""
    breakdown = positive(result.time.get("breakdown"))
    step = result.time.get("step_s")
    if not is_number(step) or step <= 0:
        return {}
    kernels: dict[str, float] = {}
    in_passes = [(row, seconds) for row, seconds in operator_times(result) if row.phase != "optimizer"]
    for row, share in _shares(in_passes):
        kernels[row.bound] = kernels.get(row.bound, 0.0) + share
    passes = sum(breakdown.get(key, 0.0) for key in _PASSES) / step
    shares = {bound: share * passes for bound, share in kernels.items()}
    if not kernels:
        shares = {"compute": passes}
    communication = sum(value for key, value in breakdown.items() if "communication" in key) / step
    shares["communication"] = shares.get("communication", 0.0) + communication
    shares["bubble"] = breakdown.get("pipeline_bubble_s", 0.0) / step
    shares["overhead"] = (breakdown.get("optimizer_s", 0.0) + breakdown.get("overhead_s", 0.0)) / step
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def answer_sentence(result: Result) -> str:
    """The first line of every output: the answer, or why there is none."""
    numbers = _numbers(result)
    if not result.feasible:
        reasons = "; ".join(clean(reason) for reason in result.reasons) or "no reason was given"
        return f"infeasible: {reasons}" + (f" (it would take {numbers})" if numbers else "")
    verdict = _verdict(result)
    return "; ".join(part for part in (numbers, verdict) if part) or "no figures apply to this question"


def _numbers(result: Result) -> str:
    parts = []
    if is_number(result.metrics.get("ttft_s")):
        parts.append(f"first token after {quantity(result.metrics['ttft_s'], 's')}")
    if is_number(result.metrics.get("tpot_s")):
        parts.append(f"{quantity(result.metrics['tpot_s'], 's')} per output token")
    if not parts and is_number(result.time.get("step_s")):
        parts.append(f"{quantity(result.time['step_s'], 's')} per step")
    if is_number(result.metrics.get("mfu")):
        parts.append(f"{percent(result.metrics['mfu'])} MFU")
    peak, capacity = result.memory.get("peak_bytes"), result.memory.get("capacity_bytes")
    if is_number(peak):
        parts.append(memory_of_capacity(peak, capacity))
    if is_number(result.energy.get("average_power_w")):
        parts.append(quantity(result.energy["average_power_w"], "W"))
    return ", ".join(parts)


def memory_of_capacity(peak: float, capacity: float | None) -> str:
    """``72.4 of 80 GiB``: both in the same unit."""
    if not is_number(capacity):
        return memory(peak)
    factor, unit = scale([capacity], "B", binary=True)
    limit = significant(capacity / factor).removesuffix(".0")
    return f"{significant(peak / factor)} of {limit} {unit}"


def _verdict(result: Result) -> str:
    shares = bound_shares(result)
    if not shares:
        return ""
    words = [_BOUND_WORDS.get(next(iter(shares)), f"{clean(next(iter(shares)))}-bound")]
    losses = {key: value for key, value in positive(result.time.get("breakdown")).items() if key not in _PASSES[:2]}
    if losses:
        key, value = next(iter(losses.items()))
        exposed = "exposed " if "communication" in key else ""
        words.append(f"{short_percent(value / result.time['step_s'])} {exposed}{label_of_key(key)}")
    return ", ".join(words)


def confidence(result: Result) -> tuple[str, str]:
    """The basis of the step-time interval and what it means."""
    stated = result.uncertainty.get("time.step_s") or next(iter(result.uncertainty.values()), {})
    basis = str(stated.get("basis", "assumed"))
    return basis, CONFIDENCE.get(basis, "")


def interval_of(result: Result, key: str) -> str:
    """The 80 % interval of a result key in words, or an empty string."""
    stated = result.uncertainty.get(key)
    if not stated or not is_number(stated.get("p10")) or not is_number(stated.get("p90")):
        return ""
    low, high = key_quantity(key, stated["p10"]), key_quantity(key, stated["p90"])
    number, _, unit = low.partition(" ")
    return f"{number} to {high}" if high.partition(" ")[2] == unit else f"{low} to {high}"
