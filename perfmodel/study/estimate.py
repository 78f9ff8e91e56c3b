"""A question without a file: model, accelerator, devices; a sensible strategy is picked from a small grid.

The grid is fixed and small, so that the same question always has the same answer. Every plan of it is
evaluated with the same equations as a scenario; the fastest that fits is taken, the simplest among equals.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.build import build_question
from perfmodel.engine.columns import evaluate_columns
from perfmodel.engine.evaluate import evaluate
from perfmodel.engine.result import Result
from perfmodel.parallel.plan import Plan
from perfmodel.parallel.strategy import plan_from_table
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.resolve import ResolvedScenario, load_scenario

#: What is assumed where the question says nothing.
DEFAULT_SEQUENCE_LENGTH = 8192
DEFAULT_TOKENS_PER_STEP = 4_000_000
#: Shipped interconnect between nodes, where no shipped cluster has the accelerator.
DEFAULT_SCALE_OUT = "ib-ndr"

#: Sequences of this length or longer are also split over devices.
LONG_SEQUENCE = 32_768
#: Plans whose step times differ by less are equally fast; the simplest is taken.
EQUAL_TIME = 1e-3

_MICRO_BATCHES = (1, 2, 4, 8)
_CONTEXT = (1, 2, 4, 8)
_ZERO = (0, 1, 2, 3)
_LARGEST_TENSOR = 16
_LARGEST_PIPELINE = 64
_LARGEST_VIRTUAL = 8


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


def estimate(question: EstimateQuestion, catalogue: Catalogue) -> Estimate:
    """Pick a plan and answer.

    Raises
    ------
    SpecError
        A name is not known, or a needed number is missing.
    UnsupportedOperator
        The model has parts without equations.
    """
    scenario, assumed = _scenario(question, catalogue)
    resolved = load_scenario(scenario, catalogue)
    plan = plan_grid(resolved)
    columns = evaluate_columns(build_question(resolved).problem, plan)
    row = _choose(columns)
    chosen = {**scenario, "strategy": _strategy(plan, row)}
    result = evaluate(load_scenario(chosen, catalogue))
    return Estimate(result, chosen, (*assumed, *_why(plan, columns, row, _domain(resolved))))


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


def _divisors(number: int, largest: int) -> list[int]:
    return [one for one in range(1, min(number, largest) + 1) if number % one == 0]


@dataclass(frozen=True)
class _Shape:
    """Parallel sizes of a plan: tensor, context, pipeline with its virtual stages, experts."""

    tp: int
    cp: int
    pp: int
    virtual_stages: int
    ep: int


def _shapes(resolved: ResolvedScenario) -> Iterator[_Shape]:
    """Sizes that divide the devices, the layers and the experts, simplest first."""
    for tp, cp, pp, virtual in _dense_shapes(resolved):
        for ep in _expert_sizes(resolved, resolved.devices // pp):
            yield _Shape(tp, cp, pp, virtual, ep)


def _dense_shapes(resolved: ResolvedScenario) -> Iterator[tuple[int, int, int, int]]:
    """(tp, cp, pp, virtual stages) that divide the devices and the layers, simplest first."""
    layers, devices = resolved.model.layers, resolved.devices
    node = min(_domain(resolved), _LARGEST_TENSOR, devices)
    length = resolved.scenario.workload.sequence_length or 0
    contexts = _CONTEXT if length >= LONG_SEQUENCE else (1,)
    for pp, tp, cp in itertools.product(_divisors(layers, _LARGEST_PIPELINE), _divisors(node, node), contexts):
        if devices % (tp * cp * pp) == 0:
            for virtual in _divisors(layers // pp, _LARGEST_VIRTUAL) if pp > 1 else (1,):
                yield tp, cp, pp, virtual


def _expert_sizes(resolved: ResolvedScenario, ranks: int) -> list[int]:
    """Powers of two that divide the experts and the ranks of a stage; 1 for a dense model."""
    moe = resolved.model.moe
    if moe is None:
        return [1]
    both = math.gcd(moe.experts, ranks)
    return [2**power for power in range(both.bit_length()) if both % 2**power == 0]


def plan_grid(resolved: ResolvedScenario) -> Plan:
    """Every plan that is tried, simplest first; those whose experts leave the scale-up domain last."""
    policies = tuple(resolved.software.recompute_policies)
    rows = [
        (*astuple(shape), micro, policy, zero)
        for policy, zero, shape, micro in itertools.product(
            range(len(policies)), _ZERO, list(_shapes(resolved)), _MICRO_BATCHES
        )
    ]
    names: Sequence[str] = (*(one.name for one in fields(_Shape)), "micro_batch", "recompute", "zero")
    columns: dict[str, NDArray[np.int64]] = dict(zip(names, np.array(rows, dtype=np.int64).T, strict=True))
    order = np.argsort(columns["ep"] > _domain(resolved), kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    columns["sequence_parallel"] = (columns["tp"] > 1).astype(np.int64)
    return plan_from_table(
        columns,
        global_batch=resolved.scenario.workload.global_batch,
        devices=resolved.devices,
        recompute_policies=policies,
    )


def _domain(resolved: ResolvedScenario) -> int:
    """Devices of the innermost network tier."""
    return resolved.cluster.tiers[0].devices


def _choose(columns: Mapping[str, NDArray[Any]]) -> int:
    """The first of the fastest feasible plans; without one, the plan that needs the least memory."""
    feasible = columns["feasible"]
    if not feasible.any():
        return int(np.argmin(columns["memory.peak_bytes"]))
    times = np.where(feasible, columns["time.step_s"], np.inf)
    return int(np.flatnonzero(times <= times.min() * (1 + EQUAL_TIME))[0])


def _strategy(plan: Plan, row: int) -> dict[str, Any]:
    """The fields of a scenario that give this plan."""
    numbers = {name: int(column[row]) for name, column in plan.columns().items()}
    strategy: dict[str, Any] = {name: numbers[name] for name in ("tp", "cp", "pp", "micro_batch")}
    if numbers["ep"] > 1:
        strategy["ep"] = numbers["ep"]
    strategy["sequence_parallel"] = bool(numbers["sequence_parallel"])
    strategy["zero"] = numbers["zero"]
    strategy["recompute"] = plan.recompute_policies[numbers["recompute"]]
    if numbers["virtual_stages"] > 1:
        strategy["pipeline"] = {"schedule": "interleaved-1f1b", "virtual_stages": numbers["virtual_stages"]}
    return strategy


def _why(plan: Plan, columns: Mapping[str, NDArray[Any]], row: int, domain: int) -> Iterator[str]:
    feasible = columns["feasible"]
    count = int(feasible.sum())
    if not count:
        yield f"none of {len(plan)} plans fits; shown is the one that needs the least memory"
        return
    yield f"plan: {_describe(plan, row)}; the fastest of {count} feasible plans among {len(plan)}"
    times = np.where(feasible, columns["time.step_s"], np.inf)
    for name, most, words in (
        ("tp", 1, "no tensor parallelism"), ("pp", 1, "no pipeline"), ("cp", 1, "no context parallelism"),
        ("ep", 1, "no expert parallelism"), ("ep", domain, f"experts inside a domain of {domain}"),
    ):  # fmt: skip
        sizes = plan.columns()[name]
        yield from _alternative(sizes <= most, int(sizes[row]) > most, words, times, row)
    plain = plan.recompute == 0
    yield from _alternative(plain, not plain[row], f"recompute {plan.recompute_policies[0]}", times, row)


def _alternative(mask: NDArray[np.bool_], differs: bool, words: str, times: NDArray[Any], row: int) -> Iterator[str]:  # noqa: FBT001
    """What the best plan without a feature loses."""
    if not differs:
        return
    best = float(np.where(mask, times, np.inf).min())
    yield f"{words}: " + (f"{(best / times[row] - 1) * 100:.1f} % slower" if math.isfinite(best) else "nothing fits")


def _describe(plan: Plan, row: int) -> str:
    experts = (("ep", plan.ep),) if plan.ep.max() > 1 else ()
    numbers: Sequence[str] = [
        f"{name}={int(column[row])}"
        for name, column in (
            ("tp", plan.tp), ("cp", plan.cp), ("pp", plan.pp), ("dp", plan.dp), *experts,
            ("micro_batch", plan.micro_batch), ("virtual_stages", plan.virtual_stages), ("zero", plan.zero),
        )
    ]  # fmt: skip
    return f"{' '.join(numbers)} recompute={plan.recompute_policies[int(plan.recompute[row])]}"
