# SPDX-License-Identifier: MIT
"""Edits of a checkout's files for a while."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def edited(path: Path, old: str, new: str) -> Iterator[None]:
    """Replace `old` by `new` in a file for a while; put it back with the old mtime."""
    text, status = path.read_text(), path.stat()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    try:
        yield
    finally:
        path.write_text(text)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@contextmanager
def appended(path: Path, text: str) -> Iterator[None]:
    """Append to a file, or make it, for a while."""
    old = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((old or b"") + text.encode())
    try:
        yield
    finally:
        path.unlink() if old is None else path.write_bytes(old)
