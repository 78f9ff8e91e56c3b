"""A question without a file: model, accelerator, devices; a sensible strategy is picked from a small grid.

Every plan of the grid is evaluated with the same equations as a scenario; the fastest that fits is taken, the simplest
among equals.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.build import build_question
from perfmodel.engine.evaluate import evaluate
from perfmodel.engine.result import Result
from perfmodel.parallel.plan import Plan
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.resolve import load_scenario
from perfmodel.study.estimate_grid import Grid, domain_of, plan_grid
from perfmodel.study.progress import Progress, unseen

#: What is assumed where the question says nothing.
DEFAULT_SEQUENCE_LENGTH = 8192
DEFAULT_TOKENS_PER_STEP = 4_000_000
#: Shipped interconnect between nodes, where no shipped cluster has the accelerator.
DEFAULT_SCALE_OUT = "ib-ndr"

#: Plans whose step times differ by less are equally fast; the simplest is taken.
EQUAL_TIME = 1e-3


@dataclass(frozen=True)
class EstimateQuestion:
    """What is asked; None takes a default that the answer names.

    Attributes
    ----------
    model, accelerator, software, numerics
        Names of the catalogue, or paths.
    devices
        Devices to use.
    sequence_length, global_batch
        Tokens per sequence, sequences per step.
    tokens
        Of the whole run; for days and total cost only.
    """

    model: str
    accelerator: str
    devices: int
    sequence_length: int | None = None
    global_batch: int | None = None
    tokens: float | None = None
    software: str = "megatron-core"
    numerics: str = "bf16-mixed"


@dataclass(frozen=True)
class Estimate:
    """The answer, the scenario that it belongs to, and why this plan.

    Attributes
    ----------
    result
        The result of the chosen plan.
    scenario
        The scenario as a mapping, ready to be written to a file.
    reasons
        Sentences: what was assumed, which plan was taken and what the alternatives lose.
    """

    result: Result
    scenario: Mapping[str, Any]
    reasons: tuple[str, ...]

    def to_yaml(self) -> str:
        """The text of the scenario file, with the reasons as comments at its top."""
        from ruamel.yaml import YAML

        writer = YAML()
        writer.width = 120
        text = io.StringIO()
        writer.dump(dict(self.scenario), text)
        return "".join(f"# {reason}\n" for reason in self.reasons) + text.getvalue()


def estimate(question: EstimateQuestion, catalogue: Catalogue, progress: Progress = unseen) -> Estimate:
    """Pick a plan and answer.

    Parameters
    ----------
    question
        What is asked.
    catalogue
        Where specs are looked up.
    progress
        Told about plans that were costed.

    Raises
    ------
    SpecError
        A name is not known, or a needed number is missing.
    UnsupportedOperator
        The model has parts without equations.
    """
    scenario, assumed = _scenario(question, catalogue)
    resolved = load_scenario(scenario, catalogue)
    grid = plan_grid(resolved)
    columns = grid.evaluate(build_question(resolved).problem, progress)
    row = _choose(columns)
    chosen = {**scenario, "strategy": _strategy(grid.plan(row))}
    result = evaluate(load_scenario(chosen, catalogue))
    return Estimate(result, chosen, (*assumed, *_why(grid, columns, row, domain_of(resolved))))


def _scenario(question: EstimateQuestion, catalogue: Catalogue) -> tuple[dict[str, Any], list[str]]:
    """The scenario without its plan, and what was assumed to complete it."""
    model = catalogue.load("model", question.model)
    assumed: list[str] = []
    length = question.sequence_length
    if length is None:
        length = min(DEFAULT_SEQUENCE_LENGTH, model.context or DEFAULT_SEQUENCE_LENGTH)
        assumed.append(f"sequence length {length} (--sequence-length)")
    batch = question.global_batch
    if batch is None:
        batch = _default_batch(question.devices, length)
        assumed.append(
            f"global batch {batch} sequences, about {batch * length / 1e6:.1f} million tokens (--global-batch)"
        )
    cluster, told = _cluster(question, catalogue)
    assumed.append(told)
    workload: dict[str, Any] = {"kind": "training", "sequence_length": length, "global_batch": batch}
    if question.tokens is not None:
        workload["tokens"] = int(question.tokens)
    scenario = {
        "kind": "scenario",
        "name": f"{model.name} on {question.devices} {question.accelerator}",
        "question": "evaluate",
        "model": question.model,
        "cluster": cluster,
        "software": question.software,
        "workload": workload,
        "numerics": question.numerics,
    }
    return scenario, [f"assumed: {'; '.join(assumed)}"]


def _default_batch(devices: int, length: int) -> int:
    """A batch near the usual number of tokens that any split of the devices divides."""
    odd = devices // (devices & -devices)
    target = max(DEFAULT_TOKENS_PER_STEP / length, 1.0)
    return odd * 2 ** max(round(math.log2(max(target / odd, 1.0))), 0)


def _cluster(question: EstimateQuestion, catalogue: Catalogue) -> tuple[dict[str, Any], str]:
    """A shipped cluster with this accelerator that is large enough (the smallest), or one put together."""
    accelerator = catalogue.load("accelerator", question.accelerator)
    every = [catalogue.load("cluster", entry.path) for entry in catalogue.entries("cluster")]
    same = [one for one in every if isinstance(one.accelerator, str) and _names(accelerator, one.accelerator)]
    fitting = [one for one in same if one.devices >= question.devices]
    if fitting:
        chosen = min(fitting, key=lambda one: (one.devices, one.name))
        return {"name": chosen.name, "devices": question.devices}, f"the network of {chosen.name}"
    domain = min(accelerator.scale_up.domain or 1, question.devices)
    scale_out = same[0].tiers[-1].interconnect if same else DEFAULT_SCALE_OUT
    tiers: list[dict[str, Any]] = []
    if accelerator.scale_up.interconnect and domain > 1:
        tiers.append({"name": "node", "interconnect": accelerator.scale_up.interconnect, "devices": domain})
    if question.devices > domain or not tiers:
        tiers.append({"name": "fabric", "interconnect": scale_out, "devices": question.devices})
    cluster = {
        "accelerator": question.accelerator,
        "devices": question.devices,
        "devices_per_node": domain,
        "tiers": tiers,
    }
    return cluster, f"nodes of {domain}" + (f" joined by {scale_out}" if len(tiers) > 1 else "")


def _names(accelerator: Any, reference: str) -> bool:
    return reference in (accelerator.name, *accelerator.aliases)


def _choose(columns: Mapping[str, NDArray[Any]]) -> int:
    """The first of the fastest feasible plans; without one, the plan that needs the least memory."""
    feasible = columns["feasible"]
    if not feasible.any():
        return int(np.argmin(columns["memory.peak_bytes"]))
    times = np.where(feasible, columns["time.step_s"], np.inf)
    return int(np.flatnonzero(times <= times.min() * (1 + EQUAL_TIME))[0])


def _strategy(plan: Plan) -> dict[str, Any]:
    """The fields of a scenario that give this plan."""
    numbers = {name: int(column[0]) for name, column in plan.columns().items()}
    strategy: dict[str, Any] = {name: numbers[name] for name in ("tp", "cp", "pp", "micro_batch")}
    if numbers["ep"] > 1:
        strategy["ep"] = numbers["ep"]
    strategy["sequence_parallel"] = bool(numbers["sequence_parallel"])
    strategy["zero"] = numbers["zero"]
    strategy["recompute"] = plan.recompute_policies[numbers["recompute"]]
    pipeline: dict[str, Any] = {}
    if numbers["virtual_stages"] > 1:
        pipeline |= {"schedule": "interleaved-1f1b", "virtual_stages": numbers["virtual_stages"]}
    if plan.layers_per_stage is not None:
        pipeline["layers_per_stage"] = list(plan.layers_per_stage)
    return strategy | ({"pipeline": pipeline} if pipeline else {})


def _why(grid: Grid, columns: Mapping[str, NDArray[Any]], row: int, domain: int) -> Iterator[str]:
    feasible = columns["feasible"]
    count = int(feasible.sum())
    if not count:
        yield f"none of {len(grid)} plans fits; shown is the one that needs the least memory"
        return
    yield f"plan: {_describe(grid.plan(row))}; the fastest of {count} feasible plans among {len(grid)}"
    times = np.where(feasible, columns["time.step_s"], np.inf)
    plans = grid.columns()
    for name, most, words in (
        ("tp", 1, "no tensor parallelism"), ("pp", 1, "no pipeline"), ("cp", 1, "no context parallelism"),
        ("ep", 1, "no expert parallelism"), ("ep", domain, f"experts inside a domain of {domain}"),
    ):  # fmt: skip
        yield from _alternative(plans[name] <= most, words, times, row)
    even = grid.is_even() & (plans["pp"] > 1)
    if even.any() and plans["pp"][row] > 1:
        yield from _alternative(even, "as many layers on every stage", times, row)
    first = grid.plan(row).recompute_policies[0]
    yield from _alternative(plans["recompute"] == 0, f"recompute {first}", times, row)


def _alternative(mask: NDArray[np.bool_], words: str, times: NDArray[Any], row: int) -> Iterator[str]:
    """What the best plan without a feature loses; nothing to say where the chosen plan is without it."""
    if mask[row]:
        return
    best = float(np.where(mask, times, np.inf).min())
    yield f"{words}: " + (f"{(best / times[row] - 1) * 100:.1f} % slower" if math.isfinite(best) else "nothing fits")


def _describe(plan: Plan) -> str:
    experts = ("ep",) if plan.ep[0] > 1 else ()
    names = ("tp", "cp", "pp", "dp", *experts, "micro_batch", "virtual_stages", "zero")
    numbers = " ".join(f"{name}={int(getattr(plan, name)[0])}" for name in names)
    split = "" if plan.layers_per_stage is None else f" layers_per_stage={_runs(plan.layers_per_stage)}"
    return f"{numbers}{split} recompute={plan.recompute_policies[int(plan.recompute[0])]}"


def _runs(numbers: Sequence[int]) -> str:
    """Equal neighbours together: ``4x15,1``."""
    runs = ((number, len(list(same))) for number, same in itertools.groupby(numbers))
    return ",".join(f"{number}x{count}" if count > 1 else str(number) for number, count in runs)
