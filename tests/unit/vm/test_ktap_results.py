# SPDX-License-Identifier: MIT
"""KTAP as results: nested, and what is wrong with it is a failure with words."""

from __future__ import annotations

from tasks.formats import ktap
from tasks.vm import ktap_results
from tasks.vm.ktap_results import OWN, WELL_FORMED
from tasks.vm.results import Result, leaves


def results(text: str) -> list[Result]:
    return ktap_results.of_output(ktap.parse(f"KTAP version 1\n{text}".splitlines()))


def test_tests_nest() -> None:
    made = results(
        "1..1\n    KTAP version 1\n    # Subtest: list\n    1..2\n    ok 1 add\n"
        "    # del: EXPECTATION FAILED at lib/list-test.c:7\n    not ok 2 del\nnot ok 1 list\n"
    )
    assert [(names, one.name, one.outcome) for names, one in leaves(made)] == [
        (("list",), "add", "passed"),
        (("list",), "del", "failed"),
    ]
    failed = made[0].results[1]
    assert failed.message == "del: EXPECTATION FAILED at lib/list-test.c:7"
    assert "  |     # del: EXPECTATION FAILED" in failed.detail


def test_a_fault_of_the_text_is_a_failure() -> None:
    good, fault = results("1..2\nok 1 a\n")
    assert (good.outcome, fault.name, fault.outcome) == ("passed", WELL_FORMED, "failed")
    assert fault.message == "2 tests were planned, and 1 came"
    assert results("1..1\nok 1 a\n") == [Result("a", "passed")]


def test_a_whole_fails_by_itself_if_no_part_did() -> None:
    (made,) = results("1..1\n  KTAP version 1\n  1..1\n  ok 1 a\nnot ok 1 x # init failed\n")
    assert [(part.name, part.outcome, part.message) for part in made.results] == [
        ("a", "passed", ""),
        (OWN, "failed", "init failed"),
    ]


def test_a_failed_part_fails_a_whole_that_says_otherwise() -> None:
    (made,) = results("1..1\n  KTAP version 1\n  1..1\n  not ok 1 a\nok 1 x\n")
    assert made.outcome == "failed"


def test_no_control_character_reaches_a_report() -> None:
    (made,) = results("1..1\n# \x1b[31m\nnot ok 1 a\x07 # b\x1b\n")
    assert (made.name, made.message) == ("a\\x07", "b\\x1b")
    assert "\x1b" not in made.detail
