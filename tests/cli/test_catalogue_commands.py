"""Listing, showing, checking and starting files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from perfmodel.specs.kinds import KINDS
from perfmodel.specs.templates import template_kinds


def test_list_has_every_kind_and_can_be_narrowed(run: Callable) -> None:
    every = json.loads(run("specs", "list", "--format", "json").out)
    assert {entry["kind"] for entry in every} == set(KINDS) - {"sources"}
    clusters = json.loads(run("specs", "list", "cluster", "--format", "json").out)
    assert clusters == [entry for entry in every if entry["kind"] == "cluster"]


def test_show_prints_the_file_or_the_checked_spec(run: Callable, checkout: Path) -> None:
    path = checkout / "hardware_specs" / "accelerators" / "h100-sxm5-80gb.yaml"
    assert run("specs", "show", "h100-sxm5-80gb").out == path.read_text(encoding="utf-8")
    spec = json.loads(run("specs", "show", "accelerator/h100", "--format", "json").out)
    assert spec["memory"]["kind"] == "HBM3"


def test_show_suggests_what_comes_nearest(run: Callable) -> None:
    assert "did you mean 'h100-sxm5-80gb'" in run("specs", "show", "h100-sxm-80gb").err


def test_a_users_folder_is_searched_first(run: Callable, tmp_path: Path) -> None:
    text = "kind: accelerator\nname: h100-sxm5-80gb\ntitle: mine\nextends: h100-pcie-80gb\n"
    (tmp_path / "any-name.yaml").write_text(text, encoding="utf-8")
    listed = json.loads(run("specs", "list", "accelerator", "--specs", str(tmp_path), "--format", "json").out)
    mine = next(entry for entry in listed if entry["name"] == "h100-sxm5-80gb")
    assert (mine["origin"], mine["title"]) == ("user", "mine")
    shown = run("specs", "show", "accelerator/h100-sxm5-80gb", "--specs", str(tmp_path), "--format", "json")
    assert json.loads(shown.out)["title"] == "mine"


def test_check_reports_every_problem_with_its_line(run: Callable, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("kind: accelerator\nname: bad\nmemory:\n  bandwith: 3 TB/s\n  capacity: 80\n", encoding="utf-8")
    outcome = run("specs", "check", str(file))
    assert outcome.code == 2
    assert "bad.yaml:4" in outcome.err
    assert "did you mean 'bandwidth'" in outcome.err
    assert "bad.yaml:5" in outcome.err


def test_everything_that_ships_passes_the_check(run: Callable, checkout: Path) -> None:
    folders = [str(checkout / name) for name in ("hardware_specs", "scenarios", "perfmodel/catalog")]
    outcome = run("specs", "check", *folders)
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("kind", template_kinds())
def test_init_writes_a_file_that_passes_the_check(run: Callable, tmp_path: Path, kind: str) -> None:
    target = tmp_path / f"{kind}.yaml"
    assert run("init", kind, "--output", str(target)).code == 0
    assert target.read_text(encoding="utf-8") == run("init", kind).out
    outcome = run("specs", "check", str(target), "--specs", str(tmp_path))
    assert outcome.code == 0, outcome.err


def test_schema_is_json_schema(run: Callable) -> None:
    schema = json.loads(run("specs", "schema", "accelerator").out)
    assert schema["additionalProperties"] is False
    assert "memory" in schema["properties"]


def test_import_model_counts_and_its_file_can_be_used(run: Callable, tmp_path: Path) -> None:
    # Dimensions of Llama 3.1 8B; the published count is 8,030,261,248 parameters.
    config = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 32, "hidden_size": 4096,
        "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
        "hidden_act": "silu", "tie_word_embeddings": False, "max_position_embeddings": 131072,
    }  # fmt: skip
    source, target = tmp_path / "config.json", tmp_path / "mine.yaml"
    source.write_text(json.dumps(config), encoding="utf-8")
    outcome = run("import-model", str(source), "--name", "mine", "--output", str(target))
    assert outcome.code == 0
    assert "8,030,261,248 parameters" in outcome.err
    assert run("specs", "check", str(target)).code == 0
    shown = run("specs", "show", "mine", "--specs", str(tmp_path), "--format", "json")
    assert json.loads(shown.out)["layers"] == 32
