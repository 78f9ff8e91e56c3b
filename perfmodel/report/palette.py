"""One colour per meaning, everywhere (after Okabe and Ito; patterns keep the meanings apart in grey)."""

from __future__ import annotations

from typing import NamedTuple


class Look(NamedTuple):
    """Colour and fill pattern of one meaning (pattern shapes of plotly; empty = solid)."""

    colour: str
    pattern: str = ""


MEANINGS: dict[str, Look] = {
    "compute": Look("#0072B2"),
    "forward": Look("#5AA6D1"),
    "backward": Look("#0072B2"),
    "input gradient": Look("#004D7A"),
    "weight gradient": Look("#9A86C8"),
    "memory": Look("#56B4E9", "-"),
    "efficiency": Look("#8FBFDC", "/"),
    "recompute": Look("#332288", "x"),
    "tensor": Look("#E69F00", "/"),
    "data": Look("#D55E00", "\\"),
    "pipeline": Look("#CC79A7", "|"),
    "context": Look("#009E73", "+"),
    "expert": Look("#F0E442", "x"),
    "communication": Look("#E69F00", "/"),
    "bubble": Look("#C4C4C4", "."),
    "optimizer": Look("#882255"),
    "launch": Look("#7A7A7A"),
    "overhead": Look("#7A7A7A"),
    "idle": Look("#9A9A9A", "."),
    "total": Look("#333333"),
    "limit": Look("#B00020"),
}

#: Strategies of a search, and the ends of what an input moves.
CHOICES: dict[str, Look] = {
    "chosen": Look("#D55E00"),
    "candidate": Look("#0072B2"),
    "other": Look("#A9B2BB"),
    "ideal": Look("#7A7A7A"),
    "low": Look("#0072B2"),
    "high": Look("#E69F00", "/"),
}
#: Series that have no meaning of their own; markers and dashes keep them apart in grey.
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#332288")
#: From little to much: light enough for dark text on it, and one for more values than can be written.
SCALE = ((0.0, "#F7FAFC"), (1.0, "#4A98C9"))
WIDE_SCALE = "Cividis"

#: Parts of the memory: a family of its own, from dark to light, so that it does not read as time.
MEMORY_PARTS: dict[str, Look] = {
    "weights_bytes": Look("#12355B"),
    "gradients_bytes": Look("#3F6FA3", "\\"),
    "optimizer_bytes": Look("#882255"),
    "activations_bytes": Look("#9CC9E3"),
    "logits_bytes": Look("#D9C27E", "/"),
    "communication_buffers_bytes": Look("#8C8C8C", "x"),
    "workspace_bytes": Look("#BDBDBD", "."),
    "kv_cache_bytes": Look("#009E73", "+"),
    "other": Look("#D9D9D9", "."),
}

_BY_WORD = (
    ("recompute", "recompute"),
    ("tensor", "tensor"),
    ("data_", "data"),
    ("context", "context"),
    ("expert", "expert"),
    ("bubble", "bubble"),
    ("pipeline", "pipeline"),
    ("optimizer", "optimizer"),
    ("backward", "backward"),
    ("forward", "forward"),
    ("overhead", "overhead"),
    ("compute", "compute"),
    ("matrix", "compute"),
    ("vector", "compute"),
    ("arithmetic", "compute"),
    ("memory", "memory"),
    ("network", "communication"),
    ("link", "communication"),
    ("communication", "communication"),
    ("idle", "idle"),
    ("static", "idle"),
    ("host", "overhead"),
    ("cooling", "bubble"),
    ("facility", "bubble"),
)


def luminance(colour: str) -> float:
    """How light a colour is in grey, 0 to 1 (Rec. 709 weights)."""
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def look_of(meaning: str) -> Look:
    """The look of a meaning; unknown ones look like overhead."""
    return MEANINGS.get(meaning, MEANINGS["overhead"])


def look_of_key(key: str) -> Look:
    """The look of a breakdown key, by the meaning that its name contains."""
    return look_of(next((meaning for word, meaning in _BY_WORD if word in key), "overhead"))
