# SPDX-License-Identifier: MIT
"""Unpack Debian packages (.deb, deb(5)) after checking their members."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.formats.archive import UntrustedArchive, check_package
from tasks.util import jobserver, parallel
from tasks.util.errors import DiskFull, ToolMissing, UserError
from tasks.util.files import scratch_folder
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
        raise _damaged(deb, error) from None


def unpack_packages(debs: Sequence[Path], root: Path, *, left_out: Sequence[str], log: Path) -> None:
    """Unpack packages into the folder `root` of a whole system; no maintainer script runs.

    Links to folders in `root`, as /lib of a merged /usr, stay.  All files belong to the caller, and
    none has a set-id bit.  left_out: folders of the packages, as ./usr/share/man, that are not unpacked.
    Raises `UserError` as `unpack_deb` does.
    """
    rules = ["--no-same-owner", "--no-same-permissions", "--keep-directory-symlink"]
    rules += [f"--exclude={folder}/*" for folder in left_out]

    def unpack(deb: Path) -> None:
        packed = scratch / f"{deb.name}.tar"
        try:
            run(["dpkg-deb", "--fsys-tarfile", deb], stdout=packed, log=log)
            check_package(deb, packed)
            run(["tar", "--extract", "--file", packed, "--directory", root, *rules], log=log)
        except (DiskFull, ToolMissing, UntrustedArchive):
            raise
        except UserError as error:
            raise _damaged(deb, error) from None
        finally:
            packed.unlink(missing_ok=True)

    with scratch_folder(root.parent, "packages") as scratch, jobserver.tokens() as threads:
        parallel.each(unpack, debs, threads)


def _damaged(deb: Path, error: UserError) -> UserError:
    hint = "remove it and run ./doit fetch again"
    return UserError(f"{deb}: the package is damaged or cut short", hint, error.detail)
