"""The sections of a model as records: what one occurrence costs, by shard key and recompute policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from perfmodel.engine.communication import CommunicationCost
from perfmodel.engine.kernels import Kernel, KernelEnergy
from perfmodel.engine.networks import Group
from perfmodel.units import Numeric


@dataclass(frozen=True)
class SectionCosts:
    """One micro-batch, one occurrence, one device. Times in s, energies in J, sizes in bytes.

    The fields of recomputation and of saved activations depend on the recompute policy, the rest does not.
    """

    forward: Numeric
    backward: Numeric
    weight_gradient: Numeric  # the part of backward that no other stage waits for
    recompute: Numeric
    tensor_forward: Numeric
    tensor_backward: Numeric
    tensor_regather: Numeric
    tensor_recompute: Numeric
    panels_forward: Numeric
    panels_backward: Numeric
    panels_recompute: Numeric
    panels_exposed_forward: Numeric
    panels_exposed_backward: Numeric
    panels_exposed_recompute: Numeric
    context_forward: Numeric
    context_backward: Numeric
    context_recompute: Numeric
    context_exposed_forward: Numeric
    context_exposed_backward: Numeric
    context_exposed_recompute: Numeric
    expert_forward: Numeric
    expert_backward: Numeric
    expert_recompute: Numeric
    saved: Numeric
    saved_without_recompute: Numeric
    # parameters by class (perfmodel.engine.parameters); the first ones are of no special class
    parameters: Numeric
    frozen_parameters: Numeric
    low_bit_parameters: Numeric
    low_bit_frozen_parameters: Numeric
    expert_parameters: Numeric
    expert_frozen_parameters: Numeric
    expert_low_bit_parameters: Numeric
    expert_low_bit_frozen_parameters: Numeric
    matrix_parameters: Numeric
    low_bit_matrix_parameters: Numeric
    expert_matrix_parameters: Numeric
    expert_low_bit_matrix_parameters: Numeric
    tied_parameters: Numeric
    frozen_tied_parameters: Numeric
    orthogonal_flop: Numeric  # of an optimizer step on all matrices, and on the largest one
    largest_orthogonal_flop: Numeric
    expert_orthogonal_flop: Numeric
    matrix_energy: Numeric
    vector_energy: Numeric
    memory_energy: Numeric
    link_energy: Numeric
    recompute_matrix_energy: Numeric
    recompute_vector_energy: Numeric
    recompute_memory_energy: Numeric
    matrix_flop: Numeric
    recompute_flop: Numeric


#: Fields that depend on the recompute policy.
POLICY_FIELDS = frozenset((
    "recompute", "tensor_recompute", "panels_recompute", "panels_exposed_recompute", "context_recompute",
    "context_exposed_recompute", "expert_recompute", "saved", "recompute_flop", "recompute_matrix_energy",
    "recompute_vector_energy", "recompute_memory_energy",
))  # fmt: skip


@dataclass(frozen=True)
class Sections:
    """The sections for one policy; ``leading``: layers of a kind that stands at the start only, where there is one."""

    embedding: SectionCosts
    layer: SectionCosts
    head: SectionCosts
    leading: SectionCosts | None = None


@dataclass(frozen=True)
class KeyCosts:
    """Everything per shard key: the sections per policy, and the rows they were folded from.

    Attributes
    ----------
    sections
        Columns over the keys of the first hardware point, then those of the second, and so on. A column over the keys
        alone holds on every point, a number for every key.
    points, keys
        Hardware points, where there are several, and keys on each of them.
    """

    sections: tuple[Sections, ...]
    kernels: tuple[Kernel, ...]
    kernel_energies: tuple[KernelEnergy, ...]
    communication: tuple[CommunicationCost, ...]
    groups: Mapping[str, Group]
    points: int = 1
    keys: int = 0
