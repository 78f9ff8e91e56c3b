"""Warnings: what a result says about the numbers that it rests on, and those that it does not use."""

from __future__ import annotations

from collections.abc import Callable

from perfmodel.engine.result import Result

Run = Callable[..., Result]


def test_what_is_stated_and_not_priced_is_told(run: Run) -> None:
    plain = {one.code for one in run("llama-8b").warnings}
    assert not plain & {"narrow-format", "not-used"}
    narrow = run("llama-8b", numerics={"weights": "fp8", "gradients": "fp32", "optimizer": "adam"})
    assert [one.path for one in narrow.warnings if one.code == "narrow-format"] == ["numerics.compute"]
    racks = run("llama-8b", site={"rack_power": "40 kW"})
    assert [one.path for one in racks.warnings if one.code == "not-used"] == ["site.rack_power"]


def test_assumed_numbers_are_ranked_by_their_effect(run: Run) -> None:
    assumed = [one for one in run("llama-405b").warnings if one.code == "assumed-number"]
    effects = [abs(one.effect or 0.0) for one in assumed]
    assert len(set(effects)) > 10
    assert effects == sorted(effects, reverse=True)
    # A hundredth of the step is the border between a warning and information.
    assert [one.severity for one in assumed] == ["warning" if effect >= 0.01 else "info" for effect in effects]
    assert effects[0] >= 0.01 > effects[-1]


def test_the_effect_of_an_assumed_number_is_that_of_moving_it(run: Run) -> None:
    # Twenty per cent more of the exposed part: the step as evaluated with it, against the step without.
    result = run("llama-405b")
    path = "software.behaviour.elementwise_inflation"
    stated = next(one for one in result.warnings if one.path == path)
    moved = run("llama-405b", software__behaviour__elementwise_inflation=1.2 * 1.2)
    assert stated.effect is not None
    assert abs(moved.time["step_s"] / result.time["step_s"] - 1.0 - stated.effect) < 1e-12
