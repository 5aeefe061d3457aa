# SPDX-License-Identifier: MIT
"""KTAP is read as the kernel's ktap.rst says; outputs in tests/data/ktap are of Linux 6.12's own tests."""

from __future__ import annotations

import pytest

from tasks.formats import ktap
from tasks.formats.ktap import Case, Output
from tasks.util.checkout import CHECKOUT

RECORDED = CHECKOUT.root / "tests/data/ktap"

# The example of ktap.rst, "Example KTAP output".
EXAMPLE = """\
KTAP version 1
1..1
  KTAP version 1
  1..3
    KTAP version 1
    1..1
    # test_1: initializing test_1
    ok 1 test_1
  ok 1 example_test_1
    KTAP version 1
    1..2
    ok 1 test_1 # SKIP test_1 skipped
    ok 2 test_2
  ok 2 example_test_2
    KTAP version 1
    1..3
    ok 1 test_1
    # test_2: FAIL
    not ok 2 test_2
    ok 3 test_3 # SKIP test_3 skipped
  not ok 3 example_test_3
not ok 1 main_test
"""


def parse(text: str) -> Output:
    return ktap.parse(text.splitlines())


def recorded(name: str) -> Output:
    return parse((RECORDED / f"{name}.txt").read_text())


def shape(tests: tuple[Case, ...]) -> list[object]:
    """Return names and outcomes, nested as the tests are."""
    return [[test.name, test.outcome, *([shape(test.tests)] if test.tests else [])] for test in tests]


def test_the_example_of_the_kernel_s_document_is_read_as_it_says() -> None:
    read = parse(EXAMPLE)
    assert shape(read.tests) == [
        [
            "main_test",
            "failed",
            [
                ["example_test_1", "passed", [["test_1", "passed"]]],
                ["example_test_2", "passed", [["test_1", "skipped"], ["test_2", "passed"]]],
                [
                    "example_test_3",
                    "failed",
                    [["test_1", "passed"], ["test_2", "failed"], ["test_3", "skipped"]],
                ],
            ],
        ]
    ]
    assert read.faults == ()
    (main,) = read.tests
    first, second, third = main.tests
    assert first.tests[0].lines == ("    # test_1: initializing test_1",)
    assert second.tests[0].message == "test_1 skipped"
    assert third.tests[1].lines == ("    # test_2: FAIL",)


def test_a_plan_may_stand_behind_its_results() -> None:
    read = recorded("plan-behind")
    assert (shape(read.tests), read.faults) == ([["get runtime memory use", "passed"]], ())


def test_a_skip_has_its_reason() -> None:
    read = recorded("skip")
    assert read.faults == ()
    assert [test.outcome for test in read.tests] == ["passed", "passed", "skipped", "passed", "passed"]
    assert read.tests[2].message == "No huge pages available or CONFIG_HUGETLB_PAGE disabled."


def test_a_failure_has_the_lines_before_it() -> None:
    (test,) = recorded("failure").tests
    assert (test.name, test.outcome) == ("global.unshare_EMFILE", "failed")
    assert "setrlimit(RLIMIT_NOFILE, &rlimit) (-1)" in test.lines[2]


def test_a_program_may_make_no_test_at_all() -> None:
    read = recorded("all-skipped")
    assert read == Output(skipped="Sync framework not supported by kernel")


def test_results_without_a_version_and_without_names_are_read() -> None:
    read = recorded("no-version")
    assert read.faults == ()
    assert len(read.tests) == 10
    assert read.tests[2] == Case("test 3", "skipped", "CLOCK_BOOTTIME_ALARM isn't supported")


def test_results_that_do_not_come_are_a_fault() -> None:
    assert recorded("no-results").faults == ("3 tests were planned, and 0 came",)


