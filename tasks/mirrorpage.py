"""A mirror's index.html: what it holds, for people, to browse and to search.

The page needs nothing but itself: no network, no other file, and no script to show
everything; the script in tasks/mirror.html only filters.  All that comes from an
extension is escaped, and the page's policy lets a browser run that one script alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

TEMPLATE = Path(__file__).with_name("mirror.html")
KEY = re.compile(r"@([A-Z_]+)@")
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


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
    text = TEMPLATE.read_text()
    values = {
        "TITLE": _text(title),
        "FOLDER": _text(folder),
        "COUNT": _count(len(entries), "extension"),
        "TOTAL": size_text(total),
        "EXTENSIONS": "\n".join(_article(item, folder, by_name) for item in entries),
        "IMAGES": _images(images),
        "POLICY": _policy(text),
    }
    # In one pass: nothing in a value is a key.
    filled = KEY.sub(lambda match: values[match[1]], text)
    # Names of files may be no UTF-8; such a byte is shown as \udcXX.
    return filled.encode(errors="backslashreplace")


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


def size_text(size: int) -> str:
    """Return bytes for people: 512 B, 34 KiB, 1.2 MiB."""
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.0f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.1f} MiB"


def _article(item: Entry, folder: str, by_name: Mapping[str, Entry]) -> str:
    info = item.info
    tcz = f"{item.name}.tcz"
    facts = [
        ("Version", _text(info.get("Version", ""))),
        ("Size", f"{size_text(item.size)} ({item.size:,} bytes){_with_deps(item, by_name)}"),
        (
            "Needs",
            ", ".join(f'<a href="#ext-{_text(dep)}">{_text(dep)}</a>' for dep in item.needs)
            or "nothing else",
        ),
        ("Tags", _text(info.get("Tags", ""))),
        ("Licence", _text(info.get("Copying-policy", ""))),
        ("From", _site(info.get("Original-site", ""))),
        ("Comments", _text(info.get("Comments", "")).replace("\n", "<br>")),
        ("MD5", f"<code>{item.md5}</code>"),
        ("SHA-256", f"<code>{item.sha256}</code>"),
        ("Files", " ".join(_link(folder, file, file) for file in item.files)),
    ]
    rows = "".join(f"<dt>{label}</dt><dd>{value}</dd>" for label, value in facts if value)
    paths = "".join(f"<li>{_text(path)}</li>" for path in item.paths)
    return (
        f'<article id="ext-{_text(item.name)}"><h3>{_link(folder, tcz, tcz)}</h3>'
        f'<p class="about">{_text(info.get("Description", ""))}</p><dl>{rows}</dl>'
        f"<details><summary>It brings {_count(len(item.paths), 'file')}</summary>"
        f'<ul class="paths">{paths}</ul></details></article>'
    )


def _with_deps(item: Entry, by_name: Mapping[str, Entry]) -> str:
    needed = closure(item.name, by_name)
    if len(needed) == 1:
        return ""
    whole = sum(by_name[name].size for name in needed)
    return f"; {size_text(whole)} with all it needs ({_count(len(needed), 'extension')})"


def _images(images: Sequence[Image]) -> str:
    if not images:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{_text(image.name)}</th><td>{_link("images", image.file, image.file)}</td>'
        f"<td>{size_text(image.size)}</td><td><code>{_text(image.sha256)}</code></td>"
        f"<td><code>{_text(image.digest)}</code></td></tr>"
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


def _policy(text: str) -> str:
    """Return a Content-Security-Policy that allows the template's own script and style, by hash."""
    allowed: dict[str, list[str]] = {"script": [], "style": []}
    for kind, content in INLINE.findall(text):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        allowed[kind].append(f"'sha256-{digest}'")
    sources = "; ".join(
        f"{kind}-src {' '.join(hashes) or chr(39) + 'none' + chr(39)}" for kind, hashes in allowed.items()
    )
    return f"default-src 'none'; base-uri 'none'; form-action 'none'; {sources}"


def _site(address: str) -> str:
    """Return a link for a web address, and the text alone for anything else."""
    if re.match(r"https?://", address):
        return f'<a href="{_text(address)}" rel="noreferrer">{_text(address)}</a>'
    return _text(address)


def _link(folder: str, file: str, label: str) -> str:
    return f'<a href="{_text(quote(f"{folder}/{file}"))}" download>{_text(label)}</a>'


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _text(text: str) -> str:
    return html.escape(text, quote=True)
