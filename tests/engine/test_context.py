"""Context parallelism in its three kinds, and what cannot be cut along the sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from perfmodel.engine.result import OperatorRow, Result

Run = Callable[..., Result]
KINDS = ("all-gather", "ring", "all-to-all")


def core(result: Result, phase: str = "forward") -> OperatorRow:
    (found,) = [one for one in result.operators if one.name == f"block.attention.core:{phase}"]
    return found


def asked(run: Run, kind: str, cp: int = 4, **changes: Any) -> Result:
    context = {"strategy__context_parallel": kind} if isinstance(kind, str) else {}
    return run("llama-8b", strategy__cp=cp, **context, **changes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", ["forward", "backward"])
def test_every_kind_shares_all_pairs(run: Run, kind: str, phase: str) -> None:
    whole, part = core(run("llama-8b"), phase), core(asked(run, kind), phase)
    assert 4 * part.flop == pytest.approx(whole.flop, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_one_rank_has_nothing_to_share(run: Run, kind: str) -> None:
    result = asked(run, kind, cp=1)
    assert result.time["breakdown"]["context_communication_s"] == 0.0
    assert result.time["step_s"] == pytest.approx(run("llama-8b").time["step_s"], rel=1e-12)


def test_a_ring_hides_behind_the_attention_of_long_sequences(run: Run) -> None:
    # Work of attention grows with the square of the sequence, what travels with its length.
    shares = []
    for length in (8192, 131072):
        result = asked(run, "ring", workload__sequence_length=length, workload__global_batch=32,
                       software__behaviour__context_exposed=0)  # fmt: skip
        exposed, hidden = (result.time[part]["context_communication_s"] for part in ("breakdown", "overlapped"))
        shares.append(exposed / (exposed + hidden))
    assert shares[1] == pytest.approx(0.0, abs=1e-12)
    slow = asked(run, "ring", cp=8, workload__sequence_length=8192, accelerator__scale_up__bandwidth="1 GB/s",
                 software__behaviour__context_exposed=0)  # fmt: skip
    moved = slow.time["breakdown"]["context_communication_s"] + slow.time["overlapped"]["context_communication_s"]
    assert slow.time["breakdown"]["context_communication_s"] > 0.8 * moved


def test_an_exchange_of_heads_is_never_hidden(run: Run) -> None:
    result = asked(run, "all-to-all")
    assert result.time["breakdown"]["context_communication_s"] > 0.0
    assert result.time["overlapped"]["context_communication_s"] == 0.0
    found = [one for one in result.communication if one.group == "context"]
    assert {one.operation for one in found} == {"all-to-all"}
    # Of one rank: all tokens, a quarter of the heads; queries, keys and values to the kernel, the context back.
    sizes = sorted(one.bytes_per_operation for one in found)
    assert sizes == [8192 * 8 * 128 * 2, 8192 * (8 + 2 * 2) * 128 * 2]


def test_an_exchange_moves_less_than_the_gathers_from_many_ranks_on(run: Run) -> None:
    # Gathers move the keys and values of the whole sequence to every rank, an exchange a rank's own tokens.
    def moved(kind: str, cp: int) -> float:
        result = asked(run, kind, cp=cp, model__attention__kv_heads=32)
        return sum(one.count * one.bytes_per_operation for one in result.communication if one.group == "context")

    assert moved("all-to-all", 8) < moved("all-gather", 8)


def test_consecutive_slices_of_causal_work_are_uneven(run: Run) -> None:
    even = run("llama-8b", strategy__cp=4)
    uneven = run("llama-8b", strategy__cp=4, strategy__context_parallel={"kind": "all-gather", "balanced": False})
    assert core(uneven).flop == pytest.approx((2 - 1 / 4) * core(even).flop, rel=1e-12)
    assert core(uneven).time_s > core(even).time_s
    assert uneven.energy["breakdown"]["compute_j"] == pytest.approx(even.energy["breakdown"]["compute_j"], rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"strategy__cp": 64, "strategy__context_parallel": "all-to-all"},
            "tp*cp = 1*64 = 64 does not divide the 32 attention heads; nearest divisor 32",
        ),
        (
            {"strategy__cp": 2, "strategy__context_parallel": "all-to-all", "model__attention__kv_heads": 1,
             "model__attention__heads": 33},
            "tp*cp = 1*2 = 2 does not divide the 33 attention heads",
        ),
        (
            {"strategy__cp": 2, "model": "falcon-mamba-7b"},
            "cp = 2 cuts the sequence, and mixer.scan runs along it: context parallelism has no rule for recurrences",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_cut_says_why(run: Run, changes: dict[str, Any], sentence: str) -> None:
    result = run("llama-8b", **changes)
    assert not result.feasible
    assert any(sentence in reason for reason in result.reasons), result.reasons


def test_an_odd_slice_is_possible_where_slices_are_not_paired(run: Run) -> None:
    odd = {"strategy__cp": 4, "workload__sequence_length": 8188}
    assert any("2*cp = 8 slices" in reason for reason in run("llama-8b", **odd).reasons)
    assert run("llama-8b", **odd, strategy__context_parallel={"kind": "ring", "balanced": False}).feasible
