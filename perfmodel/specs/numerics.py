"""Numerics: the format of each kind of tensor, the formats of arithmetic, and state per parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from perfmodel.errors import nearest
from perfmodel.specs.base import FileSpec
from perfmodel.specs.formats import FormatsSpec
from perfmodel.specs.problems import Problem, raise_problems
from perfmodel.specs.quantities import BytesField, SpecModel
from perfmodel.specs.yaml_reader import Document, KeyPath


class TensorFormats(SpecModel):
    """Format of each kind of tensor, by name (``catalog/formats``).

    Attributes
    ----------
    weights, activations, gradients
        As stored on the device and moved by kernels; ``gradients`` are those that a backward kernel writes.
    communication
        Of activations and parameters on the wire.
    gradient_reduction
        Of gradients on the wire of the data-parallel reduction.
    logits
        Of the output of the head.
    kv_cache
        Of keys and values kept for decoding.
    dispatch
        Of tokens, and of the gradients of what comes back, on the wire to their experts; absent: ``communication``.
        Results of experts and gradients of tokens come back in ``communication``.
    """

    weights: str
    activations: str
    gradients: str
    communication: str
    gradient_reduction: str
    logits: str
    kv_cache: str = "bf16"
    dispatch: str | None = None


class ComputeFormats(SpecModel):
    """Whose peak and efficiency apply, by class of kernel."""

    matmul: str
    attention: str
    head: str


class StateBytes(SpecModel):
    """Bytes per parameter that stay on the devices during training."""

    weights: BytesField
    gradients: BytesField
    master_weights: BytesField
    moments: BytesField

    @property
    def total(self) -> float:
        """Sum over the parts [B per parameter]."""
        return float(self.weights.value + self.gradients.value + self.master_weights.value + self.moments.value)


#: Fields of :class:`LinearSpec` that name a format.
_LINEAR_FORMATS = ("inputs", "weights", "gradients", "saved", "gather", "activation_inputs")


class LinearSpec(SpecModel):
    """What a low-bit recipe does to the linear layers (operators of the role ``matmul``).

    Forward, data gradient and weight gradient run in the low format; LM head, router, attention core, norms and
    everything else follow the rest of the recipe.

    Attributes
    ----------
    inputs, weights, gradients
        Format of the operands as the products read them: input, weight, gradient of the output. Products write
        16 bits.
    saved
        Format in which a linear layer keeps its input for the weight gradient.
    gather
        Of the weights on the wire of data-parallel gathers.
    activation_inputs
        Format in which activation functions keep their input; absent: that of the activations.
    wide_layers
        Layers of the model (the first and the last ones) whose linear layers stay in 16 bits.
    stored
        Bytes per parameter that stay on the device, copies along the other dimension included.
    quantise
        Bytes that quantisation moves per element of an input (forward) and of an output gradient (backward).
    cast
        Bytes that making the low-bit weights moves per parameter, each time it is done.
    """

    inputs: str
    weights: str
    gradients: str
    saved: str
    gather: str
    activation_inputs: str | None = None
    wide_layers: Annotated[int, Strict(), Field(ge=0)] = 0
    stored: BytesField
    quantise: BytesField
    cast: BytesField

    def format_names(self) -> dict[str, str]:
        """Key -> name of every format of the block."""
        return {key: getattr(self, key) for key in _LINEAR_FORMATS if getattr(self, key) is not None}


class NumericsSpec(FileSpec):
    """A precision recipe (``kind: numerics``); ``linear`` is there in low-bit recipes only."""

    kind: Literal["numerics"]
    formats: TensorFormats
    compute: ComputeFormats
    state: StateBytes
    optimizer: str = "adam"
    linear: LinearSpec | None = None

    def format_names(self) -> dict[str, str]:
        """Dotted key -> name of every format that the recipe uses."""
        linear = {} if self.linear is None else self.linear.format_names()
        return (
            {f"formats.{key}": str(value) for key, value in self.formats if value is not None}
            | {f"compute.{key}": str(value) for key, value in self.compute}
            | {f"linear.{key}": value for key, value in linear.items()}
        )


#: Keys of the short form: a format per kind of tensor ...
_TENSOR_KEYS = (
    "weights", "activations", "gradients", "communication", "gradient_reduction", "logits", "kv_cache",
    "dispatch",
)  # fmt: skip
#: ... the formats of arithmetic, and what the optimizer keeps.
_COMPUTE_KEYS = ("matmul", "attention", "head")
_STATE_KEYS = ("optimizer", "master_weights")
SHORT_KEYS = (*_TENSOR_KEYS, *_COMPUTE_KEYS, *_STATE_KEYS)
_LONG_KEYS = {"formats", "compute", "state", "linear"}


def is_short_form(data: Mapping[str, Any]) -> bool:
    """Whether an inline mapping says ``weights: bf16`` at its top instead of ``formats: {weights: bf16}``."""
    return not _LONG_KEYS & set(data) and any(key in SHORT_KEYS for key in data)


def expand_short_form(document: Document, formats: FormatsSpec) -> Document:
    """Write the short form out as ``formats``, ``compute`` and ``state``.

    In the short form ``gradients`` is the format in which gradients are accumulated and reduced; backward
    kernels write activations' gradients in the format of the activations. What is not said follows from
    what is: activations from weights, reduction from gradients, a master weight of fp32 unless the weights
    are fp32, arithmetic from the activations. With ``extends`` only what is said changes.

    Raises
    ------
    SpecError
        A format or an optimizer is not known.
    """
    said = {key: value for key, value in document.data.items() if key in SHORT_KEYS}
    problems = [
        Problem(document.place((key,)), key, f"expected the name of a number format, got {value!r}")
        for key, value in said.items()
        if not isinstance(value, str) and not (key == "master_weights" and value is None)
    ]
    problems = problems or _unknown_names(document, said, formats)
    raise_problems(problems)
    names = {key: str(value) if value is not None else "none" for key, value in said.items()}
    if "extends" not in document.data:
        names = _completed(names)
    long, origins = _long_form(names, formats)
    kept = {key: value for key, value in document.data.items() if key not in SHORT_KEYS}
    places = dict(document.places) | {path: document.place((key,)) for path, key in origins.items()}
    return Document({**kept, **long}, places, document.path)


def _unknown_names(document: Document, said: Mapping[str, Any], formats: FormatsSpec) -> list[Problem]:
    problems: list[Problem] = []
    for key, value in said.items():
        known: Mapping[str, Any] = formats.optimizers if key == "optimizer" else formats.formats
        if value in known or (key == "master_weights" and value in (None, "none")):
            continue
        what = "optimizer" if key == "optimizer" else "number format"
        message = f"unknown {what} {value!r}; allowed: {', '.join(known)}{nearest(str(value), known)}"
        problems.append(Problem(document.place((key,)), key, message))
    return problems


def _completed(names: Mapping[str, str]) -> dict[str, str]:
    """What the short form leaves out, from what it says."""
    weights = names.get("weights", names.get("activations", "bf16"))
    activations = names.get("activations", weights)
    gradients = names.get("gradients", activations)
    defaults = dict.fromkeys(("matmul", "attention", "head", "communication", "kv_cache"), activations)
    defaults |= {"weights": weights, "activations": activations, "gradients": gradients, "optimizer": "adam",
                 "gradient_reduction": gradients, "logits": "fp32",
                 "master_weights": "none" if weights == "fp32" else "fp32"}  # fmt: skip
    return defaults | dict(names)


def _long_form(names: Mapping[str, str], formats: FormatsSpec) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The long form of what the names say, and the short key behind each long path."""
    long: dict[str, Any] = {}
    origins: dict[KeyPath, str] = {}

    def put(section: str, key: str, value: str, origin: str) -> None:
        long.setdefault(section, {})[key] = value
        origins[section, key] = origin

    for key in _TENSOR_KEYS:
        if key in names and key != "gradients":
            put("formats", key, names[key], key)
    if "activations" in names:
        put("formats", "gradients", names["activations"], "activations")
    for key in _COMPUTE_KEYS:
        if key in names:
            put("compute", key, formats.formats[names[key]].element or names[key], key)
    for key in ("weights", "gradients", "master_weights"):
        if key in names:
            size = 0.0 if names[key] == "none" else formats.bytes_per_value(names[key])
            put("state", key, f"{size!r} B", key)
    if "optimizer" in names:
        optimizer = formats.optimizers[names["optimizer"]]
        put("state", "moments", f"{optimizer.moments * formats.bytes_per_value(optimizer.format)!r} B", "optimizer")
        long["optimizer"] = names["optimizer"]
    return long, origins
