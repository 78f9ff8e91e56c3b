"""A loaded scenario as people use it in Python: change it, run it, evaluate many plans of it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from perfmodel.engine.build import Question, build_question
from perfmodel.engine.columns import evaluate_columns
from perfmodel.engine.evaluate import answer
from perfmodel.engine.recall import Recall
from perfmodel.engine.result import Result
from perfmodel.parallel.plan import Plan
from perfmodel.parallel.strategy import plan_from_table
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.resolve import ResolvedScenario, load_scenario

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class LoadedScenario:
    """A scenario with everything that it refers to; graph and machine are built once, when first needed.

    Attributes
    ----------
    resolved
        The scenario and its specs.
    recall
        What its searches have computed (at most 256 MiB), shared with what :meth:`replace` makes of it.

    Examples
    --------
    >>> import perfmodel as pm
    >>> scenario = pm.load("llama3.1-405b-8192-h100")
    >>> faster = scenario.replace(**{"strategy.zero": 1})
    >>> faster.run().plans[0]["zero"]
    1
    """

    resolved: ResolvedScenario
    recall: Recall = field(default_factory=Recall, repr=False)

    @functools.cached_property
    def question(self) -> Question:
        """Graph, machine and plan."""
        return build_question(self.resolved)

    @property
    def name(self) -> str:
        return self.resolved.name

    def replace(self, **changes: Any) -> LoadedScenario:
        """The same scenario with fields set by dotted path: ``replace(**{"strategy.tp": 4})``.

        Searches of both share what they compute: times, energies and memory of plans whose physics is the same.
        """
        return replace(self, resolved=self.resolved.replace(**changes))

    def run(self) -> Any:
        """Answer the question: a :class:`~perfmodel.engine.result.Result`, or what a search, a solution or a
        capacity question finds.

        The study room is above the engine; it is looked up when a scenario asks for it.
        """
        if self.resolved.scenario.question != "evaluate":
            return importlib.import_module("perfmodel.study.questions").answer(self.resolved, recall=self.recall)
        return answer(self.question)

    def plans(self, **columns: Any) -> Plan:
        """Plans that vary the strategy of the scenario.

        Parameters
        ----------
        columns
            Numbers or arrays by plan column (``tp``, ``pp``, ``micro_batch`` ...); what is absent is taken
            from the scenario, and ``dp`` and ``num_microbatches`` follow from devices and global batch.
        """
        own = self.question.plan
        derived = {"dp_replicate", "dp_shard", "num_microbatches"}
        base = {name: column[0] for name, column in own.columns().items() if name not in derived}
        structure = {
            "recompute_policies": own.recompute_policies,
            "embedding_and_head_as_layers": own.embedding_and_head_as_layers,
            "schedule": own.schedule,
        }
        policies = columns.pop("recompute_policies", None)
        if policies is not None:
            structure["recompute_policies"] = tuple(policies)
        batch = self.question.problem.workload.global_batch
        devices = columns.pop("devices", self.resolved.devices)
        return plan_from_table(base | columns, global_batch=batch, devices=devices, **structure)


def load(
    reference: str | Path | Mapping[str, Any], *, specs: Sequence[str | Path] = (), overrides: Any = ()
) -> LoadedScenario:
    """Load a scenario by path, by the name of a shipped one, or from a mapping.

    Parameters
    ----------
    specs
        Folders with a user's own specs; searched first.
    overrides
        ``{"strategy.tp": 4}`` or ``["strategy.tp=4"]``.
    """
    return LoadedScenario(load_scenario(reference, Catalogue(specs), overrides))


def evaluate(
    scenario: LoadedScenario,
    plans: Plan | None = None,
    hardware: Mapping[str, Any] | None = None,
    devices: Any = None,
) -> Result | pd.DataFrame:
    """Evaluate a scenario, or many plans (and hardware points) of it: columns in, columns out.

    Parameters
    ----------
    plans
        From :meth:`LoadedScenario.plans`, length n; None for the scenario's own plan.
    hardware
        Columns of length n by spec path, for example ``{"accelerator.memory.bandwidth": [...]}``.
    devices
        Devices that each plan must use (a column for strong scaling); default: those of the scenario.

    Returns
    -------
    Result or pandas.DataFrame
        One row per plan with every headline by its dotted result key.
    """
    if plans is None and hardware is None:
        return scenario.run()
    import pandas as pd

    question = scenario.question
    rows = max((np.size(values) for values in (hardware or {}).values()), default=1)
    chosen = question.plan.take(np.zeros(rows, dtype=np.int64)) if plans is None else plans
    return pd.DataFrame(evaluate_columns(question.problem, chosen, hardware, devices))
