# SPDX-License-Identifier: MIT
"""The filter under which proot runs: newer system calls that take a path do not exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tasks.toolchain import proot_start

PROBE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
for number in map(int, sys.argv[1:]):
    libc.syscall(number, -100, b"/", 0, 0, 0)
    print(ctypes.get_errno())
print(os.stat("/").st_ino > 0, os.environ["PROOT_NO_SECCOMP"])
"""


def test_each_jump_of_the_filter_ends_at_its_last_instruction() -> None:
    code = proot_start.instructions()
    jumps = [place + 1 + taken for place, (what, taken, _, _) in enumerate(code) if what == proot_start.EQUAL]
    assert jumps == [3, *[len(code) - 1] * len(proot_start.CALLS)]


def test_the_kernel_has_none_of_the_calls_for_a_program_started_by_it() -> None:
    numbers = [str(number) for number in proot_start.CALLS.values()]
    argv = [sys.executable, str(Path(proot_start.__file__)), sys.executable, "-c", PROBE, *numbers]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    assert said == [*[str(proot_start.ENOSYS)] * len(numbers), "True", "1"]
