# SPDX-License-Identifier: MIT
"""containerd 1.4 and runc 1.0 of Debian 11."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

from tasks.formats.debian_package import unpack_deb
from tasks.origins import suite
from tasks.origins.distribution import Suite
from tasks.util.checkout import cache_folder
from tasks.util.errors import UserError

BULLSEYE = Suite("debian", "bullseye")
PROGRAMS = ("usr/bin/containerd", "usr/bin/containerd-shim-runc-v2", "usr/bin/ctr", "usr/sbin/runc")


def runtime(folder: Path) -> Path:
    """Put Debian 11's containerd, ctr, shim and runc into the new folder `folder` and return it.

    They are dynamic, and run with a newer C library and libseccomp.  The packages are fetched
    once into the cache.  Skips the test where no mirror has Debian 11 any more.
    """
    cache = cache_folder()
    try:
        packages = suite.candidates(BULLSEYE, ["containerd", "runc"], cache).values()
        suite.fetch(BULLSEYE, packages, cache)
    except UserError as error:
        pytest.skip(f"Debian 11 cannot be had here: {error}")
    folder.mkdir()
    with tempfile.TemporaryDirectory() as unpacked:
        for package in packages:
            unpack_deb(package.cached_in(cache), Path(unpacked))
        for program in PROGRAMS:
            shutil.copy2(Path(unpacked, program), folder)
    return folder
