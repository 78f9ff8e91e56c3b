"""Strategies become plans: what is derived, and what contradicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.errors import SpecError, UsageError
from perfmodel.parallel.plan import Plan
from perfmodel.parallel.strategy import plan_from_strategy, plan_from_table, policy_index
from perfmodel.specs.strategy import StrategySpec


def stated(**values: Any) -> StrategySpec:
    return StrategySpec.model_validate(values)


LLAMA_405B = {
    "tp": 8, "pp": 16, "zero": 2, "sequence_parallel": True,
    "pipeline": {"schedule": "interleaved-1f1b", "virtual_stages": 8, "embedding_and_head_as_layers": True},
}  # fmt: skip


def plan_of(strategy: StrategySpec, **question: Any) -> Plan:
    return plan_from_strategy(strategy, layers=126, **question)


def test_llama3_plan_is_derived_as_published():
    """arXiv 2407.21783, Table 4: dp 64 on 8192 devices, 32 sequences per replica."""
    plan = plan_of(stated(**LLAMA_405B), global_batch=2048, devices=8192)
    assert (plan.dp[0], plan.dp_shard[0], plan.dp_replicate[0], plan.num_microbatches[0]) == (64, 64, 1, 32)
    assert (plan.devices[0], plan.global_batch[0], len(plan)) == (8192, 2048, 1)
    assert (plan.sequence_parallel[0], plan.virtual_stages[0], plan.schedule) == (1, 8, "interleaved-1f1b")
    assert plan.embedding_and_head_as_layers


@given(
    st.integers(1, 16), st.integers(1, 4), st.integers(1, 16), st.integers(1, 64), st.integers(1, 4), st.integers(1, 32)
)
def test_what_divides_is_used_up_exactly(tp, cp, pp, dp, micro_batch, count):
    strategy = stated(tp=tp, cp=cp, pp=pp, micro_batch=micro_batch)
    plan = plan_of(strategy, global_batch=dp * micro_batch * count, devices=tp * cp * pp * dp)
    assert (plan.dp[0], plan.num_microbatches[0]) == (dp, count)


def test_sharding_follows_the_zero_stage():
    hybrid = stated(zero=3, dp_shard=8)
    plan = plan_of(hybrid, global_batch=64, devices=64)
    assert (plan.dp_replicate[0], plan.dp_shard[0]) == (8, 8)
    plan = plan_of(stated(zero=3, dp_replicate=2), global_batch=64, devices=64)
    assert (plan.dp_replicate[0], plan.dp_shard[0]) == (2, 32)
    plan = plan_of(stated(zero=0, dp_replicate=64), global_batch=64, devices=64)
    assert (plan.dp_replicate[0], plan.dp_shard[0]) == (1, 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dp": 32}, r"dp = 32 contradicts 8192 devices / \(tp\*cp\*pp = 128\) = 64"),
        ({"dp_replicate": 3, "dp_shard": 32}, r"dp = 96 contradicts 8192 devices"),
        ({"zero": 3, "dp_shard": 48}, r"dp_shard = 48 does not divide dp = 64"),
        ({"recompute": "selectiv"}, r"recompute: 'selectiv' is not one of none, selective; did you mean 'selective'"),
    ],
)
def test_contradictions_are_errors_with_the_numbers(changes, message):
    with pytest.raises(SpecError, match=message):
        plan_of(
            stated(**(LLAMA_405B | changes)), global_batch=2048, devices=8192, recompute_policies=("none", "selective")
        )


def test_devices_that_do_not_divide_make_a_plan_for_the_rules_to_refuse():
    plan = plan_of(stated(**(LLAMA_405B | {"tp": 7})), global_batch=2048, devices=8192)
    assert plan.devices[0] == 7 * 16 * 73 != 8192


def test_without_devices_the_stated_numbers_make_them():
    plan = plan_of(stated(tp=8, dp=4), global_batch=16, devices=None)
    assert (plan.devices[0], plan.num_microbatches[0]) == (32, 4)


def test_policy_names_point_into_the_policies_of_the_stack():
    assert policy_index("selective", ("none", "selective", "full")) == 1
    plan = plan_of(stated(recompute="full"), global_batch=1, devices=1, recompute_policies=("none", "full"))
    assert plan.recompute_policies[plan.recompute[0]] == "full"


def test_tables_derive_row_by_row():
    tp = np.array([1, 2, 4, 8])
    plan = plan_from_table({"tp": tp, "micro_batch": 2}, global_batch=64, devices=64, embedding_and_head_as_layers=True)
    assert plan.dp.tolist() == [64, 32, 16, 8]
    assert plan.num_microbatches.tolist() == [1, 1, 2, 4]  # 64 / (64 * 2) is left to the rules
    assert plan.devices.tolist() == [64] * 4
    assert plan.embedding_and_head_as_layers
    one = plan.take([3])
    assert (one.tp[0], one.dp[0], len(one)) == (8, 8, 1)


def test_tables_refuse_unknown_columns_and_broken_numbers():
    with pytest.raises(UsageError, match=r"no column 'microbatch'; did you mean 'micro_batch'"):
        plan_from_table({"microbatch": 2})
    with pytest.raises(UsageError, match="'tp' must hold whole numbers"):
        plan_from_table({"tp": 2.5})
    assert plan_from_table({"tp": 2.0, "recompute_fraction": 0.5}).recompute_fraction[0] == 0.5


def test_recomputed_layers_are_counted_per_stage_or_as_a_fraction():
    question = {"global_batch": 6, "devices": 6, "recompute_policies": ("none", "full")}
    blocks = stated(pp=6, recompute={"policy": "full", "blocks": 7})  # 7 of 126 / 6 = 21 layers
    assert plan_of(blocks, **question).recompute_fraction[0] == pytest.approx(1 / 3)
    assert plan_of(stated(recompute={"policy": "full", "fraction": 0.25}), **question).recompute_fraction[0] == 0.25
    assert plan_of(stated(recompute="full"), **question).recompute_fraction[0] == 1.0
