# SPDX-License-Identifier: MIT
"""What a Tiny Core mirror holds, in its real layout, with content made here.

`TinyCore` fills a `Mirror`: what is not asked for is a 404, as there.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.util.checkout import CHECKOUT
from tasks.util.process import run
from tests.support.built import Outcome, outcome
from tests.support.mirror import Mirror, Page

TCZ = "11.x/x86_64/tcz"
DISTRIBUTION = "11.x/x86_64/release/distribution_files"
KERNEL_SOURCE = "11.x/x86_64/release/src/kernel/linux-5.4.3-patched.txz"
KERNEL_CONFIG = "11.x/x86_64/release/src/kernel/config-5.4.3-tinycore64"
RELEASE = "5.4.3-tinycore64"


def md5_text(name: str, content: bytes) -> bytes:
    """Return NAME.md5.txt as `md5sum NAME` writes it."""
    return f"{hashlib.md5(content).hexdigest()}  {name}\n".encode()


def kernel_archive() -> bytes:
    """Return an archive with the outlines of a kernel tree: enough to fetch and unpack, not to build."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:xz") as tar:
        for name in ("Makefile", "Kconfig", "arch/x86/Kbuild"):
            tar.addfile(tarfile.TarInfo(f"linux-5.4.3/{name}"))
    return packed.getvalue()


def squashfs(folder: Path, files: dict[str, str], *, executable: tuple[str, ...] = ()) -> bytes:
    """Return a real squashfs of `files` (path below `/`: text), made by mksquashfs in `folder`."""
    tree = folder / "tree"
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
        (tree / path).chmod(0o755 if path in executable else 0o644)
    return squashfs_of(tree)


def squashfs_of(tree: Path) -> bytes:
    """Return a real squashfs of the folder `tree`, made by mksquashfs beside it."""
    packed = tree.with_suffix(".tcz")
    run(["mksquashfs", tree, packed, "-b", "4096", "-no-xattrs", "-all-root", "-noappend", "-no-progress"])
    return packed.read_bytes()


class TinyCore:
    """A mirror of Tiny Core 11.x, x86_64; everything can be changed and broken in `mirror.pages`."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror

    def file(self, path: str, content: bytes, *, md5: bool = True) -> bytes:
        """Offer a file and, with `md5`, its .md5.txt; return the file."""
        self.mirror.pages[path] = Page(content)
        if md5:
            self.mirror.pages[f"{path}.md5.txt"] = Page(md5_text(Path(path).name, content))
        return content

    def distribution(self, rootfs: bytes, modules: bytes = b"modules", vmlinuz: bytes = b"kernel") -> None:
        """Offer the files of a release; corepure64.gz is rootfs64.gz and modules64.gz in one."""
        files = {"rootfs64.gz": rootfs, "modules64.gz": modules, "vmlinuz64": vmlinuz}
        for name, content in {**files, "corepure64.gz": rootfs + modules}.items():
            self.file(f"{DISTRIBUTION}/{name}", content)

    def kernel(self, config: bytes = b"CONFIG_64BIT=y\n") -> None:
        """Offer the kernel's source and config, which have no .md5.txt there."""
        self.file(KERNEL_SOURCE, kernel_archive(), md5=False)
        self.file(KERNEL_CONFIG, config, md5=False)

    def extension(self, name: str, dep: str | None = None, content: bytes | None = None) -> bytes:
        """Offer NAME.tcz and what lies beside it; `dep`: the text of its .dep, None for no such file.

        Without `content` it is a squashfs by its first bytes only.
        """
        tcz = b"hsqs" + name.encode() * 300 if content is None else content
        path = f"{TCZ}/{name}.tcz"
        self.file(path, tcz)
        self.mirror.pages[f"{path}.info"] = Page(f"Title:          {name}.tcz\n".encode())
        self.mirror.pages[f"{path}.list"] = Page(b"usr/local/share/x\n")
        if dep is not None:
            self.mirror.pages[f"{path}.dep"] = Page(dep.encode())
        return tcz


def forget_published(checkout: Path) -> None:
    """Take from the releases of a copied checkout what others publish: a double's files are its own."""
    for path in (checkout / "tasks/config/releases").glob("*.toml"):
        path.write_text(path.read_text().partition("[[published]]")[0])


@dataclass(frozen=True)
class Checkout:
    """A copy of a checkout with the profile `double`: tc11 on a mirror of ours."""

    folder: Path
    cache: Path
    tiny: TinyCore

    @property
    def out(self) -> Path:
        return self.folder / "artifacts/double"

    @property
    def lock(self) -> Path:
        return self.folder / "profiles/double.lock.toml"

    def write_profile(self, extensions: str, **values: str) -> None:
        """Write profiles/double.toml: tc11's, its mirrors ours, `extensions` in place of its own.

        values: key -> TOML of keys of [kernel], such as release='"6.12"', and of `source_date_epoch`.
        """
        text = (self.folder / "profiles/tc11.toml").read_text()
        text = text[: text.index("[[extensions]]")] + extensions
        values["mirrors"] = f'["{self.tiny.mirror.url}"]'
        for key, value in values.items():
            table = 'release = "11.x"\n' if key in ("mirrors", "source_date_epoch") else "[kernel]\n"
            text = re.sub(rf"(?m)^{key} = (?!\"11).*\n", "", text)
            text = text.replace(table, f"{table}{key} = {value}\n")
        (self.folder / "profiles/double.toml").write_text(text)
        forget_published(self.folder)

    def command(self, *words: str) -> tuple[list[str], dict[str, str]]:
        env = {**os.environ, "TCBUILD_CACHE": str(self.cache), "NO_PROXY": "*", "CI": "1"}
        return [sys.executable, "-m", "tasks.cli.main", *words, "profile=double"], env

    def doit(self, *words: str, before: tuple[str, ...] = ()) -> Outcome:
        command, env = self.command(*words)
        return outcome([*before, *command], self.folder, env)

    def stages(self, *stages: str, words: tuple[str, ...] = (), before: tuple[str, ...] = ()) -> str:
        """Run some stages one by one, as the kernel's tasks cannot be; return all they said."""
        said = ""
        for stage in stages:
            done = self.doit("run", "--single", stage, *words, before=before)
            assert done.status == 0, done.output
            said += done.output
        return said


REAL = CHECKOUT.root.parent / "shared/data/tinycore-11.0"
"""Tiny Core's own files: roots of 11.0 and extensions of 11.x, where this machine has them."""


def real(path: str) -> Path:
    """Return a file of Tiny Core's own, such as x86_64/rootfs64.gz; skip the test where it is absent."""
    if not (REAL / path).exists():
        pytest.skip(f"Tiny Core's own {path} is not on this machine ({REAL})")
    return REAL / path
