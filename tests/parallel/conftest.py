"""Graphs written by hand, independent of the builders of the workload room."""

from __future__ import annotations

import pytest

from perfmodel.workload.operators import (
    KEYS,
    SCALAR,
    Attention,
    AttentionMatmul,
    Block,
    CrossEntropy,
    Elementwise,
    ElementwiseKind,
    Embedding,
    Extent,
    Matmul,
    Operator,
    OperatorGraph,
    Tensor,
    Weight,
    extent,
)

HIDDEN, FFN, CONTEXT, VOCABULARY = extent("hidden"), extent("ffn"), extent("heads", "head_dim"), extent("vocabulary")
QUERY_KEY_VALUE = (*CONTEXT, *extent("kv_heads", "head_dim", times=2))
AXES = {"hidden": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128, "ffn": 14336, "vocabulary": 128256}


def linear(name: str, source: str, contraction: Extent, columns: Extent) -> tuple[Operator, Extent]:
    weight = Weight(f"{name}.weight", contraction, columns)
    operator = Matmul(
        name=name,
        inputs=(source,),
        output=name,
        weights=(weight,),
        saves=(source,),
        contraction=contraction,
        columns=columns,
    )
    return operator, columns


def memory_bound(
    name: str, kind: ElementwiseKind, sources: tuple[str, ...], features: Extent
) -> tuple[Operator, Extent]:
    operator = Elementwise(
        name=name, inputs=sources, output=name, kind=kind, features=features, forward_elements=2, backward_elements=3
    )
    return operator, features


def block(name: str, operators: list[tuple[Operator, Extent]], inputs: dict[str, Extent], count: int = 1) -> Block:
    features = inputs | {operator.output: made for operator, made in operators}
    tensors = {tensor: Tensor(tensor, of) for tensor, of in features.items()}
    return Block(name, tuple(operator for operator, _ in operators), tensors, count, tuple(inputs))


def attention_core(kernel: str) -> list[tuple[Operator, Extent]]:
    if kernel == "flash":
        return [(Attention(name="core", inputs=("qkv",), output="core"), CONTEXT)]
    return [
        (
            AttentionMatmul(name="scores", inputs=("qkv",), output="scores", contraction="head_dim", columns=KEYS),
            extent("heads"),
        ),
        memory_bound("softmax", ElementwiseKind.SOFTMAX, ("scores",), extent("heads")),
        (
            AttentionMatmul(
                name="core", inputs=("softmax", "qkv"), output="core", contraction=KEYS, columns="head_dim"
            ),
            CONTEXT,
        ),
    ]


def attention_half(kernel: str) -> list[tuple[Operator, Extent]]:
    return [
        memory_bound("norm1", ElementwiseKind.NORM, ("input",), HIDDEN),
        linear("qkv", "norm1", HIDDEN, QUERY_KEY_VALUE),
        *attention_core(kernel),
        linear("output", "core", CONTEXT, HIDDEN),
    ]


def dense_block(kernel: str = "flash") -> Block:
    return block(
        "block",
        [
            *attention_half(kernel),
            memory_bound("residual1", ElementwiseKind.RESIDUAL, ("input", "output"), HIDDEN),
            memory_bound("norm2", ElementwiseKind.NORM, ("residual1",), HIDDEN),
            linear("up", "norm2", HIDDEN, FFN + FFN),
            memory_bound("activation", ElementwiseKind.ACTIVATION, ("up",), FFN),
            linear("down", "activation", FFN, HIDDEN),
            memory_bound("residual2", ElementwiseKind.RESIDUAL, ("residual1", "down"), HIDDEN),
        ],
        {"input": HIDDEN},
        count=32,
    )


def parallel_block() -> Block:
    """Attention and MLP read one norm and are added together (PaLM, GPT-J)."""
    return block(
        "block",
        [
            *attention_half("flash"),
            linear("up", "norm1", HIDDEN, FFN),
            memory_bound("activation", ElementwiseKind.ACTIVATION, ("up",), FFN),
            linear("down", "activation", FFN, HIDDEN),
            memory_bound("residual1", ElementwiseKind.RESIDUAL, ("input", "output", "down"), HIDDEN),
        ],
        {"input": HIDDEN},
        count=32,
    )


def model(middle: Block) -> OperatorGraph:
    embedding = block(
        "embedding", [(Embedding(name="tokens", inputs=("ids",), output="tokens"), HIDDEN)], {"ids": SCALAR}
    )
    head = block(
        "head",
        [
            memory_bound("norm", ElementwiseKind.NORM, ("input",), HIDDEN),
            linear("logits", "norm", HIDDEN, VOCABULARY),
            (CrossEntropy(name="loss", inputs=("logits",), output="loss"), SCALAR),
        ],
        {"input": HIDDEN},
    )
    return OperatorGraph("by-hand", AXES, embedding, (middle,), head)


@pytest.fixture
def dense() -> OperatorGraph:
    return model(dense_block())


@pytest.fixture
def unfused() -> OperatorGraph:
    return model(dense_block("unfused"))


@pytest.fixture
def parallel() -> OperatorGraph:
    return model(parallel_block())
