# SPDX-License-Identifier: MIT
"""Fragments: read strictly, laid over a config, compared with what came of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.config.settings import Settings
from tasks.kernel.fragments import (
    Request,
    apply_requests,
    config_line,
    find_conflicts,
    find_misses,
    fragment_files,
    known_fragments,
    parse_config,
    parse_fragment,
    read_fragment,
    same_value,
    split_overridden,
    with_fragment,
)
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tests.support.settings import with_values

SYMBOLS = st.from_regex(r"[A-Z0-9][A-Z0-9_]{0,20}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=["C", "Z"]), max_size=12).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
VALUES = st.one_of(st.sampled_from(["y", "m", "n"]), st.integers().map(str), st.integers(0).map(hex), TEXTS)


def request(symbol: str, value: str, line: int = 1, file: str = "f.config") -> Request:
    return Request(symbol, value, file, line)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("CONFIG_X=y", "y"),
        ("CONFIG_X=m", "m"),
        ("CONFIG_X=n", "n"),
        ("# CONFIG_X is not set", "n"),
        ("CONFIG_X=64", "64"),
        ("CONFIG_X=-1", "-1"),
        ("CONFIG_X=0x1000000", "0x1000000"),
        ('CONFIG_X=""', '""'),
        ('CONFIG_X="a \\"b\\" # c"', '"a \\"b\\" # c"'),
        ("CONFIG_X=y \t", "y"),
    ],
)
def test_a_config_line_is_read(tmp_path: Path, line: str, value: str) -> None:
    path = tmp_path / "a.config"
    path.write_text(f"# a comment\n\n{line}\n")
    assert read_fragment(path) == [Request("X", value, str(path), 3)]


@pytest.mark.parametrize(
    "line",
    [
        "CONFIG_X=yes",
        "CONFIG_X=Y",
        "CONFIG_X=",
        "CONFIG_X",
        "CONFIG_X = y",
        "CONFIG_X=y # why",
        " CONFIG_X=y",
        "X=y",
        "CONFIG_=y",
        "CONFIG_\N{LATIN SMALL LETTER U WITH DIAERESIS}=y",
        "CONFIG_X=0x",
        'CONFIG_X="open',
        'CONFIG_X="a"b"',
        "#CONFIG_X is not set",
        "# CONFIG_X  is not set",
        "# CONFIG_X is not set.",
        "# CONFIG_X not set",
        "# config_X is not set",
        "include other.config",
    ],
)
def test_a_line_the_kernel_would_take_for_something_else_is_refused(line: str) -> None:
    with pytest.raises(UserError, match=r"^a\.config:2: "):
        parse_fragment(f"CONFIG_A=y\n{line}\n".encode(), "a.config")


@pytest.mark.parametrize(
    "line", ["# plain", "#", "## CONFIG_X=y", "# CONFIG_X=y", "# it is not set in stone"]
)
def test_a_comment_asks_for_nothing(line: str) -> None:
    assert parse_fragment(line.encode(), "a.config") == []


def test_a_fragment_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.config: not UTF-8 text \(byte 11\)"):
        parse_fragment(b"CONFIG_A=y\n\xff\n", "a.config")
    with pytest.raises(UserError, match="does not exist"):
        read_fragment(tmp_path / "none.config")


@given(st.lists(st.tuples(SYMBOLS, VALUES)), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_what_is_written_as_a_fragment_is_read_back(
    pairs: list[tuple[str, str]], end: str, final: bool
) -> None:
    lines = [config_line(symbol, value) for symbol, value in pairs]
    requests = parse_fragment((end.join(lines) + (end if final else "")).encode(), "a.config")
    assert [(found.symbol, found.value) for found in requests] == pairs
    assert [found.line for found in requests] == list(range(1, len(pairs) + 1))


@given(st.one_of(st.binary(), st.text().map(lambda text: text.encode(errors="surrogatepass"))))
def test_any_content_is_read_or_refused_as_a_user_error(content: bytes) -> None:
    try:
        requests = parse_fragment(content, "a.config")
    except UserError:
        return
    assert all(re.fullmatch(r"\w+", found.symbol, re.ASCII) for found in requests)


def test_our_own_fragments_are_well_formed() -> None:
    assert {"qemu", "containers", "ext3-xattr"} <= set(known_fragments())
    for path in CHECKOUT.kconfig.glob("*.config"):
        requests = read_fragment(path)
        assert requests
        assert not find_conflicts(requests)


def test_fragments_are_found_by_name_or_path(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    own = tmp_path / "own.config"
    own.write_text("")
    settings = with_values(make_settings(), fragments=("qemu", str(own), "kconfig/qemu.config"))
    assert fragment_files(settings.profile) == [
        CHECKOUT.kconfig / "qemu.config",
        own,
        CHECKOUT.kconfig / "qemu.config",
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("contaners", "did you mean 'containers'.*qemu"),
        ("qemu.config", "did you mean 'qemu'"),
        ("zzz", "^in kconfig/: containers, debug, ext3-xattr"),
        ("base-x86_64", "in kconfig/"),
        ("./none.config", "a path relative to"),
    ],
)
def test_an_unknown_fragment_is_refused(make_settings: Callable[..., Settings], name: str, hint: str) -> None:
    settings = with_values(make_settings(), fragments=(name,))
    with pytest.raises(UserError, match=re.escape(name)) as caught:
        fragment_files(settings.profile)
    assert re.search(hint, caught.value.hint)


@pytest.mark.parametrize(
    ("asked", "got", "same"),
    [
        ("y", "y", True),
        ("y", "m", False),
        ("n", "n", True),
        ("7", "07", True),
        ("0x1F", "0x1f", True),
        ("16", "0x10", False),
        ("100", "0x100", False),
        ('"7"', "7", False),
        ('"a"', '"A"', False),
        ("y", "1", False),
    ],
)
def test_only_numbers_have_two_spellings(asked: str, got: str, same: bool) -> None:
    assert same_value(asked, got) is same


BASE = """\
# Linux/x86 6.12.0 Kernel Configuration
CONFIG_A=y
# CONFIG_B is not set
CONFIG_AB=m

