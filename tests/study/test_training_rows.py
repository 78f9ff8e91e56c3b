"""Predictions of published training runs: what may enter them, what becomes of a row, and how good they are."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import perfmodel as pm
from perfmodel.specs.catalogue import Catalogue
from perfmodel.study.validation.kinds import KINDS, shipped_table, validate
from perfmodel.study.validation.lines import Line, Row, Status
from perfmodel.study.validation.ranking import ranking
from perfmodel.study.validation.scoring import score, summarise
from perfmodel.study.validation.training import MEMORY, TIME, measured_quantities, predict_rows

CATALOGUE = Catalogue()
with shipped_table("training", KINDS["training"]).open(newline="", encoding="utf-8") as _file:
    ROWS: list[Row] = list(csv.DictReader(_file))
BY_ID = {row["id"]: row for row in ROWS}
DENSE = BY_ID["KOR-530b-selective"]
#: One row of every software stack of the table.
SAMPLE = list({row["framework"]: row for row in ROWS}.values())[::2]

#: Rows of the table and shipped scenarios that describe the same run.
SAME_RUN = {
    "KOR-530b-full": "korthikanti-2022-530b-full",
    "KOR-530b-selective": "korthikanti-2022-530b-selective",
    "KOR-1t-full": "korthikanti-2022-1t-full",
    "KOR-1t-selective": "korthikanti-2022-1t-selective",
    "SC21-T2-ptd-174.6-384": "narayanan-2021-175b-384",
    "SC21-T2-ptd-174.6-1536": "narayanan-2021-175b-1536",
    "SC21-T2-ptd-529.6-560": "narayanan-2021-530b-560",
    "SC21-T2-ptd-529.6-2240": "narayanan-2021-530b-2240",
    "L3-8192-cp1": "llama3.1-405b-8192-h100",
    "L3-16384-cp1": "llama3.1-405b-16384-h100",
}
#: The catalogue knows the learned positions of the Megatron models, whose parameters the optimizer updates too; no
#: column of the table does.
POSITIONS = 1e-5
#: The framework column of Korthikanti's runs without sequence parallelism says what that of 2021 says: no column tells
#: that the code is a year younger.
OLDER_STACK = {"KOR-530b-full": 5e-3, "KOR-1t-full": 5e-3}

#: Torchtitan's 405B runs: their reported peaks hold what no column says (scored apart).
REPORTED_OTHERWISE = {"TT-833", "TT-834", "TT-837", "TT-838"}


def predict(row: Row, **changes: str) -> Line:
    """The line of the step time of a row with some columns changed."""
    return predict_rows([(0, {**row, **changes})], CATALOGUE)[0]


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    """Every line of the table that ships."""
    return validate("training", None, CATALOGUE)


@pytest.fixture(scope="module")
def unseen(lines: Sequence[Line]) -> list[Line]:
    """Step times that no fit has seen, each configuration once."""
    found = [line for line in lines if line.quantity == TIME and _is(line, role="public_test", canonical="1")]
    assert len(found) > 200
    return found


def _is(line: Line, **columns: str) -> bool:
    return all(line.columns[name] == value for name, value in columns.items())


# -- a row is the scenario that it describes ---------------------------------------------------------------


@pytest.mark.parametrize(("row", "scenario"), SAME_RUN.items())
def test_a_row_has_the_step_time_of_the_scenario_of_the_same_run(row: str, scenario: str) -> None:
    line = predict(BY_ID[row])
    expected = pm.load(scenario).run().time["step_s"]
    assert line.prediction.value == pytest.approx(expected, rel=OLDER_STACK.get(row, POSITIONS))


# -- what may enter ----------------------------------------------------------------------------------------


def _numbers(line: Line) -> tuple[Any, ...]:
    one = line.prediction
    return one.value, one.p10, one.p90, one.basis, one.status, one.reason, one.assumed


@pytest.mark.parametrize("row", SAMPLE, ids=lambda row: row["id"])
def test_where_a_figure_comes_from_and_what_it_is_do_not_enter(row: Row) -> None:
    other = dict.fromkeys(("id", "source", "source_key", "source_date", "note", "metric", "value", "role"), "other")
    other |= {"canonical": "0", "core_set": "0", "n_params_b": "1", "active_params_b": "1", "mem_peak_gib": "1.5"}
    before, after = predict(row), predict(row, **other, iter_time_s="7.5", tokens_per_s_per_gpu="123")
    assert after.measured == 7.5
    assert _numbers(after) == _numbers(before)
    assert before.ok


@pytest.mark.parametrize("row", [row for row in SAMPLE if row["family"] == "dense"], ids=lambda row: row["id"])
def test_a_dense_model_is_its_columns_and_not_its_name(row: Row) -> None:
    assert _numbers(predict(row, model="nobody's model")) == _numbers(predict(row))


def test_columns_of_the_layout_do_enter() -> None:
    before = predict(DENSE).prediction.value
    assert before is not None
    for changes in (
        {"recompute": "full"},
        {"seq_len": "4096"},
        {"vp": "1"},
        {"ffn_hidden": "100000"},
        {"pp": "7", "dp": ""},
    ):
        after = predict(DENSE, **changes).prediction.value
        assert after is not None
        assert abs(after / before - 1.0) > 0.01, changes


def test_twice_the_batch_takes_at_most_twice_the_step() -> None:
    # Micro-batches double; what a step does once (bubble, optimizer, reduction of gradients) does not.
    once, twice = (predict(DENSE, global_batch=batch).prediction.value for batch in ("280", "560"))
    assert once is not None
    assert twice is not None
    assert 1.5 * once < twice < 2.0 * once


def test_a_rate_is_a_step_time() -> None:
    row = {**DENSE, "iter_time_s": "", "tokens_per_s_per_gpu": "50"}
    assert measured_quantities(row)[TIME] == pytest.approx(280 * 2048 / (50 * 280))
    assert predict(row).measured == pytest.approx(2048 / 50)


# -- what becomes of a row ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "status", "reason"),
    [
        ({"vocab": ""}, Status.INCOMPLETE, "vocab is blank"),
        ({"hidden": "large"}, Status.INCOMPLETE, "hidden is 'large', not a number"),
        ({"layers": "10.5"}, Status.INCOMPLETE, "layers is 10.5, not a whole number"),
        ({"layers": "nan"}, Status.INCOMPLETE, "not a finite number"),
        ({"gpu": "H900"}, Status.UNSUPPORTED, "'H900'"),
        ({"framework": "my trainer"}, Status.UNSUPPORTED, "'my trainer'"),
        ({"precision": "int3"}, Status.UNSUPPORTED, "'int3'"),
        ({"recompute": "every other layer"}, Status.UNSUPPORTED, "'every other layer'"),
        ({"workload": "distillation"}, Status.UNSUPPORTED, "'distillation'"),
        ({"precision": "mxfp8"}, Status.UNSUPPORTED, "mxfp8"),
        ({"dp": "2"}, Status.INFEASIBLE, "dp is 2, but 280 devices over tp*cp*pp = 8*1*35 leave 1"),
        ({"n_gpus": "281", "dp": ""}, Status.INFEASIBLE, "does not divide 281"),
        ({"heads": "127", "kv_heads": "127"}, Status.INFEASIBLE, "127"),
    ],
)
def test_a_row_without_a_prediction_says_why(changes: dict[str, str], status: Status, reason: str) -> None:
    prediction = predict(DENSE, **changes).prediction
    assert prediction.status is status
    assert reason in prediction.reason
    assert (prediction.value, prediction.p10, prediction.p90, prediction.basis) == (None, None, None, None)


def test_a_run_that_should_not_fit_is_predicted_with_a_remark() -> None:
    line = predict(DENSE, recompute="none", micro_batch="4")
    assert line.ok
    assert line.prediction.reason.startswith("memory")
    assert predict(DENSE).prediction.reason == ""


def test_blank_columns_take_the_defaults_of_the_stack_and_are_listed() -> None:
    said = predict(DENSE).prediction
    blank = dict.fromkeys(("tp", "cp", "micro_batch", "zero_or_fsdp", "recompute", "vp"), "")
    assumed = predict(DENSE, **blank, pp="35", dp="").prediction.assumed
    assert {one.partition("=")[0] for one in assumed} == set(blank)
    assert said.assumed == ()


def test_a_framework_may_be_a_stack_of_the_catalogue_and_of_ones_own(tmp_path: Path) -> None:
    row = next(row for row in ROWS if row["framework"] == "torchtitan (PyTorch)" and int(row["tp"] or 1) > 1)
    assert _numbers(predict(row, framework="torchtitan")) == _numbers(predict(row))
    (tmp_path / "mine.yaml").write_text(
        "kind: software\nextends: torchtitan\nname: torchtitan-and-more\n"
        "behaviour: {tensor_exposed: {value: 0, source: user, basis: measured}}\n"
    )
    own = predict_rows([(0, {**row, "framework": "torchtitan-and-more"})], Catalogue([tmp_path]))[0]
    before = predict(row)
    assert own.prediction.value is not None
    assert before.prediction.value is not None
    assert own.prediction.value < before.prediction.value


# -- the table that ships ----------------------------------------------------------------------------------


def test_every_row_of_the_table_has_a_line(lines: Sequence[Line]) -> None:
    assert {line.row for line in lines} == set(range(len(ROWS)))
    with_memory = {number for number, row in enumerate(ROWS) if row["mem_peak_gib"]}
    assert {line.row for line in lines if line.quantity == MEMORY} == with_memory


def test_nearly_every_row_is_predicted_and_the_others_say_why(lines: Sequence[Line]) -> None:
    canonical = [line for line in lines if line.quantity == TIME and _is(line, canonical="1")]
    assert sum(line.ok for line in canonical) >= 0.97 * len(canonical)
    assert all(line.prediction.reason for line in lines if not line.ok)


def _errors(lines: Sequence[Line], smallest: int) -> Iterator[tuple[str, float]]:
    """(source, mean absolute relative error) of sources with so many rows."""
    for source, one in summarise("training", lines, TIME)["by"]["source_key"].items():
        if one["ok"] >= smallest:
            yield source, one["mape"]


def test_step_times_of_runs_that_no_fit_has_seen(unseen: Sequence[Line]) -> None:
    found = score(unseen)
    assert found.mape is not None
    assert found.median_ape is not None
    assert found.bias is not None
    assert found.mape <= 0.10
    assert found.median_ape <= 0.065
    assert abs(found.bias) <= 0.04


def test_step_times_of_models_with_experts(unseen: Sequence[Line]) -> None:
    found = score([line for line in unseen if _is(line, family="moe")])
    assert found.ok >= 20
    assert found.mape is not None
    assert found.mape <= 0.19


def test_no_source_is_far_off(unseen: Sequence[Line]) -> None:
    found = dict(_errors(unseen, smallest=4))
    assert len(found) >= 8
    far = {source: error for source, error in found.items() if error > {"auroragpt": 0.32}.get(source, 0.25)}
    assert far == {}


def test_intervals_hold_as_many_runs_as_they_say(unseen: Sequence[Line]) -> None:
    coverage = score(unseen).coverage_80
    assert coverage is not None
    assert 0.75 <= coverage <= 0.88


def test_the_layout_that_is_predicted_fastest_is_nearly_so(unseen: Sequence[Line]) -> None:
    found = ranking(unseen)
    assert len(found["groups"]) >= 3
    assert found["top1_regret"] <= 0.05


def test_peaks_of_memory(lines: Sequence[Line]) -> None:
    counted = [line for line in lines if line.quantity == MEMORY and line.id not in REPORTED_OTHERWISE]
    found = score(counted)
    assert found.ok >= 30
    assert found.mape is not None
    assert found.mape <= 0.10
