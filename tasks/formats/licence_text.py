# SPDX-License-Identifier: MIT
"""The licences of a source archive, by the texts of its licence files.

A Go module, and many an archive of sources, states its licence by nothing but such a file.
licence_text.toml has sentences of each licence.  A text that fits none has no known licence: none is guessed.
"""

from __future__ import annotations

import functools
import lzma
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from tasks.util.toml_schema import read_toml

NAME = re.compile(r"(?i)(un)?(licen[cs]e|copying)([-._][a-z0-9._-]*)?|mit-licen[cs]e[a-z.]*")
MAX_TEXT = 1 << 20  # bytes of a licence file that are read


@functools.cache
def _sentences() -> tuple[tuple[str, tuple[str, ...]], ...]:
    table = read_toml(Path(__file__).with_name("licence_text.toml"))["licence"]
    return tuple((str(one["spdx"]), tuple(one["has"])) for one in table)


def spdx(text: str) -> str:
    """Return the SPDX id of a licence's text, "" if it is not known."""
    plain = " ".join(re.findall("[a-z0-9]+", text.lower()))
    return next((name for name, has in _sentences() if all(words in plain for words in has)), "")


def of_zip(archive: Path) -> str:
    """Return an SPDX expression of the licence files at the top of a Go module's zip, "" if one is unknown.

    The top is the folder `MODULE@VERSION/`.
    """
    with zipfile.ZipFile(archive) as packed:
        names = packed.namelist()
        top = len(names[0].partition("@")[0].split("/")) if names else 0
        found = [name for name in names if name.count("/") == top and NAME.fullmatch(name.rpartition("/")[2])]
        texts = [packed.read(name)[:MAX_TEXT].decode(errors="replace") for name in sorted(found)]
    return _expression(texts)


def of_tar(archive: Path) -> str:
    """Return an SPDX expression of the licence files at the top of a tar archive, "" if one is unknown.

    The top is the archive itself, or its one folder.  A file that is no archive, or that Python's tarfile
    cannot read, has no known licence.
    """
    try:
        with tarfile.open(archive) as packed:
            members = [one for one in packed if one.isreg()]
            tops = {one.name.removeprefix("./").partition("/")[0] for one in packed if one.name != "."}
            names = {one.name.removeprefix("./"): one for one in members}
            depth = 1 if len(tops) == 1 else 0
            found = [name for name in names if name.count("/") == depth and NAME.fullmatch(Path(name).name)]
            return _expression(_text(packed, names[name]) for name in sorted(found))
    except (tarfile.TarError, EOFError, lzma.LZMAError, zlib.error, OSError):
        return ""


def _text(packed: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    stream = packed.extractfile(member)
    return stream.read(MAX_TEXT).decode(errors="replace") if stream else ""


def _expression(texts: Iterable[str]) -> str:
    known = [spdx(text) for text in texts]
    return " AND ".join(sorted(set(known))) if all(known) else ""
