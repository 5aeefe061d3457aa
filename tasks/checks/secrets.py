# SPDX-License-Identifier: MIT
"""Scan images, logs and what tcbuild publishes for secrets (tasks/util/secret_patterns.py).

secrets.toml of the checkout, and that of each tree, holds the allowed findings with their reasons.
Content is scanned before it is packed, a text before it is written, so a secret is never in a result.
Files that are private on this machine but would be readable by all in the image count as secrets, too.
Compressed content within a file is not scanned, and neither are files that upstream publishes.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tasks.engine import code
from tasks.formats import container_archive, cpio
from tasks.formats.cpio import Member
from tasks.util import toml_schema
from tasks.util.checkout import CHECKOUT
from tasks.util.errors import UserError
from tasks.util.secret_patterns import Finding, Scanner, scanner
from tasks.util.verified_digests import VerifiedDigests, digest

MAX_SHOWN = 10
BLOCK_BYTES, OVERLAP_BYTES = 32 << 20, 4 << 10  # bytes of a stream searched at once, and searched again
PRIVATE = "a file that not everybody may read here, but all in the image"


@dataclass(frozen=True)
class Allow:
    """An allowed finding: `path`, a shell pattern, in the extension or folder `where`."""

    where: str
    path: str
    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("reason: expected some words")


@dataclass(frozen=True)
class Allowed:
    """The content of secrets.toml, of the checkout or of a tree."""

    allow: tuple[Allow, ...] = ()


@functools.cache
def allowed() -> tuple[Allow, ...]:
    """Return the allowed findings, those of trees, too.  Raises `UserError` if secrets.toml is malformed."""
    return tuple(one for path in CHECKOUT.secrets for one in toml_schema.load(path, Allowed).allow)


def refuse_in_table(where: str, values: Any) -> None:
    """Raise `UserError`, which names the key, if a table for people or programs holds a secret.

    values: tables, arrays and plain values, as JSON and TOML have them.
    """
    leaves = list(_leaves("", values))
    searcher = scanner()
    # One search of all is quick; only a finding is worth a search key by key.
    whole = "\n".join(text for leaf in leaves for text in leaf)
    if not any(searcher.search("", _encoded(whole))):
        return
    _refuse(where, (one for key, text in leaves for one in searcher.search(key, _encoded(text))))


def refuse_in_text(where: str, texts: Mapping[str, str | bytes]) -> None:
    """Raise `UserError` if one of the `texts` (name -> content) that are to be written holds a secret."""
    searcher = scanner()
    encoded = {name: text if isinstance(text, bytes) else _encoded(text) for name, text in texts.items()}
    _refuse(where, (one for name, text in encoded.items() for one in searcher.search(name, text)))


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # a name in a manifest may hold any surrogate


def _leaves(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, text) of each value; a member of an array has its name or number as key."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}".lstrip("."), item)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            name = item.get("name", number) if isinstance(item, Mapping) else number
            yield from _leaves(f"{key}.{name}".lstrip("."), item)
    else:
        yield key, str(value)


def refuse_in_files(where: str, files: Iterable[tuple[str, Path]]) -> None:
    """Raise `UserError` if one of `files`, (path below /, file), holds a secret.

    Of a symlink the target is looked at, of a folder the name.
    """
    searcher = scanner()
    _refuse(where, (finding for path, file in files for finding in searcher.search(path, _content(file))))


def _content(file: Path) -> bytes:
    if file.is_symlink():
        return os.fsencode(os.readlink(file))
    return file.read_bytes() if file.is_file() else b""


def refuse_in_members(where: str, members: Iterable[Member], clean: Path) -> None:
    """Raise `UserError` if one of an archive's members holds a secret.

    clean: a file that records the digests of clean members, so that they are not scanned again.
    """
    searcher = scanner()
    # Values of variables are searched in all members, because no digest of them may be stored.
    values_only = dataclasses.replace(searcher, rules=dataclasses.replace(searcher.rules, pattern=()))
    allowing = [path.read_bytes() for path in CHECKOUT.secrets]
    known = VerifiedDigests(clean, digest(code.digest(__name__).encode(), *allowing))
    found: list[Finding] = []
    keys = []
    for member in members:
        keys.append(digest(cpio.encode(member.name), member.data))
        chosen = values_only if keys[-1] in known else searcher
        found += chosen.search(member.name, member.data)
    _refuse(where, found)
    known.keep(keys)


def refuse_in_image(where: str, image: Path) -> None:
    """Raise `UserError` if a container image's tar or one of its unpacked layers holds a secret."""
    searcher = scanner()
    found: list[Finding] = []
    with tarfile.open(image, "r:") as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is not None:
                found += _search_blob(searcher, member.name, content)
    _refuse(where, found)


