# SPDX-License-Identifier: MIT
"""A checkout's extensions/, a base root and packages made here, to build extensions from."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tasks.config.settings import Settings
from tasks.config.sources import Core
from tasks.formats import cpio, initramfs_file
from tasks.initramfs import core
from tasks.origins.lock import Lock, LockedNeeds, LockedPackage
from tasks.util.checkout import CHECKOUT
from tasks.util.files import sha256_file
from tasks.util.process import run
from tests.support import images
from tests.support.images import shared
from tests.support.settings import record_lock

LD = "/lib64/ld-linux-x86-64.so.2"
INFO = '[info]\ntitle = "t"\ndescription = "made up"\n'


@dataclass
class Workshop:
    """A checkout's extensions/, and a cache of packages made here; nothing is fetched."""

    settings: Settings
    folder: Path
    packages: tuple[LockedPackage, ...] = ()
    needs: tuple[LockedNeeds, ...] = ()

    def package(self, name: str, files: dict[str, bytes], depends: str = "") -> None:
        """Put a real .deb into the cache and the used lock; ELF files become executable."""
        tree = self.folder / "trees" / name
        for path, content in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
            (tree / path).chmod(0o755 if content.startswith(b"\x7fELF") else 0o644)
        (tree / "DEBIAN").mkdir(parents=True)
        control = f"Package: {name}\nVersion: 1.2-3\nArchitecture: all\nMaintainer: Nobody <n@invalid>\n"
        control += (f"Depends: {depends}\n" if depends else "") + "Description: made up\n"
        (tree / "DEBIAN/control").write_text(control)
        deb = self.folder / f"{name}.deb"
        run(["dpkg-deb", "--root-owner-group", "--build", tree, deb])
        locked = LockedPackage(name, "1.2-3", sha256_file(deb))
        cached = locked.cached_in(self.settings.paths.cache)
        cached.parent.mkdir(parents=True, exist_ok=True)
        deb.rename(cached)
        self.packages += (locked,)
        self.record()

    def record(self) -> None:
        """Write the lock: every recipe may take every package."""
        every = tuple(package.name for package in self.packages)
        made = [path.name for path in (self.folder / "extensions").glob("*")]
        record_lock(self.settings, Lock(self.packages, needs=self.needs), dict.fromkeys(made, every))

    def extension(self, name: str, recipe_text: str, files: dict[str, str] | None = None) -> None:
        """Write a recipe; own files that are scripts become executable."""
        top = self.folder / "extensions" / name
        top.mkdir(parents=True, exist_ok=True)
        (top / "recipe.toml").write_text(recipe_text)
        for path, content in (files or {}).items():
            (top / "files" / path).parent.mkdir(parents=True, exist_ok=True)
            (top / "files" / path).write_text(content)
            (top / "files" / path).chmod(0o755 if content.startswith("#!") else 0o644)
        self.record()

    def side(self, name: str, ending: str) -> str:
        return (self.settings.paths.tcz / f"{name}.tcz{ending}").read_text()


def make_workshop(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workshop:
    """With a base root that has libc, ld.so, /bin/sh and env, and /opt as Tiny Core has it."""
    monkeypatch.setattr(CHECKOUT, "extensions", tmp_path / "extensions")
    settings = make_settings()
    profile = replace(settings.profile, core=Core(rootfs=True), extensions=())
    settings = replace(settings, profile=profile)
    base = [
        *(cpio.directory(name) for name in ("bin", "etc", "lib64", "usr", "usr/bin")),
        cpio.regular("bin/busybox", images.elf(), 0o755),
        cpio.symlink("bin/sh", "busybox"),
        cpio.symlink("usr/bin/env", "/bin/busybox"),
        cpio.regular(LD[1:], shared(), 0o755),
        cpio.directory("usr/lib"),
        cpio.regular("usr/lib/libc.so.6", shared(soname="libc.so.6")),
        cpio.regular("etc/motd", b"of the base"),
        cpio.Member("opt", stat.S_IFDIR | 0o2775, gid=50),
    ]
    settings.paths.output.mkdir()
    core.write_core([initramfs_file.Archive("gzip", tuple(base))], settings.paths.output / "rootfs64.gz")
    return Workshop(settings, tmp_path)


def origin(*packages: str, more: str = "") -> str:
    names = ", ".join(f'"{name}"' for name in packages)
    return f'[[origin]]\nkind = "apt"\npackages = [{names}]\n{more}\n'
