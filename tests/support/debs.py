# SPDX-License-Identifier: MIT
"""Debian packages that tests make."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from tasks.util.process import run


def write(deb: Path, files: Mapping[str, bytes], *, links: Mapping[str, str] | None = None) -> Path:
    """Write a package with `files` (executable) and symbolic `links`, and return its path."""
    with tempfile.TemporaryDirectory() as top:
        for path, content in files.items():
            target = Path(top, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(0o755)
        for path, to in (links or {}).items():
            Path(top, path).parent.mkdir(parents=True, exist_ok=True)
            Path(top, path).symlink_to(to)
        control = Path(top, "DEBIAN/control")
        control.parent.mkdir()
        fields = f"Package: {deb.stem}\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <n@invalid>\n"
        control.write_text(f"{fields}Description: made up\n")
        Path(top).chmod(0o755)
        run(["dpkg-deb", "--root-owner-group", "--build", top, deb])
    return deb
