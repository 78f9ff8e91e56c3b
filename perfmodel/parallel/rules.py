"""Which plans can be: divisibility and placement rules, decided on integers, each with its reason.

An impossible plan is an answer with reasons, not an exception: a search masks the rows, a single question
prints the sentence of every rule that its row breaks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from perfmodel.parallel.collective_rules import EXCHANGED, GATHERED
from perfmodel.parallel.expert_rules import context_rules, expert_rules
from perfmodel.parallel.grid_shape import grid_shape_rules
from perfmodel.parallel.plan import OVERLAPS, Counts, Plan
from perfmodel.parallel.rule import Mask, Question, RuleOutcome, nearest_divisors, not_divisible
from perfmodel.parallel.schedule_rules import schedule_rules


def integer_rules(
    plan: Plan,
    *,
    layers: int,
    heads: int,
    kv_heads: int,
    ffn: int,
    vocabulary: int,
    hidden: int,
    sequence_length: int,
    global_batch: int,
    cluster_devices: int,
    requested_devices: Counts | int,
    experts: int = 0,
    expert_ffn: int = 0,
    shared_ffn: int = 0,
    context: str = GATHERED,
    balanced: bool = True,
    recurrences: tuple[str, ...] = (),
    mixer_heads: int = 0,
    mixer_groups: int = 0,
    full_kv_heads: int = 0,
    grid_obstacles: tuple[str, ...] = (),
    parameters_at: str = "device",
) -> tuple[RuleOutcome, ...]:
    """Apply every rule to every plan.

    Parameters
    ----------
    plan
        Plans.
    layers, heads, kv_heads, ffn, vocabulary, hidden
        Sizes of the model; 0 where it has no such axis.
    sequence_length, global_batch
        Tokens per sequence and sequences per step.
    cluster_devices, requested_devices
        Devices that exist, and that the question asks to use (a column where plans differ).
    experts, expert_ffn, shared_ffn
        Routed experts of a layer, columns of one, and columns of the shared experts; 0 for a dense model.
    context, balanced
        Kind of context parallelism, and whether every rank has an early and a late slice of the sequence.
    recurrences
        Operators that run along the sequence and that context parallelism cannot cut.
    mixer_heads, mixer_groups
        Heads (or channels) of a recurrent mixer, and groups of them that share their vectors; 0 without one.
    full_kv_heads
        Key-value heads of the full-attention layers where they differ from those of the windowed ones; else 0.
    grid_obstacles
        Operators of the layers that have no rule on a grid of the tensor group.
    parameters_at
        Where parameters are kept: ``device``, ``host`` or ``nvme``.

    Returns
    -------
    tuple
        One outcome per rule; a plan is possible where none is violated.
    """
    question = Question(
        layers=layers, heads=heads, kv_heads=kv_heads, ffn=ffn, vocabulary=vocabulary, hidden=hidden,
        sequence_length=sequence_length, global_batch=global_batch, cluster_devices=cluster_devices,
        requested_devices=requested_devices, experts=experts, expert_ffn=expert_ffn, shared_ffn=shared_ffn,
        context=context, balanced=balanced, recurrences=recurrences, mixer_heads=mixer_heads,
        mixer_groups=mixer_groups, full_kv_heads=full_kv_heads, grid_obstacles=grid_obstacles,
        parameters_at=parameters_at,
    )  # fmt: skip
    return tuple(outcome for rules in _RULES for outcome in rules(plan, question))


def violated(outcomes: tuple[RuleOutcome, ...]) -> Mask:
    """True for plans that break any rule."""
    broken = outcomes[0].violated
    for outcome in outcomes[1:]:
        broken = broken | outcome.violated
    return broken


def reasons(outcomes: tuple[RuleOutcome, ...], row: int = 0) -> tuple[str, ...]:
    """The sentences of the rules that one plan breaks."""
    return tuple(outcome.describe(row) for outcome in outcomes if outcome.violated[row])


def _positive(plan: Plan, _: Question) -> Iterator[RuleOutcome]:
    counts = {name: column for name, column in plan.columns().items() if name not in _MAY_BE_ZERO}

    def describe(row: int) -> str:
        bad = [f"{name} = {column[row]}" for name, column in counts.items() if column[row] < 1]
        return f"{' and '.join(bad)}: sizes and counts must be at least 1"

    smallest = next(iter(counts.values()))
    for column in counts.values():
        smallest = np.minimum(smallest, column)
    yield RuleOutcome("positive", smallest < 1, describe)
    yield RuleOutcome(
        "zero",
        (plan.zero < 0) | (plan.zero > 3),
        lambda row: f"zero = {plan.zero[row]} is not a ZeRO stage; use 0, 1, 2 or 3",
    )


_MAY_BE_ZERO = frozenset(
    {"tp_blocks", "tp_column_first", "sequence_parallel", "zero", "recompute", "recompute_fraction", *OVERLAPS}
)


def _devices(plan: Plan, question: Question) -> Iterator[RuleOutcome]:
    used = plan.devices
    requested = np.broadcast_to(np.asarray(question.requested_devices, dtype=np.int64), used.shape)

    def product(row: int) -> str:
        return (
            f"tp*cp*pp*dp = {plan.tp[row]}*{plan.cp[row]}*{plan.pp[row]}*{plan.dp[row]} = {used[row]} devices, "
            f"but {requested[row]} are asked for"
        )

    yield RuleOutcome("devices", used != requested, product)
    yield RuleOutcome(
        "cluster",
        used > question.cluster_devices,
        lambda row: f"the plan needs {used[row]} devices, the cluster has {question.cluster_devices}",
    )


def _tensor(plan: Plan, question: Question) -> Iterator[RuleOutcome]:
    tp, named = plan.tp_columns, _tensor_name(plan)
    sizes = (
        (question.heads, "attention heads"),
        (question.ffn, "feed-forward columns"),
        (question.shared_ffn, "columns of the shared experts"),
        (question.mixer_heads, "heads (or channels) of the recurrent mixer"),
    )
    for size, what in sizes:
        yield RuleOutcome(
            f"tp divides {what}",
            not_divisible(size, tp),
            lambda row, size=size, what=what: (
                f"{named(row)} does not divide the {size} {what}{nearest_divisors(size, int(tp[row]))}"
            ),
        )
    copied = (
        (question.kv_heads, "key-value heads"),
        (question.full_kv_heads, "key-value heads of the full-attention layers"),
        (question.mixer_groups, "groups of the recurrent mixer"),
    )
    for size, what in copied:
        yield RuleOutcome(
            f"tp fits {what}",
            not_divisible(size, tp) & (np.mod(tp, max(size, 1)) != 0),
            lambda row, size=size, what=what: (
                f"{named(row)} neither divides the {size} {what} nor is a multiple of them"
                f"{nearest_divisors(size, int(tp[row]))}"
            ),
        )
    widest = min(size for size in (question.hidden, question.vocabulary, 2**62) if size > 0)
    yield RuleOutcome(
        "tp within widths",
        tp > widest,
        lambda row: f"{named(row)} is more than the narrowest sharded width of the model, {widest}",
    )


def _grid(plan: Plan, question: Question) -> Iterator[RuleOutcome]:
    rules = grid_shape_rules(
        plan, hidden=question.hidden, ffn=question.ffn, sequence_length=question.sequence_length,
        obstacles=question.grid_obstacles,
    )  # fmt: skip
    yield from (RuleOutcome(*rule) for rule in rules)


def _tensor_name(plan: Plan) -> Callable[[int], str]:
    """The ranks that share heads and features: all of the tensor group, or the columns of its grid."""

    def named(row: int) -> str:
        if plan.tp_blocks[row] < 1:
            return f"tp = {plan.tp[row]}"
        return f"tp / tp_grid.rows = {plan.tp[row]} / {plan.tp_rows[row]} = {plan.tp_columns[row]} columns of the grid"

    return named


def _pipeline(plan: Plan, question: Question) -> Iterator[RuleOutcome]:
    if plan.layers_per_stage is not None:
        yield from _given_layers(plan, question, plan.layers_per_stage)
    else:
        yield _even_layers(plan, question.layers)
    yield from (RuleOutcome(*rule) for rule in schedule_rules(plan))


def _even_layers(plan: Plan, layers: int) -> RuleOutcome:
    units = layers + (2 if plan.embedding_and_head_as_layers else 0)
    chunks = plan.pp * plan.virtual_stages
    what = f"{units} layers" + (" (embedding and head counted as one each)" if units != layers else "")

    def describe(row: int) -> str:
        split = f"pp = {plan.pp[row]}"
        if plan.virtual_stages[row] > 1:
            split = f"pp*virtual_stages = {plan.pp[row]}*{plan.virtual_stages[row]} = {chunks[row]}"
        hint = nearest_divisors(units, int(chunks[row]))
        if units == layers and (layers + 2) % max(int(chunks[row]), 1) == 0:
            hint += "; embedding_and_head_as_layers makes it fit"
        return f"{split} does not divide the {what}{hint}"

    return RuleOutcome("pp divides layers", not_divisible(units, chunks), describe)


def _given_layers(plan: Plan, question: Question, given: tuple[int, ...]) -> Iterator[RuleOutcome]:
    yield RuleOutcome(
        "layers per stage",
        np.full(plan.pp.shape, sum(given) != question.layers or min(given, default=0) < 0),
        lambda _: f"layers_per_stage adds up to {sum(given)} layers, the model has {question.layers}",
    )
    chunks = plan.pp * plan.virtual_stages
    per_stage = plan.pp == len(given)
    yield RuleOutcome(
        "entries of layers per stage",
        ~per_stage & (chunks != len(given)),
        lambda row: (
            f"layers_per_stage has {len(given)} entries for pp = {plan.pp[row]} stages"
            + (f" of {plan.virtual_stages[row]} chunks each" if plan.virtual_stages[row] > 1 else "")
        ),
    )
    common = int(np.gcd.reduce(np.asarray(given, dtype=np.int64)))
    yield RuleOutcome(
        "virtual stages divide layers",
        per_stage & not_divisible(common, plan.virtual_stages),
        lambda row: (
            f"virtual_stages = {plan.virtual_stages[row]} does not divide every entry of layers_per_stage "
            f"{list(given)}; say the layers of every chunk instead"
        ),
    )


def _batch(plan: Plan, question: Question) -> Iterator[RuleOutcome]:
    def describe(row: int) -> str:
        dp, micro, count = plan.dp[row], plan.micro_batch[row], plan.num_microbatches[row]
        if question.global_batch % (max(dp, 1) * max(micro, 1)):
            return (
                f"dp*micro_batch = {dp}*{micro} does not divide the global batch of {question.global_batch} sequences"
            )
        product = f"dp*micro_batch*num_microbatches = {dp}*{micro}*{count} = {dp * micro * count}"
        return f"{product} is not the global batch of {question.global_batch}"

    yield RuleOutcome("global batch", plan.global_batch != question.global_batch, describe)


def _sequence(plan: Plan, question: Question) -> Iterator[RuleOutcome]:
    length = question.sequence_length
    # Causal work is balanced by giving every rank one early and one late slice (Llama 3, section 3.3.2).
    paired = question.balanced and question.context != EXCHANGED
    slices, words = (2 * plan.cp, "2*cp") if paired else (plan.cp, "cp")
    yield RuleOutcome(
        "cp divides sequence",
        (plan.cp > 1) & not_divisible(length, slices),
        lambda row: (
            f"context parallelism cuts the {length} tokens into {words} = {slices[row]} slices, which does not divide"
        ),
    )
    shards = plan.cp * plan.tp
    yield RuleOutcome(
        "sequence parallel divides sequence",
        (plan.sequence_parallel > 0) & (plan.tp_blocks < 1) & not_divisible(length, shards),
        lambda row: f"sequence parallelism needs the {length} tokens to be a multiple of cp*tp = {shards[row]}",
    )


def _sharding(plan: Plan, question: Question) -> Iterator[RuleOutcome]:
    yield RuleOutcome(
        "zero shards over all of dp",
        (plan.zero < 3) & (plan.dp_replicate > 1),
        lambda row: (
            f"zero = {plan.zero[row]} shards over all dp = {plan.dp[row]} ranks; "
            f"dp_replicate = {plan.dp_replicate[row]} replicas need zero = 3"
        ),
    )
    if question.parameters_at != "device":
        yield RuleOutcome(
            "parameters kept elsewhere come layer by layer",
            plan.zero < 3,
            lambda row: (
                f"offload.parameters = {question.parameters_at} needs zero = 3 (parameters gathered layer by layer), "
                f"not zero = {plan.zero[row]}"
            ),
        )
    yield RuleOutcome(
        "expert parallelism needs experts",
        (plan.ep * plan.etp > 1) & (question.experts == 0),
        lambda row: f"ep = {plan.ep[row]} and etp = {plan.etp[row]}, but the model has no experts",
    )
    experts, dense = plan.ep * plan.etp, plan.tp * plan.cp * plan.dp
    yield RuleOutcome(
        "experts divide the stage",
        not_divisible(dense, experts),
        lambda row: (
            f"ep*etp = {plan.ep[row]}*{plan.etp[row]} = {experts[row]} does not divide tp*cp*dp = {dense[row]}"
            f"{nearest_divisors(int(dense[row]), int(experts[row]))}"
        ),
    )


_RULES: tuple[Callable[[Plan, Question], Iterator[RuleOutcome]], ...] = (
    _positive, _devices, _tensor, _grid, _pipeline, _batch, _sequence, context_rules, expert_rules, _sharding,
)  # fmt: skip
