# SPDX-License-Identifier: MIT
"""An ISO with many small extensions, made of one that is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.vm.contract import make_tcz


def add(iso: Path, made: Path, count: int) -> list[str]:
    """Write the ISO `made`: `iso` with `count` extensions of one file each in place of its own list.

    Returns their names.  It boots by BIOS as `iso` does; xorriso is sorry that it cannot start the EFI
    partition, which is no file.
    """
    cde = made.with_suffix(".cde")
    names = [f"small-{number:03}" for number in range(count)]
    for name in names:
        make_tcz(cde / "optional", name, {f"usr/local/share/small/{name}": f"{name}\n"})
    (cde / "onboot.lst").write_text("".join(f"{name}.tcz\n" for name in names))
    words: list[str | Path] = [
        *("xorriso", "-return_with", "FAILURE", "32", "-indev", iso, "-outdev", made),
        *("-boot_image", "any", "replay", "-map", cde, "/cde"),
    ]
    subprocess.run(words, check=True, capture_output=True)
    return names
