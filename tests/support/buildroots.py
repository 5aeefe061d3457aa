# SPDX-License-Identifier: MIT
"""A build root of one package, which a mirror on loopback has."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.origins.lock import Lock, LockedPackage
from tasks.toolchain import build_root
from tasks.util.files import sha256_file
from tests.support import debs
from tests.support.mirror import Mirror, Page


def serve(
    folder: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch, name: str, toml: str, program: str
) -> None:
    """Make `name` the one toolchain there is; toml: its description.

    Its lock has one package with one file, `program`, from whose name the package has its own.
    folder: where the files are made.
    """
    toolchains = folder / "toolchains"
    toolchains.mkdir()
    monkeypatch.setattr(build_root, "FOLDER", toolchains)
    monkeypatch.setenv("TCBUILD_DEBIAN_MIRROR", mirror.url.rstrip("/"))
    package = Path(program).name
    deb = debs.write(folder / f"{package}.deb", {program: b"#!/bin/sh\n"})
    path = f"pool/main/{package[0]}/{package}_1_all.deb"
    locked = LockedPackage(package, "1", sha256_file(deb), "debian", path)
    (toolchains / f"{name}.toml").write_text(toml)
    (toolchains / f"{name}.lock.toml").write_text(Lock(package=(locked,)).to_toml())
    mirror.pages[locked.path] = Page(deb.read_bytes())
