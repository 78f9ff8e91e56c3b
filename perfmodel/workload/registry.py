"""Registries of graph builders (one per architecture family) and of graph transforms.

A user adds a family in a module of their own::

    @register_builder("my-family")
    def build(model: ModelSpec, attention_kernel: str) -> OperatorGraph: ...

and names it in the model file: ``family: my-family``, with free dimensions under ``parameters:``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias, TypeVar

from perfmodel.errors import UnsupportedOperator, UsageError, nearest
from perfmodel.specs.model import ModelSpec
from perfmodel.workload.operators import OperatorGraph

AttentionKernel: TypeAlias = Literal["flash", "unfused"]
Builder: TypeAlias = Callable[[ModelSpec, AttentionKernel], OperatorGraph]
Transform: TypeAlias = Callable[..., OperatorGraph]

#: Optional blocks of a model file and what they are called for people; a builder refuses those it does not know.
OPTIONAL_BLOCKS: dict[str, str] = {
    "moe": "mixture of experts",
    "mla": "multi-head latent attention",
    "sparse_attention": "indexed sparse attention",
    "ssm": "state-space or linear-attention mixer",
    "encoder": "encoder",
}
ATTENTION_KERNELS: tuple[AttentionKernel, ...] = ("flash", "unfused")
BUILDERS: dict[str, Builder] = {}
TRANSFORMS: dict[str, Transform] = {}

_AnyBuilder = TypeVar("_AnyBuilder", bound=Builder)
_AnyTransform = TypeVar("_AnyTransform", bound=Transform)


def register_builder(family: str) -> Callable[[_AnyBuilder], _AnyBuilder]:
    """Register the function that builds the graphs of a model family (``family:`` of the model file)."""

    def register(builder: _AnyBuilder) -> _AnyBuilder:
        BUILDERS[family] = builder
        _build.cache_clear()
        return builder

    return register


def register_transform(name: str) -> Callable[[_AnyTransform], _AnyTransform]:
    """Register a function ``(graph, **parameters) -> graph`` that a scenario can name under ``transforms:``."""

    def register(transform: _AnyTransform) -> _AnyTransform:
        TRANSFORMS[name] = transform
        return transform

    return register


def build_graph(model: ModelSpec, *, attention_kernel: AttentionKernel = "flash") -> OperatorGraph:
    """The operator graph of a model; the same object for the same question.

    Parameters
    ----------
    model
        Its ``family`` selects the builder.
    attention_kernel
        ``flash`` (one fused kernel) or ``unfused`` (two batched matmuls, a softmax and their saved scores):
        a property of the software stack.

    Raises
    ------
    UnsupportedOperator
        The family or one of its blocks has no builder here; the message names both and what is known.
    """
    if attention_kernel not in ATTENTION_KERNELS:
        raise UsageError(f"unknown attention kernel {attention_kernel!r}; allowed: {', '.join(ATTENTION_KERNELS)}")
    return _build(model, attention_kernel)


@functools.lru_cache(maxsize=512)
def _build(model: ModelSpec, attention_kernel: AttentionKernel) -> OperatorGraph:
    builder = BUILDERS.get(model.family)
    if builder is None:
        known = ", ".join(sorted(BUILDERS))
        blocks = ", ".join(optional_blocks(model))
        hint = "" if blocks else nearest(model.family, BUILDERS)  # a family of the catalogue is not misspelt
        raise UnsupportedOperator(
            f"{model.name}: no builder for the family {model.family!r}{f' (blocks: {blocks})' if blocks else ''}; "
            f"known families: {known}{hint}. The dimensions are catalogued and can be looked at"
        )
    graph = builder(model, attention_kernel)
    return without_ends(graph) if model.layers_only else graph


def without_ends(graph: OperatorGraph) -> OperatorGraph:
    """The repeating layers alone: nothing before them, nothing after them."""
    empty = {"operators": (), "tensors": {}, "inputs": ()}
    return replace(graph, prologue=replace(graph.prologue, **empty), epilogue=replace(graph.epilogue, **empty))


def optional_blocks(model: ModelSpec) -> list[str]:
    """The optional blocks that a model states, as ``field (words)``."""
    return [f"{field} ({words})" for field, words in OPTIONAL_BLOCKS.items() if getattr(model, field) is not None]


def apply_transforms(graph: OperatorGraph, transforms: Iterable[str | Mapping[str, Any]]) -> OperatorGraph:
    """Apply registered transforms in order.

    Parameters
    ----------
    transforms
        Names, or mappings ``{name: NAME, parameter: value, ...}`` as a scenario writes them.

    Raises
    ------
    UsageError
        A transform is not registered; the message lists those that are.
    """
    for position, one in enumerate(transforms):
        parameters = {"name": one} if isinstance(one, str) else dict(one)
        name = str(parameters.pop("name", ""))
        if name not in TRANSFORMS:
            known = ", ".join(sorted(TRANSFORMS)) or "none"
            hint = nearest(name, TRANSFORMS)
            raise UsageError(f"transforms[{position}]: unknown transform {name!r}; registered: {known}{hint}")
        graph = TRANSFORMS[name](graph, **parameters)
    return graph
