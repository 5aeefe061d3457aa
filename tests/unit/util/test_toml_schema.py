# SPDX-License-Identifier: MIT
"""Every kind of mistake in a TOML file, and what its author is told."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.util import files, toml_schema
from tasks.util.errors import UserError


@dataclass(frozen=True)
class Inner:
    name: str
    size: int = 0

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size: expected 0 or more")


@dataclass(frozen=True)
class Outer:
    text: str
    number: int = 1
    flag: bool = False
    mode: Literal["one", "two"] = "one"
    items: tuple[str, ...] = ()
    inner: Inner | None = None
    either: Inner | str = ""
    many: tuple[Inner, ...] = ()
    table: dict[str, int] | None = None
    named: dict[str, Inner] | None = None
    perhaps: tuple[str, ...] | None = None
    chosen: Literal["one", "two"] | None = None
    class_: str = ""


@dataclass(frozen=True)
class JustText:
    text: str


@dataclass(frozen=True)
class Required:
    text: str
    number: int
    flag: bool
    mode: Literal["one", "two"]
    items: tuple[str, ...]
    inner: Inner
    either: Inner | str
    table: dict[str, int]


def write(folder: Path, text: str) -> Path:
    path = folder / "some.toml"
    path.write_text(text)
    return path


def test_everything_well(tmp_path: Path) -> None:
    text = """
        text = "x"
        number = 7
        flag = true
        mode = "two"
        items = ["a", "b"]
        either = { name = "e" }
        class = "c"
        inner = { name = "i", size = 3 }
        table = { a = 1 }
        named = { n = { name = "n" } }
        perhaps = ["p"]
        chosen = "two"
        [[many]]
        name = "m"
    """
    assert toml_schema.load(write(tmp_path, text), Outer) == Outer(
        text="x",
        number=7,
        flag=True,
        mode="two",
        items=("a", "b"),
        inner=Inner("i", 3),
        either=Inner("e"),
        many=(Inner("m"),),
        table={"a": 1},
        named={"n": Inner("n")},
        perhaps=("p",),
        chosen="two",
        class_="c",
    )


def test_defaults_and_the_other_half_of_a_union(tmp_path: Path) -> None:
    loaded = toml_schema.load(write(tmp_path, 'text = "x"\neither = "e"'), Outer)
    assert loaded == Outer(text="x", either="e")


MISTAKES = {
    "string": ("text = 1", "text: expected a string, got 1"),
    "integer": ('number = "1"', "number: expected an integer, got '1'"),
    "integer-is-no-float": ("number = 1.5", "number: expected an integer, got 1.5"),
    "integer-is-no-flag": ("number = true", "number: expected an integer, got True"),
    "flag": ("flag = 1", "flag: expected true or false, got 1"),
    "choice": ('mode = "three"', "mode: expected one of 'one', 'two', got 'three'"),
    "choice-of-another-type": ("mode = ['one']", "mode: expected one of 'one', 'two', got ['one']"),
    "array": ('items = "a"', "items: expected an array, got 'a'"),
    "array-item": ('items = ["a", 2]', "items[1]: expected a string, got 2"),
    "table": ("inner = 1", "inner: expected a table, got 1"),
    "union": ("either = 1", "either: expected a table or a string, got 1"),
    "union-in-table": ("either = { name = 1 }", "either.name: expected a string, got 1"),
    "in-table": ('inner = { name = "i", size = "3" }', "inner.size: expected an integer, got '3'"),
    "array-of-tables": ("many = [1]", "many[0]: expected a table, got 1"),
    "in-array-of-tables": ("[[many]]\nname = 1", "many[0].name: expected a string, got 1"),
    "free-table": ("table = 1", "table: expected a table, got 1"),
    "in-free-table": ('table = { a = "1" }', "table.a: expected an integer, got '1'"),
    "in-named-tables": ("named = { n = { name = 1 } }", "named.n.name: expected a string, got 1"),
    "perhaps-array": ("perhaps = 1", "perhaps: expected an array, got 1"),
    "perhaps-choice": ("chosen = 1", "chosen: expected one of 'one', 'two', got 1"),
    "own-check": ('inner = { name = "i", size = -1 }', "inner.size: expected 0 or more"),
    "unknown": ("colour = 1", "unknown key 'colour'"),
    "unknown-in-table": ('inner = { name = "i", sise = 1 }', "unknown key 'inner.sise'"),
    "unknown-in-array": ('[[many]]\nname = "i"\nnam = 1', "unknown key 'many[0].nam'"),
    "python-name": ('class_ = "c"', "unknown key 'class_'"),
}


@pytest.mark.parametrize("text, expected", MISTAKES.values(), ids=MISTAKES)
def test_mistake_is_told_with_file_key_and_expectation(tmp_path: Path, text: str, expected: str) -> None:
    given_text = text if text.startswith("text") else f'text = "x"\n{text}'
    path = write(tmp_path, given_text)
    with pytest.raises(UserError) as caught:
        toml_schema.load(path, Outer)
    assert caught.value.message == f"{path}: {expected}"


@pytest.mark.parametrize(
    "key, hint",
    [("numbr", "did you mean 'number'?"), ("zzz", "expected one of: text, number, flag, mode")],
)
def test_unknown_key_has_a_hint(tmp_path: Path, key: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        toml_schema.load(write(tmp_path, f'text = "x"\n{key} = 1'), Outer)
    assert caught.value.hint.startswith(hint)


FULL = {
    "text": ('"x"', "a string"),
    "number": ("1", "an integer"),
    "flag": ("true", "true or false"),
    "mode": ('"one"', "one of 'one', 'two'"),
    "items": ("[]", "an array"),
    "inner": ('{ name = "i" }', "a table"),
    "either": ('"e"', "a table or a string"),
    "table": ("{}", "a table"),
}


@pytest.mark.parametrize("missing", FULL)
def test_missing_key_is_told_with_what_belongs_there(tmp_path: Path, missing: str) -> None:
    path = write(tmp_path, "\n".join(f"{key} = {FULL[key][0]}" for key in FULL if key != missing))
    with pytest.raises(UserError) as caught:
        toml_schema.load(path, Required)
    assert caught.value.message == f"{path}: missing key {missing!r}"
    assert caught.value.hint == f"expected {FULL[missing][1]}"


def test_missing_key_in_a_table_has_its_full_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing key 'many\[0\].name'"):
        toml_schema.load(write(tmp_path, 'text = "x"\n[[many]]\nsize = 1'), Outer)


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"text = ", "Invalid value"),
        (b'text = "x"\ntext = "y"', "Cannot overwrite a value"),
        (b"[inner\n", "line 1"),
        (b'text = "\xff"', "not UTF-8 text (byte 8)"),
        (b"text = " + b"[" * 5000, "nested too deeply"),
    ],
)
def test_text_that_is_no_toml(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "some.toml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        toml_schema.load(path, Outer)
    assert caught.value.message.startswith(f"{path}: ")
    assert expected in caught.value.message


def test_a_file_is_read_once_until_it_changes(tmp_path: Path) -> None:
    """Many parts of a run ask for the same lock.  An edit that keeps size and mtime is one, too."""
    path = write(tmp_path, 'text = "one"')
    status = path.stat()
    time.sleep(2 * files.FINE_STEP / 1e9)
    first = toml_schema.load(path, Outer)
    assert toml_schema.load(path, Outer) is first
    assert toml_schema.load(path, JustText) == JustText("one")
    write(tmp_path, 'text = "two"')
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert toml_schema.load(path, Outer) == Outer("two")
    path.unlink()
    with pytest.raises(UserError, match="does not exist"):
        toml_schema.load(path, Outer)


def test_edits_within_a_tick_of_the_clock_are_read(tmp_path: Path) -> None:
    for number in range(200):
        assert toml_schema.load(write(tmp_path, f'text = "{number:03}"'), Outer).text == f"{number:03}"


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"some\.toml does not exist"):
        toml_schema.load(tmp_path / "some.toml", Outer)


@dataclass(frozen=True, kw_only=True)
class Near:
    path: str
    size: int = 0
    kind: Literal["near"] = "near"


@dataclass(frozen=True, kw_only=True)
class Far:
    url: str
    size: int = 0
    kind: Literal["far"] = "far"


@dataclass(frozen=True)
class Places:
    one: Near | Far
    either: Near | Far | str = ""
    many: tuple[Near | Far, ...] = ()


def test_the_kind_of_a_table_chooses_its_schema(tmp_path: Path) -> None:
    text = """
        one = { kind = "far", url = "u", size = 2 }
        either = { kind = "near", path = "p" }
        many = [{ kind = "near", path = "q" }, { kind = "far", url = "v" }]
    """
    assert toml_schema.load(write(tmp_path, text), Places) == Places(
        one=Far(url="u", size=2), either=Near(path="p"), many=(Near(path="q"), Far(url="v"))
    )


@pytest.mark.parametrize(
    ("one", "message", "hint"),
    [
        ("1", "one: expected a table, got 1", ""),
        ('{ path = "p" }', "missing key 'one.kind'", "expected one of 'near', 'far'"),
        ('{ kind = "odd" }', "one.kind: expected one of 'near', 'far', got 'odd'", ""),
        ("{ kind = ['near'] }", "one.kind: expected one of 'near', 'far', got ['near']", ""),
        ('{ kind = "near" }', "one.path: needed by kind = 'near'", "expected a string"),
        (
            '{ kind = "near", path = "p", url = "u" }',
            "one.url: not known to kind = 'near'",
            "kind = 'far' has it; expected one of: path, size, kind",
        ),
        ('{ kind = "near", path = "p", sise = 1 }', "unknown key 'one.sise'", "did you mean 'size'?"),
        ('{ kind = "near", paht = "p" }', "unknown key 'one.paht'", "did you mean 'path'?"),
        ('{ kind = "near", url = "u" }', "one.path: needed by kind = 'near'", "expected a string"),
        ('{ kind = "near", path = 1 }', "one.path: expected a string, got 1", ""),
    ],
)
def test_a_mistake_in_a_table_with_a_kind(tmp_path: Path, one: str, message: str, hint: str) -> None:
    path = write(tmp_path, f"one = {one}")
    with pytest.raises(UserError) as caught:
        toml_schema.load(path, Places)
    assert (caught.value.message, caught.value.hint) == (f"{path}: {message}", hint)


def test_a_table_with_a_kind_or_a_text(tmp_path: Path) -> None:
    path = write(tmp_path, 'one = { kind = "near", path = "p" }\neither = 1')
    with pytest.raises(UserError, match="either: expected a table or a string, got 1"):
        toml_schema.load(path, Places)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)
KEYS = st.sampled_from([field.rstrip("_") for field in Outer.__dataclass_fields__]) | st.text()


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(KEYS, VALUES))
def test_any_data_is_loaded_or_refused_in_words(data: dict[str, object]) -> None:
    try:
        loaded = toml_schema.build(data, Outer, "some.toml", "")
    except UserError as error:
        assert error.message.startswith("some.toml: ")
    else:
        assert isinstance(loaded, Outer)
        assert loaded.text == data["text"]


@pytest.mark.parametrize("text", ["9" * 5000, "-" + "9" * 5000, "[1, " + "9" * 5000 + "]"])
def test_an_integer_of_too_many_digits_is_a_line(tmp_path: Path, text: str) -> None:
    """Python converts at most 4,300 digits and raises a plain ValueError."""
    path = tmp_path / "long.toml"
    path.write_text(f"n = {text}\n")
    with pytest.raises(UserError) as caught:
        toml_schema.read_toml(path)
    assert caught.value.message == f"{path}: an integer in it has too many digits"


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_regular_file_is_a_line(tmp_path: Path, kind: str) -> None:
    """The reading of a pipe would wait for ever."""
    path = tmp_path / "odd.toml"
    path.mkdir() if kind == "folder" else os.mkfifo(path)
    with pytest.raises(UserError) as caught:
        toml_schema.read_toml(path)
    assert caught.value.message == f"{path}: not a regular file"


def test_a_file_that_cannot_be_read_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    path = write(tmp_path, "")
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UserError) as caught:
        toml_schema.read_toml(path)
    assert caught.value.message == f"Permission denied: {path}"
    circle = tmp_path / "circle.toml"
    circle.symlink_to(circle)
    with pytest.raises(UserError, match=str(circle)):
        toml_schema.read_toml(circle)
