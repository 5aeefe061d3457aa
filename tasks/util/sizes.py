# SPDX-License-Identifier: MIT
"""Sizes in bytes, as people write and read them."""

from __future__ import annotations

import re

from tasks.util.errors import UserError

# Units of IEC 80000-13.  A single letter means the power of 1024, as in ls and dd.
UNITS = {"": 1, "B": 1} | {
    f"{letter}{ending}": base**power
    for power, letter in enumerate("KMGT", 1)
    for ending, base in (("", 1024), ("IB", 1024), ("B", 1000))
}


def parse_size(text: str, option: str) -> int:
    """Return a size like `500MB`, `1.5 GiB`, `10G` or `4096` in bytes.

    Raises `UserError`, which names the option, for other text.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    unit = match[2].upper() if match else ""
    if match is None or unit not in UNITS:
        raise UserError(f"{option}{text}: expected a size like 500MB or 10GiB")
    return int(float(match[1]) * UNITS[unit])


def format_size(size: int) -> str:
    """Return a size in bytes as text for people: `812 B`, `10.9 MiB`."""
    amount, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
