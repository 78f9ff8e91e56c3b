"""The HPC foundation-model study (arXiv 2410.00273): its table of days and what it found, by its own constants.

The study is a model too. What is compared are two predictions of the same question: the numbers say whether the same
assumptions, stated as a stack and as devices, lead to the same days and the same plans.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "scenarios" / "studies" / "hpc-foundation-models"
LARGEST = 16384


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hpc_study", FOLDER / "study.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


study: Any = _load()


def days(system: str, devices: int, kind: str = study.LINE, model: str = study.GPT) -> float:
    found = study.best(model, system, devices, kind)
    assert found is not None, (model, system, devices, kind)
    return found.days


def test_all_days_of_the_table_are_met() -> None:
    published = study.published_days()
    assert len(published) == 27
    errors = {cell: days(*cell) / value - 1.0 for cell, value in published.items()}
    assert {cell: round(error, 3) for cell, error in errors.items() if abs(error) > 0.08} == {}
    assert sum(abs(error) for error in errors.values()) / len(errors) < 0.03


@pytest.mark.parametrize("system", study.SYSTEMS)
def test_no_one_dimensional_plan_of_the_long_vision_transformer_fits(system: str) -> None:
    # Section 4: every rank holds the inputs of its products for all tokens of an image.
    assert all(study.best(study.VIT, system, 2**power, study.LINE) is None for power in range(6, 15))
    assert study.best(study.VIT, system, LARGEST, study.CONTEXT) is not None
    assert study.best(study.VIT, system, LARGEST, study.GRID) is not None


def test_large_domains_matter_on_many_devices_only() -> None:
    gain = {devices: days("b200-nvs4", devices) / days("b200-nvs64", devices) - 1.0 for devices in (1024, LARGEST)}
    assert gain[1024] < 0.02  # published: 1 %
    assert gain[LARGEST] > 0.20  # published: 24 % of the time
    for generation in study.GENERATIONS:
        small, large = (
            days(f"{generation}-nvs4", devices) / days(f"{generation}-nvs64", devices) for devices in (1024, LARGEST)
        )
        assert large > small


def test_a_generation_gains_less_than_its_peak() -> None:
    a100, h200, b200 = (days(f"{generation}-nvs8", 4096) for generation in study.GENERATIONS)
    assert a100 / h200 == pytest.approx(2.88, rel=0.02)
    assert h200 / b200 == pytest.approx(2.42, rel=0.02)


@pytest.mark.parametrize("system", study.SYSTEMS)
def test_the_best_two_dimensional_plan_beats_the_best_one_dimensional_one(system: str) -> None:
    two = min(days(system, LARGEST, kind) for kind in (study.CONTEXT, study.GRID))
    saved = 1.0 - two / days(system, LARGEST)
    # Published: 5 to 13 % on 16384 devices. A100 in domains of 8 saves 4.4 %, H200 in domains of 64 13.3 %.
    assert 0.04 < saved < 0.135


def test_the_bottleneck_moves_from_arithmetic_to_the_pipeline() -> None:
    small, large = (study.best(study.GPT, "b200-nvs8", devices, study.LINE).shares for devices in (1024, LARGEST))
    published = {"pipeline_bubble_s": (0.11, 0.32), "tensor_communication_s": (0.02, 0.10)}
    for part, shares in published.items():
        assert (small[part], large[part]) == pytest.approx(shares, abs=0.02), part
    busy = [shares["forward_s"] + shares["backward_s"] for shares in (small, large)]
    assert busy == pytest.approx([0.85, 0.53], abs=0.04)
    assert small["data_communication_s"] < 0.01 < large["data_communication_s"] < 0.03


def test_memory_sets_the_smallest_size_and_no_other() -> None:
    for generation, fewest in {"a100": 512, "h200": 256, "b200": 128}.items():
        system = f"{generation}-nvs8"
        assert study.best(study.GPT, system, fewest, study.LINE) is not None
        assert study.best(study.GPT, system, fewest // 2, study.LINE) is None
    # Published: 65.7 of 192 GB.
    assert study.best(study.GPT, "b200-nvs8", LARGEST, study.LINE).memory_gb == pytest.approx(65.7, rel=0.15)


@pytest.mark.parametrize("generation", ["a100", "h200"])
def test_grids_need_large_domains(generation: str) -> None:
    # ViT: context parallelism is better in small domains, SUMMA in large ones.
    def advantage(domain: int) -> float:
        system = f"{generation}-nvs{domain}"
        context, grid = (days(system, 1024, kind, study.VIT) for kind in (study.CONTEXT, study.GRID))
        return context / grid

    assert advantage(4) < 1.0 < advantage(64)


@pytest.mark.parametrize("system", study.SYSTEMS)
def test_the_shipped_scenarios_hold_the_plans_that_were_found(system: str) -> None:
    line = study.scenario(study.GPT, system, 4096).run()
    assert line.feasible
    assert line.run["days"] == pytest.approx(days(system, 4096), rel=1e-9)
    vision = study.scenario(study.VIT, system, 4096).run()
    assert vision.feasible
    fastest = min(days(system, 4096, kind, study.VIT) for kind in (study.CONTEXT, study.GRID))
    assert vision.run["days"] == pytest.approx(fastest, rel=1e-9)
