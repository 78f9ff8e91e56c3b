"""A row of a table of training runs as a scenario.

Only the columns of the row speak. A blank column takes the documented default of the software stack
(``defaults:`` in its file) and is listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.hardware import ClusterSpec
from perfmodel.specs.model import ModelSpec
from perfmodel.specs.software import SoftwareSpec
from perfmodel.specs.vocabulary import DeviceEntry, FrameworkPhrase, VocabularySpec, first_match
from perfmodel.study.validation.lines import Row
from perfmodel.study.validation.network_text import rate_per_device
from perfmodel.study.validation.tables import IncompleteRow, InfeasibleRow, UnsupportedRow, needed, whole

#: Workloads of the table -> kind and method of the scenario.
WORKLOADS: Mapping[str, Mapping[str, Any]] = {
    "": {"kind": "training"},
    "pretrain": {"kind": "training"},
    "sft": {"kind": "fine-tuning", "method": "full"},
    "lora": {"kind": "fine-tuning", "method": "lora"},
}


@dataclass
class RowScenario:
    """A scenario, and the columns that were blank and what they took.

    Attributes
    ----------
    mapping
        As :func:`perfmodel.specs.resolve.load_scenario` takes it.
    assumed
        ``column=value`` of every blank column that took a default.
    """

    mapping: dict[str, Any] = field(default_factory=dict[str, Any])
    assumed: list[str] = field(default_factory=list[str])

    def default(self, column: str, value: object) -> Any:
        """Note a default and give it back."""
        self.assumed.append(f"{column}={value}")
        return value


@dataclass(frozen=True)
class _Layout:
    """The parallel sizes of a row."""

    devices: int
    tp: int
    cp: int
    pp: int
    dp: int
    global_batch: int


class RowReader:
    """Turns rows into scenarios with the words of a vocabulary.

    Parameters
    ----------
    catalogue
        Where devices, clusters, stacks and models are looked up.
    vocabulary
        What the words of the table mean.
    """

    def __init__(self, catalogue: Catalogue, vocabulary: VocabularySpec) -> None:
        self.catalogue = catalogue
        self.vocabulary = vocabulary
        self._stacks = {entry.name for entry in catalogue.entries("software")}

    def read(self, row: Row) -> RowScenario:
        """The scenario of a row.

        Raises
        ------
        IncompleteRow, UnsupportedRow, InfeasibleRow
            Why there is none.
        """
        out = RowScenario()
        framework = self._framework(row)
        software: SoftwareSpec = self.catalogue.load("software", framework.software)
        layout = _layout(row, out)
        out.mapping = {
            "kind": "scenario",
            "name": "row of a table of training runs",
            "model": self._model(row, framework),
            "cluster": self._cluster(row, layout),
            "software": framework.software,
            "workload": _workload(row, layout, software, out),
            "numerics": self._numerics(row),
            "strategy": self._strategy(row, layout, software, out),
        }
        return out

    # -- words -----------------------------------------------------------------------------------------

    def _framework(self, row: Row) -> FrameworkPhrase:
        text = row.get("framework", "")
        if text in self._stacks:  # also a stack of the user's own
            return FrameworkPhrase(match=text, software=text)
        found = first_match(self.vocabulary.frameworks, text, row)
        if found is None:
            raise UnsupportedRow(f"no software stack for the framework {text!r}")
        return found

    def _device(self, row: Row) -> DeviceEntry:
        name = row.get("gpu", "")
        if name not in self.vocabulary.devices:
            raise UnsupportedRow(f"no accelerator for the device {name!r}")
        return self.vocabulary.devices[name]

    def _numerics(self, row: Row) -> str:
        found = first_match(self.vocabulary.numerics, row.get("precision", ""), row)
        if found is None:
            raise UnsupportedRow(f"no numerics for the precision {row.get('precision', '')!r}")
        return found.numerics

    # -- machine ---------------------------------------------------------------------------------------

    def _cluster(self, row: Row, layout: _Layout) -> dict[str, Any]:
        device = self._device(row)
        known: ClusterSpec = self.catalogue.load("cluster", device.cluster)
        per_node = whole(row, "gpus_per_node") or known.devices_per_node
        inner = device.domain or per_node
        rate = rate_per_device(row.get("inter_node_net", ""), per_node)
        tiers = [_tier(tier, tier.devices) for tier in known.tiers]
        tiers[0]["devices"] = inner
        if len(tiers) > 1:
            tiers[-1]["devices"] = max(layout.devices, known.tiers[-1].devices)
            if rate is not None:
                tiers[-1]["bandwidth"] = f"{rate!r} B/s"
        elif layout.devices > inner:
            raise UnsupportedRow(f"the cluster {device.cluster!r} has no network between its domains of {inner}")
        return {
            "extends": device.cluster,
            "name": device.cluster,
            "accelerator": device.accelerator,
            "devices": layout.devices,
            "devices_per_node": per_node,
            "tiers": tiers,
        }

    # -- model -----------------------------------------------------------------------------------------

    def _model(self, row: Row, framework: FrameworkPhrase) -> dict[str, Any]:
        known = first_match(self.vocabulary.models, row.get("model", ""), row)
        if known is not None:
            return self._known_model(known.model, needed(row, "layers"))
        gated = bool(needed(row, "gated_mlp"))
        model: dict[str, Any] = {
            "kind": "model",
            "name": "as the row says",
            "family": "decoder",
            "layers": needed(row, "layers"),
            "hidden": needed(row, "hidden"),
            "vocabulary": needed(row, "vocab"),
            "attention": {
                "heads": needed(row, "heads"), "kv_heads": needed(row, "kv_heads"), "head_dim": needed(row, "head_dim"),
            },
            "norm": {"kind": "rmsnorm" if gated else "layernorm"},
            "embedding": {"tied": False, "positions": "rotary" if gated else "none"},
            "dropout": framework.dropout,
        }  # fmt: skip
        experts = whole(row, "experts")
        if experts:
            model["moe"] = {
                "experts": experts,
                "experts_per_token": needed(row, "top_k"),
                "expert_hidden": needed(row, "moe_ffn"),
            }
        else:
            activation = "silu" if gated else "gelu"
            model["mlp"] = {"hidden": needed(row, "ffn_hidden"), "gated": gated, "activation": activation}
        return model

    def _known_model(self, name: str, layers: int) -> dict[str, Any]:
        """A model of the catalogue; cut to fewer layers it keeps its share of dense ones, at least one."""
        said: dict[str, Any] = {"extends": name, "name": name, "layers": layers, "facts": {}}
        whole_model: ModelSpec = self.catalogue.load("model", name)
        if whole_model.moe is not None and whole_model.moe.dense_layers and layers < whole_model.layers:
            share = round(whole_model.moe.dense_layers * layers / whole_model.layers)
            said["moe"] = {"dense_layers": max(share, 1)}
        return said

    # -- strategy --------------------------------------------------------------------------------------

    def _strategy(self, row: Row, layout: _Layout, software: SoftwareSpec, out: RowScenario) -> dict[str, Any]:
        return {
            "tp": layout.tp,
            "cp": layout.cp,
            "pp": layout.pp,
            "ep": whole(row, "ep", 1),
            "etp": whole(row, "etp", 1),
            "micro_batch": _micro_batch(row, layout, software, out),
            "sequence_parallel": bool(whole(row, "sp", 0)) and layout.tp > 1,
            "zero": self._zero(row, software, out),
            "recompute": self._recompute(row, software, out),
            "context_parallel": {"kind": "all-gather", "balanced": software.defaults.context_balanced},
            "pipeline": _pipeline(needed(row, "layers"), layout, _virtual_stages(row, layout, software, out)),
        }

    def _zero(self, row: Row, software: SoftwareSpec, out: RowScenario) -> int:
        text = row.get("zero_or_fsdp", "")
        found = first_match(self.vocabulary.sharding, text, row) if text else None
        return found.zero if found is not None else out.default("zero_or_fsdp", software.defaults.zero)

    def _recompute(self, row: Row, software: SoftwareSpec, out: RowScenario) -> str:
        text = row.get("recompute", "")
        if not text:
            return out.default("recompute", software.defaults.recompute)
        found = first_match(self.vocabulary.recompute, text, row)
        if found is None or found.policy not in software.recompute_policies:
            raise UnsupportedRow(f"no recompute policy of {software.name} for {text!r}")
        return found.policy


def _tier(tier: Any, devices: int) -> dict[str, Any]:
    """A tier as an inline scenario says it."""
    said: dict[str, Any] = {"name": tier.name, "interconnect": tier.interconnect, "devices": devices}
    if tier.topology != "switch":
        said |= {"topology": tier.topology, "dimensions": list(tier.dimensions)}
    for name in ("bandwidth", "pair_bandwidth"):
        number = getattr(tier, name)
        if number is not None:
            said[name] = f"{number.value!r} B/s"
    return said


def _layout(row: Row, out: RowScenario) -> _Layout:
    devices = needed(row, "n_gpus")
    tp, cp, pp = (whole(row, name) or out.default(name, 1) for name in ("tp", "cp", "pp"))
    replicas, left = divmod(devices, tp * cp * pp)
    if left or not replicas:
        raise InfeasibleRow(f"tp*cp*pp = {tp}*{cp}*{pp} does not divide {devices} devices")
    said = whole(row, "dp")
    if said is not None and said != replicas:
        raise InfeasibleRow(f"dp is {said}, but {devices} devices over tp*cp*pp = {tp}*{cp}*{pp} leave {replicas}")
    return _Layout(devices, tp, cp, pp, replicas, needed(row, "global_batch"))


def _workload(row: Row, layout: _Layout, software: SoftwareSpec, out: RowScenario) -> dict[str, Any]:
    kind = row.get("workload", "")
    if kind not in WORKLOADS:
        raise UnsupportedRow(f"no workload for {kind!r}; known: {', '.join(name for name in WORKLOADS if name)}")
    workload: dict[str, Any] = {
        **WORKLOADS[kind],
        "sequence_length": needed(row, "seq_len"),
        "global_batch": layout.global_batch,
    }
    if workload.get("method") == "lora":
        adapters = software.defaults.lora
        if adapters is None:
            raise IncompleteRow(f"no columns say which layers have adapters, and {software.name} has no default")
        said = f"rank {adapters.rank} at {' and '.join(adapters.targets)}"
        out.assumed.append(f"lora={said}{' with dropout' if adapters.dropout else ''}")
        workload["lora"] = adapters.model_dump(mode="json")
    return workload


def _micro_batch(row: Row, layout: _Layout, software: SoftwareSpec, out: RowScenario) -> int:
    said = whole(row, "micro_batch")
    if said is not None:
        return said
    per_replica = max(layout.global_batch // layout.dp, 1)
    wanted = 1 if layout.pp > 1 else min(software.defaults.micro_batch, per_replica)
    fitting = max(size for size in range(1, wanted + 1) if per_replica % size == 0)
    return out.default("micro_batch", fitting)


def _virtual_stages(row: Row, layout: _Layout, software: SoftwareSpec, out: RowScenario) -> int:
    said = whole(row, "vp")
    if said is not None:
        return said if layout.pp > 1 else 1
    if layout.pp == 1:
        return 1
    per_chunk = software.defaults.layers_per_chunk
    if per_chunk is None:
        return out.default("vp", 1)
    return out.default("vp", max(round(needed(row, "layers") / (layout.pp * per_chunk)), 1))


def _pipeline(layers: int, layout: _Layout, virtual_stages: int) -> dict[str, Any]:
    """The split of the layers: even, or with embedding and head as layers, or as even as it can be."""
    chunks = layout.pp * virtual_stages
    said: dict[str, Any] = {"virtual_stages": virtual_stages}
    if layers % chunks == 0:
        return said
    if (layers + 2) % chunks == 0:
        return said | {"embedding_and_head_as_layers": True}
    ends = [layers * chunk // chunks for chunk in range(chunks + 1)]
    return said | {"layers_per_stage": [after - before for before, after in pairwise(ends)]}
