"""Debian packages (.deb, deb(5)): unpacking, after a look at what they hold."""

from __future__ import annotations

from pathlib import Path

from tasks.formats.archive import UntrustedArchive, check_package
from tasks.util.errors import DiskFull, ToolMissing, UserError
from tasks.util.process import run


def unpack_deb(deb: Path, into: Path) -> None:
    """Unpack a .deb's files below `into`, on top of what is there.

    Raises `UserError` if it is damaged, or has in it what no archive should (`check_package`).
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
