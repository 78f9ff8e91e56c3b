"""Stage classes add up to the model, and match published layouts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.parallel.plan import Plan
from perfmodel.parallel.stages import StageTable, stage_table


def total(table: StageTable, name: str) -> np.ndarray:
    return sum(column * times for column, times in zip(getattr(table, name), table.multiplicity, strict=True))


def stage_by_stage(table, name="layers"):
    """A column of every stage of the plans, from that of the classes."""
    classes = zip(getattr(table, name), table.multiplicity, strict=True)
    return [float(held[0]) for held, times in classes for _ in range(int(times[0]))]


@given(st.lists(st.integers(1, 64), min_size=1, max_size=20), st.integers(1, 160), st.booleans())
def test_classes_add_up_to_the_model(stages, layers, units):
    table = stage_table(Plan.from_columns({"pp": stages}, embedding_and_head_as_layers=units), layers)
    assert total(table, "layers") == pytest.approx(np.full(len(stages), layers))
    assert sum(table.multiplicity).tolist() == stages
    assert total(table, "has_embedding").tolist() == total(table, "has_head").tolist() == [1.0] * len(stages)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_given_layout_is_kept(layout):
    plan = Plan.from_columns({"pp": [len(layout)] * 3}, layers_per_stage=tuple(layout))
    table = stage_table(plan, sum(layout))
    assert stage_by_stage(table) == layout
    assert [float(column[0]) for column in table.position] == [0.0, *np.cumsum([m[0] for m in table.multiplicity])[:-1]]
    assert total(table, "has_embedding").tolist() == total(table, "has_head").tolist() == [1.0] * 3
    assert len(table) <= len(layout)


def test_neighbours_that_hold_the_same_are_one_class():
    table = stage_table(Plan.from_columns({"pp": 16}, layers_per_stage=(3, *[4] * 13, 3, 3)), 61)
    assert table.names == ("stage 0", "stages 1 to 13", "stage 14", "stage 15")  # the last one holds the head
    assert [float(one[0]) for one in table.multiplicity] == [1, 13, 1, 1]


def test_llama3_layout_gives_the_embedding_and_the_head_a_layer_each():
    """arXiv 2407.21783, section 3.3.2: one layer less on the first and on the last of 16 stages."""
    table = stage_table(Plan.from_columns({"pp": 16}, embedding_and_head_as_layers=True), 126)
    assert [float(one[0]) for one in table.layers] == [7, 8, 7]
    assert [float(one[0]) for one in table.multiplicity] == [1, 14, 1]
    assert [float(one[0]) for one in table.position] == [0, 1, 15]


def test_single_stage_holds_everything_and_absent_classes_are_neutral():
    for units in (False, True):
        table = stage_table(Plan.from_columns({"pp": [1, 2]}, embedding_and_head_as_layers=units), 32)
        assert [one[0] for one in table.layers] == [32, 0, 0]
        assert (table.has_embedding[0][0], table.has_head[0][0]) == (1, 1)
        assert [one[0] for one in table.multiplicity] == [1, 0, 0]
        assert [one[1] for one in table.multiplicity] == [1, 0, 1]
        assert table.layers[1].tolist() == [0, 0]
        assert table.has_head[2].tolist() == [0, 1]


def test_a_layout_per_chunk_is_added_up_per_stage():
    plan = Plan.from_columns({"pp": 4, "virtual_stages": 2}, layers_per_stage=(0, 1, 1, 1, 1, 1, 1, 0))
    assert stage_by_stage(stage_table(plan, 6)) == [1, 2, 2, 1]


@given(st.integers(2, 40), st.integers(2, 200), st.booleans())
def test_a_folded_pipeline_has_both_ends_of_the_model_on_its_first_stage(stages, layers, units):
    plan = Plan.from_columns({"pp": stages, "virtual_stages": 2}, schedule="zb-v", embedding_and_head_as_layers=units)
    table = stage_table(plan, layers)
    assert total(table, "layers") == pytest.approx([layers])
    assert (float(table.has_embedding[0][0]), float(table.has_head[0][0])) == (1.0, 1.0)
    assert total(table, "has_head").tolist() == total(table, "has_embedding").tolist() == [1.0]
    given_up = 2.0 if units else 0.0
    assert float(table.layers[-1][0] - table.layers[0][0]) == pytest.approx(given_up)


def test_a_layout_per_chunk_of_a_folded_pipeline_comes_back():
    plan = Plan.from_columns({"pp": 3, "virtual_stages": 2}, schedule="zb-v", layers_per_stage=(1, 2, 3, 4, 5, 0))
    table = stage_table(plan, 15)
    assert stage_by_stage(table) == [1 + 0, 2 + 5, 3 + 4]
    assert stage_by_stage(table, "has_head") == [1, 0, 0]


def test_a_stage_of_dualpipe_is_the_mean_of_two_and_holds_both():
    plan = Plan.from_columns({"pp": 4}, schedule="dualpipe", layers_per_stage=(2, 4, 6, 8))
    table = stage_table(plan, 20)
    assert stage_by_stage(table) == [5, 5, 5, 5]
    assert stage_by_stage(table, "has_embedding") == [0.5, 0, 0, 0.5]
    assert stage_by_stage(table, "has_head") == [0.5, 0, 0, 0.5]
    assert table.copies == 2.0
    assert total(table, "layers").tolist() == [20.0]
