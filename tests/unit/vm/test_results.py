# SPDX-License-Identifier: MIT
"""Results nest, and a failure of a part is one of the whole."""

from __future__ import annotations

from tasks.vm.results import Result, leaves, whole

DEEP = whole("check", [Result("a", "passed"), whole("b", [Result("c", "failed", 1.0, "why")], 1.0)], 2.0)


def test_a_whole_has_failed_if_a_part_of_a_part_has() -> None:
    assert whole("x", [Result("a", "passed"), Result("b", "skipped")], 1.0).outcome == "passed"
    assert DEEP.outcome == "failed"
    assert DEEP.seconds == 2.0


def test_the_parts_without_parts_are_named_from_the_outside() -> None:
    told = [(names, part.name) for names, part in leaves([DEEP, Result("d", "passed")])]
    assert told == [(("check",), "a"), (("check", "b"), "c"), ((), "d")]
