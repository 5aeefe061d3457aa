# SPDX-License-Identifier: MIT
"""Unpack Debian packages (.deb, deb(5)) after checking their members."""

from __future__ import annotations

from pathlib import Path

from tasks.formats.archive import UntrustedArchive, check_package
from tasks.util.errors import DiskFull, ToolMissing, UserError
from tasks.util.process import run


def unpack_deb(deb: Path, into: Path) -> None:
    """Unpack the files of a .deb into the folder `into`, over existing files.

    Raises `UserError` if the package is damaged, or if `check_package` refuses a member.
    """
    into.mkdir(parents=True, exist_ok=True)
    try:
        check_package(deb)
        run(["dpkg-deb", "--extract", deb, into])
    except (DiskFull, ToolMissing, UntrustedArchive):
        raise
    except UserError as error:
        hint = "remove it and run ./doit fetch again"
        raise UserError(f"{deb}: the package is damaged or cut short", hint, error.detail) from None
