"""What the parts of a scenario must agree on: sizes, names of formats and policies, sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from perfmodel.errors import nearest
from perfmodel.provenance import Sourced
from perfmodel.specs.plain import is_list, is_mapping
from perfmodel.specs.problems import Problem, unknown_key
from perfmodel.specs.sources import BUILTIN_SOURCES
from perfmodel.specs.structure import Shape, child
from perfmodel.specs.yaml_reader import Document, KeyPath

if TYPE_CHECKING:
    from perfmodel.specs.formats import FormatsSpec
    from perfmodel.specs.numerics import NumericsSpec
    from perfmodel.specs.scenario import Scenario
    from perfmodel.specs.software import SoftwareSpec


def strategy_problems(scenario: Scenario, devices: int, document: Document) -> list[Problem]:
    """Sizes that the file states twice and differently (a plan that merely cannot be is a result, not a problem)."""
    plan, problems = scenario.strategy, list[Problem]()

    def say(key: str, what: str) -> None:
        problems.append(Problem(document.place(("strategy", key)), f"strategy.{key}", what))

    grid = plan.tp_grid
    if grid is not None and grid.rows * grid.columns != plan.tp:
        product = f"rows * columns = {grid.rows} * {grid.columns} = {grid.rows * grid.columns}"
        say("tp_grid", f"{product} conflicts with tp = {plan.tp}: the grid holds the ranks of the tensor group")
    shards = _data_parallel(plan.dp_replicate, plan.dp_shard, plan.dp)
    if plan.dp is not None and shards is not None and shards != plan.dp:
        say("dp", f"{plan.dp} conflicts with dp_replicate * dp_shard = {plan.dp_replicate} * {plan.dp_shard}")
    size = plan.dp if plan.dp is not None else shards
    group = plan.tp * plan.cp * plan.pp
    if size is not None and group * size != devices:
        key = "dp" if plan.dp is not None else "dp_shard"
        derived = f"leave {key} out to derive it" if devices % group == 0 else "change one of them"
        product = f"tp * cp * pp * dp = {group * size}"
        say(key, f"{size} conflicts with devices: {product}, but the scenario uses {devices}; {derived}")
    batch, count = scenario.workload.global_batch, plan.num_microbatches
    if count is not None and batch is not None and not problems and devices % group == 0:
        size = size if size is not None else devices // group
        if size * plan.micro_batch * count != batch:
            product = f"dp * micro_batch * num_microbatches = {size} * {plan.micro_batch} * {count}"
            what = (
                f"{count} conflicts with workload.global_batch {batch}: {product} = {size * plan.micro_batch * count}"
            )
            say("num_microbatches", f"{what}; leave it out to derive it")
    return problems


def _data_parallel(replicate: int | None, shard: int | None, dp: int | None) -> int | None:
    """Product of the two factors as far as they are stated, or None when neither or one alone says nothing."""
    if replicate is not None and shard is not None:
        return replicate * shard
    one = replicate if replicate is not None else shard
    if one is None or dp is None:
        return None
    return dp if dp % one == 0 else one


def format_problems(numerics: NumericsSpec, formats: FormatsSpec, document: Document) -> list[Problem]:
    """Formats and optimizers that a recipe names and that are not known."""
    problems: list[Problem] = []
    for key, name in numerics.format_names().items():
        if name not in formats.formats:
            known = formats.formats
            what = f"unknown number format {name!r}; formats: {', '.join(known)}{nearest(name, known)}"
            problems.append(Problem(document.place(tuple(key.split("."))), f"numerics.{key}", what))
    if numerics.optimizer not in formats.optimizers:
        known_optimizers = formats.optimizers
        hint = nearest(numerics.optimizer, known_optimizers)
        what = f"unknown optimizer {numerics.optimizer!r}; optimizers: {', '.join(known_optimizers)}{hint}"
        problems.append(Problem(document.place(("optimizer",)), "numerics.optimizer", what))
    return problems


def policy_problems(scenario: Scenario, software: SoftwareSpec, document: Document) -> list[Problem]:
    """A recompute policy that the software stack does not have."""
    policy, known = scenario.strategy.recompute.policy, software.recompute_policies
    if policy in known or policy == "none":
        return []
    allowed = ", ".join(dict.fromkeys(("none", *known)))
    what = f"unknown policy {policy!r}; software {software.name} has: {allowed}{nearest(policy, known)}"
    return [Problem(document.place(("strategy", "recompute")), "strategy.recompute", what)]


def assumed_problems(scenario: Scenario, document: Document) -> list[Problem]:
    """Entries of ``assumed:`` that are no fields of a scenario."""
    problems: list[Problem] = []
    for position, path in enumerate(scenario.assumed):
        shape = Shape(models=(type(scenario),))
        for part in path.split("."):
            below = child(shape, part)
            if below is None:
                where: KeyPath = ("assumed", position)
                problems.append(Problem(document.place(where), f"assumed[{position}]", unknown_key(part, shape)))
                break
            if below.is_open:
                break
            shape = below
    return problems


def source_keys(value: Any) -> Iterable[tuple[str, str]]:
    """(path, key) of every source that a spec names; the path of what is not a number is empty."""
    if isinstance(value, Sourced):
        yield value.path, value.source
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            one = getattr(value, name)
            if name == "source" and isinstance(one, str):
                yield "", one
            else:
                yield from source_keys(one)
    elif is_mapping(value):
        for one in value.values():
            yield from source_keys(one)
    elif is_list(value):
        for one in value:
            yield from source_keys(one)


def unknown_sources(spec: BaseModel, known: Iterable[str]) -> dict[str, list[str]]:
    """Source keys of a spec that no sources file has, with the paths that use them."""
    names = {*known, *BUILTIN_SOURCES}
    found: dict[str, list[str]] = {}
    for path, key in source_keys(spec):
        if key and key not in names:
            found.setdefault(key, []).append(path)
    return found


def source_warnings(spec: BaseModel, label: str, known: Callable[[], Iterable[str]]) -> list[str]:
    """A sentence for each source key that is not known; the sources are read only when a key is named."""
    if not unknown_sources(spec, ()):
        return []
    names = list(known())
    return [
        f"{label}: source {key!r}{_of(paths)} is in no sources file{nearest(key, names)}"
        for key, paths in unknown_sources(spec, names).items()
    ]


def _of(paths: list[str]) -> str:
    """`` of PATH and 3 more``; nothing when the key stands alone (in a provenance, say)."""
    numbers = [path for path in paths if path]
    more = f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""
    return f" of {numbers[0]}{more}" if numbers else ""
