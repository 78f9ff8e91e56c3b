"""The published schema of a result holds for real results, and is what the code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from perfmodel.engine.result_schema import result_schema, schema_text
from perfmodel.engine.session import load

PUBLISHED = Path(__file__).resolve().parents[2] / "docs/reference/result.schema.json"


def problems(value: object) -> list[str]:
    return [error.message for error in Draft202012Validator(result_schema()).iter_errors(value)]


@pytest.mark.parametrize(
    "name", ["llama3.1-405b-8192-h100", "llama3.1-8b-128-h100", "korthikanti-2022-22b-full", "narayanan-2021-1t-3072"]
)
def test_real_results_keep_to_the_schema(name: str) -> None:
    assert problems(json.loads(load(name).run().to_json())) == []


def test_a_result_without_a_key_is_refused() -> None:
    result = json.loads(load("korthikanti-2022-22b-full").run().to_json())
    del result["time"]["breakdown"]["pipeline_bubble_s"]
    result["money"]["per_step_usd"] = "78 USD"
    assert len(problems(result)) == 2


def test_the_published_file_is_up_to_date() -> None:
    assert PUBLISHED.read_text(encoding="utf-8") == schema_text()
