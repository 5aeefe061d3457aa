# SPDX-License-Identifier: MIT
"""The .dep file of an extension."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.formats.tcz import name_of_task, parse_dep
from tasks.util.errors import UserError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("a.tcz\nb.tcz\n", ("a", "b")),
        ("a.tcz", ("a",)),
        ("a.tcz\r\nb.tcz\r\n", ("a", "b")),
        ("  a.tcz \t\n\n\n \nb.tcz   ", ("a", "b")),
        ("b.tcz\na.tcz\nb.tcz\n", ("b", "a")),
        ("a\n", ("a",)),
        ("ipv6-netfilter-KERNEL.tcz\n", ("ipv6-netfilter-KERNEL",)),
        ("gtk+-2.0_x.tcz\n4pane.tcz\n", ("gtk+-2.0_x", "4pane")),
    ],
)
def test_dep_files_are_read_as_tce_load_does(text: str, names: tuple[str, ...]) -> None:
    assert parse_dep(text, "x.dep") == names


@pytest.mark.parametrize(
    "text", ["<html>not found</html>", "../../etc/passwd.tcz", "/a.tcz", "a.tcz\n.b.tcz", "a\0b", "é.tcz"]
)
def test_what_is_no_list_of_extensions_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"mirror/x\.dep is no list of extensions"):
        parse_dep(text, "mirror/x.dep")


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,8}", fullmatch=True).filter(
    lambda name: not name.endswith((".tcz", "-KERNEL"))
)


@given(st.lists(NAMES, unique=True), st.sampled_from(["\n", "\r\n", " \n\n", "\t\r\n"]))
def test_any_list_is_read_back(names: list[str], end: str) -> None:
    assert parse_dep("".join(f"{name}.tcz{end}" for name in names), "x") == tuple(names)


def test_a_task_is_not_named_as_a_command() -> None:
    assert [name_of_task(name) for name in ("attr", "tree", "all")] == [
        *("attr", "tree.tcz", "all.tcz"),
    ]
