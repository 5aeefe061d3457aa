# SPDX-License-Identifier: MIT
"""Reasons: what a person reads of them, and that a record keeps all of them."""

from __future__ import annotations

import json

import pytest

from tasks.engine import reason
from tasks.engine.reason import Kind, Reason


@pytest.mark.parametrize(
    ("one", "line"),
    [
        (Reason(Kind.NOT_DONE), "it has not been done yet"),
        (Reason(Kind.CHANGED, "boot/x"), "changed: boot/x"),
        (Reason(Kind.MISSING_INPUT, "a: b"), "missing input: a: b"),
        (Reason(Kind.FORMER_INPUT, more=3), "no longer an input: and 3 more"),
        (Reason(Kind.VALUE, text="level: 1 -> 2"), "level: 1 -> 2"),
        (Reason(Kind.TEXT, text="changed: boot/x"), "changed: boot/x"),
    ],
)
def test_the_line_of_a_reason_and_its_record(one: Reason, line: str) -> None:
    assert str(one) == line
    assert reason.read(json.loads(json.dumps(one.record()))) == one


def test_every_kind_but_texts_has_words() -> None:
    assert set(Kind) - set(reason.WORDS) == {Kind.VALUE, Kind.TEXT}


def test_records_of_earlier_versions_show_no_secret() -> None:
    change = "system.users.tc.password: '$6$salt$abcdefgh' -> '$6$salt$ijklmnop'"
    for value in (change, {"kind": "value", "text": change}):
        assert str(reason.read(value)) == "system.users.tc.password: changed"
    assert str(reason.read({"kind": "value", "text": "boot.timeout: 3 -> 4"})) == "boot.timeout: 3 -> 4"
