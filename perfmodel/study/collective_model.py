"""Times of measured collectives by the same functions and numbers that a scenario uses, many rows at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perfmodel.engine.networks import SEND, Group, collective_time, send_time
from perfmodel.machine.lookup import Ledger, Levels
from perfmodel.machine.machine import NetworkTier
from perfmodel.machine.network import efficiencies, interconnect_of, libraries_of, resolve_tiers
from perfmodel.provenance import Basis, Sourced
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.efficiency import InterconnectEfficiency, ResidualSpec
from perfmodel.specs.hardware import ClusterSpec, InterconnectSpec
from perfmodel.specs.quantities import apply_provenance
from perfmodel.specs.software import SoftwareSpec
from perfmodel.study.collective_rows import CollectiveRow
from perfmodel.study.validation.tables import InfeasibleRow

#: From this size on a buffer is large: its time is bandwidth more than latency.
LARGE = 2.0**20


@dataclass(frozen=True)
class Network:
    """The tiers that a row's collective runs on, and how far predictions on them can be trusted.

    Attributes
    ----------
    cluster
        The cluster.
    tiers
        All tiers, innermost first.
    basis
        Per tier: ``calibrated`` (fitted to measurements on these links), ``transferred`` (from other links), or
        ``assumed`` (the class's).
    residuals
        Per tier: spread of measurements around predictions.
    """

    cluster: ClusterSpec
    tiers: tuple[NetworkTier, ...]
    basis: tuple[str, ...]
    residuals: tuple[ResidualSpec | None, ...]

    def outermost(self, row: CollectiveRow) -> int:
        """The tier that the row's group crosses last.

        Raises
        ------
        InfeasibleRow
            The group does not fit.
        """
        reach = 0 if row.nodes == 1 else len(self.tiers) - 1
        devices = int(np.max(np.asarray(self.tiers[reach].devices)))
        inside = int(np.max(np.asarray(self.tiers[0].devices)))
        if row.nodes > 1 and len(self.tiers) == 1:
            raise InfeasibleRow(f"{row.nodes} nodes: the cluster {self.cluster.name} has one domain of {devices} only")
        if row.ranks > devices or row.members > inside:
            raise InfeasibleRow(
                f"{row.ranks} ranks, {row.members} per node: the cluster {self.cluster.name} has {inside} devices in "
                f"a domain of {self.tiers[0].name} and {devices} in all"
            )
        return reach


class Networks:
    """Networks by cluster and library, resolved once each."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._known: dict[tuple[str, str, bool], Network] = {}

    def of(self, cluster: str, library: str, *, fitted: bool = True) -> Network:
        """The network of a cluster as a library uses it; not ``fitted``: with the numbers of the class only."""
        if (cluster, library, fitted) not in self._known:
            self._known[cluster, library, fitted] = self._resolve(cluster, library, fitted=fitted)
        return self._known[cluster, library, fitted]

    def links(self, cluster: str) -> tuple[InterconnectSpec, ...]:
        """Interconnects of the tiers of a cluster."""
        spec = self._catalogue.load("cluster", cluster)
        return tuple(interconnect_of(tier, self._interconnects(spec)) for tier in spec.tiers)

    def _interconnects(self, cluster: ClusterSpec) -> dict[str, InterconnectSpec]:
        names = [tier.interconnect for tier in cluster.tiers if isinstance(tier.interconnect, str)]
        return {
            name: apply_provenance(self._catalogue.load("interconnect", name), f"interconnects.{name}")
            for name in names
        }

    def _resolve(self, name: str, library: str, *, fitted: bool) -> Network:
        cluster = apply_provenance(self._catalogue.load("cluster", name), "cluster")
        links = self._interconnects(cluster)
        if not fitted:
            bare = {"efficiency": InterconnectEfficiency(), "libraries": {}, "in_network_reduction": False}
            links = {key: link.model_copy(update=bare) for key, link in links.items()}
        reference = cluster.accelerator
        accelerator = self._catalogue.load("accelerator", reference) if isinstance(reference, str) else reference
        software = SoftwareSpec(kind="software", name=library or "usual library", collectives=library)
        of_class = apply_provenance(
            self._catalogue.load("efficiency", accelerator.efficiency_class), "efficiency_class"
        )
        levels = Levels(accelerator, of_class, software)
        ledger = Ledger()
        tiers = resolve_tiers(cluster, links, levels, ledger)
        used = [interconnect_of(tier, links) for tier in cluster.tiers]
        return Network(
            cluster=cluster,
            tiers=tiers,
            basis=tuple(_basis(tier, ledger, link, levels) for tier, link in zip(tiers, used, strict=True)),
            residuals=tuple(_residuals(link, levels) for link in used),
        )


def _basis(tier: NetworkTier, ledger: Ledger, link: InterconnectSpec, levels: Levels) -> str:
    leaf = "direct.one_shot_fraction" if tier.direct is not None else "link_fraction"
    number: Sourced = ledger.provenance[f"tiers.{tier.name}.{leaf}"]
    known = not levels.software.collectives or libraries_of(link, levels)
    if number.basis == Basis.MEASURED and known:
        return "calibrated"
    return "assumed" if number.path.startswith("efficiency_class") else "transferred"


def _residuals(link: InterconnectSpec, levels: Levels) -> ResidualSpec | None:
    return next((one.residuals for one in efficiencies(link, levels) if one.residuals is not None), None)


def predicted_times(rows: Sequence[CollectiveRow], tiers: Sequence[NetworkTier]) -> NDArray[np.float64]:
    """Times of rows on one network.

    Parameters
    ----------
    rows
        Rows.
    tiers
        Their network. A host has only the ranks of a row to serve: a benchmark runs alone.

    Returns
    -------
    ndarray
        [s], in order.
    """
    times = np.empty(len(rows))
    kinds = [(row.operation, row.nodes > 1, row.reducible) for row in rows]
    for kind in dict.fromkeys(kinds):
        chosen = [position for position, one in enumerate(kinds) if one == kind]
        times[chosen] = _times_of_kind(kind[0], [rows[position] for position in chosen], tiers)
    return times


def _times_of_kind(operation: str, rows: Sequence[CollectiveRow], tiers: Sequence[NetworkTier]) -> Any:
    size, ranks, members = (
        np.array([float(getattr(row, name)) for row in rows]) for name in ("size", "ranks", "members")
    )
    group = Group(ranks, (members, *(ranks for _ in tiers[1:])))
    alone = (replace(tiers[0], devices=members), *tiers[1:])
    if operation == SEND:
        return send_time(size, group, alone)
    return collective_time(operation, size, group, alone, 1.0 if rows[0].reducible else 0.0)
