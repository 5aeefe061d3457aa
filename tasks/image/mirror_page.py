"""A mirror's index.html: what it holds, for people, to browse and to search.

The page needs nothing but itself: no network, no other file, and no script to show
everything; the script in its template only filters.  All that comes from an
extension is escaped, and the page's policy lets a browser run that one script alone.
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

    name: without .tcz; size: bytes; deps: as its .dep names them, without .tcz; needs: the
    same with `-KERNEL` resolved; info: fields of its .info; paths: what it brings, folders
    left out; files: the names of the .tcz and of what lies beside it.
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
    """A container image of a mirror: its name, the tar below images/, size in bytes, digests."""

    name: str
    file: str
    size: int
    sha256: str
    digest: str


def page(title: str, folder: str, entries: Sequence[MirrorExtension], images: Sequence[Image] = ()) -> bytes:
    """Return index.html.

    title: says what the mirror is of; folder: where the extensions lie, relative to the page.
    """
    by_name = {item.name: item for item in entries}
    total = sum(item.size for item in entries) + sum(image.size for image in images)
    closures = {item.name: [by_name[name].size for name in closure(item.name, by_name)] for item in entries}
    return render(
        TEMPLATE, title=title, folder=folder, entries=entries, images=images, total=total, closures=closures
    )


def closure(name: str, by_name: Mapping[str, MirrorExtension]) -> list[str]:
    """Return an extension and all it needs, each once, as tce-load would fetch them."""
    found: dict[str, None] = {}
    todo = [name]
    while todo:
        one = todo.pop()
        if one in by_name and one not in found:
            found[one] = None
            todo += by_name[one].needs
    return list(found)
