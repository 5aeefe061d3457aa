"""What tells one compiler of this machine from another."""

from __future__ import annotations

import os

from tasks.util.errors import UserError
from tasks.util.process import require_tool


def compiler() -> list[tuple[str, int, int]]:
    """Return what tells one compiler and linker from another, without running them.

    Path, size in bytes and mtime in nanoseconds of each program; empty where it is missing.
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
