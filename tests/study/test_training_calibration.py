"""The fit of step times: it finds the numbers that made them, stays put without need, and writes what it found."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perfmodel.engine.build import build_question
from perfmodel.engine.evaluate import answer
from perfmodel.errors import UsageError
from perfmodel.specs.catalogue import Catalogue
from perfmodel.specs.resolve import load_scenario
from perfmodel.study.calibration.stack_spec import calibrate_stack
from perfmodel.study.calibration.training import (
    ENOUGH_STEPS,
    FEW,
    FREE_NUMBERS,
    Calibration,
    Observation,
    calibrate,
    observe,
    predicted,
)
from perfmodel.study.validation.kinds import KINDS, shipped_table
from perfmodel.study.validation.lines import Row
from perfmodel.study.validation.training import VOCABULARY
from perfmodel.study.validation.training_scenario import RowReader

CATALOGUE = Catalogue()
SLOWDOWN, EXPOSED, OVERHEAD = "step.matmul_slowdown", "step.tensor_exposed", "step.block_overhead"
#: What the pull towards the specs leaves of an error that the numbers could explain.
RESIDUAL = 0.01
TRUE = {SLOWDOWN: 1.3, EXPOSED: 0.6}
with shipped_table("training", KINDS["training"]).open(newline="", encoding="utf-8") as _file:
    ROWS: list[Row] = list(csv.DictReader(_file))


def rows_of(framework: str, gpu: str, every: int) -> list[Row]:
    """Layouts of the shipped table, without what was measured."""
    found = [row for row in ROWS if row["framework"].startswith(framework) and row["gpu"] == gpu]
    return [{**row, "tokens_per_s_per_gpu": "", "mem_peak_gib": ""} for row in found[::every]]


LAYOUTS = rows_of("Megatron-DeepSpeed", "A100-SXM-80GB", every=2)


@pytest.fixture(scope="module")
def layouts() -> list[Observation]:
    """Steps of many layouts of one stack on one device."""
    found = observe(LAYOUTS, CATALOGUE)
    assert len(found) >= 20
    return found


def made_by(observations: Sequence[Observation], numbers: Mapping[str, float]) -> list[Observation]:
    """The same steps, as a stack with other numbers would have run them."""
    return [replace(one, measured=predicted(one, numbers)) for one in observations]


def found(calibration: Calibration) -> dict[str, float]:
    return {slot.leaf: value for slot, value in calibration.values.items()}


def largest(calibration: Calibration) -> float:
    return max(abs(one) for one in calibration.residuals)


# -- the regression ----------------------------------------------------------------------------------------


def test_a_fit_finds_the_numbers_that_made_the_steps(layouts: Sequence[Observation]) -> None:
    free = [number for number in FREE_NUMBERS if number.leaf in TRUE]
    calibration = calibrate(made_by(layouts, TRUE), free)
    assert largest(calibration) < RESIDUAL
    assert found(calibration)[SLOWDOWN] == pytest.approx(1.3, rel=0.02)
    assert found(calibration)[EXPOSED] == pytest.approx(0.6, abs=0.1)


def test_with_every_number_free_steps_are_explained_and_products_found(layouts: Sequence[Observation]) -> None:
    # A slower stack and a slower device are one product in a matmul; the fit shares it out by what is known of each.
    calibration = calibrate(made_by(layouts, TRUE))
    values = found(calibration)
    assert largest(calibration) < RESIDUAL
    assert values[SLOWDOWN] / values["sustained_rate"] == pytest.approx(1.3, rel=0.03)
    assert values[EXPOSED] == pytest.approx(0.6, abs=0.1)


def test_a_stack_that_is_as_the_specs_say_stays_as_it_is(layouts: Sequence[Observation]) -> None:
    calibration = calibrate(made_by(layouts, {}))
    assert dict(calibration.values) == pytest.approx(dict(calibration.priors))
    assert largest(calibration) < 1e-9


def test_numbers_that_no_step_depends_on_are_not_reported(layouts: Sequence[Observation]) -> None:
    assert not {leaf for leaf in found(calibrate(made_by(layouts, {}))) if "expert" in leaf or "grouped" in leaf}


def test_a_few_wrong_measurements_do_not_bend_a_fit(layouts: Sequence[Observation]) -> None:
    random = np.random.default_rng(5)
    noise = np.exp(random.normal(0.0, 0.02, len(layouts)))
    wrong = np.where(np.arange(len(layouts)) % 9 == 4, 2.0, 1.0)
    noisy = [
        replace(one, measured=one.measured * factor)
        for one, factor in zip(made_by(layouts, TRUE), noise * wrong, strict=True)
    ]
    free = [number for number in FREE_NUMBERS if number.leaf in TRUE]
    assert found(calibrate(noisy, free))[SLOWDOWN] == pytest.approx(1.3, rel=0.05)


def test_repeats_of_one_step_count_as_their_square_root() -> None:
    once = observe(LAYOUTS[:2], CATALOGUE)
    assert [one.weight for one in once] == [1.0, 1.0]
    again = observe([LAYOUTS[0]] * 4 + [LAYOUTS[1]], CATALOGUE)
    assert [one.weight for one in again] == [0.5, 0.5, 0.5, 0.5, 1.0]


# -- the spec ----------------------------------------------------------------------------------------------


def timed(rows: Sequence[Row], numbers: Mapping[str, float]) -> list[Row]:
    """Rows with the step times that a stack with these numbers would have had."""
    return [{**one.row, "iter_time_s": repr(predicted(one, numbers))} for one in observe(rows, CATALOGUE)]


def write(rows: Sequence[Row], path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_few_steps_move_the_plateau_and_the_floor_only() -> None:
    few = timed(LAYOUTS[: ENOUGH_STEPS - 1], TRUE)
    some = timed(LAYOUTS[:ENOUGH_STEPS], TRUE)
    assert set(calibrate_stack(few, "a100", "megatron-deepspeed", CATALOGUE).changes) <= set(FEW)
    assert set(calibrate_stack(some, "a100", "megatron-deepspeed", CATALOGUE).changes) > set(FEW)


def test_numbers_of_a_device_belong_to_its_own_file() -> None:
    made = calibrate_stack(timed(LAYOUTS, TRUE), "a100", "megatron-deepspeed", CATALOGUE)
    assert "sustained_rate" not in made.changes
    assert max(map(abs, made.residuals)) < 0.015


@pytest.mark.parametrize(
    ("framework", "gpu", "software", "accelerator", "every"),
    [
        ("Megatron-DeepSpeed", "A100-SXM-80GB", "megatron-deepspeed", "a100-sxm4-80gb", 4),
        ("MosaicML", "H100-SXM", "llm-foundry", "h100-sxm5-80gb", 4),
    ],
)
def test_the_spec_that_is_written_predicts_what_was_reported(
    run: Callable, tmp_path: Path, framework: str, gpu: str, software: str, accelerator: str, every: int
) -> None:
    rows = timed(rows_of(framework, gpu, every), {SLOWDOWN: 1.25})
    table = write(rows, tmp_path / "steps.csv")
    folder = tmp_path / "specs"
    folder.mkdir()
    target = folder / "mine.yaml"
    arguments = ("--accelerator", accelerator, "--software", software, "--output", str(target))
    outcome = run("calibrate", "training", str(table), *arguments)
    assert (outcome.code, outcome.out) == (0, "")
    assert run("specs", "check", str(folder)).code == 0
    told = re.search(r"(\d+) steps: mean error ([\d.]+) %, largest ([\d.]+) %", outcome.err)
    assert told is not None
    errors = np.abs(_errors_with(rows, f"{software}-on-{accelerator}", Catalogue([folder])))
    assert int(told[1]) == len(rows) == errors.size
    assert 100 * errors.mean() == pytest.approx(float(told[2]), abs=0.1)
    assert 100 * errors.max() == pytest.approx(float(told[3]), abs=0.1)
    # and better than before
    assert errors.mean() < 0.5 * np.abs(_errors_with(rows, software, CATALOGUE)).mean()


def _errors_with(rows: Sequence[Row], software: str, catalogue: Catalogue) -> np.ndarray:
    """Relative errors of rows when another stack is named: the path of `perfmodel run`."""
    reader = RowReader(CATALOGUE, CATALOGUE.load("vocabulary", VOCABULARY))
    times = [
        answer(build_question(load_scenario({**reader.read(row).mapping, "software": software}, catalogue)))
        for row in rows
    ]
    return np.array([one.time["step_s"] / float(row["iter_time_s"]) - 1 for one, row in zip(times, rows, strict=True)])


def test_the_spec_says_where_it_holds_and_that_it_was_measured() -> None:
    made = calibrate_stack(timed(LAYOUTS, TRUE), "a100", "megatron-deepspeed", CATALOGUE)
    devices = [float(row["n_gpus"]) for row in LAYOUTS]
    assert made.validity["n_gpus"] == (min(devices), max(devices))
    assert f"{len(LAYOUTS)} measured steps" in made.spec["note"]
    assert f"n_gpus {min(devices):g} to {max(devices):g}" in made.spec["note"]
    assert made.spec["calibrated_on"] == ["a100-sxm4-80gb"]
    entry = made.spec["behaviour"]["matmul_slowdown"]
    assert (entry["basis"], entry["source"]) == ("measured", "user")


# -- bad input ---------------------------------------------------------------------------------------------


def test_a_stack_without_a_row_is_told_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"no row .* maxtext on tpu-v5p .* has megatron-deepspeed on a100-sxm4-80gb"):
        calibrate_stack(timed(LAYOUTS[:2], {}), "tpu-v5p", "maxtext", CATALOGUE)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"--accelerator": "h900"}, "h900"),
        ({"--software": "my-trainer"}, "my-trainer"),
        ({"--software": "maxtext"}, "no row of the table is a step of maxtext on a100-sxm4-80gb"),
        ({"--where": "n_gpus=3"}, "no row of the table"),
        ({"--where": "colour=red"}, "no column 'colour'"),
        ({"table": "missing.csv"}, "cannot be read"),
        ({"table": "noise.csv"}, "CSV"),
        ({"table": "other.csv"}, "has no column model, gpu, n_gpus, seq_len"),
        ({"kind": "weather"}, "no kind of validation 'weather'"),
    ],
    ids=str,
)
def test_bad_input_is_one_message_and_nothing_is_written(
    run: Callable, tmp_path: Path, changes: Mapping[str, str], says: str
) -> None:
    write(timed(LAYOUTS[:2], {}), tmp_path / "steps.csv")
    (tmp_path / "noise.csv").write_bytes(bytes(range(128, 256)) * 20)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    target = tmp_path / "mine.yaml"
    options = {"--accelerator": "a100", "--software": "megatron-deepspeed"} | dict(changes)
    table = tmp_path / options.pop("table", "steps.csv")
    kind = options.pop("kind", "training")
    words = [word for pair in options.items() for word in pair]
    outcome = run("calibrate", kind, str(table), *words, "--output", str(target))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert says in outcome.err
    assert not target.exists()
