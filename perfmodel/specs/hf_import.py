"""Hugging Face ``config.json`` -> :class:`~perfmodel.specs.model.ModelSpec`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from perfmodel.errors import SpecError, nearest
from perfmodel.specs import hf_import_blocks as blocks
from perfmodel.specs.hf_import_families import FAMILIES, SYNONYMS, Family
from perfmodel.specs.hf_import_mixers import image_positions
from perfmodel.specs.hf_import_reader import ConfigReader
from perfmodel.specs.model import EmbeddingSpec, MlpSpec, ModelSpec, NormSpec

#: A configuration is a few kilobytes; anything much larger is another file.
_MAXIMUM_BYTES = 16 * 2**20
#: Buckets of distances where a T5 configuration is silent.
_BUCKETS = 32
_DROPOUT_KEYS = (
    "attn_pdrop",
    "resid_pdrop",
    "embd_pdrop",
    "dropout",
    "attention_dropout",
    "hidden_dropout",
    "dropout_rate",
)


def import_hugging_face(config: Mapping[str, Any] | str | PathLike[str], name: str | None = None) -> ModelSpec:
    """Read a Hugging Face model configuration.

    Parameters
    ----------
    config
        The mapping, or the path of a ``config.json`` (the non-standard tokens ``Infinity`` and ``NaN`` are read).
    name
        Name of the model; by default from ``_name_or_path`` or the path.

    Returns
    -------
    ModelSpec
        Of the text model: vision and audio towers beside it are left out.

    Raises
    ------
    SpecError
        Not readable, an unknown ``model_type`` (with the nearest known one and the fields that a model file
        needs), or a missing or impossible value (with the keys that are looked for).
    """
    if isinstance(config, Mapping):
        return _import(config, "configuration", name or _name_of(config, None))
    path = Path(config)
    data = _read_json(path)
    return _import(data, str(path), name or _name_of(data, path))


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MAXIMUM_BYTES:
            raise SpecError(f"{path}: larger than {_MAXIMUM_BYTES // 2**20} MiB; this is not a model configuration")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror or error}") from None
    except json.JSONDecodeError as error:
        raise SpecError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except (UnicodeDecodeError, RecursionError):
        raise SpecError(f"{path}: not a JSON text file") from None
    if not isinstance(data, Mapping):
        raise SpecError(f"{path}: expected a JSON object with the keys of a model configuration")
    return cast("Mapping[str, Any]", data)


def _name_of(config: Mapping[str, Any], path: Path | None) -> str:
    stated = config.get("_name_or_path")
    if not isinstance(stated, str) or not stated.strip("./\\ "):
        stated = str(config.get("model_type", "model"))
        if path is not None:
            stated = path.stem if path.stem != "config" else path.resolve().parent.name
    last = re.split(r"[/\\]", stated.rstrip("/\\"))[-1]
    return re.sub(r"[^a-z0-9.]+", "-", last.lower()).strip("-.") or "model"


def _flatten(config: Mapping[str, Any]) -> dict[str, Any]:
    """The text model as one level: nested ``text_config`` and the sub-configurations of DBRX."""
    flat = dict(config)
    for key in ("text_config", "attn_config", "ffn_config"):
        nested = flat.pop(key, None)
        if isinstance(nested, Mapping):
            inner = cast("Mapping[str, Any]", nested)
            flat |= {
                name: value
                for name, value in inner.items()
                if (value is not None or name not in flat) and (key == "text_config" or name != "model_type")
            }
    return flat


def _import(config: Mapping[str, Any], where: str, name: str) -> ModelSpec:
    flat = _flatten(config)
    reader = ConfigReader(flat, where)
    model_type = flat.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise SpecError(_unknown_type(reader, model_type))
    family = FAMILIES[model_type]
    architectures = reader.sequence("architectures") or [""]
    try:
        return ModelSpec.model_validate(
            {
                "name": name,
                "title": name,
                "architecture": architectures[0],
                "provenance": {"source": "user", "basis": "user"},
                "layers": reader.require("layers"),
                "hidden": reader.require("hidden"),
                # Images have no vocabulary.
                "vocabulary": 0 if model_type == "vit" else reader.require("vocabulary"),
                "context": reader.find("context"),
                "dropout": any(_positive(flat.get(key)) for key in _DROPOUT_KEYS),
                **_dense_parts(reader, family, model_type),
                **blocks.optional_blocks(reader, model_type),
            }
        )
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'model'}: {one['msg']}" for one in error.errors())
        raise SpecError(f"{where}: the configuration describes no possible model: {problems}") from None


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _unknown_type(reader: ConfigReader, model_type: object) -> str:
    told = f"unknown model_type {model_type!r}{nearest(str(model_type), FAMILIES)}" if model_type else "no model_type"
    needed = ("layers", "hidden", "vocabulary", "heads", "kv_heads", "head_dim", "mlp")
    found = {field: key for field in needed if (key := reader.key_of(field)) is not None}
    missing = [f"{field} ({' | '.join(SYNONYMS[field])})" for field in needed if field not in found]
    return (
        f"{reader.where}: {told}; known: {', '.join(sorted(FAMILIES))}. To describe it by hand, a model file "
        "(kind: model) needs layers, hidden, vocabulary, attention (heads, kv_heads, head_dim), mlp (hidden, gated), "
        "norm (kind) and embedding (tied, positions); "
        f"found here: {', '.join(f'{field} = {key}' for field, key in found.items()) or 'none of them'}; "
        f"not found: {', '.join(missing) or 'nothing'}"
    )


def _mlp_width(reader: ConfigReader, family: Family) -> int:
    width = reader.find("mlp") if family.dense_mlp is None else reader.number(family.dense_mlp)
    if width is None and family.mlp_factor is not None:
        width = family.mlp_factor * reader.require("hidden")
    if width is None and reader.find("experts"):  # every layer has experts
        width = reader.number("moe_intermediate_size")
    return reader.require("mlp") if width is None else width


def _dense_parts(reader: ConfigReader, family: Family, model_type: str) -> dict[str, Any]:
    parallel, norms = _block_layout(reader, family, model_type)
    mlp = None
    if family.mlp:
        activation, gated = blocks.activation(reader, family)
        mlp_bias = reader.switch(("mlp_bias", "use_bias", "bias"), default=family.mlp_bias)
        mlp = MlpSpec(hidden=_mlp_width(reader, family), gated=gated, activation=activation, bias=mlp_bias)
    rows = _position_rows(reader, family, model_type)
    alibi = model_type == "falcon" and reader.switch(("alibi",), default=False)
    positions = "alibi" if alibi else family.positions
    norm = NormSpec(
        kind=family.norm,
        bias=family.norm_bias,
        per_layer=norms,
        embedding=family.embedding_norm,
        final=reader.switch(("do_layer_norm_before",), default=family.final_norm),
    )
    embedding = EmbeddingSpec(
        tied=reader.switch(("tie_word_embeddings",), default=family.tied),
        positions=positions,
        position_rows=rows,
        head_bias=reader.switch(("lm_head_bias",), default=family.head_bias),
    )
    return {
        "family": family.family,
        "attention": blocks.attention(reader, family, model_type),
        "mlp": mlp,
        "norm": norm,
        "embedding": embedding,
        "parallel_blocks": parallel,
    }


def _position_rows(reader: ConfigReader, family: Family, model_type: str) -> int | None:
    """Rows of a learned table of positions, or buckets of distances."""
    if family.positions == "bucketed":
        return reader.number("relative_attention_num_buckets") or _BUCKETS
    if family.positions != "learned":
        return None
    return image_positions(reader) if model_type == "vit" else reader.require("context") + family.position_offset


def _block_layout(reader: ConfigReader, family: Family, model_type: str) -> tuple[bool, int]:
    """Whether attention and MLP are parallel, and the norms of a layer."""
    if model_type == "gpt_neox":
        return reader.switch(("use_parallel_residual",), default=True), family.norms
    if model_type == "falcon":
        if reader.switch(("new_decoder_architecture",), default=False):
            return True, reader.number("num_ln_in_parallel_attn") or 2
        parallel = reader.switch(("parallel_attn",), default=True)
        return parallel, 1 if parallel else 2
    if model_type == "opt" and reader.number("word_embed_proj_dim") not in (None, reader.require("hidden")):
        raise SpecError(
            f"{reader.where}: word_embed_proj_dim differs from hidden_size; a model file has no field for it"
        )
    return family.parallel, family.norms
