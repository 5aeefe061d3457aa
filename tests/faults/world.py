# SPDX-License-Identifier: MIT
"""A small real profile in a checkout of its own, built once; what the faults happen to.

Its kernel is a tiny one, compiled from the part of the built image's source that it needs;
kernel, root and an extension come from a mirror of ours, so that the network can fail.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tasks.config.settings import Settings
from tasks.util.checkout import cache_folder
from tasks.util.files import remove_tree, sha256_file
from tests.support.built import copy_checkout
from tests.support.mirror import Mirror, Page
from tests.support.tinycore import md5_text, squashfs

PROFILE = """
description = "Small enough to be broken often"
source_date_epoch = 1700000000
mirrors = ["{mirror}"]
tcz = "tcz"
suite = {{ distribution = "debian", name = "bookworm" }}

[kernel]
source = {{ kind = "http", path = "linux.tar" }}
base = "small-base.config"
base_mode = "allnoconfig"
fragments = ["small"]
localversion = "-small"

[core]
{core}

[boot]
bootcodes = ["cde"]

[[extensions]]
name = "upstream"
origin = "upstream"

[[extensions]]
name = "own"

[[extensions]]
name = "inside"
place = "initrd"
"""
ARCHIVE = 'archives = [{ kind = "http", path = "rootfs64.gz" }]'
# No guest boots it.  The last three lines leave a fifth of the compiler's work out.
CONFIG = """CONFIG_64BIT=y
CONFIG_BLOCK=y
CONFIG_BLK_DEV=y
CONFIG_BLK_DEV_LOOP=y
CONFIG_TMPFS=y
CONFIG_ISO9660_FS=y
CONFIG_MISC_FILESYSTEMS=y
CONFIG_SQUASHFS=y
CONFIG_SQUASHFS_ZLIB=y
CONFIG_MODULES=y
CONFIG_BLK_DEV_INITRD=y
CONFIG_RD_GZIP=y
CONFIG_PRINTK=y
CONFIG_TTY=y
CONFIG_BINFMT_ELF=y
CONFIG_BINFMT_SCRIPT=y
CONFIG_SHMEM=y
CONFIG_EXPERT=y
CONFIG_UNWINDER_GUESS=y
CONFIG_CC_OPTIMIZE_FOR_SIZE=y
"""
FRAGMENT = "CONFIG_CRC7=m\n# CONFIG_LOG_BUF\nCONFIG_LOG_BUF_SHIFT=14\n"
RECIPE = '[info]\ntitle = "{name}"\ndescription = "a file of its own"\n'
# Of these, all files; of the rest of the tree, what Kconfig and make read to find their way.
WHOLE = (
    *("arch/x86", "include", "kernel", "lib", "mm", "init", "scripts", "certs", "usr", "security", "ipc"),
    *("block", "crypto", "io_uring", "rust", "virt", "tools/include", "tools/objtool", "tools/lib"),
    *("tools/build", "tools/scripts", "tools/arch/x86", "drivers/base", "drivers/char", "drivers/tty"),
    *("drivers/clocksource", "drivers/input", "drivers/irqchip", "drivers/rtc", "drivers/video"),
    *("drivers/firmware", "drivers/of", "drivers/virt", "drivers/platform", "drivers/acpi"),
    *("fs/proc", "fs/sysfs", "fs/kernfs", "fs/ramfs", "fs/devpts", "fs/debugfs", "fs/notify", "fs/iomap"),
    *("fs/exportfs", "fs/nls", "fs/quota", "fs/crypto", "fs/verity", "fs/tracefs", "fs/efivarfs"),
    *("fs/isofs", "fs/squashfs", "drivers/block"),
)
WAYS = ("Kconfig", "Makefile", "Kbuild")


def cut_source(linux: Path) -> bytes:
    """Return a tar archive of the part of a kernel tree that the small profile needs."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder, folders, names in os.walk(linux):
            folders.sort()
            below = os.path.relpath(folder, linux)
            whole = below in (".", "fs", "drivers") or any(
                below == top or below.startswith(f"{top}/") for top in WHOLE
            )
            for name in sorted(names):
                if whole or name.startswith(WAYS):
                    tar.add(os.path.join(folder, name), f"linux/{below}/{name}", recursive=False)
    return packed.getvalue()


def _move_trees(source: Path, target: Path) -> None:
    for name in ("linux", "build"):
        if (source / name).exists():
            (source / name).rename(target / name)


