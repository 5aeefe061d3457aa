"""Tiny Core extensions: their names, the files beside a .tcz, and .dep files."""

from __future__ import annotations

import re

from tasks.util.errors import UserError

# Names of extensions are parts of paths and URLs.
EXTENSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")

# An upstream extension and what lies beside it; tce-load fetches no .info either.
UPSTREAM_ENDINGS = (".tcz", ".tcz.dep", ".tcz.list", ".tcz.md5.txt")

# What lies beside the extensions on a mirror; tasks/image/mirror.py says what is in them.
DATABASES = ("dep.db", "info.lst", "md5.db", "provides.db", "sizelist", "tags.db")

SIDE_FILES = (".dep", ".info", ".list", ".md5.txt")

# An extension and what lies beside it; all of it goes onto the image.
TCZ_ENDINGS = (".tcz", ".tcz.dep", ".tcz.info", ".tcz.list", ".tcz.md5.txt")


def parse_dep(text: str, what: str) -> tuple[str, ...]:
    """Return the names in a .dep file, without .tcz, each once, `-KERNEL` as it stands.

    Raises `UserError`, with `what` in it, for anything that is no extension's name.
    """
    names: dict[str, None] = {}
    for line in text.splitlines():
        name = "".join(line.split()).removesuffix(".tcz")
        if not name:
            continue
        if not EXTENSION_NAME.fullmatch(name):
            message = f"{what} is no list of extensions: {line.strip()[:60]!r}"
            raise UserError(message, "it must name one extension a line, as NAME.tcz")
        names[name] = None
    return tuple(names)
