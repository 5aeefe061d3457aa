# SPDX-License-Identifier: MIT
"""Tiny Core's layout of extensions on a mirror: `RELEASE.x/ARCH/tcz`."""

from __future__ import annotations

import re
from pathlib import Path

from tasks.config.profile import Profile
from tasks.config.settings import Paths
from tasks.util.checkout import CHECKOUT


def mirror(paths: Paths) -> Path:
    """Return the folder that `./doit mirror` writes; a web host serves it, and /opt/tcemirror names it."""
    return paths.output / "mirror"


def mirror_folder(profile: Profile) -> str:
    """Return the folder of extensions below a mirror's address, `RELEASE.x/ARCH/tcz`.

    The profile's `tcz` decides; without it, the release of the root in rootfs/ does.
    tasks/image/mirror.py compares it with the built root.
    """
    if profile.tcz:
        return profile.tcz.strip("/")
    path = CHECKOUT.find("rootfs", "files/etc/os-release")
    text = path.read_text() if path.is_file() else ""
    found = re.search(r'^VERSION_ID="?(\d+)', text, re.MULTILINE)
    return f"{found[1] if found else 'unknown'}.x/{profile.architecture.mirror}/tcz"
