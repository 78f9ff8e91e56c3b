"""Safe, strict YAML 1.2 with the line of every key: the only way a file gets in.

Built on the event stream of ruamel.yaml (pure Python): nothing is constructed but text, numbers, truth
values, lists and mappings, so a tag can never run code and an alias can never grow. Scalars follow the
core schema of YAML 1.2.2, section 10.3.2: ``no`` is text, ``15.6e12`` a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from perfmodel.errors import SpecError
from perfmodel.specs.plain import is_mapping

MAXIMUM_BYTES = 1_000_000
MAXIMUM_DEPTH = 50
MAXIMUM_DIGITS = 400
#: Values in one file; a guard against files that are small but endless to check.
MAXIMUM_VALUES = 200_000

KeyPath: TypeAlias = tuple[str | int, ...]

_VALUES = (ScalarEvent, MappingStartEvent, SequenceStartEvent, AliasEvent)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file (1-based), or something said on the command line (line 0)."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, and where.

    Attributes
    ----------
    data
        Mapping of text, numbers, truth values, None, lists and mappings.
    places
        Place of every key and list item, by its path; ``()`` is the start of the document.
    path
        The file, or None for text that was not in a file.
    """

    data: dict[str, Any]
    places: Mapping[KeyPath, Place]
    path: Path | None = None

    def place(self, path: KeyPath) -> Place:
        """The place of a path, or of the nearest parent that has one."""
        for length in range(len(path), -1, -1):
            found = self.places.get(path[:length])
            if found is not None:
                return found
        return Place(display(self.path) if self.path else "text")


def display(path: Path) -> str:
    """The path as a person would type it: relative when it lies below the working folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


_CACHE: dict[Path, tuple[tuple[int, int], Document]] = {}


def read_file(path: Path) -> Document:
    """Read one file; cached by path, size and time of change. The caller must not change the data.

    Raises
    ------
    SpecError
        The file cannot be read, or is not the YAML that is accepted here.
    """
    name = display(path)
    try:
        status = path.stat()
        version = (status.st_mtime_ns, status.st_size)
        cached = _CACHE.get(path)
        if cached is not None and cached[0] == version:
            return cached[1]
        if status.st_size > MAXIMUM_BYTES:
            raise SpecError(f"{name}: the file has {status.st_size} bytes; at most {MAXIMUM_BYTES} are read")
        content = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{name}: cannot be read: {error.strerror or error}") from None
    document = read_text(decode(content, name), name, path)
    _CACHE[path] = (version, document)
    return document


def decode(content: bytes, name: str) -> str:
    """UTF-8 text of a file (a byte order mark is dropped).

    Raises
    ------
    SpecError
        The bytes are not UTF-8; the message names the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{name}:{line}: the file is not UTF-8 text (byte {error.start})") from None


def read_text(text: str, name: str = "text", path: Path | None = None) -> Document:
    """Read one document whose top is a mapping.

    Raises
    ------
    SpecError
        Malformed, or uses what is not accepted: aliases, anchors, tags, several documents, duplicate keys.
    """
    builder = _Builder(name)
    data = builder.read(text)
    if not is_mapping(data):
        got = "nothing" if data is None else f"{type(data).__name__} {data!r:.40}"
        raise SpecError(f"{name}:1: expected a mapping (key: value) at the top, got {got}")
    return Document(dict(data), builder.places, path)


def read_value(text: str, name: str = "--set") -> Any:
    """Read one value as YAML would: ``8`` a number, ``no`` text, ``[1, 2]`` a list.

    Raises
    ------
    SpecError
        The text is not a YAML value.
    """
    return _Builder(name, first_line=0).read(text)


