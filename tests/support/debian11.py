# SPDX-License-Identifier: MIT
"""containerd 1.4 and runc 1.0 of Debian 11, from the mirror that build roots come from."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tasks.toolchain import build_root
from tasks.toolchain.build_root import BuildRoot
from tasks.util.checkout import cache_folder
from tasks.util.errors import UserError
from tasks.util.files import atomic_path
from tasks.util.process import run

WANTED = BuildRoot(
    suite="bullseye",
    packages=("containerd", "runc"),
    keyring="/usr/share/keyrings/debian-archive-keyring.gpg",
)
PROGRAMS = ("usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr", "usr/sbin/runc")


def runtime(folder: Path) -> Path:
    """Unpack Debian 11's containerd, ctr, shim and runc into `folder` and return it.

    They are dynamic, and run with a newer C library and libseccomp.  Fetched once into
    the cache.  Skips the test where no mirror has Debian 11 any more.
    """
    archive = cache_folder() / "tests" / "debian11-containerd.tar"
    if not archive.is_file():
        try:
            _fetch(archive)
        except UserError as error:
            pytest.skip(f"Debian 11 cannot be had here: {error}")
    folder.mkdir()
    members = [f"./{program}" for program in PROGRAMS]
    run(["tar", "-xf", archive, "-C", folder, "--strip-components=3", "--no-same-owner", *members])
    return folder


def _fetch(archive: Path) -> None:
    """Have mmdebstrap verify, download and unpack the packages; nothing is installed or run."""
    with atomic_path(archive) as partial, tempfile.TemporaryDirectory() as scratch:
        # As for a build root: the machine's own proxy and apt settings count.
        settings = Path(scratch, "apt.conf")
        settings.write_text(build_root._apt_settings())
        Path(scratch).chmod(0o755)
        words = build_root.mmdebstrap(WANTED, partial, build_root.mirror(), settings)
        run(["--variant=extract" if word.startswith("--variant=") else word for word in words])
