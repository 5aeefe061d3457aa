# SPDX-License-Identifier: MIT
"""The parts of a made-up image, for tests of its bills of materials."""

from __future__ import annotations

import datetime

from packageurl import PackageURL

from tasks.formats.iso_layout import File
from tasks.provenance.sbom.components import ImagePart, Material

WHEN = datetime.datetime.fromtimestamp(1_700_000_000, datetime.UTC)
IMAGE = File("x.iso", 1, "a" * 64)
LIBC = Material(
    PackageURL("deb", "debian", "libc6", "2.36-9", {"arch": "amd64"}),
    *("libc6", "2.36-9", "b" * 64, "LGPL-2.1-or-later AND LicenseRef-Debian-other"),
)
NPM = Material(PackageURL("npm", "@a", "b", "1.0"), "@a/b", "1.0", "c" * 64, "MIT OR Apache-2.0")
PARTS = [
    ImagePart("linux", "6.1", "d" * 64, "kernel", "", (), patches=(("0001-x.patch", "--- a\n+++ b\n"),)),
    ImagePart("core", "", "e" * 64, "initramfs", "", (LIBC,), ("linux",)),
    ImagePart("tool", "1", "f" * 64, "", "GPLv2", (LIBC, NPM), ("core",)),
    ImagePart("more", "1", "0" * 64, "", "", (NPM,), ("tool", "core")),
]
