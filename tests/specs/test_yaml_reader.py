"""Only plain, bounded YAML 1.2 gets in, and every refusal names its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perfmodel.errors import SpecError
from perfmodel.specs import yaml_reader
from perfmodel.specs.yaml_reader import read_file, read_text, read_value


def test_scalars_follow_yaml_1_2() -> None:
    text = """\
a: no
b: 15.6e12
c: 8192
d: true
e: ~
f: "8"
g: 0x10
h: 0o17
i: 1_000
j: 12:30
k: 2024-01-01
l: yes
m: .5
n: -3
o: 'true'
p:
"""
    assert read_text(text).data == {
        "a": "no",
        "b": 15.6e12,
        "c": 8192,
        "d": True,
        "e": None,
        "f": "8",
        "g": 16,
        "h": 15,
        "i": "1_000",
        "j": "12:30",
        "k": "2024-01-01",
        "l": "yes",
        "m": 0.5,
        "n": -3,
        "o": "true",
        "p": None,
    }


def test_numbers_keep_their_type() -> None:
    data = read_text("whole: 7\nfraction: 7.0\nlarge: 123456789012345678901234567890\n").data
    assert type(data["whole"]) is int
    assert type(data["fraction"]) is float
    assert data["large"] == 123456789012345678901234567890


def test_every_key_and_item_knows_its_line() -> None:
    text = "# head\n\nfirst: 1\nouter:\n  inner: {deep: 2,\n    deeper: 3}\n  list:\n    - a\n    - {name: b}\n"
    document = read_text(text, "f.yaml")
    lines = {path: place.line for path, place in document.places.items()}
    assert lines == {
        (): 1,
        ("first",): 3,
        ("outer",): 4,
        ("outer", "inner"): 5,
        ("outer", "inner", "deep"): 5,
        ("outer", "inner", "deeper"): 6,
        ("outer", "list"): 7,
        ("outer", "list", 0): 8,
        ("outer", "list", 1): 9,
        ("outer", "list", 1, "name"): 9,
    }
    assert str(document.place(("outer", "list", 1, "absent", "deeper"))) == "f.yaml:9"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate key 'a' (first in line 1)"),
        ("x: {a: 1, a: 2}\n", 1, "duplicate key"),
        ("a: &x 1\nb: 2\n", 1, "anchors (&x)"),
        ("a: 1\nb: *x\n", 2, "aliases (*x)"),
        ("a: 1\n&k b: 1\n", 2, "anchors"),
        ("a: !!python/object/apply:os.system ['true']\n", 1, "tags"),
        ("a: 1\nb: !custom 1\n", 2, "tags (!custom)"),
        ("a: !!str 1\n", 1, "tags"),
        ("a: 1\n---\nb: 1\n", 2, "a second document"),
        ("%TAG !e! tag:example.com,2000:\n---\na: 1\n", 2, "tags"),
        ("%YAML 1.1\n---\na: no\n", 2, "only YAML 1.2"),
        ("a:\n  b: [1, 2\n", 3, "not YAML"),
        ("a: {b: 1\nc: 2\n", 2, "not YAML"),
        ("a: 'text\n", 2, "not YAML"),
        ("a:\n\tb: 1\n", 2, "not YAML"),
        ("a: 1\n b: 2\n", 2, "not YAML"),
        ("a: b: c\n", 1, "not YAML"),
        ("- 1\n- 2\n", 1, "expected a mapping"),
        ("", 1, "expected a mapping"),
        ("just text\n", 1, "expected a mapping"),
        ("? [1, 2]\n: 3\n", 1, "a key must be plain text"),
        ("a: 1\nb: .inf\n", 2, "not a finite number"),
        ("a: 1\nb: .nan\n", 2, "not a finite number"),
        ("a: 1e999\n", 1, "too large"),
        ("a: " + "9" * 500 + "\n", 1, "400 digits"),
        ("a: \x07\n", None, "not YAML"),
    ],
)
def test_what_is_refused(text: str, line: int | None, words: str) -> None:
    with pytest.raises(SpecError) as error:
        read_text(text, "f.yaml")
    message = str(error.value)
    assert words in message
    assert "Traceback" not in message
    assert message.startswith(f"f.yaml:{line}: " if line else "f.yaml: ")
    assert "\n" not in message


def test_merge_keys_are_ordinary_keys() -> None:
    """``<<`` merges nothing: there are no aliases to merge, and models refuse the key."""
    assert read_text("<<: {a: 1}\nb: 2\n").data == {"<<": {"a": 1}, "b": 2}


def test_a_bomb_of_aliases_does_not_grow() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(SpecError, match="anchors"):  # 9^12 nodes: expanding them would not end
        read_text("\n".join(lines))


@pytest.mark.parametrize("text", ["a: " + "[" * 100_000, "a: " + "{a: " * 50_000, "? " * 100_000])
def test_endless_nesting_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        read_text(text, "f.yaml")


def test_fifty_levels_are_read_and_more_are_refused() -> None:
    def nested(levels: int) -> str:
        return "a: " + "[" * (levels - 1) + "]" * (levels - 1)

    read_text(nested(yaml_reader.MAXIMUM_DEPTH))
    with pytest.raises(SpecError, match="nested deeper than 50"):
        read_text(nested(yaml_reader.MAXIMUM_DEPTH + 2))


def test_tags_never_run_code(tmp_path: Path) -> None:
    target = tmp_path / "made"
    for tag in ("!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir"):
        with pytest.raises(SpecError, match="tags"):
            read_text(f"a: {tag} ['{target}']\n")
    assert not target.exists()


def test_large_files_and_other_encodings_are_refused(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_text("a: " + "x" * yaml_reader.MAXIMUM_BYTES)
    with pytest.raises(SpecError, match="at most 1000000 are read"):
        read_file(large)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("a: 1\nb: é\n".encode("latin-1"))
    with pytest.raises(SpecError, match=r"latin\.yaml:2: the file is not UTF-8"):
        read_file(latin)
    marked = tmp_path / "marked.yaml"
    marked.write_bytes("a: é\n".encode("utf-8-sig"))
    assert read_file(marked).data == {"a": "é"}


def test_a_missing_file_and_a_folder_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"absent\.yaml: cannot be read: No such file"):
        read_file(tmp_path / "absent.yaml")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        read_file(tmp_path)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("a: 1\n")
    first = read_file(path)
    assert read_file(path) is first
    path.write_text("a: 22\n")
    assert read_file(path).data == {"a": 22}


def test_values_of_settings_read_like_a_file() -> None:
    assert read_value("8") == 8
    assert read_value("4 TB/s") == "4 TB/s"
    assert read_value("[1, 2]") == [1, 2]
    assert read_value("{pue: 1.2}") == {"pue": 1.2}
    assert read_value("no") == "no"
    assert read_value("") is None
    with pytest.raises(SpecError, match=r"^--set x=\[1: not YAML"):
        read_value("[1", "--set x=[1")


def assert_read_or_refused(text: str) -> None:
    said = ""
    try:
        read_text(text, "f.yaml")
    except SpecError as error:
        said = str(error)
    assert not said or said.startswith("f.yaml")


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    assert_read_or_refused(text)


@given(
    st.lists(
        st.sampled_from(
            ["a: 1", " ", "\n", "- ", "{", "}", "[", "]", ": ", "'", '"', "|", ">", "#", "&", "*", "!", "%", "?"]
        )
    )
)
def test_any_puzzle_of_yaml_signs_is_read_or_refused_in_words(parts: list[str]) -> None:
    assert_read_or_refused("".join(parts))
