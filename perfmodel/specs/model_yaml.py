"""A model spec as the text of a model file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from perfmodel.specs.model import ModelSpec

#: Keys that a reader expects in every model file, even where they have their default.
_ALWAYS = ("kind", "name", "title", "family", "architecture")


def write_model_yaml(spec: ModelSpec) -> str:
    """The text of a model file that loads to an equal spec; fields at their default are left out.

    Sub-models are written on one line each, as in the catalogue.
    """
    from ruamel.yaml import YAML  # heavy: only when something is written

    every = spec.model_dump(mode="json", exclude_none=True)
    stated = spec.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    data = {key: every[key] for key in _ALWAYS if every[key] != ""} | {
        key: _inline(value) for key, value in stated.items() if key not in _ALWAYS
    }
    writer: Any = YAML()
    writer.width = 160
    text = io.StringIO()
    writer.dump(data, text)
    return text.getvalue()


def _inline(value: Any) -> Any:
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    inline: Any
    if isinstance(value, Mapping):
        inline = CommentedMap({key: _inline(one) for key, one in cast("Mapping[str, Any]", value).items()})
    elif isinstance(value, list):
        inline = CommentedSeq([_inline(one) for one in cast("list[Any]", value)])
    else:
        return value
    inline.fa.set_flow_style()
    return inline
