"""How much an archive may unpack to.  What unpacks to more is a bomb, or damaged.

The ratio is far above that of real inputs: a kernel source packed by xz has 10, the
emptiest file system images of packages some 50, and gzip can say at most 1,032.  Small
archives may be emptier, since what they unpack to does no harm.
"""

from __future__ import annotations

MOST_RATIO = 200
HARMLESS = 256 << 20  # bytes
MOST_BYTES = 16 << 30
MOST_MEMBERS = 1_000_000
# A member's name, link and attributes are held in memory; PATH_MAX of Linux is 4,096.
MOST_HEADER = 1 << 20


class TooMuch(Exception):
    """An archive unpacks to more than it may; the text names the member it was seen at."""


def most(packed: int) -> int:
    """Return how many bytes an archive of `packed` bytes may unpack to."""
    return min(MOST_BYTES, max(HARMLESS, MOST_RATIO * packed))


class Meter:
    """Counts what an archive of `packed` bytes unpacks to, before it is written."""

    def __init__(self, packed: int) -> None:
        self.packed = packed
        self.limit = most(packed)
        self.size = 0
        self.members = 0

    def add(self, name: str, size: int) -> None:
        """Count a member of `size` bytes.  Raises `TooMuch` if that goes too far."""
        self.size += max(size, 0)
        self.members += 1
        if size < 0:
            raise TooMuch(f"{name!r} says that it has {size} bytes")
        if self.size > self.limit:
            raise TooMuch(
                f"with {name!r} it unpacks to {self.size:,} bytes, more than the {self.limit:,} "
                f"that an archive of {self.packed:,} may have"
            )
        if self.members > MOST_MEMBERS:
            raise TooMuch(f"it has more than {MOST_MEMBERS:,} members; the next one is {name!r}")
