# SPDX-License-Identifier: MIT
"""Control data and versions of Debian packages: deb(5), deb-control(5), deb-version(7).

The package `debian` is imported when it is used: most runs do not need it, and it takes long.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tasks.formats import compression
from tasks.util.errors import UserError

if TYPE_CHECKING:
    from debian.debian_support import Version

AR = b"!<arch>\n"
AR_HEADER = 60  # bytes of a member's header (ar(5)): the first 16 are its name, 48 to 57 its size in digits
# A field of one stanza: its lines but the first begin with a blank.
FIELD = re.compile(r"^([!-9;-~]+):(.*(?:\n[ \t].*)*)", re.MULTILINE)
CONTROL_LIMIT = 32 << 20  # bytes; a package with many thousand files has some MB of control files


def of_package(deb: Path) -> dict[str, str]:
    """Return the fields of a package's control file by their names as Debian writes them.

    It is read here, because `dpkg-deb --field` starts three programs for each package.
    Raises `UserError` if the package is damaged.
    """
    try:
        with deb.open("rb") as stream:
            packed = _control_archive(stream)
        if compression.detect(packed) != "plain":
            packed, _ = compression.decompress_one(memoryview(packed), 0, CONTROL_LIMIT)
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:") as members:
            file = next(member for member in members if member.name.removeprefix("./") == "control")
            found = members.extractfile(file)
            text = found.read() if found else b""
    except (ValueError, StopIteration, tarfile.TarError, UserError):
        message = f"{deb}: the package is damaged or cut short"
        raise UserError(message, "remove it and run ./doit fetch again") from None
    fields = FIELD.findall(text.decode(errors="replace"))
    return {name: value.strip() for name, value in fields}


def _control_archive(stream: IO[bytes]) -> bytes:
    """Return the member control.tar, control.tar.xz or the like; raise `ValueError` if there is none."""
    if stream.read(len(AR)) != AR:
        raise ValueError("no ar archive")
    while True:
        header = stream.read(AR_HEADER)
        size = int(header[48:58])
        if size > CONTROL_LIMIT:
            raise ValueError("no control archive before the files")
        content = stream.read(size + size % 2)  # a byte fills up to an even place
        if header.startswith(b"control.tar"):
            return content[:size]


def stanzas(text: str) -> list[Mapping[str, str]]:
    """Return the stanzas of `text`: field -> value.  Field names ignore letter case."""
    from debian.deb822 import Deb822

    return list(Deb822.iter_paragraphs(text.split("\n")))


def related_packages(field: str) -> list[str]:
    """Return the package names in a relationship field (`a (>= 1) | b:any, c`), alternatives included."""
    if not field.strip():
        return []
    from debian.deb822 import PkgRelation

    return [relation["name"] for either in PkgRelation.parse_relations(field) for relation in either]


def version(text: str) -> Version:
    """Return a version that sorts as in dpkg.  Raises `UserError` if `text` is no version."""
    from debian.debian_support import Version

    try:
        return Version(text)
    except ValueError:
        raise UserError(f"{text!r} is not a version of a Debian package") from None
