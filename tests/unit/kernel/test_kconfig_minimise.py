# SPDX-License-Identifier: MIT
"""What is left of lines that are redundant, and the records of kconfig/minimise.c."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.kernel import kconfig_minimise
from tasks.util.errors import UserError

LOG = Path("kconfig.log")


def test_what_differs_stands_in_the_order_of_the_menus() -> None:
    """What `conf` does not read has its default, and what the goal does not have must go."""
    read = "CONFIG_SAME=y\nCONFIG_GONE=m\nCONFIG_NUMBER=1\n# CONFIG_NEW is not set\n"
    goal = 'CONFIG_NUMBER=2\nCONFIG_SAME=y\nCONFIG_NEW=y\nCONFIG_TEXT="a b"\n# CONFIG_OFF is not set\n'
    found = kconfig_minimise.differing(read, goal)
    assert list(found.items()) == [
        *[("NUMBER", "2"), ("NEW", "y"), ("TEXT", '"a b"')],
        *[("OFF", "n"), ("GONE", "n")],
    ]


def test_records_name_lines_or_what_differs() -> None:
    assert kconfig_minimise.parse_records("need\t7\nneed\t2\nend\n", LOG) == ([2, 7], [])
    text = "differs\tNET\ty\tn\ndiffers\tTEXT\t\ta b\nend\n"
    assert kconfig_minimise.parse_records(text, LOG) == ([], [("NET", "y", "n"), ("TEXT", "", "a b")])


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "the output ends early"), ("failed\t/work/goal\tNo such file\n", "/work/goal: No such file")],
)
def test_records_that_end_early_are_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"minimise\.c failed: {said}"):
        kconfig_minimise.parse_records(text, LOG)


def test_lines_go_with_the_marks_above_them() -> None:
    text = "# Why.\nCONFIG_A=y\n# override: slow\nCONFIG_B=y\n\n# override\nCONFIG_C=y\n"
    assert kconfig_minimise.without_lines(text, [2, 4]) == "# Why.\n\n# override\nCONFIG_C=y\n"
    assert kconfig_minimise.without_lines(text, []) == text
