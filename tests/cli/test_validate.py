"""`perfmodel validate`: the columns and keys that scripts rely on, filters, files, and what bad input says."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

#: The contract: these columns in this order, then the columns of the input.
COLUMNS = [
    "row", "id", "quantity", "measured", "predicted", "unit", "relative_error", "p10", "p90", "basis", "status",
    "assumed", "reason",
]  # fmt: skip
SCORES = {"rows", "ok", "mape", "median_ape", "p90_ape", "bias", "within_10pct", "coverage_80", "spearman"}
FEW = ("--where", "source_key=korthikanti22")
HEADER = (
    "id,model,family,layers,hidden,heads,kv_heads,head_dim,ffn_hidden,gated_mlp,vocab,seq_len,gpu,gpus_per_node,n_gpus,"
    "tp,pp,micro_batch,global_batch,precision,framework,recompute,iter_time_s,mem_peak_gib,colour"
)
ROW = (
    "mine,own,dense,32,4096,32,8,128,14336,1,128256,8192,H100-SXM,8,64,2,1,1,128,bf16,Megatron-Core 0.9,none,4.2,60,red"
)


def table(folder: Path, *rows: str, header: str = HEADER) -> str:
    path = folder / "runs.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return str(path)


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_has_the_columns_of_the_contract_and_then_those_of_the_input(run: Callable, tmp_path: Path) -> None:
    outcome = run("validate", "training", table(tmp_path, ROW), "--format", "csv")
    assert (outcome.code, outcome.err) == (0, "")
    names = outcome.out.splitlines()[0].split(",")
    assert names[: len(COLUMNS)] == COLUMNS
    assert names[len(COLUMNS) :] == [name for name in HEADER.split(",") if name != "id"]
    time, memory = lines(outcome.out)
    assert (time["row"], time["id"], time["quantity"], time["unit"]) == ("0", "mine", "iter_time_s", "s")
    assert (memory["quantity"], memory["unit"], memory["colour"]) == ("mem_peak_gib", "GiB", "red")
    assert (time["status"], float(time["measured"]), float(memory["measured"])) == ("ok", 4.2, 60.0)
    assert float(time["relative_error"]) == pytest.approx(float(time["predicted"]) / 4.2 - 1.0)
    assert float(time["p10"]) < float(time["predicted"]) < float(time["p90"])
    assert time["basis"] in {"calibrated", "transferred", "assumed"}
    assert "zero_or_fsdp=1" in time["assumed"].split("; ")


def test_json_has_the_keys_of_the_contract(run: Callable) -> None:
    document = json.loads(run("validate", "training", *FEW, "--format", "json").out)
    assert (document["schema"], document["kind"]) == ("perfmodel.validation/1", "training")
    assert document.keys() >= SCORES
    assert document["by"].keys() >= {"quantity", "gpu", "source_key", "family", "role"}
    for groups in document["by"].values():
        for scores in groups.values():
            assert scores.keys() == SCORES
    assert document["rows"] == document["by"]["source_key"]["korthikanti22"]["rows"] == 4


def test_scores_of_json_are_those_of_the_lines(run: Callable) -> None:
    document = json.loads(run("validate", "training", *FEW, "--format", "json").out)
    found = [line for line in lines(run("validate", "training", *FEW, "--format", "csv").out) if line["status"] == "ok"]
    errors = [float(line["relative_error"]) for line in found if line["quantity"] == "iter_time_s"]
    assert document["ok"] == len(errors)
    assert document["mape"] == pytest.approx(sum(map(abs, errors)) / len(errors))
    assert document["bias"] == pytest.approx(sum(errors) / len(errors))


def test_a_table_for_people_has_the_scores_and_the_misses(run: Callable) -> None:
    outcome = run("validate", "training", *FEW)
    document = json.loads(run("validate", "training", *FEW, "--format", "json").out)
    assert outcome.code == 0
    assert f"{100 * document['mape']:.1f} %" in outcome.out
    assert "korthikanti22" in outcome.out
    assert "largest misses" in outcome.out


def test_conditions_choose_rows_and_keep_their_positions(run: Callable, tmp_path: Path) -> None:
    path = table(tmp_path, ROW, ROW.replace("mine", "other").replace("red", "blue"), ROW.replace("8192", "4096"))
    everything = lines(run("validate", "training", path, "--format", "csv").out)
    chosen = ("--where", "colour=red", "--where", "seq_len=8192.0", "--where", "n_gpus=64")
    some = lines(run("validate", "training", path, "--format", "csv", *chosen).out)
    assert {line["row"] for line in everything} == {"0", "1", "2"}
    assert some == [line for line in everything if line["row"] == "0"]


def test_an_answer_goes_to_a_file(run: Callable, tmp_path: Path) -> None:
    target = tmp_path / "lines.csv"
    printed = run("validate", "training", *FEW, "--format", "csv").out
    outcome = run("validate", "training", *FEW, "--format", "csv", "--output", str(target))
    assert (outcome.code, outcome.out) == (0, "")
    assert target.read_text(encoding="utf-8") == printed


def test_a_row_that_cannot_be_predicted_is_an_answer(run: Callable, tmp_path: Path) -> None:
    path = table(tmp_path, ROW, ROW.replace("H100-SXM", "H900"), ROW.replace(",128256,", ",,"))
    outcome = run("validate", "training", path, "--format", "csv")
    assert outcome.code == 0
    times = [line for line in lines(outcome.out) if line["quantity"] == "iter_time_s"]
    assert [line["status"] for line in times] == ["ok", "unsupported", "incomplete"]
    assert [bool(line["reason"]) for line in times] == [False, True, True]
    assert times[1]["predicted"] == times[2]["predicted"] == ""
    document = json.loads(run("validate", "training", path, "--format", "json").out)
    assert (document["rows"], document["ok"]) == (3, 1)
    assert sum(document["not_ok"].values()) == 2


def test_predictions_do_not_depend_on_the_other_rows(run: Callable, tmp_path: Path) -> None:
    other = ROW.replace("mine", "other").replace(",64,2,", ",128,4,")
    alone = lines(run("validate", "training", table(tmp_path, other), "--format", "csv").out)
    after = lines(run("validate", "training", table(tmp_path, ROW, other), "--format", "csv").out)[2:]
    assert [line["predicted"] for line in alone] == [line["predicted"] for line in after]


#: File name -> its content.
FILES = {
    "runs.csv": f"{HEADER}\n{ROW}\n".encode(),
    "headerless.csv": f"{ROW}\n{ROW}\n".encode(),
    "empty.csv": b"",
    "binary.csv": bytes(range(128, 256)) * 20,
}
#: Arguments, with files of the folder, and what is said.
BAD = {
    "headerless": (("training", "headerless.csv"), "has no column model, gpu, n_gpus, seq_len"),
    "empty": (("training", "empty.csv"), "no header"),
    "binary": (("training", "binary.csv"), "not a CSV file in UTF-8"),
    "missing": (("training", "none.csv"), "cannot be read"),
    "folder": (("training", "."), "cannot be read"),
    "unknown kind": (("trainings", "runs.csv"), "did you mean 'training'"),
    "no table ships": (("collectives",), "no table ships for 'collectives'"),
    "another kind of table": (("collectives", "runs.csv"), "has no column op"),
    "condition without a value": (("training", "runs.csv", "--where", "colour"), "expected column=value"),
    "condition on no column": (("training", "runs.csv", "--where", "color=red"), "did you mean 'colour'"),
    "condition that nothing meets": (("training", "runs.csv", "--where", "colour=green"), "colour=green"),
    "output over input": (("training", "runs.csv", "--output", "runs.csv"), "cannot write"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_message(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    arguments, says = BAD[case]
    target = () if "--output" in arguments else ("--output", "lines.csv")
    outcome = run("validate", *arguments, *target)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert says in outcome.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == FILES


@pytest.mark.parametrize("arguments", [("validate",), ("validate", "training", "--format", "xml")], ids=" ".join)
def test_bad_usage_is_two(run: Callable, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Traceback" not in outcome.err


def test_the_help_names_every_kind(run: Callable) -> None:
    from perfmodel.study.validation.kinds import KINDS

    told = run("validate", "--help").out
    assert all(kind in told for kind in KINDS)
