# SPDX-License-Identifier: MIT
"""A bundle of files that the agent of a running guest unpacks there: a tar, compressed by gzip.

All in it is root's, and has no time.
"""

from __future__ import annotations

import io
import tarfile
from typing import IO


def unpack(folder: str) -> str:
    """Return the beginning of a script that unpacks the bundle on its input into a folder of the guest."""
    return f"#!/bin/sh\nmkdir -p -m 755 {folder} && gunzip -c | tar xf - -C {folder} || exit\n"


def writer(stream: IO[bytes]) -> tarfile.TarFile:
    """Return a bundle that is written to `stream`."""
    return tarfile.open(fileobj=stream, mode="w:gz", compresslevel=6, format=tarfile.GNU_FORMAT)


def add(tar: tarfile.TarFile, name: str, mode: int, content: bytes) -> None:
    """Add a file."""
    member = _member(name, mode)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def add_folder(tar: tarfile.TarFile, name: str) -> None:
    """Add a folder."""
    tar.addfile(_member(name, 0o755, tarfile.DIRTYPE))


def add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    """Add a symbolic link."""
    tar.addfile(_member(name, 0o777, tarfile.SYMTYPE, target))


def _member(name: str, mode: int, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode, member.type, member.linkname = mode, kind, target
    return member
