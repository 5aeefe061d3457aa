# SPDX-License-Identifier: MIT
"""What a host of a farm must make like this machine."""

from __future__ import annotations

import pytest

from tasks.toolchain.farm import Object, difference

HERE = Object(b"\0GCC: (Debian 12.2.0-14) 12.2.0\0", "GNU assembler version 2.40 (x86_64-linux-gnu)\n")


@pytest.mark.parametrize(
    ("there", "says"),
    [
        (HERE, ""),
        (Object(b"", "ERROR: connect to a:1 failed: refused\nERROR: no\n"), "(ERROR: connect to a:1 failed"),
        (Object(b"", ""), "it did not compile a probe"),
        (
            Object(b"\0GCC: (Debian 10.2.1-6) 10.2.1 20210110\0", HERE.output),
            "its compiler is (Debian 10.2.1-6) 10.2.1, here it is (Debian 12.2.0-14) 12.2.0",
        ),
        (
            Object(HERE.content, "GNU assembler version 2.35.2 (x86_64-linux-gnu)\n"),
            "its assembler is 2.35.2 (x86_64-linux-gnu), here it is 2.40 (x86_64-linux-gnu)",
        ),
        (Object(b"x" + HERE.content, HERE.output), "it compiles the probe to other bytes"),
    ],
)
def test_a_host_that_makes_other_bytes_is_told_by_what_differs(there: Object, says: str) -> None:
    assert says in difference(HERE, there)
    assert bool(difference(HERE, there)) == bool(says)