class _Builder:
    """Builds plain values from the events of one text."""

    def __init__(self, name: str, first_line: int = 1) -> None:
        self.name = name
        self._first_line = first_line  # 0: the text is one value, lines mean nothing
        self.places: dict[KeyPath, Place] = {(): Place(name, first_line)}
        self._events: Iterator[Any] = iter(())
        self._values = 0

    def read(self, text: str) -> Any:
        if len(text) > MAXIMUM_BYTES:
            raise SpecError(f"{self.name}: the text has {len(text)} characters; at most {MAXIMUM_BYTES} are read")
        value: Any = None
        documents = 0
        reader: Any = YAML(typ="safe", pure=True)
        try:
            self._events = iter(reader.parse(text))
            for event in self._events:
                if type(event) is DocumentStartEvent:
                    documents += 1
                    self._check_document(event, documents)
                elif type(event) in _VALUES:
                    value = self._node(event, ())
        except MarkedYAMLError as error:
            raise SpecError(self._malformed(error)) from None
        except YAMLError as error:
            raise SpecError(f"{self.name}: not YAML: {' '.join(str(error).split())}") from None
        except RecursionError:
            raise SpecError(f"{self.name}: nested deeper than {MAXIMUM_DEPTH} levels") from None
        return value

    def _malformed(self, error: Any) -> str:
        mark = error.problem_mark or error.context_mark
        where = self._place(mark) if mark is not None else self.name
        context = f" {error.context}" if error.context else ""
        since = error.context_mark
        start = (
            f" that starts in line {since.line + 1}"
            if since is not None and mark is not None and since.line != mark.line
            else ""
        )
        return f"{where}: not YAML{context}{start}: {error.problem or 'malformed'}"

    def _check_document(self, event: Any, documents: int) -> None:
        if documents > 1:
            raise self._error(event, "a second document starts here; a file holds one")
        if event.tags:
            raise self._error(event, "tags are not accepted")
        if event.version and tuple(event.version) != (1, 2):
            raise self._error(event, "only YAML 1.2 is accepted")

    def _error(self, event: Any, message: str) -> SpecError:
        return SpecError(f"{self._place(event.start_mark)}: {message}")

    def _place(self, mark: Any) -> Place:
        return Place(self.name, mark.line + 1 if self._first_line else 0)

    def _node(self, event: Any, path: KeyPath) -> Any:
        self._values += 1
        if self._values > MAXIMUM_VALUES:
            raise self._error(event, f"more than {MAXIMUM_VALUES} values")
        if len(path) > MAXIMUM_DEPTH:
            raise self._error(event, f"nested deeper than {MAXIMUM_DEPTH} levels")
        kind = cast("type[object]", type(event))
        if kind is AliasEvent:
            raise self._error(
                event, f"aliases (*{event.anchor}) are not accepted; write the value out, or use `extends:`"
            )
        if event.anchor:
            raise self._error(
                event, f"anchors (&{event.anchor}) are not accepted; write the value out, or use `extends:`"
            )
        if event.tag:
            raise self._error(event, f"tags ({event.tag}) are not accepted")
        if kind is ScalarEvent:
            return self._scalar(event)
        return self._mapping(path) if kind is MappingStartEvent else self._list(path)

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for event in self._events:
            if type(event) is MappingEndEvent:
                break
            if getattr(event, "tag", None) or getattr(event, "anchor", None):
                raise self._error(event, "tags, anchors and aliases are not accepted, on keys too")
            if getattr(event, "value", None) is None:  # a list or mapping starts here
                raise self._error(event, "a key must be plain text")
            key: str = event.value
            if key in result:
                first = self.places[(*path, key)].line
                raise self._error(event, f"duplicate key {key!r} (first in line {first})")
            self.places[(*path, key)] = self._place(event.start_mark)
            result[key] = self._node(next(self._events), (*path, key))
        return result

    def _list(self, path: KeyPath) -> list[Any]:
        result: list[Any] = []
        for event in self._events:
            if type(event) is SequenceEndEvent:
                break
            here = (*path, len(result))
            self.places[here] = self._place(event.start_mark)
            result.append(self._node(event, here))
        return result

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if event.style is not None:
            return text
        try:
            return resolve_scalar(text)
        except ValueError as error:
            raise self._error(event, str(error)) from None


def resolve_scalar(text: str) -> Any:
    """The value of a plain scalar (YAML 1.2.2, section 10.3.2): a number, a truth value, None or the text.

    Raises
    ------
    ValueError
        A number that is not finite or has more than 400 digits.
    """
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INTEGER.fullmatch(text) or _BASED.fullmatch(text):
        if len(text) > MAXIMUM_DIGITS:
            raise ValueError(f"a number with more than {MAXIMUM_DIGITS} digits")
        return int(text, 0) if _BASED.fullmatch(text) else int(text)
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    if not _FLOAT.fullmatch(text):
        return text
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large for a number")
    return number
