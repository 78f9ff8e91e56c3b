"""Small models that the tests of the workload share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perfmodel.specs.model import ModelSpec

GPT: dict[str, Any] = {
    "name": "small-gpt", "layers": 4, "hidden": 1024, "vocabulary": 50304,
    "attention": {"heads": 16, "kv_heads": 16, "head_dim": 64, "bias": "all"},
    "mlp": {"hidden": 4096, "gated": False, "activation": "gelu", "bias": True},
    "norm": {"kind": "layernorm"}, "embedding": {"tied": True, "positions": "learned", "position_rows": 2048},
    "dropout": True,
}  # fmt: skip
LLAMA: dict[str, Any] = {
    "name": "small-llama", "layers": 4, "hidden": 1024, "vocabulary": 32000,
    "attention": {"heads": 16, "kv_heads": 4, "head_dim": 128}, "mlp": {"hidden": 2816, "gated": True},
    "norm": {"kind": "rmsnorm"}, "embedding": {"tied": False},
}  # fmt: skip


@pytest.fixture
def gpt() -> Callable[..., ModelSpec]:
    """A GPT with dropout, as the stacks of 2021-22 trained it."""
    return lambda **changes: ModelSpec.model_validate(GPT | changes)


@pytest.fixture
def llama() -> Callable[..., ModelSpec]:
    """A decoder with grouped queries, rotary positions and a gated MLP."""
    return lambda **changes: ModelSpec.model_validate(LLAMA | changes)
