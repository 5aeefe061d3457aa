# SPDX-License-Identifier: MIT
"""What a console says of KUnit; tests/vm/test_kunit.py builds and boots a kernel with it."""

from __future__ import annotations

import pytest

from tasks.util.errors import UserError
from tasks.vm import kunit
from tasks.vm.results import leaves

# As lib/kunit/test.c prints it, with what another part of the kernel says in between.
CONSOLE = """\
[    0.000000] Linux version 6.12.0 (tc@tcbuild)
[    1.100000] ok 7 is what a driver says
[    1.200000] KTAP version 1
[    1.200001] 1..2
[    1.200002]     KTAP version 1
[    1.200003]     # Subtest: list_sort
[    1.200004]     # module: test_list_sort
[    1.200005]     1..1
[    1.300000] clocksource: Switched to clocksource tsc
[    1.300001]     ok 1 list_sort_test
[    1.300002] ok 1 list_sort
[    1.300003]     KTAP version 1
[    1.300004]     # Subtest: bits
[    1.300005]     1..3
[    1.300006]     # genmask: EXPECTATION FAILED at lib/test_bits.c:13
[    1.300007]     Expected 1 == 2
[    1.300008]     not ok 1 genmask
[    1.300009]         KTAP version 1
[    1.300010]         # Subtest: each
[    1.300011]         ok 1 a
[    1.300012]         ok 2 b # SKIP not here
[    1.300013]     # each: pass:1 fail:0 skip:1 total:2
[    1.300014]     ok 2 each
[    1.300015]     ok 3 other # SKIP not here either
[    1.300016] # bits: pass:1 fail:1 skip:1 total:3
[    1.300017] not ok 2 bits
[    1.400000] reboot: Power down
"""


def test_the_results_are_read_from_between_the_kernel_s_messages() -> None:
    made = kunit.read(CONSOLE)
    assert [(names, one.name, one.outcome) for names, one in leaves(made)] == [
        (("list_sort",), "list_sort_test", "passed"),
        (("bits",), "genmask", "failed"),
        (("bits", "each"), "a", "passed"),
        (("bits", "each"), "b", "skipped"),
        (("bits",), "other", "skipped"),
    ]
    assert "EXPECTATION FAILED at lib/test_bits.c:13" in made[1].results[0].detail


def test_a_console_that_breaks_off_is_a_failure_that_says_what_is_missing() -> None:
    """As after a panic within a suite: what came before it is told."""
    whole = CONSOLE.splitlines(keepends=True)
    made = kunit.read("".join(whole[:17]))
    assert [one.outcome for one in made] == ["passed", "failed", "failed"]
    assert "bits: 3 tests were planned, and 1 came" in made[-1].message
    assert "2 tests were planned" not in made[-1].message


def test_no_result_is_no_success() -> None:
    (made,) = kunit.read("[    0.000000] Linux version 6.12.0\n[    1.2] KTAP version 1\n[    1.2] 1..0\n")
    assert (made.name, made.outcome) == (kunit.THERE, "failed")
    assert "Linux version" in made.detail


def test_the_end_is_seen_where_no_acpi_powers_off() -> None:
    assert kunit.OFF.search(CONSOLE)
    assert not kunit.OFF.search("[    1.4] # says reboot: Power down\n")


@pytest.mark.parametrize("word", ["", "a b", 'a"', "ä", "a\n"])
def test_a_pattern_is_no_further_parameter_of_the_kernel(word: str) -> None:
    with pytest.raises(UserError, match="no name of a suite"):
        kunit.check_pattern(word)
    kunit.check_pattern("list*.*del_test")
