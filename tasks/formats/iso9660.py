# SPDX-License-Identifier: MIT
"""Find the files of an ISO image by their offsets, without unpacking the image.

`xorriso -exec report_lba` (xorriso(1)) reports the first block, the number of blocks of
2,048 bytes, and the size of each file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tasks.util.errors import UserError
from tasks.util.process import run

BLOCK = 2048
LINE = re.compile(r"^File data lba:\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*'(.*)'$", re.MULTILINE)


@dataclass(frozen=True)
class Extent:
    """A file's bytes in the image: offset and size, in bytes."""

    offset: int
    size: int


def extents(image: Path) -> dict[str, Extent]:
    """Return the files of an ISO image by path, without a leading slash.

    Of a file in several sections the first is returned.  Raises `UserError` if the image is
    damaged, or if a file reaches beyond its end.
    """
    listed = run(
        ["xorriso", "-indev", f"stdio:{image}", "-find", "/", "-type", "f", "-exec", "report_lba", "--"],
        hint=f"{image.name} must be a complete ISO image",
    ).stdout
    end = image.stat().st_size
    found: dict[str, Extent] = {}
    for match in LINE.finditer(listed):
        extent, start, _, size = (int(number) for number in match.groups()[:4])
        name = match[5].replace("'\"'\"'", "'").lstrip("/")
        if extent == 0:
            found[name] = Extent(start * BLOCK, size)
        if start * BLOCK + size > end:
            raise UserError(
                f"{image}: {name} reaches beyond the end of the image",
                "the image is cut short; copy or build it again",
            )
    return found


def content(image: Path, extent: Extent) -> bytes:
    """Return the bytes of a file in an image."""
    with image.open("rb") as stream:
        stream.seek(extent.offset)
        return stream.read(extent.size)
