# SPDX-License-Identifier: MIT
"""Limits on what an archive may unpack to.  An archive above a limit is a bomb, or damaged.

MAX_RATIO is far above the ratios of real inputs: a kernel source in xz has 10, and the
emptiest file system images in packages have about 50.  gzip reaches at most 1,032.  A small
archive may exceed the ratio, because ALWAYS_ALLOWED bytes do no harm.
"""

from __future__ import annotations

MAX_RATIO = 200
ALWAYS_ALLOWED = 256 << 20  # bytes
MAX_BYTES = 16 << 30
MAX_MEMBERS = 1_000_000
# Bytes of a member's name, link target and attributes, which are read into memory.
# PATH_MAX of Linux is 4,096.
MAX_HEADER_TEXT = 1 << 20


class LimitExceeded(Exception):
    """An archive exceeds a limit; the text names the member that exceeds it."""


def max_unpacked_bytes(packed: int) -> int:
    """Return how many bytes an archive of `packed` bytes may unpack to."""
    return min(MAX_BYTES, max(ALWAYS_ALLOWED, MAX_RATIO * packed))


class Meter:
    """Counts the members and bytes of an archive of `packed` bytes before they are written."""

    def __init__(self, packed: int) -> None:
        self.packed = packed
        self.limit = max_unpacked_bytes(packed)
        self.size = 0
        self.members = 0

    def add(self, name: str, size: int) -> None:
        """Count a member of `size` bytes.  Raises `LimitExceeded` if the archive is now too large."""
        self.size += max(size, 0)
        self.members += 1
        if size < 0:
            raise LimitExceeded(f"{name!r} has a size of {size} bytes")
        if self.size > self.limit:
            raise LimitExceeded(
                f"with {name!r} it unpacks to {self.size:,} bytes, more than the {self.limit:,} "
                f"that an archive of {self.packed:,} may have"
            )
        if self.members > MAX_MEMBERS:
            raise LimitExceeded(f"it has more than {MAX_MEMBERS:,} members; the next one is {name!r}")
