"""Divisibility rules: published plans pass, broken ones say why."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.parallel.plan import Plan
from perfmodel.parallel.rules import integer_rules, nearest_divisors, reasons, violated

LLAMA_405B = {
    "layers": 126, "heads": 128, "kv_heads": 8, "ffn": 53248, "vocabulary": 128256, "hidden": 16384,
    "sequence_length": 8192, "global_batch": 2048, "cluster_devices": 24576, "requested_devices": 8192,
}  # fmt: skip
#: arXiv 2407.21783, Table 4, first row: 8192 devices, tp 8, cp 1, pp 16, dp 64, 32 sequences per replica.
PUBLISHED = {
    "tp": 8, "cp": 1, "pp": 16, "dp_shard": 64, "virtual_stages": 8, "micro_batch": 1, "num_microbatches": 32,
    "zero": 2, "sequence_parallel": 1,
}  # fmt: skip


def broken(changes: dict[str, Any], question: dict[str, int] | None = None, **structure: Any) -> tuple[str, ...]:
    structure = {"embedding_and_head_as_layers": True} | structure
    plan = Plan.from_columns(PUBLISHED | changes, **structure)
    return reasons(integer_rules(plan, **(LLAMA_405B | (question or {}))))


def test_the_published_plans_of_llama3_405b_are_possible():
    assert broken({}) == ()
    assert broken({"dp_shard": 128, "num_microbatches": 16}, {"requested_devices": 16384}) == ()
    long_context = {"cp": 16, "dp_shard": 8, "num_microbatches": 16}
    assert broken(long_context, {"requested_devices": 16384, "sequence_length": 131072, "global_batch": 128}) == ()


@pytest.mark.parametrize(
    ("changes", "question", "expected"),
    [
        ({"tp": 7}, {}, "tp = 7 does not divide the 128 attention heads; nearest divisors 4 and 8"),
        ({"tp": 12}, {}, "tp = 12 neither divides the 8 key-value heads nor is a multiple of them; nearest divisor 8"),
        ({"tp": 8}, {"ffn": 53250}, "tp = 8 does not divide the 53250 feed-forward columns; nearest divisors 6 and 10"),
        ({"dp_shard": 32}, {}, "tp*cp*pp*dp = 8*1*16*32 = 4096 devices, but 8192 are asked for"),
        ({}, {"cluster_devices": 4096}, "the plan needs 8192 devices, the cluster has 4096"),
        (
            {"num_microbatches": 16},
            {},
            "dp*micro_batch*num_microbatches = 64*1*16 = 1024 is not the global batch of 2048",
        ),
        ({"micro_batch": 3}, {}, "dp*micro_batch = 64*3 does not divide the global batch of 2048 sequences"),
        ({"num_microbatches": 24}, {}, "the interleaved schedule needs a multiple of pp = 16 micro-batches"),
        ({"pp": 1, "virtual_stages": 2}, {}, "virtual_stages = 2 needs pp > 1"),
        ({"virtual_stages": 3}, {}, "pp*virtual_stages = 16*3 = 48 does not divide the 128 layers"),
        ({"cp": 3}, {}, "2*cp = 6 slices"),
        ({}, {"sequence_length": 8196}, "a multiple of cp*tp = 8"),
        ({"dp_replicate": 2, "dp_shard": 32}, {}, "dp_replicate = 2 replicas need zero = 3"),
        (
            {"cp": 2, "dp_shard": 32},
            {"recurrences": ("mixer.scan",)},
            "cp = 2 cuts the sequence, and mixer.scan runs along it: context parallelism has no rule for recurrences",
        ),
        (
            {"cp": 32, "dp_shard": 2},
            {"context": "all-to-all"},
            "tp*cp = 8*32 = 256 does not divide the 128 attention heads; nearest divisor 128",
        ),
        (
            {"tp": 4, "cp": 3},
            {"context": "all-to-all", "heads": 24, "sequence_length": 12288},
            "tp*cp = 4*3 = 12 neither divides the 8 key-value heads nor is a multiple of them",
        ),
        ({"ep": 3}, {"experts": 8}, "ep = 3 does not divide the 8 experts; nearest divisors 2 and 4"),
        ({"etp": 5}, {"experts": 8, "expert_ffn": 14336}, "etp = 5 does not divide the 14336 columns of an expert"),
        ({"tp": 8}, {"shared_ffn": 2050}, "tp = 8 does not divide the 2050 columns of the shared experts"),
        (
            {"ep": 16, "zero": 3, "dp_replicate": 64, "dp_shard": 1},
            {"experts": 16},
            "ep*etp = 16 does not divide tp*cp*dp_shard = 8: experts would lie across the dp_replicate = 64 replicas",
        ),
        ({"ep": 48}, {}, "ep*etp = 48*1 = 48 does not divide tp*cp*dp = 512; nearest divisors 32 and 64"),
        ({"zero": 4}, {}, "zero = 4 is not a ZeRO stage"),
        ({"micro_batch": 0}, {}, "micro_batch = 0: sizes and counts must be at least 1"),
        ({"tp": 32768}, {}, "tp = 32768 is more than the narrowest sharded width of the model, 16384"),
    ],
)
def test_each_rule_says_what_is_wrong(changes, question, expected):
    assert any(expected in reason for reason in broken(changes, question)), broken(changes, question)


@pytest.mark.parametrize(
    ("schedule", "changes", "expected"),
    [
        ("zb-h1", {"num_microbatches": 8}, "zb-h1 needs at least pp = 16 micro-batches"),
        ("zb-h1", {"virtual_stages": 2}, "schedule zb-h1 has one chunk of the model per stage"),
        ("gpipe", {"virtual_stages": 2}, "virtual_stages must be 1, not 2"),
        ("zb-v", {"virtual_stages": 1}, "virtual_stages must be 2, not 1"),
        ("zb-v", {"virtual_stages": 2, "num_microbatches": 30}, "at least 2*pp - 1 = 31 micro-batches; each replica"),
        ("dualpipe", {"virtual_stages": 1, "pp": 9}, "pp must be even, not 9"),
        ("dualpipe", {"virtual_stages": 1, "num_microbatches": 30}, "at least 2*pp = 32; each replica has 30"),
        ("dualpipe", {"virtual_stages": 1, "num_microbatches": 33}, "an even number of them"),
    ],
)
def test_each_schedule_says_what_it_needs(schedule, changes, expected):
    assert any(expected in reason for reason in broken(changes, schedule=schedule)), broken(changes, schedule=schedule)


@pytest.mark.parametrize(("schedule", "chunks"), [("gpipe", 1), ("zb-h1", 1), ("zb-v", 2), ("dualpipe", 1)])
def test_thirty_two_micro_batches_on_sixteen_stages_fit_every_schedule(schedule, chunks):
    assert broken({"virtual_stages": chunks}, schedule=schedule) == ()


def test_uneven_layers_point_at_the_option_that_helps():
    (reason,) = broken({}, embedding_and_head_as_layers=False)
    assert "does not divide the 126 layers" in reason
    assert "embedding_and_head_as_layers makes it fit" in reason


def test_given_layouts_are_checked_instead_of_the_even_split():
    plain = {"virtual_stages": 1}
    assert broken(plain, layers_per_stage=(7, *[8] * 14, 7)) == ()
    assert "adds up to 128 layers, the model has 126" in broken(plain, layers_per_stage=(8,) * 16)[0]
    assert "2 entries for pp = 16" in broken(plain, layers_per_stage=(63, 63))[0]
    chunks = (0, *[1] * 126, 0)  # sixteen stages of eight chunks, the first and the last without layers
    assert broken({}, layers_per_stage=chunks) == ()
    assert "64 entries for pp = 16 stages of 8 chunks" in broken({}, layers_per_stage=(2,) * 63 + (0,))[0]
    assert "virtual_stages = 8 does not divide every entry" in broken({}, layers_per_stage=(7, *[8] * 14, 7))[0]


def test_key_value_heads_may_be_copied_to_a_multiple_of_ranks():
    assert broken({"tp": 16, "dp_shard": 32, "num_microbatches": 64}) == ()


def test_models_without_key_value_heads_or_ffn_are_not_restricted_by_them():
    assert broken({"tp": 16, "dp_shard": 32, "num_microbatches": 64}, {"kv_heads": 0, "ffn": 0}) == ()


counts = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(counts, st.integers(1, 200), st.integers(1, 64), st.integers(1, 64))
def test_possible_plans_split_every_axis_into_whole_numbers(tp, layers, heads, kv_heads):
    plan = Plan.from_columns({"tp": tp, "pp": [1, 2, 3][len(tp) % 3]})
    question = LLAMA_405B | {"layers": layers, "heads": heads, "kv_heads": kv_heads, "global_batch": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes = integer_rules(plan, **question)
    tensor = [outcome for outcome in outcomes if outcome.name.startswith("tp divides attention")]
    possible = ~violated(tuple(tensor))
    assert np.array_equal(possible, [heads % one == 0 for one in tp])
    for outcome in outcomes:
        assert outcome.violated.shape == (len(tp),)
        assert all(str(outcome.describe(row)) for row in range(len(tp)))


@given(st.integers(1, 4096), st.integers(1, 5000))
def test_nearest_divisors_are_divisors_around_the_number(number, wanted):
    found = [int(word) for word in nearest_divisors(number, wanted).split() if word.isdigit()]
    assert all(number % one == 0 and one != wanted for one in found)
    assert bool(found) or number == wanted == 1
