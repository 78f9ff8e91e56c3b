"""What people call the parts of a search: strategies, limits, the answer in a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from perfmodel.report.display import clean, is_number, key_quantity, label_of_key, percent, quantity, significant
from perfmodel.report.sentence import memory_of_capacity
from perfmodel.specs.plain import is_list, is_mapping
from perfmodel.study.search.result import Entry, SearchResult
from perfmodel.study.search.wanted import Bound

_STRATEGY = "strategy."
#: Parts of a plan in words, where they are other than nothing special.
_SIZES = {"tp": "TP", "cp": "CP", "pp": "PP", "dp": "DP", "ep": "EP", "etp": "ETP"}
_OVERLAPS = ("tensor", "expert", "pipeline", "data")
_SHORT_KEYS = {
    "time.step_s": "step", "memory.peak_bytes": "memory", "energy.average_power_w": "power",
    "energy.per_token_j": "energy/token", "metrics.tokens_per_s_per_device": "per device",
}  # fmt: skip


#: Settings of a strategy that its plan states.
_OF_PLAN = (
    "tp", "cp", "pp", "ep", "etp", "micro_batch", "zero", "dp_replicate", "sequence_parallel", "recompute",
    "recompute.policy", "recompute.fraction", "pipeline.virtual_stages", *(f"overlap.{name}" for name in _OVERLAPS),
)  # fmt: skip


def strategy_words(entry: Entry) -> str:
    """A strategy in one line: ``TP 8, PP 16, DP 32, micro-batch 1, ZeRO 1, recompute selective``."""
    more = [f"{setting_label(path)} {setting_value(value)}" for path, value in other_choices(entry).items()]
    return ", ".join([_plan_words(entry.plan), *more])


def other_choices(entry: Entry) -> dict[str, Any]:
    """What a search chose of the strategy that a plan does not state: an order, a split of the layers."""
    known = {f"{_STRATEGY}{name}" for name in _OF_PLAN}
    return {path: value for path, value in entry.settings.items() if path.startswith(_STRATEGY) and path not in known}


def _plan_words(plan: Mapping[str, Any]) -> str:
    said = [f"{word} {plan[name]}" for name, word in _SIZES.items() if plan.get(name, 1) != 1 or name in ("tp", "dp")]
    said.append(f"micro-batch {plan['micro_batch']}")
    if plan["virtual_stages"] > 1:
        said.append(f"{plan['virtual_stages']} virtual stages")
    said.append(f"ZeRO {plan['zero']}")
    if plan["dp_replicate"] > 1:
        said.append(f"{plan['dp_replicate']} replicas")
    said += ["sequence parallel"] if plan["sequence_parallel"] else []
    return ", ".join([*said, f"recompute {recompute_words(plan)}", *_exposed(plan)])


def _exposed(plan: Mapping[str, Any]) -> list[str]:
    kinds = [name for name in _OVERLAPS if plan.get(f"{name}_overlap", True) is False]
    return [f"{' and '.join(kinds)} communication not hidden"] if kinds else []


def recompute_words(plan: Mapping[str, Any]) -> str:
    """Policy, and the share of the layers where it is not all of them."""
    policy, fraction = clean(plan["recompute"]), plan["recompute_fraction"]
    return policy if fraction == 1 or policy == "none" else f"{policy} of {percent(fraction, 2)}"


def setting_label(path: str) -> str:
    """A swept path, short: ``cluster.accelerator.memory.bandwidth`` is ``memory.bandwidth``."""
    path = path.removesuffix(".name")
    for prefix in ("cluster.accelerator.", "accelerator.", "cluster.", "workload.", "strategy.pipeline.", "strategy."):
        if path.startswith(prefix):
            return clean(path.removeprefix(prefix))
    return clean(path)


def setting_value(value: Any, among: Sequence[Any] = ()) -> str:
    """A swept value as a person writes it; numbers of a range are rounded.

    ``among``: all values of the axis; what mappings have in common is not repeated.
    """
    if is_mapping(value):
        others = [one for one in among if is_mapping(one)]
        common = {name for name in value if others and all(one.get(name) == value[name] for one in others)}
        kept = {name: one for name, one in value.items() if name == "name" or name not in common}
        sizes = (f"{name} {one}" for name, one in kept.items() if name != "name" and isinstance(one, int))
        return clean(", ".join([str(value.get("name", "written out")), *sizes]))
    if is_list(value):
        return clean(", ".join(map(str, value)))
    if isinstance(value, (bool, int)):
        return str(value).lower() if isinstance(value, bool) else f"{value:,}"
    number, unit = split_quantity(value)
    if number is None:
        return clean(value)
    shown = significant(number, 4)
    shown = shown.rstrip("0").rstrip(".") if "." in shown and "e" not in shown else shown
    return f"{shown} {clean(unit)}".strip()


def split_quantity(value: Any) -> tuple[float | None, str]:
    """Number and unit of ``2.5 TB/s``; None for what is no number."""
    if isinstance(value, bool) or is_mapping(value) or is_list(value):
        return None, ""
    number, _, unit = str(value).strip().partition(" ")
    try:
        return float(number), unit.strip()
    except ValueError:
        return None, ""


def varied_axes(search: SearchResult) -> dict[str, Sequence[Any]]:
    """Axes of the machine, the model or the workload that take several values, with all of them as written."""
    return {
        axis.path: axis.values
        for axis in search.space.resolved.axes
        if not axis.path.startswith(_STRATEGY) and axis.values is not None and len(axis.values) > 1
    }


def place_words(search: SearchResult, entry: Entry) -> str:
    """Where in a sweep an entry is: ``memory.bandwidth 8 TB/s, devices 4,096``; empty without a sweep."""
    return ", ".join(
        f"{setting_label(path)} {setting_value(entry.settings[path])}"
        for path in varied_axes(search)
        if path in entry.settings
    )


def short_label(key: str) -> str:
    """A result key as the header of a column."""
    return _SHORT_KEYS.get(key, label_of_key(key))


def search_sentence(search: SearchResult) -> str:
    """The first line of every output: the best strategy and its numbers, of how many, in how long."""
    found, seconds = search.found, quantity(search.seconds, "s", 2)
    if not search.feasible:
        why = clean(" ".join(search.reasons))
        return f"infeasible: {why} ({found.enumerated:,} candidates, searched in {seconds})"
    best = search.best[0]
    where = place_words(search, best)
    told = f"{where}, {strategy_words(best)}" if where else strategy_words(best)
    kept = f"{found.allowed:,} that keep the limits" if search.wanted.bounds else f"{found.feasible:,} that fit"
    return f"{told}: {headline_words(search, best)}; best of {kept} of {found.enumerated:,} candidates, in {seconds}"


def headline_words(search: SearchResult, entry: Entry) -> str:
    """Step time, MFU, memory, and the objectives where they are others."""
    numbers = entry.numbers
    said = [f"{quantity(numbers['time.step_s'], 's')} per step"]
    if is_number(numbers.get("metrics.mfu")):
        said.append(f"{percent(numbers['metrics.mfu'])} MFU")
    said.append(memory_of_capacity(numbers["memory.peak_bytes"], numbers.get("memory.capacity_bytes")))
    others = [key for key in search.wanted.keys if key not in ("time.step_s", "metrics.mfu", "memory.peak_bytes")]
    return ", ".join([*said, *(f"{label_of_key(key)} {key_quantity(key, numbers.get(key))}" for key in others)])


def funnel_words(search: SearchResult) -> str:
    """How many candidates were left after each test."""
    found = search.found
    said = [f"{found.enumerated:,} candidates", f"{found.evaluated:,} keep the integer rules"]
    said.append(f"{found.feasible:,} fit in memory")
    said += [f"{found.allowed:,} keep the limits"] if search.wanted.bounds else []
    return "; ".join(said)


def wanted_words(search: SearchResult) -> str:
    """Objectives and limits in a line."""
    sense = {"min": "least", "max": "most"}
    said = _enumerated([f"{sense[one.sense]} {label_of_key(one.key)}" for one in search.wanted.objectives])
    limits = ", ".join(_limit_words(one) for one in search.wanted.bounds)
    return f"looked for the {said}" + (f", with {limits}" if limits else "")


def _enumerated(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def _limit_words(bound: Bound) -> str:
    def shown(value: float) -> str:
        return f"{value:g}" if bound.column else key_quantity(bound.key, value)

    label = clean(bound.column or label_of_key(bound.key)).replace("_", " ")
    sides = [("at least", bound.lower), ("at most", bound.upper)]
    return f"{label} " + " and ".join(f"{word} {shown(value)}" for word, value in sides if is_number(value))
