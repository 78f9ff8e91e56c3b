"""Loading a scenario with everything that it refers to."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import PydanticCustomError

from perfmodel.errors import SpecError, UsageError
from perfmodel.specs.axes import WITH_AXES, Axis, refuse_axes, take_axes
from perfmodel.specs.catalogue import Catalogue, Reference
from perfmodel.specs.consistency import (
    assumed_problems,
    format_problems,
    policy_problems,
    source_warnings,
    strategy_problems,
)
from perfmodel.specs.measured import not_a_configuration
from perfmodel.specs.numerics import expand_short_form, is_short_form
from perfmodel.specs.overrides import Override, make_overrides, parse_overrides
from perfmodel.specs.plain import is_mapping
from perfmodel.specs.problems import Problem, raise_problems
from perfmodel.specs.quantities import SpecModel, read_count
from perfmodel.specs.references import build_target, edit, part_of, route, spelled_out, target_of, tier_overrides
from perfmodel.specs.scenario import DEFAULT_NUMERICS
from perfmodel.specs.yaml_reader import Document, Place

if TYPE_CHECKING:
    from perfmodel.specs.efficiency import EfficiencySpec
    from perfmodel.specs.formats import FormatsSpec
    from perfmodel.specs.hardware import AcceleratorSpec, ClusterSpec, InterconnectSpec
    from perfmodel.specs.model import ModelSpec
    from perfmodel.specs.numerics import NumericsSpec
    from perfmodel.specs.scenario import Scenario
    from perfmodel.specs.software import SoftwareSpec


@dataclass(frozen=True)
class ResolvedScenario:
    """A scenario and the specs behind its references, all checked.

    Attributes
    ----------
    scenario
        What the file says (``workload``, ``strategy``, ``site``, ``pricing`` ... are there).
    model, cluster, accelerator, software, numerics, formats
        The loaded specs. Every number in them knows its dotted path, source and basis.
    interconnects
        By the name that the cluster's tiers use.
    efficiency_class
        The class that the accelerator names.
    devices
        Devices that the scenario uses.
    warnings
        Sentences about what is allowed but doubtful (an unknown source key in a user's file).
    overrides
        What was set on top of the files, by dotted path.
    measured_at
        The configuration in which ``measured`` was measured; None where it is that of the scenario.
    axes
        What a search varies; everything else here has the first value of each.
    """

    scenario: Scenario
    model: ModelSpec
    cluster: ClusterSpec
    accelerator: AcceleratorSpec
    interconnects: Mapping[str, InterconnectSpec]
    efficiency_class: EfficiencySpec
    software: SoftwareSpec
    numerics: NumericsSpec
    formats: FormatsSpec
    devices: int
    warnings: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict[str, Any])
    catalogue: Catalogue = field(default_factory=Catalogue, repr=False, compare=False)
    document: Document | None = field(default=None, repr=False, compare=False)
    measured_at: ResolvedScenario | None = None
    axes: tuple[Axis, ...] = ()
    single: tuple[Document, Mapping[str, Any]] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Name of the scenario."""
        return self.scenario.name

    def place(self, *path: str) -> Place:
        """Where the scenario, or an option, says something."""
        options = [one for one in self.overrides if one.split(".")[0] == path[0]]
        if options or self.document is None:
            return Place(f"--set {options[0]}" if options else ".".join(path))
        return self.document.place(path)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the content: of the scenario and of every spec behind it, however they are written."""
        return hashlib.sha256(json.dumps(self.canonical(), sort_keys=True, allow_nan=False).encode()).hexdigest()

    def canonical(self) -> dict[str, Any]:
        """The content as plain values, numbers in SI."""
        links = {f"interconnects.{name}": link for name, link in self.interconnects.items()}
        parts: dict[str, SpecModel] = {
            "scenario": self.scenario, "model": self.model, "cluster": self.cluster, "accelerator": self.accelerator,
            "efficiency_class": self.efficiency_class, "software": self.software, "numerics": self.numerics,
            "formats": self.formats, **links,
        }  # fmt: skip
        content: dict[str, Any] = {
            name: spec.model_dump(mode="json", by_alias=True, exclude_none=True) for name, spec in parts.items()
        }
        there = {} if self.measured_at is None else {"measured_at": self.measured_at.canonical()}
        axes = {axis.path: "auto" if axis.values is None else list(axis.values) for axis in self.axes}
        return content | {"devices": self.devices} | there | ({"axes": axes} if axes else {})

    def replace(self, **changes: Any) -> ResolvedScenario:
        """The same scenario with fields set by dotted path: ``replace(**{"strategy.tp": 4})``.

        Raises
        ------
        SpecError
            A path or a value is not possible.
        """
        if self.document is None:
            raise UsageError("this scenario was put together in Python without a file; build a new one instead")
        return _resolve(self.document, self.catalogue, {**self.overrides, **changes})

    def candidate(self, **changes: Any) -> ResolvedScenario:
        """One candidate of a search: an evaluation with these values, by dotted path.

        Raises
        ------
        SpecError
            A path or a value is not possible.
        """
        if self.single is None:
            raise UsageError("this scenario was put together in Python without a file; build a new one instead")
        document, values = self.single
        kept = {key: value for key, value in document.data.items() if key not in _OF_OTHER_QUESTIONS}
        here = {path: value for path, value in values.items() if path.split(".")[0] not in _OF_OTHER_QUESTIONS}
        return _resolve(Document(kept, document.places, document.path), self.catalogue, {**here, **changes})


def load_scenario(
    reference: Reference, catalogue: Catalogue | None = None, overrides: Mapping[str, Any] | Sequence[str] = ()
) -> ResolvedScenario:
    """Load a scenario and everything that it refers to.

    Parameters
    ----------
    reference
        Path or name of a scenario, or the mapping itself.
    catalogue
        Where specs are looked up; default: those that ship with the package.
    overrides
        ``{"strategy.tp": 4}`` or ``["strategy.tp=4"]``; any field of the scenario, and of the specs behind
        it: ``model.``, ``cluster.``, ``cluster.accelerator.``, ``cluster.tiers.NAME.``, ``interconnects.NAME.``,
        ``efficiency_class.``, ``software.``, ``numerics.``.

    Raises
    ------
    SpecError
        A file or an override says something that cannot be.
    UsageError
        The question is one that is not answered yet.
    """
    catalogue = catalogue or Catalogue()
    values = overrides if isinstance(overrides, Mapping) else parse_overrides(overrides)
    if isinstance(reference, Mapping):
        data = {str(key): value for key, value in reference.items()}
        document = catalogue.inline_document("scenario", Document(data, {(): Place("scenario")}))
    else:
        document = catalogue.document("scenario", catalogue.find("scenario", reference))
    return _resolve(document, catalogue, values)


def _resolve(
    document: Document, catalogue: Catalogue, values: Mapping[str, Any], at: Sequence[Override] = ()
) -> ResolvedScenario:
    """The scenario with what was set, and then with the changes ``at``."""
    written, whole = document, values
    document, values, axes = take_axes(document, values)
    routes = route((*make_overrides(values), *at))
    edited = edit("scenario", spelled_out(document, routes["scenario"]), routes["scenario"])
    _check_question(edited, axes)
    scenario = cast("Scenario", catalogue.build("scenario", edited))
    loader = _Loader(catalogue, edited, routes)
    cluster, accelerator, interconnects = loader.machine()
    formats = cast("FormatsSpec", catalogue.load("formats", "formats"))
    numerics, numerics_document = loader.numerics(formats)
    software = cast("SoftwareSpec", loader.load("software"))
    devices = _devices(scenario, cluster, edited)
    raise_problems([
        *strategy_problems(scenario, devices, edited), *format_problems(numerics, formats, numerics_document),
        *policy_problems(scenario, software, edited), *assumed_problems(scenario, edited),
    ])  # fmt: skip
    efficiency_class = cast("EfficiencySpec", loader.efficiency_class(accelerator))
    model = cast("ModelSpec", loader.load("model"))
    specs = (scenario, model, cluster, accelerator, efficiency_class, software, numerics, *interconnects.values())
    return ResolvedScenario(
        scenario=scenario, model=model, cluster=cluster, accelerator=accelerator, interconnects=interconnects,
        efficiency_class=efficiency_class, software=software, numerics=numerics, formats=formats, devices=devices,
        warnings=_warnings(specs, catalogue), overrides={**whole, **{one.path: one.value for one in at}},
        catalogue=catalogue, document=written, axes=axes, single=(document, values),
        measured_at=_measured_at(document, catalogue, values, edited, scenario),
    )  # fmt: skip


def _measured_at(
    document: Document, catalogue: Catalogue, values: Mapping[str, Any], edited: Document, scenario: Scenario
) -> ResolvedScenario | None:
    """The configuration of ``measured.at``: what was set holds there too, unless ``at`` says otherwise."""
    at: Mapping[str, Any] = {} if scenario.measured is None else scenario.measured.at
    if not at:
        return None
    places = {path: edited.place(("measured", "at", path)) for path in at}
    raise_problems(
        [Problem(places[path], f"measured.at.{path}", what) for path, what in not_a_configuration(at).items()]
    )
    kept = {key: value for key, value in document.data.items() if key not in ("measured", "published")}
    there = {path: value for path, value in values.items() if path.split(".", 1)[0] not in ("measured", "published")}
    try:
        return _resolve(Document(kept, document.places, document.path), catalogue, there, make_overrides(at, places))
    except SpecError as error:
        if str(error).startswith(tuple(f"{place}: " for place in places.values())):
            raise
        where = edited.place(("measured", "at"))
        raise SpecError(f"{where}: measured.at: this configuration cannot be: {error}") from None


#: What belongs to a question about many evaluations, or to the configuration that is written, and not to a candidate.
_OF_OTHER_QUESTIONS = (
    "question", "objectives", "constraints", "top", "exhaustive", "vary", "until", "between", "goal", "published",
    "measured",
)  # fmt: skip
#: What a question needs to be one, with an example.
_NEEDED = {
    "solve": {"vary": "cluster.accelerator.memory.bandwidth", "until": "{time.step_s: 4 s}"},
    "capacity": {"goal": "{minimise: devices, deadline: 60 day}"},
}


def _check_question(document: Document, axes: Sequence[Axis]) -> None:
    """A question has what it needs, and one value of everything where it has no axes."""
    question = str(document.data.get("question", "evaluate"))
    if question not in WITH_AXES:
        refuse_axes(axes, question)
    raise_problems([
        Problem(document.place(("question",)), key, f"missing; `question: {question}` needs it, for example {example}")
        for key, example in _NEEDED.get(question, {}).items()
        if document.data.get(key) is None
    ])  # fmt: skip


def _devices(scenario: Scenario, cluster: ClusterSpec, document: Document) -> int:
    """Devices that the scenario asks for; without a number, all of the cluster."""
    if not is_mapping(scenario.cluster) or "devices" not in scenario.cluster:
        return cluster.devices
    try:
        devices = read_count(scenario.cluster["devices"])
    except PydanticCustomError as error:
        raise SpecError(f"{document.place(('cluster', 'devices'))}: cluster.devices: {error.message()}") from None
    if devices < 1:
        raise SpecError(
            f"{document.place(('cluster', 'devices'))}: cluster.devices: expected at least 1, got {devices}"
        )
    return devices


def _warnings(specs: Sequence[SpecModel], catalogue: Catalogue) -> tuple[str, ...]:
    """Doubts about files of the user; those of the package are held to more by its tests."""
    sentences: list[str] = []
    for spec in specs:
        if spec.origin is not None and spec.origin.user:
            sentences += source_warnings(spec, str(spec.origin), catalogue.sources)
    return tuple(dict.fromkeys(sentences))


class _Loader:
    """Loads what one scenario refers to, with the overrides of each part."""

    def __init__(self, catalogue: Catalogue, scenario: Document, routes: Mapping[str, list[Override]]) -> None:
        self._catalogue = catalogue
        self._scenario = scenario
        self._routes = routes

    def load(self, kind: str) -> SpecModel:
        """The spec behind a reference of the scenario whose key is its kind."""
        target = target_of(self._catalogue, kind, self._scenario, (kind,))
        return build_target(self._catalogue, kind, target, self._routes[kind])

    def numerics(self, formats: FormatsSpec) -> tuple[NumericsSpec, Document]:
        """The numerics, short form written out, and its document (for messages)."""
        scenario, written = self._scenario, self._scenario.data.get("numerics", DEFAULT_NUMERICS)
        scenario = Document({**scenario.data, "numerics": written}, scenario.places, scenario.path)
        if is_mapping(written):
            part = part_of(scenario, ("numerics",))
            if is_short_form(part.data):
                part = expand_short_form(part, formats)
                places = {("numerics", *path): place for path, place in part.places.items()}
                scenario = Document(
                    {**scenario.data, "numerics": part.data}, {**scenario.places, **places}, scenario.path
                )
        target = target_of(self._catalogue, "numerics", scenario, ("numerics",))
        spec = build_target(self._catalogue, "numerics", target, self._routes["numerics"])
        return cast("NumericsSpec", spec), edit("numerics", target.document, self._routes["numerics"])

    def machine(self) -> tuple[ClusterSpec, AcceleratorSpec, dict[str, InterconnectSpec]]:
        """The cluster, its accelerator, and the interconnects that its tiers name."""
        target = target_of(self._catalogue, "cluster", self._scenario, ("cluster",))
        own, links = tier_overrides(target.document, self._routes["cluster"])
        document = edit("cluster", target.document, own)
        accelerator: SpecModel | None = None
        if isinstance(document.data.get("accelerator"), (str, dict)):
            accelerator = self._accelerator(document)
            if is_mapping(document.data["accelerator"]):
                data = {**document.data, "accelerator": accelerator}
                document = Document(data, document.places, document.path)
        if target.path is not None and not own and isinstance(target.document.data.get("accelerator"), str):
            cluster = self._catalogue.load_file("cluster", target.path)
        else:
            cluster = self._catalogue.build("cluster", document, inline=target.inline)
        checked = cast("ClusterSpec", cluster)
        if accelerator is None:
            raise SpecError(f"{document.place(())}: accelerator: missing; the name or path of an accelerator is needed")
        return checked, cast("AcceleratorSpec", accelerator), self._interconnects(checked, document, links)

    def _accelerator(self, cluster: Document) -> SpecModel:
        target = target_of(self._catalogue, "accelerator", cluster, ("accelerator",))
        return build_target(self._catalogue, "accelerator", target, self._routes["accelerator"])

    def _interconnects(
        self, cluster: ClusterSpec, document: Document, links: list[Override]
    ) -> dict[str, InterconnectSpec]:
        found: dict[str, InterconnectSpec] = {}
        overrides = [*links, *self._routes["interconnects"]]
        for position, tier in enumerate(cluster.tiers):
            name = tier.interconnect
            if not isinstance(name, str):
                found[name.name] = name
                continue
            mine = [replace(one, rest=one.rest[1:]) for one in overrides if one.rest[0] == name and len(one.rest) > 1]
            target = target_of(self._catalogue, "interconnect", document, ("tiers", position, "interconnect"))
            found[name] = cast("InterconnectSpec", build_target(self._catalogue, "interconnect", target, mine))
        for override in overrides:
            if override.rest[0] not in found:
                known = ", ".join(found)
                raise SpecError(f"{override.label}: no interconnect {override.rest[0]!r} here; interconnects: {known}")
        return found

    def efficiency_class(self, accelerator: AcceleratorSpec) -> SpecModel:
        """The class that stands in for numbers which the device does not have."""
        origin = accelerator.origin
        holder = Document(
            {"efficiency_class": accelerator.efficiency_class},
            {(): Place(str(origin) if origin is not None else "accelerator")},
            origin.path if origin is not None else None,
        )
        target = target_of(self._catalogue, "efficiency", holder, ("efficiency_class",))
        return build_target(self._catalogue, "efficiency", target, self._routes["efficiency_class"])