# comment
CONFIG_TEXT="x=y"
"""


def test_requests_replace_the_lines_of_their_symbols_and_go_last() -> None:
    merged = apply_requests(
        BASE, [request("A", "m"), request("B", "y"), request("NEW", "3"), request("A", "n")]
    )
    assert merged == (
        "# Linux/x86 6.12.0 Kernel Configuration\nCONFIG_AB=m\n\n# comment\n"
        'CONFIG_TEXT="x=y"\nCONFIG_B=y\nCONFIG_NEW=3\n# CONFIG_A is not set\n'
    )


@given(st.lists(st.tuples(SYMBOLS, VALUES)), st.lists(st.tuples(SYMBOLS, VALUES)))
def test_after_laying_over_each_symbol_has_the_value_asked_last(
    before: list[tuple[str, str]], pairs: list[tuple[str, str]]
) -> None:
    base = "".join(config_line(*pair) + "\n" for pair in before)
    merged = apply_requests(base, [request(*pair) for pair in pairs])
    assert parse_config(merged) == dict(before) | dict(pairs)
    names = [line.split("=")[0] for line in merged.splitlines() if line.startswith("CONFIG_")]
    assert {name for name in names if names.count(name) > 1} <= {f"CONFIG_{symbol}" for symbol, _ in before}


def test_a_dot_config_is_read() -> None:
    assert parse_config(BASE) == {"A": "y", "B": "n", "AB": "m", "TEXT": '"x=y"'}
    assert parse_config("<html>not found</html>\n") == {}


def test_only_a_different_value_is_a_conflict() -> None:
    first, again, later = request("A", "y", 1), request("A", "y", 2), request("A", "m", 3, "g.config")
    assert find_conflicts([first, again]) == []
    assert find_conflicts([first, again, request("B", "n"), later]) == [(first, later)]


def test_misses_are_found_exactly() -> None:
    config = {"A": "m", "B": "n", "N": "0x10"}
    asked = [
        request("A", "y"),
        request("A", "m"),
        request("B", "n"),
        request("GONE", "n"),
        request("N", "0X10"),
    ]
    assert find_misses([*asked, request("GONE", "y")], config) == [asked[0], request("GONE", "y")]


def test_a_marked_line_overrides_that_of_an_earlier_fragment() -> None:
    first = parse_fragment(b"CONFIG_A=y\nCONFIG_B=y\n", "one")
    later = parse_fragment(b"# override: too slow\n# CONFIG_A is not set\nCONFIG_C=y\n", "two")
    assert [one.overrides for one in later] == [True, False]
    kept, overridden = split_overridden([*first, *later])
    assert [one.where for one in kept] == ["one:2", "two:2", "two:3"]
    assert [one.where for one in overridden] == ["one:1"]


def test_a_mark_overrides_neither_its_own_fragment_nor_the_profile_nor_a_later_one() -> None:
    own = parse_fragment(b"CONFIG_A=y\n# override\nCONFIG_A=m\n", "one")
    profile = Request("A", "n", "tcbuild")
    later = parse_fragment(b"CONFIG_A=m\n", "two")
    every = [profile, *own, *later]
    assert split_overridden(every) == (every, [])


@pytest.mark.parametrize(
    "text", ["# override\n", "# override\n\nCONFIG_A=y\n", "# override: x\n# more\nCONFIG_A=y\n"]
)
def test_a_mark_above_no_line_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="f:1: `# override` stands above no config line"):
        parse_fragment(text.encode(), "f")


@pytest.mark.parametrize("text", ["# override it in qemu\n", "# overrides\n", "#override\n"])
def test_other_comments_are_no_marks(text: str) -> None:
    assert not parse_fragment(f"{text}CONFIG_A=y\n".encode(), "f")[0].overrides


def test_a_profile_gets_a_fragment_once(make_settings: Callable[..., Settings]) -> None:
    profile = with_values(make_settings(), fragments=("qemu",)).profile
    assert with_fragment(profile, "kconfig/qemu.config") == profile
    assert with_fragment(profile, "ia32").kernel.fragments == ("qemu", "ia32")
