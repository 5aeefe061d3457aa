"""A mirror's index.html: what it holds, for people, to browse and to search.

The page needs nothing but itself: no network, no other file, and no script to show
everything; the script in tasks/mirror.html only filters.  All that comes from an
extension is escaped, and the page's policy lets a browser run that one script alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from tasks.util.html import count, escape, fill, size_text

TEMPLATE = Path(__file__).with_name("mirror.html")


@dataclass(frozen=True)
class Entry:
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


def page(title: str, folder: str, entries: Sequence[Entry], images: Sequence[Image] = ()) -> bytes:
    """Return index.html.

    title: says what the mirror is of; folder: where the extensions lie, relative to the page.
    """
    by_name = {item.name: item for item in entries}
    total = sum(item.size for item in entries) + sum(image.size for image in images)
    values = {
        "TITLE": escape(title),
        "FOLDER": escape(folder),
        "COUNT": count(len(entries), "extension"),
        "TOTAL": size_text(total),
        "EXTENSIONS": "\n".join(_article(item, folder, by_name) for item in entries),
        "IMAGES": _images(images),
    }
    return fill(TEMPLATE, values)


def closure(name: str, by_name: Mapping[str, Entry]) -> list[str]:
    """Return an extension and all it needs, each once, as tce-load would fetch them."""
    found: dict[str, None] = {}
    todo = [name]
    while todo:
        one = todo.pop()
        if one in by_name and one not in found:
            found[one] = None
            todo += by_name[one].needs
    return list(found)


def _article(item: Entry, folder: str, by_name: Mapping[str, Entry]) -> str:
    info = item.info
    tcz = f"{item.name}.tcz"
    facts = [
        ("Version", escape(info.get("Version", ""))),
        ("Size", f"{size_text(item.size)} ({item.size:,} bytes){_with_deps(item, by_name)}"),
        (
            "Needs",
            ", ".join(f'<a href="#ext-{escape(dep)}">{escape(dep)}</a>' for dep in item.needs)
            or "nothing else",
        ),
        ("Tags", escape(info.get("Tags", ""))),
        ("Licence", escape(info.get("Copying-policy", ""))),
        ("From", _site(info.get("Original-site", ""))),
        ("Comments", escape(info.get("Comments", "")).replace("\n", "<br>")),
        ("MD5", f"<code>{item.md5}</code>"),
        ("SHA-256", f"<code>{item.sha256}</code>"),
        ("Files", " ".join(_link(folder, file, file) for file in item.files)),
    ]
    rows = "".join(f"<dt>{label}</dt><dd>{value}</dd>" for label, value in facts if value)
    paths = "".join(f"<li>{escape(path)}</li>" for path in item.paths)
    return (
        f'<article id="ext-{escape(item.name)}"><h3>{_link(folder, tcz, tcz)}</h3>'
        f'<p class="about">{escape(info.get("Description", ""))}</p><dl>{rows}</dl>'
        f"<details><summary>It brings {count(len(item.paths), 'file')}</summary>"
        f'<ul class="paths">{paths}</ul></details></article>'
    )


def _with_deps(item: Entry, by_name: Mapping[str, Entry]) -> str:
    needed = closure(item.name, by_name)
    if len(needed) == 1:
        return ""
    whole = sum(by_name[name].size for name in needed)
    return f"; {size_text(whole)} with all it needs ({count(len(needed), 'extension')})"


def _images(images: Sequence[Image]) -> str:
    if not images:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(image.name)}</th><td>{_link("images", image.file, image.file)}</td>'
        f"<td>{size_text(image.size)}</td><td><code>{escape(image.sha256)}</code></td>"
        f"<td><code>{escape(image.digest)}</code></td></tr>"
        for image in images
    )
    head = "".join(
        f'<th scope="col">{label}</th>' for label in ("Name", "Archive", "Size", "SHA-256", "Digest")
    )
    return (
        '<section id="images"><h2>Container images</h2><p>For <code>ctr images import FILE</code>; '
        '<a href="images/images.lst">images.lst</a> lists them.</p>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _site(address: str) -> str:
    """Return a link for a web address, and the text alone for anything else."""
    if re.match(r"https?://", address):
        return f'<a href="{escape(address)}" rel="noreferrer">{escape(address)}</a>'
    return escape(address)


def _link(folder: str, file: str, label: str) -> str:
    return f'<a href="{escape(quote(f"{folder}/{file}"))}" download>{escape(label)}</a>'
