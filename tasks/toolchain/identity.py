# SPDX-License-Identifier: MIT
"""The identity of this machine's compiler: tasks that compile are outdated when it changes."""

from __future__ import annotations

import os

from tasks.util.errors import UserError
from tasks.util.process import require_tool


def compiler() -> list[tuple[str, int, int]]:
    """Return path, size in bytes and mtime in nanoseconds of gcc, ld and as.

    No program runs.  Programs that are missing are left out.
    """
    found = []
    for tool in ("gcc", "ld", "as"):
        try:
            path = os.path.realpath(require_tool(tool))
        except UserError:
            continue
        status = os.stat(path)
        found.append((path, status.st_size, status.st_mtime_ns))
    return found
