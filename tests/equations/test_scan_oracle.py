"""Chunked recurrences carried out in NumPy: they give what the serial recurrence gives, for the counted work."""

from __future__ import annotations

import numpy as np
import pytest

from perfmodel.equations import scan

TOKENS, HEADS, GROUPS, STATE, WIDTH = 48, 4, 2, 6, 5


class Counter:
    """Matrix products that count their multiply-adds (times two)."""

    def __init__(self) -> None:
        self.flop = 0

    def product(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        self.flop += 2 * left.shape[0] * left.shape[1] * right.shape[1]
        return left @ right


@pytest.fixture
def problem() -> dict[str, np.ndarray]:
    random = np.random.default_rng(1)
    keys = random.normal(size=(TOKENS, GROUPS, STATE))
    return {
        "query": random.normal(size=(TOKENS, GROUPS, STATE)),
        "key": keys / np.linalg.norm(keys, axis=-1, keepdims=True),
        "value": random.normal(size=(TOKENS, HEADS, WIDTH)),
        "decay": random.uniform(0.6, 1.0, size=(TOKENS, HEADS)),
        "rate": random.uniform(0.2, 0.9, size=(TOKENS, HEADS)),
    }


def _serial(problem: dict[str, np.ndarray], *, delta: bool) -> np.ndarray:
    """One token after the other: S = a S + k v, or with the old value of the key taken out first; y = q S."""
    output = np.empty((TOKENS, HEADS, WIDTH))
    for head in range(HEADS):
        group = head * GROUPS // HEADS
        state = np.zeros((STATE, WIDTH))
        for token in range(TOKENS):
            key, value = problem["key"][token, group], problem["value"][token, head]
            state = problem["decay"][token, head] * state
            if delta:
                value = problem["rate"][token, head] * (value - key @ state)
            state = state + np.outer(key, value)
            output[token, head] = problem["query"][token, group] @ state
    return output


@pytest.mark.parametrize("chunk", [4, 8, 16])
def test_the_chunked_state_space_form(problem: dict[str, np.ndarray], chunk: int) -> None:
    count, output = Counter(), np.empty((TOKENS, HEADS, WIDTH))
    states = np.zeros((HEADS, STATE, WIDTH))
    for start in range(0, TOKENS, chunk):
        part = slice(start, start + chunk)
        scores = [count.product(problem["query"][part, g], problem["key"][part, g].T) for g in range(GROUPS)]
        for head in range(HEADS):
            group = head * GROUPS // HEADS
            passed = np.cumprod(problem["decay"][part, head])
            mask = np.tril(passed[:, None] / passed[None, :])
            value = problem["value"][part, head]
            before = count.product(problem["query"][part, group], states[head]) * passed[:, None]
            output[part, head] = count.product(scores[group] * mask, value) + before
            weighted = problem["key"][part, group].T * (passed[-1] / passed)
            states[head] = passed[-1] * states[head] + count.product(weighted, value)
    np.testing.assert_allclose(output, _serial(problem, delta=False), rtol=1e-9)
    sizes = {"tokens": TOKENS, "heads": HEADS, "state": STATE, "head_dim": WIDTH}
    assert count.flop == scan.chunked_scan_flop(**sizes, groups=GROUPS, chunk=chunk)


@pytest.mark.parametrize("chunk", [4, 8, 16])
def test_the_chunked_delta_rule(problem: dict[str, np.ndarray], chunk: int) -> None:
    count, output = Counter(), np.empty((TOKENS, HEADS, WIDTH))
    states = np.zeros((HEADS, STATE, WIDTH))
    for start in range(0, TOKENS, chunk):
        part = slice(start, start + chunk)
        for head in range(HEADS):
            group = head * GROUPS // HEADS
            query, key, value = problem["query"][part, group], problem["key"][part, group], problem["value"][part, head]
            rate, passed = problem["rate"][part, head], np.cumprod(problem["decay"][part, head])
            ratio = passed[:, None] / passed[None, :]
            coupling = np.tril(count.product(key, key.T) * ratio, -1) * rate[:, None]
            inverse = np.linalg.inv(np.eye(chunk) + coupling)
            count.flop += chunk**3 // 3  # forward substitution of a unit triangle, to leading order
            transformed = count.product(inverse, rate[:, None] * passed[:, None] * key)
            corrected = count.product(inverse, rate[:, None] * value) - count.product(transformed, states[head])
            before = count.product(query, states[head]) * passed[:, None]
            output[part, head] = before + count.product(np.tril(count.product(query, key.T) * ratio), corrected)
            states[head] = passed[-1] * states[head] + count.product(key.T * (passed[-1] / passed), corrected)
    np.testing.assert_allclose(output, _serial(problem, delta=True), rtol=1e-7, atol=1e-9)
    sizes = {"tokens": TOKENS, "heads": HEADS, "state": STATE, "head_dim": WIDTH}
    assert count.flop == pytest.approx(scan.delta_rule_flop(**sizes, chunk=chunk), rel=2e-3)


def test_chunks_of_one_token_are_the_recurrence_and_its_scores() -> None:
    """The work falls to that of the recurrence plus one score per token, and never below it."""
    sizes = {"tokens": 1000.0, "heads": 8.0, "state": 128.0, "head_dim": 64.0}
    needed = scan.recurrence_flop(**sizes, products=2.0)
    single = scan.chunked_scan_flop(**sizes, groups=1.0, chunk=1.0)
    assert single - needed == 2.0 * 1000.0 * (128.0 + 8.0 * 64.0)
    work = [scan.chunked_scan_flop(**sizes, groups=1.0, chunk=chunk) for chunk in (1.0, 64.0, 256.0)]
    assert needed < work[0] < work[1] < work[2]


def test_a_long_chunk_moves_less_state() -> None:
    sizes = {"tokens": 4096.0, "heads": 64.0, "groups": 1.0, "state": 128.0, "head_dim": 64.0}
    moved = [
        scan.chunked_scan_traffic(**sizes, chunk=chunk, activation_bytes=2.0, state_bytes=4.0)
        for chunk in (16.0, 64.0, 256.0)
    ]
    assert moved[0] > moved[1] > moved[2]
    rows = 4096.0 * 2.0 * (3.0 * 64.0 * 64.0 + 4.0 * 128.0)
    assert moved[2] > rows  # inputs and outputs move in any case
