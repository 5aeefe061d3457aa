# SPDX-License-Identifier: MIT
"""A mirror's index.html: a page to browse and search its extensions.

The page needs no network and no other file.  It shows everything without scripts; the script in
its template only filters.  Every value from an extension is escaped, and the page's content
security policy allows that one script alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks.util.html import render

TEMPLATE = Path(__file__).with_name("mirror.html")


@dataclass(frozen=True)
class MirrorExtension:
    """An extension of a mirror.

    name: without .tcz; size: bytes; deps: the names in its .dep, without .tcz; needs: the same
    with `-KERNEL` resolved; info: the fields of its .info; paths: the paths in it without
    folders; files: the names of the .tcz and its side files.
    """

    name: str
    size: int
    md5: str
    sha256: str
    deps: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    info: Mapping[str, str] = field(default_factory=dict)
    paths: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Image:
    """A container image of a mirror.

    file: the tar's name in images/; size: bytes; sha256: the tar's; digest: as in images.lst.
    """

    name: str
    file: str
    size: int
    sha256: str
    digest: str


def page(title: str, folder: str, entries: Sequence[MirrorExtension], images: Sequence[Image] = ()) -> bytes:
    """Return index.html.

    title: the mirror's description; folder: the extensions' folder, relative to the page.
    """
    by_name = {item.name: item for item in entries}
    total = sum(item.size for item in entries) + sum(image.size for image in images)
    closures = {item.name: [by_name[name].size for name in closure(item.name, by_name)] for item in entries}
    return render(
        TEMPLATE, title=title, folder=folder, entries=entries, images=images, total=total, closures=closures
    )


def closure(name: str, by_name: Mapping[str, MirrorExtension]) -> list[str]:
    """Return the names of an extension and all its dependencies that the mirror has, each once."""
    found: dict[str, None] = {}
    todo = [name]
    while todo:
        one = todo.pop()
        if one in by_name and one not in found:
            found[one] = None
            todo += by_name[one].needs
    return list(found)
