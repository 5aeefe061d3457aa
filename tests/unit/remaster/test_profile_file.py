# SPDX-License-Identifier: MIT
"""The text of a profile means what it was made of, whatever the words in it are."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.remaster import profile_file

Table = dict[str, object]

KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
PLAIN = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-9, 1 << 40), st.booleans())
VALUES = st.one_of(PLAIN, st.lists(PLAIN, max_size=3), st.dictionaries(KEYS, PLAIN, max_size=3))


@settings(max_examples=40)
@given(
    st.dictionaries(KEYS, PLAIN, max_size=3),
    st.dictionaries(KEYS, VALUES, min_size=1, max_size=3),
    st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=2), min_size=1, max_size=2),
)
def test_it_reads_back(top: Table, table: Table, items: list[Table]) -> None:
    whole = {**top, "kernel": table, "extensions": items}
    assert tomllib.loads(profile_file.text("A comment.", whole)) == whole


@pytest.mark.parametrize("name", ['x"y', "x\\y", "x\ny = 1", "'''", "\x7f"])
def test_a_hostile_name_stays_one_value(name: str) -> None:
    assert tomllib.loads(profile_file.text("A comment.", {"description": name})) == {"description": name}
