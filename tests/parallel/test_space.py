"""Plan spaces: numbering, blocks, and the one-to-one of candidates and plans."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.parallel.space import PlanSpace, Switch, chunks

SPACE = PlanSpace(
    {
        "devices": np.array([16, 32]), "tp": np.array([1, 2, 4]), "pp": np.array([1, 2]),
        "micro_batch": np.array([1, 2]),
    },
    (
        Switch({"recompute": np.array([0, 1, 1]), "recompute_fraction": np.array([1.0, 0.5, 1.0])}),
        Switch({"zero": np.array([0, 1, 3])}),
        Switch({"sequence_parallel": np.array([1, 0])}),
    ),
    64,
    {"recompute_policies": ("none", "full")},
)  # fmt: skip


def test_candidates_are_the_product_of_all_axes() -> None:
    plans = SPACE.plans(np.arange(len(SPACE)))
    names = ("tp", "pp", "micro_batch", "recompute", "recompute_fraction", "zero", "sequence_parallel", "devices")
    seen = {tuple(getattr(plans, name)[row].item() for name in names) for row in range(len(SPACE))}
    assert len(seen) == len(SPACE) == 2 * 3 * 2 * 2 * 3 * 3 * 2


def test_what_is_not_an_axis_follows_from_devices_and_batch() -> None:
    plans = SPACE.plans(np.arange(len(SPACE)))
    assert np.all(plans.dp_shard * plans.tp * plans.pp == plans.devices)
    assert np.all(plans.global_batch == 64)


@given(st.lists(st.integers(0, SPACE.row_count - 1), min_size=1, max_size=6, unique=True))
def test_a_block_holds_the_candidates_of_its_rows(rows: list[int]) -> None:
    index = np.array(rows, dtype=np.int64)
    block = SPACE.block(SPACE.row_columns(index))
    shape = (*SPACE.switch_shape, len(rows))
    assert block.shape == shape
    order = (index * SPACE.switch_count)[None, :] + np.arange(SPACE.switch_count)[:, None]
    plans = SPACE.plans(order.ravel())
    for name, column in block.columns().items():
        assert np.array_equal(np.broadcast_to(column, shape).ravel(), plans.columns()[name]), name


@given(st.integers(0, 50), st.integers(1, 9))
def test_chunks_cover_everything_once(count: int, length: int) -> None:
    assert [i for start, stop in chunks(count, length) for i in range(start, stop)] == list(range(count))
