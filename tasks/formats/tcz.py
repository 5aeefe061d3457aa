# SPDX-License-Identifier: MIT
"""Tiny Core extensions: their names, the files beside a .tcz, and .dep files."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.util.errors import UserError

# An extension's name is part of paths and URLs.
EXTENSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")

# The databases of a mirror, in the folder of its extensions; tasks/image/mirror.py describes them.
DATABASES = ("dep.db", "info.lst", "md5.db", "provides.db", "sizelist", "tags.db")

# File name endings, after NAME.tcz, of the side files of an extension that we build.  All of them
# go onto the image.  The other lists are subsets of this one.
SIDE_FILES = (".dep", ".info", ".list", ".md5.txt")
# An upstream extension has no .info: tce-load does not fetch it, and no program reads it at boot.
UPSTREAM_SIDE_FILES = tuple(ending for ending in SIDE_FILES if ending != ".info")
# An initramfs costs memory, so it holds only the files that tce-load and its tools read.
INITRAMFS_SIDE_FILES = tuple(ending for ending in SIDE_FILES if ending in (".dep", ".md5.txt"))
# Every extension on a mirror has these files.  An extension has a .dep only if it depends on
# others, and an .info only if we built it.
MIRROR_SIDE_FILES = tuple(ending for ending in SIDE_FILES if ending not in (".dep", ".info"))


# Words behind `tcz:` that are commands.
COMMANDS = ("all", "tree")


def name_of_task(name: str) -> str:
    """Return the word behind `tcz:` of the task that makes `name`: NAME.tcz if a command has the word."""
    return f"{name}.tcz" if name in COMMANDS else name


def file_names(name: str, side_files: Sequence[str] = SIDE_FILES) -> list[str]:
    """Return the names of the files of extension `name`: NAME.tcz and its `side_files`."""
    return [f"{name}.tcz", *(f"{name}.tcz{ending}" for ending in side_files)]


def parse_dep(text: str, what: str) -> tuple[str, ...]:
    """Return the names in a .dep file, without .tcz and duplicates; `-KERNEL` is not replaced.

    what: the file's name in messages.  Raises `UserError` for a line that is no extension's name.
    """
    names: dict[str, None] = {}
    for line in text.splitlines():
        name = "".join(line.split()).removesuffix(".tcz")
        if not name:
            continue
        if not EXTENSION_NAME.fullmatch(name):
            message = f"{what} is no list of extensions: {line.strip()[:60]!r}"
            raise UserError(message, "it must have one extension a line, as NAME.tcz")
        names[name] = None
    return tuple(names)
