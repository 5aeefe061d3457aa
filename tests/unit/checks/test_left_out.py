# SPDX-License-Identifier: MIT
"""Hints that name what a recipe leaves out."""

from __future__ import annotations

from tasks.checks.left_out import LeftOut, hint_for

OUT = [
    LeftOut("tool", "usr/share/doc/libx.so.1/copyright", "drop"),
    LeftOut("libx1", "usr/lib/libx.so.1", "drop"),
    LeftOut("libx1-dev", "usr/lib/libx.so", "keep"),
]


def test_the_file_and_the_key_are_named() -> None:
    assert hint_for(["libx.so.1"], OUT) == (
        "libx1 has it as usr/lib/libx.so.1, which `drop` in the recipe leaves out"
    )
    assert hint_for({"other", "libx.so"}, OUT).startswith("libx1-dev has it as usr/lib/libx.so, which `keep`")


def test_what_no_origin_has() -> None:
    assert hint_for(["copyright.txt"], OUT) == ""
    assert hint_for([], OUT) == ""
