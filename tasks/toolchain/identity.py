# SPDX-License-Identifier: MIT
"""The identity of programs and files: tasks that use them are outdated when it changes.

Of a pinned toolchain that is its digest, whether this machine's programs serve or a build root.
"""

from __future__ import annotations

import os

from tasks.toolchain import build_root
from tasks.util.errors import UserError
from tasks.util.process import require_tool

Identity = tuple[str, int, int]
"""Path, size in bytes and mtime in nanoseconds."""


def compiler(toolchain: str) -> list[Identity] | str:
    """Return the identity of gcc, ld and as; of a pinned toolchain its digest."""
    return programs("gcc", "ld", "as") if toolchain == build_root.HOST else build_root.digest(toolchain)


def programs(*names: str) -> list[Identity]:
    """Return the identity of programs, links followed.  No program runs; missing ones are left out."""
    found = []
    for name in names:
        try:
            found.append(require_tool(name))
        except UserError:
            continue
    return files(*map(os.path.realpath, found))


def files(*paths: str) -> list[Identity]:
    """Return the identity of files.  None is read; missing ones are left out."""
    found = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.append((path, status.st_size, status.st_mtime_ns))
    return found
