"""The answer of a solution as text: a sentence, then the tables of the result at the value."""

from __future__ import annotations

from typing import Any, Protocol

from perfmodel.engine.result import Result
from perfmodel.report.display import clean, key_quantity, label_of_key
from perfmodel.report.tables import render_text
from perfmodel.report.words import Lines


class Solved(Protocol):
    """What a solution offers a report."""

    @property
    def result(self) -> Result: ...
    @property
    def written(self) -> str: ...
    def to_dict(self) -> dict[str, Any]: ...


def solve_sentence(solved: Solved) -> str:
    """The answer in a sentence or two."""
    said = solved.to_dict()
    key, path = said["target"]["key"], clean(said["vary"])
    label, target = label_of_key(key), key_quantity(key, said["target"]["value"])
    if said["value"] is None:
        return ""
    here = key_quantity(key, solved.result.value(key))
    if said["exact"]:
        text = f"{path} = {solved.written}: {label} {here}, as asked"
    elif said["meets_target"] == "exact":
        text = f"{path} = {solved.written}: {label} {here}, nearest to the {target} asked for"
    else:
        word = said["meets_target"]
        text = f"{path} = {solved.written}: the {word} value that meets {label} {target}; there it is {here}"
    if said["crossings"] > 1:
        text += f" (the first of {said['crossings']} such values)"
    return text


def render_solve(solved: Solved, *, width: int = 100, colour: bool = False) -> str:
    """The sentence, where it was looked for, and the usual tables.

    Parameters
    ----------
    solved
        The answer of a solution.
    width, colour
        As in :func:`perfmodel.report.tables.render_text`.
    """
    lines = Lines(width, colour=colour)
    sentence = solve_sentence(solved)
    if sentence:
        lines.add(sentence, style="bold" if solved.result.feasible else "red")
        lines.add(solved.looked)
        lines.add("")
    return lines.text() + render_text(solved.result, width=width, colour=colour)