def test_kunit_of_older_kernels_names_a_suite_by_a_line_of_its_own() -> None:
    read = parse(
        "TAP version 14\n1..2\n    # Subtest: one\n    1..1\n    ok 1 - a\nok 1 - one\n"
        "    # Subtest: two\n    1..1\n    # a: EXPECTATION FAILED at lib/x.c:1\n    not ok 1 - a\n"
        "not ok 2 - two\n"
    )
    assert shape(read.tests) == [["one", "passed", [["a", "passed"]]], ["two", "failed", [["a", "failed"]]]]
    assert read.faults == ()


def test_the_programs_of_a_script_print_one_text_after_another() -> None:
    one = "TAP version 13\n1..1\nok 1 {}\n# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0\n"
    read = parse(one.format("first") + one.format("second"))
    assert shape(read.tests) == [["first", "passed"], ["second", "passed"]]
    assert read.faults == ()


@pytest.mark.parametrize(
    ("line", "outcome", "message"),
    [
        ("ok 1 a", "passed", ""),
        ("ok 1 - a", "passed", ""),
        ("ok 1 a # rcode=0", "passed", "rcode=0"),
        ("not ok 1 a # SKIP no such device", "skipped", "no such device"),
        ("ok 1 a # skip", "skipped", ""),
        ("not ok 1 a # XFAIL known", "skipped", "XFAIL known"),
        ("not ok 1 a # TODO", "skipped", "TODO"),
        ("not ok 1 a # TIMEOUT 30 seconds", "failed", "TIMEOUT 30 seconds"),
        ("ok 1 a # ERROR no memory", "failed", "ERROR no memory"),
        ("not ok 1 a # exit=1", "failed", "exit=1"),
        ("ok 1 a # SKIPPING is no directive", "passed", "SKIPPING is no directive"),
    ],
)
def test_a_directive_decides(line: str, outcome: str, message: str) -> None:
    (test,) = parse(f"KTAP version 1\n1..1\n{line}\n").tests
    assert (test.name, test.outcome, test.message) == ("a", outcome, message)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1..2\nok 1 a\n", "2 tests were planned, and 1 came"),
        ("1..1\nok 1 a\nok 2 b\n", "1 tests were planned, and 2 came"),
        ("1..2\nok 1 a\nok 3 c\n", "c has the number 3, expected 2"),
        (
            "1..1\n  KTAP version 1\n  # Subtest: x\n  1..2\n  ok 1 a\nok 1 x\n",
            "x: 2 tests were planned, and 1 came",
        ),
        ("1..1\n  KTAP version 1\n  1..1\n  ok 1 a\n", "a test has parts, and no result of its own"),
        ("1..1\nBail out! no memory\n", "the test gave up: no memory"),
        ("1..1\nBail out!\nok 1 a\n", "the test gave up: it does not say why"),
    ],
)
def test_what_is_malformed_is_said(text: str, fault: str) -> None:
    assert fault in parse(f"KTAP version 1\n{text}").faults


def test_a_part_whose_whole_is_missing_is_kept() -> None:
    """As if the kernel had died in the middle of a suite."""
    (lost,) = parse("KTAP version 1\n1..3\n    KTAP version 1\n    1..2\n    ok 1 a\n").tests
    assert (lost.outcome, [part.name for part in lost.tests]) == ("failed", ["a"])


@pytest.mark.parametrize("line", ["ok", "ok then", "okay 1", "not  ok 1", "ok 1x", "1..", "1..x", "#", "  "])
def test_other_lines_are_no_results(line: str) -> None:
    assert parse(f"{line}\n") == Output()


def test_tests_nested_without_end_are_a_fault_and_no_traceback() -> None:
    text = "".join(f"{' ' * depth}KTAP version 1\n{' ' * depth}ok 1 x\n" for depth in range(2000))
    read = parse(text)
    assert f"tests are nested more than {ktap.MAX_DEPTH} times" in read.faults
    assert parse(f"1..{'9' * 400}\nok {'9' * 400} a\n") == Output()
