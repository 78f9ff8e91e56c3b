"""Does the prediction choose the right layout? Rows of one model and machine that differ in their layout only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from perfmodel.study.validation.lines import Line
from perfmodel.study.validation.scoring import rank_correlation

#: Columns that must agree inside a group; everything else of a layout may differ.
SAME = (
    "family", "layers", "hidden", "heads", "kv_heads", "head_dim", "ffn_hidden", "gated_mlp", "vocab", "experts",
    "top_k", "moe_ffn", "seq_len", "workload", "gpu", "gpus_per_node", "n_gpus", "inter_node_net", "global_batch",
    "precision", "recompute", "framework",
)  # fmt: skip
#: Smaller groups say little about ranking.
SMALLEST_GROUP = 3


@dataclass(frozen=True)
class LayoutGroup:
    """One model on one machine in several layouts.

    Attributes
    ----------
    model, gpu, devices
        What it is about.
    layouts
        How many.
    regret
        How much slower the layout that is predicted to be fastest ran than the fastest one.
    spearman
        Rank correlation of predicted and measured times.
    """

    model: str
    gpu: str
    devices: str
    layouts: int
    regret: float
    spearman: float | None


def layout_groups(lines: Sequence[Line]) -> list[LayoutGroup]:
    """Groups of at least :data:`SMALLEST_GROUP` predicted rows that differ in layout only, largest regret first."""
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        if line.ok:
            groups.setdefault(tuple(line.columns.get(name, "") for name in SAME), []).append(line)
    found = [_group(group) for group in groups.values() if len(group) >= SMALLEST_GROUP]
    return sorted(found, key=lambda group: -group.regret)


def _group(lines: Sequence[Line]) -> LayoutGroup:
    predicted = np.array([line.prediction.value for line in lines], dtype=np.float64)
    measured = np.array([line.measured for line in lines])
    chosen = measured[int(np.argmin(predicted))]
    first = lines[0].columns
    return LayoutGroup(
        first.get("model", ""), first.get("gpu", ""), first.get("n_gpus", ""), len(lines),
        float(chosen / measured.min() - 1.0), rank_correlation(predicted, measured),
    )  # fmt: skip


def ranking(lines: Sequence[Line]) -> dict[str, Any]:
    """The part of a validation document about layouts: the groups and the largest regret."""
    groups = layout_groups(lines)
    return {
        "groups": [asdict(group) for group in groups],
        "top1_regret": max((group.regret for group in groups), default=None),
    }
