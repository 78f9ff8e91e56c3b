"""The host of a device: link, memory and storage, for what is kept outside of the device."""

from __future__ import annotations

from collections.abc import Collection

from perfmodel.machine.lookup import Ledger, needed
from perfmodel.machine.machine import HostParameters, StoreParameters
from perfmodel.specs.hardware import AcceleratorSpec, ClusterSpec, StoreSpec

#: Places outside of the device, and an example of what a cluster file says about each.
_STORES = {"host": "memory", "nvme": "nvme"}
_EXAMPLES = {"memory": ("256 GiB", "50 GB/s"), "nvme": ("2 TB", "3 GB/s")}


def resolve_host(
    cluster: ClusterSpec, accelerator: AcceleratorSpec, tiers: Collection[str], ledger: Ledger
) -> HostParameters | None:
    """The numbers of the host that the tiers of a question need; storage is reached through its memory.

    Raises
    ------
    SpecError
        A needed number is not stated; the message names it, the file and what to write.
    """
    if not tiers:
        return None
    link = needed(
        accelerator.host_link.bandwidth, accelerator, "host_link.bandwidth", "host_link: {bandwidth: 63 GB/s}"
    )
    stores = {
        name: _store(cluster, name, ledger) if tier in tiers or name == "memory" else None
        for tier, name in _STORES.items()
    }
    memory = stores["memory"]
    if memory is None:
        raise TypeError("the memory of the host is always resolved")
    return HostParameters(ledger.take("host.link", link), memory, stores["nvme"])


def _store(cluster: ClusterSpec, name: str, ledger: Ledger) -> StoreParameters:
    stated: StoreSpec = getattr(cluster.host, name)
    capacity, bandwidth = _EXAMPLES[name]
    example = f"host: {{{name}: {{capacity: {capacity}, bandwidth: {bandwidth}}}}}"
    return StoreParameters(
        ledger.take(f"host.{name}.capacity", needed(stated.capacity, cluster, f"host.{name}.capacity", example)),
        ledger.take(f"host.{name}.bandwidth", needed(stated.bandwidth, cluster, f"host.{name}.bandwidth", example)),
    )
