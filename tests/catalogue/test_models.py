"""The catalogue of models: every file loads and builds, and gives the published parameters."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from ruamel.yaml import YAML

import perfmodel
from perfmodel.specs.model import ModelSpec
from perfmodel.specs.sources import SourcesSpec
from perfmodel.workload import build_graph, matmul_parameters
from perfmodel.workload.operators import SCALAR

FOLDER = Path(perfmodel.__file__).parent / "catalog" / "models"
GOLDEN = Path(__file__).parents[1] / "golden"
READER = YAML(typ="safe")


def _rows(name):
    with (GOLDEN / name).open(newline="") as file:
        return list(csv.DictReader(file))


def _load(path):
    return ModelSpec.model_validate(READER.load(path.read_text()))


MODELS = {path.stem: _load(path) for path in sorted(FOLDER.glob("*.yaml")) if path.stem != "sources"}
SOURCES = SourcesSpec.model_validate(READER.load((FOLDER / "sources.yaml").read_text())).sources
EXACT = _rows("parameter_counts.csv")
ROUNDED = _rows("rounded_parameter_counts.csv")


def test_the_catalogue_is_large_enough():
    assert len(MODELS) >= 120
    assert len(EXACT) >= 60


@pytest.mark.parametrize("row", EXACT, ids=lambda row: row["model"])
def test_exact_published_parameters(row):
    """The sum over the weights of the graph is the published total, to the parameter."""
    model = MODELS[row["model"]]
    assert row["citation"]
    assert build_graph(model).parameter_count() == int(row["published_total"])
    assert model.facts.exact
    assert model.facts.published_total == int(row["published_total"])


@pytest.mark.parametrize("row", ROUNDED, ids=lambda row: row["model"])
def test_rounded_published_parameters(row):
    """Published as a rounded figure: within 1.5 %, and 2-3.5 % for three names that round further."""
    total = build_graph(MODELS[row["model"]]).parameter_count()
    assert float(row["tolerance"]) <= 0.035
    assert total == pytest.approx(int(row["published_total"]), rel=float(row["tolerance"]))


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("kernel", ["flash", "unfused"])
def test_graphs_are_well_formed(name, kernel):
    model = MODELS[name]
    graph = build_graph(model, attention_kernel=kernel)
    graph.validate()
    beside = model.encoder.layers if model.encoder is not None and model.encoder.kind == "decoder_cross" else 0
    assert graph.layers == model.layers + beside
    assert len(graph.blocks) <= 6
    assert max(len(block.operators) for block in graph.blocks) < 35
    matrices = sum(
        block.count * graph.weight_count(weight)
        for block in graph.all_blocks()
        for operator in block.operators
        for weight in operator.weights
        if weight.rows != SCALAR
    )
    assert 0 <= graph.parameter_count() - matrices < 0.002 * graph.parameter_count()  # norms and biases


@pytest.mark.parametrize("name", sorted(name for name, model in MODELS.items() if model.facts.published_active))
def test_active_parameters(name):
    """Publications differ in whether they count the two embeddings: one of the three ways is within 10 %."""
    model = MODELS[name]
    active, table = matmul_parameters(build_graph(model)), model.vocabulary * model.hidden
    ways = (active - table, active, active + table)
    assert min(abs(way / model.facts.published_active - 1) for way in ways) < 0.10


@pytest.mark.parametrize("name", sorted(MODELS))
def test_files(name):
    model = MODELS[name]
    assert model.name == name == name.lower()
    assert model.title
    assert model.provenance is not None
    assert model.provenance.source in SOURCES
    total, active = model.facts.published_total, model.facts.published_active
    assert total is None or active is None or active < total


def test_names_and_aliases_are_unique():
    names = [name for model in MODELS.values() for name in (model.name, *model.aliases)]
    repeated = {name for name in names if names.count(name) > 1}
    assert not repeated


def test_every_source_is_used():
    assert set(SOURCES) == {model.provenance.source for model in MODELS.values() if model.provenance}


def test_same_dimensions_in_different_publications():
    """Llama 2 to 3.1 kept the 70B block and changed the vocabulary; DeepSeek-R1 is V3."""
    two, three = (build_graph(MODELS[name]) for name in ("llama-2-70b", "llama-3.1-70b"))
    assert three.parameter_count() - two.parameter_count() == 2 * (128256 - 32000) * 8192
    assert MODELS["deepseek-r1"].moe == MODELS["deepseek-v3"].moe
    assert MODELS["deepseek-r1"].mla == MODELS["deepseek-v3"].mla
