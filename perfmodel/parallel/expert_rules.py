"""Rules of context parallelism and of experts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from perfmodel.parallel.collective_rules import EXCHANGED
from perfmodel.parallel.plan import Plan
from perfmodel.parallel.rule import Question, RuleOutcome, nearest_divisors, not_divisible


def context_rules(plan: Plan, question: Question) -> Iterator[RuleOutcome]:
    """What can be cut along the sequence, and exchanged for heads."""
    named = ", ".join(question.recurrences)
    yield RuleOutcome(
        "cp needs attention",
        (plan.cp > 1) & bool(question.recurrences),
        lambda row: (
            f"cp = {plan.cp[row]} cuts the sequence, and {named} runs along it: context parallelism has no rule for "
            "recurrences; use cp = 1"
        ),
    )
    if question.context != EXCHANGED:
        return
    ranks, heads, kv_heads = plan.tp * plan.cp, question.heads, question.kv_heads
    yield RuleOutcome(
        "tp*cp divides heads",
        (plan.cp > 1) & not_divisible(heads, ranks),
        lambda row: (
            f"context parallelism by all-to-all gives every rank whole heads: tp*cp = {plan.tp[row]}*{plan.cp[row]} = "
            f"{ranks[row]} does not divide the {heads} attention heads{nearest_divisors(heads, int(ranks[row]))}"
        ),
    )
    yield RuleOutcome(
        "tp*cp fits key-value heads",
        (plan.cp > 1) & not_divisible(kv_heads, ranks) & (np.mod(ranks, max(kv_heads, 1)) != 0),
        lambda row: (
            f"context parallelism by all-to-all gives every rank whole heads: tp*cp = {plan.tp[row]}*{plan.cp[row]} = "
            f"{ranks[row]} neither divides the {kv_heads} key-value heads nor is a multiple of them"
        ),
    )


def expert_rules(plan: Plan, question: Question) -> Iterator[RuleOutcome]:
    """Where experts can lie."""
    experts, columns = question.experts, question.expert_ffn
    yield RuleOutcome(
        "ep divides experts",
        (experts > 0) & not_divisible(experts, plan.ep),
        lambda row: (
            f"ep = {plan.ep[row]} does not divide the {experts} experts{nearest_divisors(experts, int(plan.ep[row]))}"
        ),
    )
    yield RuleOutcome(
        "etp divides columns of an expert",
        (experts > 0) & not_divisible(columns, plan.etp),
        lambda row: (
            f"etp = {plan.etp[row]} does not divide the {columns} columns of an expert"
            f"{nearest_divisors(columns, int(plan.etp[row]))}"
        ),
    )
    ranks, shard = plan.ep * plan.etp, plan.tp * plan.cp * plan.dp_shard
    yield RuleOutcome(
        "experts divide the shard",
        (plan.dp_replicate > 1) & not_divisible(shard, ranks) & ~not_divisible(plan.tp * plan.cp * plan.dp, ranks),
        lambda row: (
            f"ep*etp = {ranks[row]} does not divide tp*cp*dp_shard = {shard[row]}: experts would lie across the "
            f"dp_replicate = {plan.dp_replicate[row]} replicas of hybrid sharding"
        ),
    )
