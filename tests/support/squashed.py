# SPDX-License-Identifier: MIT
"""Squashfs images made by the real program."""

from __future__ import annotations

from pathlib import Path

from tasks.util.process import run


def squashed(folder: Path, image: Path, *pseudo: str) -> Path:
    image.parent.mkdir(parents=True, exist_ok=True)
    lines = [word for line in pseudo for word in ("-p", line)]
    run(["mksquashfs", folder, image, "-noappend", "-no-progress", *lines])
    return image