def _search_blob(searcher: Scanner, name: str, content: IO[bytes]) -> list[Finding]:
    """Search the file `name` of an image archive; in a layer, search file by file."""
    found = []
    try:
        with tarfile.open(fileobj=container_archive.unpacked(content), mode="r|") as layer:
            for member in layer:
                stream = (
                    layer.extractfile(member) if member.isfile() else io.BytesIO(os.fsencode(member.linkname))
                )
                found += _search_stream(searcher, f"{name}/{member.name}", stream)
    except tarfile.ReadError:  # no layer but a document, or damaged in a way that `read` lets pass
        content.seek(0)
        found += _search_stream(searcher, name, container_archive.unpacked(content))
    return found


def _search_stream(searcher: Scanner, path: str, stream: Any) -> list[Finding]:
    """Search a stream in overlapping blocks, so that a secret across two blocks is found."""
    found = {finding.kind: finding for finding in searcher.search(path, b"")}
    offset, kept = 0, b""
    while block := stream.read(BLOCK_BYTES):
        for finding in searcher.search(path, kept + block):
            if finding.offset is not None:
                place = offset - len(kept) + finding.offset
                found.setdefault(finding.kind, dataclasses.replace(finding, offset=place))
        offset += len(block)
        kept = block[-OVERLAP_BYTES:]
    return list(found.values())


def refuse_private(where: str, folder: Path, reference: Path) -> None:
    """Raise `UserError` if not everybody may read a file below `folder`: in the image all may.

    A file in a private folder is private, too.  reference: a file of the same checkout.  If not
    everybody may read it, the checkout was made with a umask of 027 or 077, so the modes have no
    meaning and nothing is checked.
    """
    if not reference.stat().st_mode & 0o004:
        return
    found = [
        Finding(str(path.relative_to(folder)), PRIVATE)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and _is_private(path, folder)
    ]
    _refuse(where, found, hint="run chmod 644 on it if all may read it, else remove it")


def _is_private(file: Path, top: Path) -> bool:
    """Tell whether somebody may not read `file`, or may not enter one of the folders from `top` to it."""
    folders = [top, *(top / above for above in file.relative_to(top).parents)]
    return not file.stat().st_mode & 0o004 or any(not path.stat().st_mode & 0o001 for path in folders)


def _refuse(where: str, found: Iterable[Finding], hint: str = "") -> None:
    passed = [item.path for item in allowed() if item.where == where]
    left = [one for one in found if not any(fnmatch.fnmatchcase(one.path, pattern) for pattern in passed)]
    if not left:
        return
    more = [f"  {one}" for one in left[:MAX_SHOWN]]
    more += [f"  and {len(left) - MAX_SHOWN} more"] if left[MAX_SHOWN:] else []
    hint = hint or "remove it"
    raise UserError(
        f"{where} holds what looks like a secret: {left[0]}",
        f'{hint}; if it is meant to be there, allow it under [[allow]] (where = "{where}") in secrets.toml',
        "\n".join(more) if left[1:] else "",
    )


def refuse_in_records(output: Path) -> None:
    """Raise `UserError` if a log or a lock in the output folder `output` holds a secret.

    What else tcbuild writes there is searched before it is written.
    """
    patterns = ("logs/*.log", "lock.toml", "origins/*.toml", "kconfig/*")
    files = sorted({path for pattern in patterns for path in output.glob(pattern)})
    refuse_in_files("logs", [(str(path.relative_to(output)), path) for path in files])