@dataclass
class Run:
    """A `./doit iso` that is going on; `said` is what it has said so far."""

    process: subprocess.Popen[str]
    said: list[str] = field(default_factory=list)

    def until(self, start: str) -> bool:
        """Read on until a line begins with `start`; False if the run ended before."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line)
            if line.startswith(start):
                return True
        return False

    def end(self, seconds: float = 3600) -> tuple[int, str]:
        """Wait for the end; return the exit status and all that was said.  After `seconds` it is killed."""
        assert self.process.stdout is not None
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        try:
            return self._end()
        finally:
            timer.cancel()

    def _end(self) -> tuple[int, str]:
        assert self.process.stdout is not None
        if not self.process.stdout.closed:
            self.said.extend(self.process.stdout)
            self.process.stdout.close()
        return self.process.wait(), "".join(self.said)


class World:
    """The checkout, its cache and its mirror; `reference` is the sha256 of the ISO after a good build."""

    def __init__(self, folder: Path, image: Settings, mirror: Mirror) -> None:
        self.mirror = mirror
        self.folder = folder
        self.checkout = copy_checkout(folder / "checkout")
        self.cache = folder / "cache"
        self.cache.mkdir()
        (cache_folder() / "ccache").mkdir(parents=True, exist_ok=True)
        (self.cache / "ccache").symlink_to(cache_folder() / "ccache")
        self.output = self.checkout / "artifacts" / "small"
        self.iso = self.output / "tcbuild-small.iso"
        self._write_profiles(image)
        self._offer(folder, image)
        for words in ("lock", "iso"):
            status, said = self.start(words).end()
            assert status == 0, said
        self.reference = sha256_file(self.iso)

    def _write_profiles(self, image: Settings) -> None:
        """Write profile `small`, and `rooted`, whose root is made of packages and rootfs/."""
        packages = ", ".join(f'"{name}"' for name in image.profile.core.packages)
        for name, core in {"small": ARCHIVE, "rooted": f"rootfs = true\npackages = [{packages}]"}.items():
            text = PROFILE.format(mirror=self.mirror.url, core=core)
            (self.checkout / f"profiles/{name}.toml").write_text(text)
        (self.checkout / "kconfig/small-base.config").write_text(CONFIG)
        (self.checkout / "kconfig/small.config").write_text(FRAGMENT)
        for name in ("own", "inside"):
            files = self.checkout / "extensions" / name / "files/usr/local/share"
            files.mkdir(parents=True)
            (files / name).write_text("content\n" * 1000)
            (self.checkout / "extensions" / name / "recipe.toml").write_text(RECIPE.format(name=name))

    def _offer(self, folder: Path, image: Settings) -> None:
        (folder / "upstream").mkdir()
        tcz = squashfs(folder / "upstream", {"usr/local/share/upstream": "content\n" * 1000})
        files = {
            "linux.tar": cut_source(image.paths.linux),
            "rootfs64.gz": (image.paths.output / "rootfs64.gz").read_bytes(),
            "tcz/upstream.tcz": tcz,
        }
        for path, content in files.items():
            self.mirror.pages[path] = Page(content)
            self.mirror.pages[f"{path}.md5.txt"] = Page(md5_text(Path(path).name, content))

    def start(self, *words: str, before: tuple[str, ...] = (), profile: str = "small") -> Run:
        """Start a `./doit` command; `before`: a command that starts it."""
        env = {**os.environ, "TCBUILD_CACHE": str(self.cache), "NO_PROXY": "*", "CI": "1"}
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "tasks.cli.main", *words, f"profile={profile}"],
            cwd=self.checkout,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Run(process)

    def made(self, rng: random.Random) -> Path:
        """Return one of the files that runs have made or fetched, the kernel's own trees left out."""
        inside = [self.cache / "downloads", *(self.output / name for name in ("kernel", "tcz", "kconfig"))]
        found = [path for folder in inside for path in folder.rglob("*")]
        found += [self.iso, self.output / "corepure64.gz", self.output / "lock.toml"]
        files = [path for path in sorted(found) if path.is_file() and path.stat().st_size]
        return rng.choice([path for path in files if not path.name.startswith(".")])

    @contextmanager
    def from_nothing(self) -> Iterator[None]:
        """Take away what was made for a while, but not the trees that make looks after."""
        kept = self.output.with_name("kept")
        self.output.rename(kept)
        self.output.mkdir()
        _move_trees(kept, self.output)
        try:
            yield
        finally:
            _move_trees(self.output, kept)
            remove_tree(self.output)
            kept.rename(self.output)

    @contextmanager
    def edited(self, path: Path, text: str) -> Iterator[None]:
        """Give an input another text for a while."""
        old = path.read_bytes()
        path.write_text(text)
        try:
            yield
        finally:
            path.write_bytes(old)
